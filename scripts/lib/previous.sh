# shellcheck shell=bash
# shellcheck disable=SC2154 # from common.sh
# An image with the binary of an earlier version, to see whether its volumes go on under this one. Sourced after engine.sh.

# previous_revision: DINDCTL_PREVIOUS, else the newest version's tag, else the commit 30 before this one.
previous_revision() {
    if [[ ${DINDCTL_PREVIOUS:-} ]]; then
        git -C "$repo" rev-parse --verify --short=12 "$DINDCTL_PREVIOUS^{commit}" ||
            die "DINDCTL_PREVIOUS=$DINDCTL_PREVIOUS is no revision here" "a tag or a commit of this repository"
    else
        git -C "$repo" describe --tags --abbrev=0 --match 'v*' 2>/dev/null ||
            git -C "$repo" rev-list --max-count=1 --skip=30 --abbrev-commit --abbrev=12 HEAD
    fi
}

# previous_image BASE TAG: BASE with that binary, which is built once for each revision.
previous_image() {
    local base=$1 tag=$2 revision tree binary triple
    revision=$(previous_revision)
    [[ $revision ]] || die "there is no earlier version in this clone" "a clone with its history, or DINDCTL_PREVIOUS"
    tree=$repo/target/previous/$revision
    binary=$tree/target/dist/dindctl
    if [[ ! -x $binary ]]; then
        say "building dindctl as of $revision"
        mkdir -p "$tree"
        git -C "$repo" archive "$revision" | tar -x -C "$tree"
        # Most of what it is made of is the same.
        triple=$(uname -m)-unknown-linux-gnu
        if [[ -d $repo/target/$triple/dist ]]; then
            mkdir -p "$tree/target/$triple"
            cp -a "$repo/target/$triple/dist" "$tree/target/$triple/"
        fi
        DINDCTL_COMMIT=$revision run_quietly "building dindctl as of $revision" "$tree/scripts/build"
        rm -rf "$tree/target/$triple"
    fi
    printf 'FROM %s\nCOPY --chmod=0755 dindctl /usr/local/bin/dindctl\n' "$base" |
        run_quietly "building $tag" docker build -t "$tag" -f - "$tree/target/dist"
}
