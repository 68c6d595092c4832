# shellcheck shell=bash
# shellcheck disable=SC2154 # repo comes from common.sh
# The variables of the compose stack: what each may be, and what holds. Sourced after common.sh; nothing here asks an engine.
#
#   check_settings          reads and checks all of them, and ends the script at the first one that cannot be
#   setting NAME            the value that holds: environment, else compose/.env, else the profile, else the default
#   check_limits CPUS MEM   the limits against what a machine has (CPUs and bytes)

settings_file=${settings_file:-$repo/compose/.env}

# NAME KIND DEFAULT; tests/pure/compose.rs compares this with the compose files and .env.example.
settings=(
    'DINDCTL_PROFILE choice:low,standard,high low'
    'DINDCTL_CPUS cpus 2'
    'DINDCTL_MEMORY memory 4g'
    'DINDCTL_CPUS_RESERVED cpus 1'
    'DINDCTL_MEMORY_RESERVED memory 2g'
    'DINDCTL_WAIT seconds 90'
    'DINDCTL_IMAGE image dindctl/dind:dev'
    'DINDCTL_BASE image debian:trixie-slim'
    'DINDCTL_BINARY choice:build,prebuilt build'
    'DINDCTL_CONTAINER_RESTART restart unless-stopped'
    'DINDCTL_LISTEN listen unix:///var/run/docker.sock,tcp://0.0.0.0:2375'
    'DIND_WORKSPACE_PATH folder /workspaces'
    'DINDCTL_NETWORK name claude-network'
    'DINDCTL_SUBNET cidr 172.28.0.0/16'
    'COMPOSE_PROJECT_NAME project dindctl'
    'DINDCTL_CODE_SERVER_IMAGE image dindctl/code-server:dev'
    'DINDCTL_EDITOR_ADDRESS address 127.0.0.1'
    'DINDCTL_EDITOR_PORT port 8080'
    'DINDCTL_PASSWORD_FILE file ./secrets/password'
    'DINDCTL_EDITOR_CPUS cpus 1'
    'DINDCTL_EDITOR_MEMORY memory 2g'
    'DINDCTL_WORKSPACE_IMAGE image dindctl/workspace:dev'
    'DINDCTL_DEV_PORT port 2376'
    'DINDCTL_PROMETHEUS_IMAGE image prom/prometheus:v3.5.0'
    'DINDCTL_GRAFANA_IMAGE image grafana/grafana:12.1.1'
    'DINDCTL_PROMETHEUS_PORT port 9090'
    'DINDCTL_GRAFANA_PORT port 3000'
    'DINDCTL_GRAFANA_PASSWORD_FILE file ./secrets/grafana'
    'DINDCTL_METRICS_RETENTION duration 15d'
    'DINDCTL_METRICS_TARGETS targets '
)
declare -A setting_value=() setting_kind=() setting_source=()

setting() {
    [[ -v setting_value[$1] ]] || die "$1 is no setting" "this is a bug in the scripts: see scripts/lib/settings.sh"
    printf '%s\n' "${setting_value[$1]}"
}

check_settings() {
    local row name kind default
    for row in "${settings[@]}"; do
        IFS=' ' read -r name kind default <<<"$row"
        setting_kind[$name]=$kind setting_value[$name]=$default setting_source[$name]=default
    done
    if [[ -e $settings_file ]]; then read_settings_file "$settings_file" file; fi
    for name in "${!setting_kind[@]}"; do
        # An empty variable counts as unset, as in the compose files.
        if [[ -n ${!name:-} ]]; then setting_value[$name]=${!name} setting_source[$name]=environment; fi
    done
    # In the table's order, so that the same mistake is always the one that is told.
    for row in "${settings[@]}"; do check_setting "${row%% *}"; done
    read_settings_file "$repo/compose/profiles/$(setting DINDCTL_PROFILE).env" profile
    reserve_half CPUS
    reserve_half MEMORY
    check_published
}

