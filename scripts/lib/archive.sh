# shellcheck shell=bash
# What scripts/backup and scripts/restore share. Sourced after running.sh.

# describe FILE JSON: one line for people, from what dindctl says of the archive.
describe() {
    local entries sha256
    entries=$(sed -n 's/.*"entries":\([0-9]*\).*/\1/p' <<<"$2")
    sha256=$(sed -n 's/.*"archive_bytes":[0-9]*,"sha256":"\([0-9a-f]*\)".*/\1/p' <<<"$2")
    printf '%s: %s, %s names, whole\nsha256 %s\n' "$1" "$(numfmt --to=iec-i --suffix=B "$(stat -c %s "$1")")" "$entries" "$sha256"
}
