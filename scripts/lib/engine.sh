# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # from common.sh and root.sh; used by those who source it
# Which engine the scripts talk to. Sourced after common.sh and root.sh; images.sh has the images that they put there.

compose_file=$repo/compose/compose.yaml
languages=(python:3.13-slim node:20-slim)

# engine_here: a docker command that reaches an engine which is new enough (25 brought start_interval), with compose and
# buildx beside it. Sets engine_version.
engine_here() {
    command -v docker >/dev/null || return 1
    engine_version=$(timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null) || return 1
    if ((${engine_version%%.*} < 25)); then
        say "the engine at hand is Docker $engine_version; 25 or newer is needed"
        return 1
    fi
    docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1 && return
    say "the docker command at hand has no compose or no buildx plugin"
    return 1
}

# use_lab: points this script and its children at the lab, which must run.
use_lab() {
    local exports
    exports=$("$repo/scripts/lab" env)
    eval "$exports"
    engine_here || die "the lab's engine does not answer" "scripts/lab status, scripts/lab down, then again"
    engine_name=lab
}

# use_engine: the engine at hand, else the lab's.
use_engine() {
    if engine_here; then
        engine_name=${DOCKER_HOST:-local}
        if [[ $engine_name == "unix://$lab_dir/run/docker.sock" ]]; then engine_name=lab; fi
    else
        "$repo/scripts/lab" up
        use_lab
    fi
    say "using Docker $engine_version ($engine_name)"
}

image_exists() { docker image inspect "$1" >/dev/null 2>&1; }

# run_quietly WHAT COMMAND…: the output is shown only when the command fails.
run_quietly() {
    local what=$1 log
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        rm -f "$log"
        return
    fi
    tail -n 30 "$log" >&2
    rm -f "$log"
    die "$what failed" "the lines above say why"
}

# base_ready IMAGE: pulled where a registry answers, else made from Debian packages.
base_ready() {
    local image=$1
    if image_exists "$image"; then return; fi
    if [[ $engine_name != lab ]] && timeout 120 docker pull -q "$image" >/dev/null 2>&1; then return; fi
    [[ $image == debian:trixie-slim ]] || die "image $image is not there and cannot be pulled" "load it, or unset DINDCTL_BASE"
    make_base
    docker import --change 'CMD ["bash"]' "$base_tar" "$image" >/dev/null
}

# give_images CONTAINER IMAGE…: copies into its inner daemon whatever is missing there, shared layers once.
give_images() {
    local container=$1 image missing=()
    shift
    for image in "$@"; do
        docker exec "$container" docker image inspect "$image" >/dev/null 2>&1 || missing+=("$image")
    done
    if ((${#missing[@]} == 0)); then return; fi
    docker save "${missing[@]}" | docker exec -i "$container" docker load -q >/dev/null
}