# read_settings_file FILE SOURCE: lines NAME=VALUE, as docker compose reads them. A profile goes before defaults alone.
read_settings_file() {
    local file=$1 source=$2 line name value number=0 shown=${1#"$repo"/}
    [[ -r $file ]] || die "$shown cannot be read" "look at its owner and mode"
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        line=${line%$'\r'}
        if [[ $line =~ ^[[:space:]]*(#.*)?$ ]]; then continue; fi
        [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*=[[:space:]]*(.*)$ ]] ||
            die "$shown, line $number: \"$line\" is no NAME=VALUE" "compose/.env.example shows how"
        name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
        if [[ ! -v setting_kind[$name] ]]; then
            if [[ $name == DINDCTL_* || $name == DIND_* ]]; then unknown_setting "$name" "$shown, line $number"; fi
            continue # docker compose has variables of its own
        fi
        case $value in
            \"*\"*) value=${value#\"} value=${value%%\"*} ;;
            \'*\'*) value=${value#\'} value=${value%%\'*} ;;
            \#*) value='' ;;
            *)
                value=${value%%[[:space:]]#*}
                value=${value%"${value##*[![:space:]]}"}
                ;;
        esac
        if [[ $source == profile && ${setting_source[$name]} != default ]]; then continue; fi
        # The last line of a name counts.
        if [[ -n $value ]]; then setting_value[$name]=$value setting_source[$name]=$source; fi
    done <"$file"
}

# unknown_setting NAME PLACE: the error that names the nearest one.
unknown_setting() {
    local wrong=$1 row name distance best=99 nearest=''
    for row in "${settings[@]}"; do
        name=${row%% *}
        distance=$(edit_distance "$wrong" "$name")
        if ((distance < best)); then best=$distance nearest=$name; fi
    done
    # What shares nothing but the prefix is no slip of a finger.
    if ((best > 4)); then nearest=''; fi
    die "$2: there is no variable $wrong" "${nearest:+did you mean $nearest? }compose/.env.example lists all of them"
}

# check_setting NAME: its value against its kind. The profile's own values are the repository's.
check_setting() {
    local name=$1 value=${setting_value[$1]} kind=${setting_kind[$1]} allowed=''
    if [[ ${setting_source[$name]} == default ]]; then return; fi
    case $kind in
        choice:*)
            is_choice "$value" "${kind#choice:}" || allowed="one of: ${kind#choice:}"
            ;;
        restart)
            [[ $value =~ ^(no|always|unless-stopped|on-failure(:[0-9]+)?)$ ]] ||
                allowed='no, always, unless-stopped, on-failure or on-failure:5'
            ;;
        image) is_image "$value" || allowed='the name of an image, like registry.example/team/name:tag' ;;
        cpus)
            { [[ $value =~ ^[0-9]+(\.[0-9]+)?$ ]] && compare "$value >= 0.01"; } || allowed='a number of CPUs from 0.01, like 2 or 1.5'
            ;;
        memory) is_memory "$value" || allowed='a size from 6m, like 512m or 4g' ;;
        port) is_port "$value" || allowed='a number from 1 to 65535' ;;
        address) is_ipv4 "$value" || [[ $value =~ ^\[[0-9A-Fa-f:.]+\]$ ]] || allowed='an address of this machine, like 127.0.0.1 or [::1]' ;;
        cidr) allowed=$(why_no_cidr "$value") ;;
        name) [[ $value =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] || allowed='letters, digits, and then also _ . -' ;;
        project) [[ $value =~ ^[a-z0-9][a-z0-9_-]*$ ]] || allowed='lower-case letters, digits, and then also _ -' ;;
        folder) [[ $value =~ ^(/[A-Za-z0-9_.@+-]+)+$ && ! $value =~ (^|/)\.\.?(/|$) ]] || allowed='an absolute path below /, like /workspaces' ;;
        file) [[ $value == */* && $value != */ && $value != *[$'\n:$']* ]] || allowed='the path of a file, absolute or from compose/ like ./secrets/password' ;;
        seconds) [[ $value =~ ^[1-9][0-9]{0,4}$ ]] || allowed='a number of seconds from 1 to 99999' ;;
        duration) [[ $value =~ ^([0-9]+(ms|s|m|h|d|w|y))+$ && $value == *[1-9]* ]] || allowed='a duration, like 15d or 12h' ;;
        listen) is_list "$value" '^(unix:///[^,[:space:]]+|tcp://[^,[:space:]]+:[0-9]+)$' || allowed='addresses like unix:///var/run/docker.sock,tcp://0.0.0.0:2375' ;;
        targets) is_list "$value" '^[A-Za-z0-9._-]+:[0-9]+$' || allowed='addresses like dind:8000,other:8000' ;;
        *) die "$name has the unknown kind $kind" "this is a bug in scripts/lib/settings.sh" ;;
    esac
    if [[ $allowed ]]; then refuse "$name" "$allowed"; fi
}

