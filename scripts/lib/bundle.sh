# shellcheck shell=bash
# shellcheck disable=SC2154 # from common.sh and settings.sh
# An archive for somebody else, part by part: each bounded in time and size, none of it on a disk before its secrets are gone, and what
# could not be had named. Sourced by scripts/diagnostics, after common.sh.
#
# What decides is `dindctl redact`; here is who asks and where it goes.

seconds=20 # for one part
answers=0  # the highest exit code of a part's command that is an answer
gaps=0
parts=0
known='' # what is known to be secret: JSON strings, one a line. In memory alone.
redactor=()

# begin_bundle FILE: whether it can be written there, and the hidden file beside it that takes its place at the end.
begin_bundle() {
    target=$1
    local folder
    folder=$(dirname "$target")
    [[ -d $folder ]] || die "$folder is no folder" "make it, or name a file elsewhere"
    [[ ! -d $target ]] || die "$target is a folder" "name a file in it"
    [[ ! -e $target || -f $target ]] || die "$target is no file" "name another one"
    # In such a folder anybody could put another file in its place.
    if [[ $(find "$folder/" -maxdepth 0 -perm -0002 ! -perm -1000) ]]; then
        die "anybody may write in $folder" "choose a folder of your own"
    fi
    umask 077
    unfinished=$(mktemp "$folder/.$(basename "$target").XXXXXX") || die "cannot write in $folder" "choose another place"
    work=$(mktemp -d) || die "no folder can be made in ${TMPDIR:-/tmp}" "TMPDIR names another place"
    trap 'rm -rf "$unfinished" "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    bundle=$work/diagnostics
    mkdir "$bundle"
    {
        printf 'diagnostics of dindctl, %s\n' "$(date -u +%FT%TZ)"
        printf 'of containers, compose files, engines and daemon.json the fields that are known to be harmless, of variables the names;\n'
        printf '"(left out)" stands where a secret was, or what looks like one\n\n'
    } >"$bundle/MANIFEST"
}

# end_bundle: the archive under its name, and the exit code.
end_bundle() {
    tar -C "$work" -czf "$unfinished" diagnostics
    mv -f "$unfinished" "$target"
    printf '%s: %s, %s parts, %s missing\n' "$target" "$(numfmt --to=iec-i --suffix=B "$(wc -c <"$target")")" "$parts" "$gaps"
    if ((gaps > 0)); then exit 2; fi
    exit 0
}

# find_redactor ENGINE CONTAINER: a dindctl that takes out secrets: the one that was built here, else one in an image. Without any, nothing
# is made.
find_redactor() {
    local binary image
    for binary in "${DINDCTL_BIN:-}" "$repo/target/dist/dindctl"; do
        redactor=("$binary" redact)
        if [[ -x $binary ]] && "${redactor[@]}" </dev/null >/dev/null 2>&1; then return; fi
    done
    if [[ $1 ]]; then
        for image in "$(docker inspect -f '{{.Image}}' "$2" 2>/dev/null)" "${DINDCTL_IMAGE:-dindctl/dind:dev}"; do
            redactor=(docker run --rm -i --pull never --network none --entrypoint dindctl "$image" redact)
            if [[ $image ]] && timeout 30 "${redactor[@]}" </dev/null >/dev/null 2>&1; then return; fi
        done
    fi
    die "there is no dindctl here that could take secrets out" "scripts/build makes one; DINDCTL_BIN names one"
}

# through FORM: standard input without secrets.
through() {
    # In one line; a here-document may be a file.
    { printf '[%s]\n' "${known//$'\n'/,}" && cat; } | timeout --kill-after=5 60 "${redactor[@]}" --masks-first --as "$1"
}

# part NAME FORM COMMAND…: what it says, as a file of the bundle; what it says on stderr beside it, where there is a form.
part() {
    local name=$1 form=$2 codes note=whole
    shift 2
    mkdir -p "$(dirname "$bundle/$name")"
    if [[ $form == text ]]; then
        limited "$@" 2>&1 | through text >"$bundle/$name" && codes=("${PIPESTATUS[@]}") || codes=("${PIPESTATUS[@]}")
    else
        { limited "$@" 2>&3 | through "$form" >"$bundle/$name" && codes=("${PIPESTATUS[@]}") || codes=("${PIPESTATUS[@]}"); } \
            3> >(through text >"$bundle/$name.stderr")
        wait "$!" || codes=("${codes[0]}" 125)
        [[ -s $bundle/$name.stderr ]] || rm -f "$bundle/$name.stderr"
    fi
    case ${codes[0]} in
        124 | 137) note="FAILED: not done within $seconds s" ;;
        *)
            if ((codes[0] > answers)); then
                note="FAILED: exit code ${codes[0]}"
            elif ((codes[0] > 0)); then
                note="whole, exit code ${codes[0]}"
            fi
            ;;
    esac
    case ${codes[1]} in
        0) ;;
        1) if [[ $note == whole* && $form == text ]]; then note='the end of it'; elif [[ $note == whole* ]]; then note='FAILED: no JSON, or too much'; fi ;;
        *)
            rm -f "$bundle/$name"
            note="FAILED: dindctl redact ended with ${codes[1]}"
            ;;
    esac
    if [[ $note == FAILED* ]]; then gap "$name" "${note#FAILED: }"; else listed "$name" "$note"; fi
}

# limited COMMAND…: for as long as a part may take; functions of the script as well, which ask nobody.
limited() {
    if [[ $(type -t "$1") == function ]]; then
        ("$@") </dev/null
    else
        timeout --kill-after=5 "$seconds" "$@" </dev/null
    fi
}

listed() {
    parts=$((parts + 1))
    printf '%-32s %s\n' "$1" "$2" >>"$bundle/MANIFEST"
}

# gap NAME WHY: the manifest's line, and one on stderr. WHY may quote what a program said.
gap() {
    local why
    why=$(through text <<<"$2") || why='(its reason could not be redacted)'
    gaps=$((gaps + 1))
    listed "$1" "FAILED: $why"
    say "$1: FAILED: $why"
}

# secrets_of WHAT FORM COMMAND…: what it says is asked for secrets (FORM secrets) or is one (FORM secret).
secrets_of() {
    local what=$1 form=$2 found
    shift 2
    if found=$(set -o pipefail && limited "$@" 2>/dev/null | "${redactor[@]}" --as "$form" --most $((64 << 20))); then
        if [[ $found ]]; then known+=${known:+$'\n'}$found; fi
    else
        gap "secrets of $what" "they could not be looked for, so that they are not known in what follows"
    fi
}

secrets_of_file() { if [[ -f $1 ]]; then secrets_of "$1" secret cat "$1"; fi; }
secrets_of_file_json() { if [[ -f $1 ]]; then secrets_of "$1" secrets cat "$1"; fi; }
