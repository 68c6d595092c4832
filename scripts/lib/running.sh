# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # from common.sh and engine.sh; used by those who source it
# What the scripts of a running stack share: which project it is and of which files it is made, from the labels that compose
# gives its containers, so that nobody says again with which overlays it was started. Sourced after engine.sh.

label() { printf '{{.Label "com.docker.compose.%s"}}' "$1"; }

# engine_of_stack: the engine at hand, else the lab where that runs; nothing is started for this. 1 when there is none.
engine_of_stack() {
    if engine_here; then
        engine_name=local
    elif "$repo/scripts/lab" status >/dev/null 2>&1; then
        use_lab
    else
        return 1
    fi
}

# projects: names of the projects that are made of this repository's compose files (`editor` has one of its own), also of those that are
# stopped.
projects() {
    local name files
    docker ps -a --filter label=com.docker.compose.project --format "$(label project)"$'\t'"$(label project.config_files)" |
        sort -u | while IFS=$'\t' read -r name files; do
        if [[ ,$files, == *",$compose_file,"* || ,$files, == *",$repo/compose/compose.editor.yaml,"* ]]; then printf '%s\n' "$name"; fi
    done | sort -u
}

# stack_there: sets project, services (those that have containers) and stack (the command in front of every compose command).
# 1 when no container of it is there.
stack_there() {
    local found=() files file environment
    project=${COMPOSE_PROJECT_NAME:-}
    if [[ ! $project ]]; then
        mapfile -t found < <(projects)
        if ((${#found[@]} > 1)); then
            die "several stacks are here: ${found[*]}" "choose one: COMPOSE_PROJECT_NAME=${found[0]} scripts/$prog"
        fi
        project=${found[0]:-}
    fi
    [[ $project ]] || return 1
    mapfile -t services < <(of_project "$(label service)" | sort -u)
    ((${#services[@]})) || return 1
    # Containers of one-off commands and of an older start may name other files; the newest container is what counts.
    IFS=$'\t' read -r files environment < <(of_project "$(label project.config_files)"$'\t'"$(label project.environment_file)" | head -n 1)
    stack=(docker compose --project-name "$project" --profile '*')
    IFS=, read -ra files <<<"$files"
    for file in "${files[@]}"; do
        [[ -f $file ]] || die "the stack $project is made of $file, which is not here" "run this where the stack was started"
        stack+=(--file "$file")
    done
    IFS=, read -ra files <<<"$environment"
    for file in "${files[@]}"; do stack+=(--env-file "$file"); done
    return 0
}

# of_project FORMAT: one line for each container, the newest first.
of_project() {
    docker ps -a --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=False --format "$1"
}

# need_stack: the same, where nothing goes on without it.
need_stack() {
    engine_of_stack || die "no engine runs" "scripts/up starts one with the stack"
    stack_there || die "no stack ${project:+$project }is here" "scripts/up starts it"
}

# containers SERVICE: identifiers of its containers.
containers() {
    docker ps -aq --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1" \
        --filter label=com.docker.compose.oneoff=False
}

# need_services NAME…: each of them has containers here.
need_services() {
    local name
    for name in "$@"; do
        [[ " ${services[*]} " == *" $name "* ]] || die "no service $name runs in the stack $project" "one of: ${services[*]}"
    done
}

# in_dind COMMAND…: in the service with the daemon, which is the editor where that stands alone; with a terminal where there is one on both
# sides.
in_dind() {
    local service=dind terminal=(-T)
    if [[ " ${services[*]} " != *" dind "* ]]; then service=code-server; fi
    [[ $(docker ps -q --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$service") ]] ||
        die "the $service service of the stack $project does not run" "scripts/up starts it"
    if [[ -t 0 && -t 1 ]]; then terminal=(); fi
    "${stack[@]}" exec "${terminal[@]}" "$service" "$@"
}

# wait_services SERVICE…: until each container runs and none with a health check says otherwise.
wait_services() {
    local service container state end=$((SECONDS + ${DINDCTL_WAIT:-90}))
    for service in "$@"; do
        for container in $(containers "$service"); do
            while :; do
                state=$(docker inspect -f '{{.State.Status}}{{with .State.Health}} {{.Status}}{{end}}' "$container")
                case $state in
                    running | 'running healthy') break ;;
                    exited* | dead*) die "$service does not run ($state)" "scripts/logs $service" ;;
                esac
                if ((SECONDS >= end)); then
                    die "$service is not healthy within ${DINDCTL_WAIT:-90} s ($state)" "scripts/logs $service; DINDCTL_WAIT=… waits longer"
                fi
                sleep 0.1
            done
        done
    done
}