# refuse NAME ALLOWED: where the value stands, too.
refuse() {
    local where=${settings_file#"$repo"/}
    if [[ ${setting_source[$1]} == environment ]]; then where='environment'; fi
    die "$1 \"${setting_value[$1]}\" ($where) cannot be" "allowed: $2"
}

is_choice() { [[ -n $1 && $1 != *,* && ,$2, == *",$1,"* ]]; }

is_image() {
    local part='[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*'
    [[ $1 =~ ^([A-Za-z0-9.-]+(:[0-9]+)?/)?$part(/$part)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$ ]]
}

# compare 'A >= B': for numbers with a point.
compare() { awk "BEGIN { exit !($1) }"; }

is_memory() { [[ $1 =~ ^[0-9]+(\.[0-9]+)?[bkmgBKMG]?[bB]?$ ]] && (($(bytes "$1") >= 6 * 1048576)); }

# bytes SIZE: units are powers of 1024, as Docker reads them.
bytes() {
    local number=${1%%[!0-9.]*} unit=${1##*[0-9]} factor=1
    case ${unit,,} in
        k*) factor=1024 ;;
        m*) factor=1048576 ;;
        g*) factor=1073741824 ;;
    esac
    awk "BEGIN { printf \"%.0f\n\", $number * $factor }"
}

is_port() { [[ $1 =~ ^[1-9][0-9]{0,4}$ ]] && (($1 <= 65535)); }

is_ipv4() {
    local part='(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])'
    [[ $1 =~ ^$part\.$part\.$part\.$part$ ]]
}

