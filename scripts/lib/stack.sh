# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # from common.sh, engine.sh, images.sh and settings.sh; used by those who source it
# The compose stack: its files, secrets and images, and when it is healthy. Sourced after settings.sh.

all_overlays=(code-server dev production monitoring)
overlays=()
# The service with the daemon.
main=dind

add_overlay() {
    local known
    for known in "${all_overlays[@]}" editor; do
        if [[ $1 == "$known" ]]; then
            if ! has_overlay "$1"; then overlays+=("$1"); fi
            return
        fi
    done
    die "unknown overlay $1" "scripts/up [--no-build] [OVERLAY…], one or more of: ${all_overlays[*]}; or editor alone"
}

has_overlay() { [[ " ${overlays[*]} " == *" $1 "* ]]; }

# check_overlays: what does not go together.
check_overlays() {
    if has_overlay editor; then
        ((${#overlays[@]} == 1)) || die "editor has a daemon of its own, and goes with no other overlay" \
            "code-server is the editor beside the dind service"
        main=code-server
    fi
    if has_overlay dev && has_overlay production; then
        die "dev publishes the daemon's port, and production does not" "choose one of the two"
    fi
    # Only dind's own policy can stand in the overlay.
    if has_overlay production && [[ ${setting_source[DINDCTL_CONTAINER_RESTART]} == default ]]; then
        setting_value[DINDCTL_CONTAINER_RESTART]=always setting_source[DINDCTL_CONTAINER_RESTART]=environment
    fi
}

# compose ARGUMENT…: with the files of the overlays, the profile, and compose/.env above it.
compose() {
    local overlay line=(docker compose --env-file "$repo/compose/profiles/$(setting DINDCTL_PROFILE).env")
    if [[ -e $settings_file ]]; then line+=(--env-file "$settings_file"); fi
    if has_overlay editor; then
        line+=(-f "$repo/compose/compose.editor.yaml")
    else
        line+=(-f "$compose_file")
        for overlay in "${overlays[@]}"; do line+=(-f "$repo/compose/compose.$overlay.yaml"); done
    fi
    "${line[@]}" "$@"
}

# export_settings: what was found out here, for docker compose and the scripts that are called.
export_settings() {
    local name
    for name in DINDCTL_CPUS DINDCTL_CPUS_RESERVED DINDCTL_MEMORY DINDCTL_MEMORY_RESERVED DINDCTL_CONTAINER_RESTART DINDCTL_BASE; do
        export "$name=$(setting "$name")"
    done
}

# make_secrets: a password in its usual place is made up; a file of one's own must be there.
make_secrets() {
    # In the container, PID 1 reads the editor's password as root and Grafana its own as a user; the folder keeps both.
    if has_overlay code-server || has_overlay editor; then make_secret DINDCTL_PASSWORD_FILE 0600; fi
    if has_overlay monitoring; then make_secret DINDCTL_GRAFANA_PASSWORD_FILE 0644; fi
}

make_secret() {
    local name=$1 mode=$2 file
    file=$(setting "$name")
    if [[ $file != /* ]]; then file=$repo/compose/${file#./}; fi
    if [[ -f $file && -s $file ]]; then return; fi
    if [[ -e $file ]]; then refuse "$name" "a file with a password in it; this one is empty or no file"; fi
    if [[ ${setting_source[$name]} != default ]]; then refuse "$name" "a file that exists"; fi
    (
        umask 077
        mkdir -p "${file%/*}"
        head -c 18 /dev/urandom | base64 | tr '+/' '-_' >"$file.new"
        chmod "$mode" "$file.new"
        mv "$file.new" "$file"
    ) || die "$file cannot be written" "look at the lines above"
    say "made up a password: ${file#"$repo"/}"
}

# stack_images: of the services that are to be started; those from elsewhere are pulled by docker compose.
stack_images() {
    local building editor
    base_ready "$(setting DINDCTL_BASE)"
    language_images &
    building=$!
    "$here/build" >&2
    wait "$building"
    if ! has_overlay editor; then make_image dind "$(setting DINDCTL_IMAGE)"; fi
    if has_overlay editor || has_overlay code-server; then
        editor=$(setting DINDCTL_CODE_SERVER_IMAGE)
        make_image code-server-base "${editor%:*}-base:${editor##*:}"
        make_image code-server "$editor" "${editor%:*}-base:${editor##*:}"
    fi
    if has_overlay dev; then make_image workspace "$(setting DINDCTL_WORKSPACE_IMAGE)"; fi
}

# wait_healthy SINCE SECONDS: until every service is, or one ends.
wait_healthy() {
    local since=$1 seconds=$2 container state name waiting
    while :; do
        waiting=''
        for container in $(compose ps -aq); do
            state=$(docker inspect -f '{{.State.Status}} {{.RestartCount}} {{if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}}' "$container")
            case $state in
                'running 0 healthy') ;;
                running\ 0\ *) waiting=$container ;;
                running\ *\ healthy) ;; # restarted by its policy some time ago
                *) not_healthy "$container" "does not run ($state)" "its last log lines are above" ;;
            esac
        done
        if [[ ! $waiting ]]; then return; fi
        if (($(now_ms) - since > seconds * 1000)); then
            docker inspect -f '{{range .State.Health.Log}}{{.Output}}{{end}}' "$waiting" | tail -n 5 >&2
            not_healthy "$waiting" "is not healthy within $seconds s" "its last checks and log lines are above; DINDCTL_WAIT=… waits longer"
        fi
        sleep 0.05
    done
}

not_healthy() {
    local name
    name=$(docker inspect -f '{{.Name}}' "$1")
    docker logs --tail 40 "$1" >&2
    die "the container ${name#/} $2" "$3"
}

# start_to_healthy CONTAINER: by the engine's own clock, from the start of PID 1 to the end of the first probe that succeeded.
start_to_healthy() {
    local state started ended ms
    state=$(docker inspect -f '{{json .State}}' "$1")
    started=$(sed -n 's/.*"StartedAt":"\([^"]*\)".*/\1/p' <<<"$state")
    ended=$(grep -o '"End":"[^"]*","ExitCode":0' <<<"$state" | head -n 1 | cut -d '"' -f 4)
    ms=$(($(date -d "$ended" +%s%3N) - $(date -d "$started" +%s%3N)))
    printf '%d.%02d s' $((ms / 1000)) $((ms % 1000 / 10))
}

# tell_addresses: where what was published is.
tell_addresses() {
    if has_overlay code-server || has_overlay editor; then
        say "the editor: http://$(setting DINDCTL_EDITOR_ADDRESS):$(setting DINDCTL_EDITOR_PORT), password in $(setting DINDCTL_PASSWORD_FILE) (from compose/)"
    fi
    if has_overlay dev; then say "the daemon, with certificates: tcp://127.0.0.1:$(setting DINDCTL_DEV_PORT)"; fi
    if has_overlay monitoring; then
        say "Grafana: http://127.0.0.1:$(setting DINDCTL_GRAFANA_PORT), Prometheus: http://127.0.0.1:$(setting DINDCTL_PROMETHEUS_PORT)"
    fi
}

# running_files PROJECT: the compose files that its containers were made from, one a line.
running_files() {
    docker ps -aq --filter "label=com.docker.compose.project=$1" |
        xargs -r docker inspect -f '{{index .Config.Labels "com.docker.compose.project.config_files"}}' |
        tr ',' '\n' | awk 'NF && !seen[$0]++'
}
