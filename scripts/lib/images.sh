# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # from common.sh and engine.sh; used by those who source it
# The images of this repository: what each is made of, and the one way to make it. Sourced after common.sh and engine.sh.
#
# An image carries the hash of what it was made of (label org.dindctl.inputs) and is made again only when that has changed.
# Version, revision and date are labels as well, and no part of the hash: a commit that changes nothing makes nothing anew.

image_names=(dind dind-rootless code-server workspace python node shell)
# The order in which they are made; code-server-base is dind with what an editor's terminal needs.
image_order=(dind dind-rootless code-server-base code-server workspace python node shell)
image_inputs_label=org.dindctl.inputs
debian=debian:trixie-slim

# Sources of the binary: what its revision is the revision of.
binary_sources=(src build.rs Cargo.toml Cargo.lock)

# recipe NAME: sets recipe_folder, recipe_beneath (image of ours below it), recipe_others (further images that it takes
# things from), recipe_context, recipe_binary (1: dindctl is copied in), recipe_args and recipe_inputs (its files).
recipe() {
    local name=$1
    recipe_folder=images/$name recipe_beneath='' recipe_others=() recipe_context=$repo/images/$name recipe_binary='' recipe_args=()
    case $name in
        dind) recipe_context=$repo recipe_binary=1 recipe_args=(DINDCTL=prebuilt) ;;
        code-server-base)
            recipe_folder=images/dind recipe_context=$repo recipe_binary=1
            recipe_args=(DINDCTL=prebuilt "PACKAGES=docker-buildx docker-compose")
            ;;
        dind-rootless) recipe_beneath=dind ;;
        code-server) recipe_beneath=code-server-base recipe_others=("$debian") recipe_context=$repo ;;
        workspace) recipe_context=$repo recipe_binary=1 ;;
        python | node | shell) ;;
        *) unknown_image "$name" ;;
    esac
    recipe_inputs=("$recipe_folder")
}