# why_no_cidr VALUE: what is allowed instead; nothing when it is the range of a network.
why_no_cidr() {
    local address=${1%/*} prefix=${1##*/} a b c d number mask
    if [[ $1 != */* ]] || ! is_ipv4 "$address" || [[ ! $prefix =~ ^[0-9]{1,2}$ ]] || ((10#$prefix < 8 || 10#$prefix > 29)); then
        echo 'an IPv4 range of 8 to 29 bits, like 172.28.0.0/16'
        return
    fi
    IFS=. read -r a b c d <<<"$address"
    number=$(((10#$a << 24) | (10#$b << 16) | (10#$c << 8) | 10#$d)) mask=$((0xffffffff << (32 - 10#$prefix) & 0xffffffff))
    if ((number == (number & mask))); then return; fi
    number=$((number & mask))
    echo "the first address of a range, here $((number >> 24)).$((number >> 16 & 255)).$((number >> 8 & 255)).$((number & 255))/$prefix"
}

# is_list VALUE REGEX: each item between commas.
is_list() {
    local item rest=$1
    while :; do
        item=${rest%%,*}
        [[ $item =~ $2 ]] || return 1
        if [[ $rest != *,* ]]; then return; fi
        rest=${rest#*,}
    done
}

rank() { case ${setting_source[$1]} in default) echo 0 ;; profile) echo 1 ;; file) echo 2 ;; environment) echo 3 ;; esac; }

# reserve_half WHAT: where only the limit was set by hand. A reservation above its limit is refused.
reserve_half() {
    local limit=DINDCTL_$1 reserved=DINDCTL_$1_RESERVED size of
    if (($(rank "$limit") > 1 && $(rank "$reserved") < 2)); then
        if [[ $1 == MEMORY ]]; then
            size=$(bytes "$(setting "$limit")")
            setting_value[$reserved]=$((size / 2))b
        else
            setting_value[$reserved]=$(awk "BEGIN { half = $(setting "$limit") / 2; printf \"%g\", half < 0.01 ? 0.01 : half }")
        fi
        setting_source[$reserved]=${setting_source[$limit]}
    fi
    size=$(setting "$reserved") of=$(setting "$limit")
    if [[ $1 == MEMORY ]]; then size=$(bytes "$size") of=$(bytes "$of"); fi
    if compare "$size > $of"; then refuse "$reserved" "not more than $limit, which is $(setting "$limit")"; fi
}

# check_published: one port of this machine serves one of them.
check_published() {
    local name other
    local -A taken=()
    for name in DINDCTL_EDITOR_PORT DINDCTL_DEV_PORT DINDCTL_PROMETHEUS_PORT DINDCTL_GRAFANA_PORT; do
        other=${taken[$(setting "$name")]:-}
        if [[ $other ]]; then
            if [[ ${setting_source[$name]} == default ]]; then name=$other other=${taken[$(setting "$name")]}; fi
            refuse "$name" "a port that no other of the four _PORT variables has"
        fi
        taken[$(setting "$name")]=$name
    done
}

# check_limits CPUS BYTES: Docker refuses more CPUs than there are, and takes memory that nobody has for no limit at all.
# With neither profile nor limit given, what the machine has is the limit.
check_limits() {
    local cpus=$1 memory=$2 fits='' profile
    profile=$(setting DINDCTL_PROFILE)
    for profile in low standard high; do
        if fits_profile "$profile" "$cpus" "$memory"; then fits=$profile; fi
    done
    profile=$(setting DINDCTL_PROFILE)
    local gib
    gib=$(awk "BEGIN { printf \"%.1f\", $memory / 1073741824 }")
    local has="this machine has $cpus CPUs and $gib GiB"
    # A machine of 4 GB has a little less for us.
    if compare "$(setting DINDCTL_CPUS) > $cpus"; then
        case ${setting_source[DINDCTL_CPUS]}-${setting_source[DINDCTL_PROFILE]} in
            environment-* | file-*) refuse DINDCTL_CPUS "not more than $cpus: $has" ;;
            *-default)
                setting_value[DINDCTL_CPUS]=$cpus setting_source[DINDCTL_CPUS]=environment
                if [[ ${setting_source[DINDCTL_CPUS_RESERVED]} != environment && ${setting_source[DINDCTL_CPUS_RESERVED]} != file ]]; then
                    reserve_half CPUS
                fi
                say "$has: DINDCTL_CPUS is $cpus"
                ;;
            *) above_machine "$profile" "$has" "$fits" ;;
        esac
    fi
    if compare "$(bytes "$(setting DINDCTL_MEMORY)") * 0.9 > $memory"; then
        case ${setting_source[DINDCTL_MEMORY]}-${setting_source[DINDCTL_PROFILE]} in
            environment-* | file-*) refuse DINDCTL_MEMORY "not more than $gib GiB: $has" ;;
            *-default) say "$has: the limit of $(setting DINDCTL_MEMORY) is none here, see DINDCTL_MEMORY" ;;
            *) above_machine "$profile" "$has" "$fits" ;;
        esac
    fi
    if compare "$(setting DINDCTL_EDITOR_CPUS) > $cpus"; then refuse DINDCTL_EDITOR_CPUS "not more than $cpus: $has"; fi
}

above_machine() {
    local by_hand="limits of your own in DINDCTL_CPUS and DINDCTL_MEMORY"
    die "DINDCTL_PROFILE $1 ($(setting DINDCTL_CPUS) CPUs, $(setting DINDCTL_MEMORY)) is too much: $2" \
        "${3:+DINDCTL_PROFILE=$3, or }$by_hand"
}

fits_profile() {
    local cpus memory
    cpus=$(sed -n 's/^DINDCTL_CPUS=//p' "$repo/compose/profiles/$1.env") memory=$(sed -n 's/^DINDCTL_MEMORY=//p' "$repo/compose/profiles/$1.env")
    compare "$cpus <= $2 && $(bytes "$memory") * 0.9 <= $3"
}
