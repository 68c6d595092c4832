# shellcheck shell=bash
# shellcheck disable=SC2154 # from engine.sh
# What scripts/backup and scripts/restore share. Sourced after engine.sh.

in_dind() { docker compose -f "$compose_file" exec -T dind "$@"; }

# dind_runs: points docker at the engine that the stack runs on; nothing is started for this.
dind_runs() {
    if engine_here && [[ $(docker compose -f "$compose_file" ps -q --status running dind 2>/dev/null) ]]; then return; fi
    if "$repo/scripts/lab" status >/dev/null 2>&1; then use_lab; fi
    [[ $(docker compose -f "$compose_file" ps -q --status running dind 2>/dev/null) ]] ||
        die "the dind service does not run" "scripts/up starts it"
}

# describe FILE JSON: one line for people, from what dindctl says of the archive.
describe() {
    local entries sha256
    entries=$(sed -n 's/.*"entries":\([0-9]*\).*/\1/p' <<<"$2")
    sha256=$(sed -n 's/.*"archive_bytes":[0-9]*,"sha256":"\([0-9a-f]*\)".*/\1/p' <<<"$2")
    printf '%s: %s, %s names, whole\nsha256 %s\n' "$1" "$(numfmt --to=iec-i --suffix=B "$(stat -c %s "$1")")" "$entries" "$sha256"
}