# unknown_image NAME: the error that names the nearest one and all of them.
unknown_image() {
    local name=$1 candidate distance best=99 nearest=''
    for candidate in "${image_names[@]}" all; do
        distance=$(edit_distance "$name" "$candidate")
        if ((distance < best)); then best=$distance nearest=$candidate; fi
    done
    # What is as far away as it is long is no slip of a finger.
    if ((best * 2 <= ${#nearest})); then nearest="did you mean $nearest? "; else nearest=''; fi
    die "unknown image \"$name\"" "${nearest}one of: ${image_names[*]}; all makes every one"
}

# reference NAME TAG ARCH: what it is called. TAG is empty (the usual name), a tag, or a whole reference; a foreign
# architecture is part of the tag, because an engine keeps one architecture for each tag.
reference() {
    local name=$1 tag=$2 arch=$3 image=dindctl/$1 usual=dev
    case $name in
        python) image=python usual=3.13-slim ;;
        node) image=node usual=20-slim ;;
        shell) usual=trixie ;;
    esac
    if is_whole "$tag"; then image=$tag; else image=$image:${tag:-$usual}; fi
    if [[ ${image##*/} != *:* ]]; then image+=:latest; fi
    if [[ $arch != "$(arch)" ]]; then image+=-$arch; fi
    printf '%s\n' "$image"
}

# is_whole TAG: whether it names an image, not only its tag.
is_whole() { [[ $1 == *[:/]* ]]; }

# beneath NAME REFERENCE: what an image of ours below the one of that reference is called: a sibling of it.
beneath() {
    local name=$1 repository=${2%:*} tag=${2##*:}
    if [[ $repository == */* ]]; then repository=${repository%/*}; else repository=dindctl; fi
    printf '%s/%s:%s\n' "$repository" "$name" "$tag"
}

# Where scripts/build puts the binary of an architecture, relative to the repository.
binary_of() {
    if [[ $1 == "$(arch)" ]]; then echo target/dist/dindctl; else echo "target/dist/dindctl-$1"; fi
}
triple_of() {
    case $1 in
        amd64) echo x86_64-unknown-linux-gnu ;;
        arm64) echo aarch64-unknown-linux-gnu ;;
    esac
}

# revision PATH…: the commit that changed one of them last, with -dirty where they differ from it. Empty without git.
revision() {
    local commit
    commit=$(git -C "$repo" log -1 --format=%H -- "$@" 2>/dev/null) || return 0
    if [[ -z $commit ]]; then return; fi
    if [[ -n $(git -C "$repo" status --porcelain --untracked-files=all -- "$@") ]]; then commit+=-dirty; fi
    printf '%s\n' "$commit"
}

# ingredients NAME: every path that the image is made of, those of the images beneath included.
ingredients() (
    recipe "$1"
    printf '%s\n' "${recipe_inputs[@]}"
    if [[ $recipe_binary ]]; then printf '%s\n' "${binary_sources[@]}"; fi
    if [[ $recipe_beneath ]]; then ingredients "$recipe_beneath"; fi
)

version_of_cargo() { sed -n 's/^version *= *"\(.*\)"/\1/p' "$repo/Cargo.toml" | head -n 1; }

# image_id REFERENCE ARCH: of the engine's own, else the digest that a registry has for it.
image_id() {
    if docker image inspect -f '{{.Id}} {{.Architecture}}' "$1" 2>/dev/null | grep " $2\$"; then return; fi
    timeout 60 docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1" 2>/dev/null ||
        die "image $1 for $2 is not there and no registry answers" "load it, or name another one in DINDCTL_BASE"
}

# inputs NAME ARCH BASE: the hash of all that decides what the image holds. The recipe is set.
inputs() {
    local name=$1 arch=$2 id path mode sum lines=()
    lines=(1 "$name" "$arch" "$(version_of_cargo)" "${recipe_args[@]}")
    for path in "$3" "${recipe_others[@]}"; do
        id=$(image_id "$path" "$arch") || exit 1
        lines+=("$id")
    done
    if [[ $recipe_binary ]]; then
        sum=$(cd "$repo" && sha256sum "$(binary_of "$arch")") || die "$name needs a binary for $arch" "scripts/build makes it"
        lines+=("$sum")
    fi
    while IFS= read -r -d '' path; do
        if [[ -x $repo/$path ]]; then mode=x; else mode=-; fi
        sum=$(cd "$repo" && sha256sum "$path") || die "cannot read $path" "see above"
        lines+=("$mode $sum")
    done < <(cd "$repo" && find "${recipe_inputs[@]}" -type f -print0 | LC_ALL=C sort -z)
    printf '%s\n' "${lines[@]}" | sha256sum | cut -d ' ' -f 1
}

# label_of REFERENCE LABEL: empty where there is none.
label_of() { docker image inspect -f "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true; }

# make_image NAME REFERENCE [BASE [ARCH [FORCE]]]: unless it is there already, made of the same. BASE must be there.
# FORCE=1: in any case, and without the builder's cache.
make_image() {
    local name=$1 as=$2 base=${3:-} arch=${4:-$(arch)} force=${5:-} hash start commit created bytes line paths arg
    local ca=/etc/ssl/certs/ca-certificates.crt
    recipe "$name"
    if [[ -z $base ]]; then
        [[ -z $recipe_beneath ]] || die "$name stands on $recipe_beneath, and none is named" "this is a bug in the scripts"
        if [[ $recipe_binary ]]; then base=${DINDCTL_BASE:-$debian}; else base=$debian; fi
    fi
    hash=$(inputs "$name" "$arch" "$base") || exit 1
    if [[ -z $force && $(label_of "$as" "$image_inputs_label") == "$hash" ]]; then
        say "$as: nothing changed"
        return
    fi
    start=$(now_ms)
    line=(docker build -f "$repo/$recipe_folder/Dockerfile" -t "$as" --load --provenance=false)
    if [[ $arch != "$(arch)" ]]; then line+=(--platform "linux/$arch"); fi
    if [[ $force ]]; then line+=(--no-cache); fi
    if [[ -s $ca ]]; then line+=(--secret "id=ca,src=$ca"); fi
    line+=(--build-arg "BASE=$base")
    if [[ $recipe_binary ]]; then line+=(--build-arg "BINARY=$(binary_of "$arch")"); fi
    for arg in "${recipe_args[@]}"; do line+=(--build-arg "$arg"); done
    line+=(--label "$image_inputs_label=$hash" --label "org.opencontainers.image.version=$(version_of_cargo)")
    mapfile -t paths < <(ingredients "$name" | sort -u)
    commit=$(revision "${paths[@]}")
    line+=(--label "org.opencontainers.image.revision=${commit:-unknown}")
    # A date belongs to a commit; what was never committed has none that could be found again.
    if [[ -n $commit && $commit != *-dirty ]]; then
        created=$(git -C "$repo" show -s --format=%ct "$commit")
        line=(env "SOURCE_DATE_EPOCH=$created" "${line[@]}"
            --label "org.opencontainers.image.created=$(date -u -d "@$created" +%Y-%m-%dT%H:%M:%SZ)")
    fi
    run_quietly "building $as" "${line[@]}" "$recipe_context"
    bytes=$(docker image inspect -f '{{.Size}}' "$as") || die "$as was built and is not there" "docker buildx ls: another builder?"
    say "$as: made in $(since "$start"), $((bytes / 1000000)) MB"
}

# language_images: an image from elsewhere is left alone, one of ours is made where it changed.
language_images() {
    local image
    for image in "${languages[@]}"; do
        if ! foreign_or_pulled "$image"; then make_image "${image%%:*}" "$image"; fi
    done
}

# foreign_or_pulled IMAGE: whether a public image of that name is there or can be had.
foreign_or_pulled() {
    if image_exists "$1"; then
        [[ $(label_of "$1" org.opencontainers.image.source) != */dindctl ]]
    else
        [[ $engine_name != lab ]] && timeout 120 docker pull -q "$1" >/dev/null 2>&1
    fi
}
