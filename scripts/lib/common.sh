# shellcheck shell=bash
# shellcheck disable=SC2034 # used by those who source it
# What every script here shares. Sourced, never run; the caller has set -euo pipefail.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
prog=${prog:-$(basename "$0")}
lab_dir=${DINDCTL_LAB_DIR:-/var/lib/dindctl-lab}

say() { printf '%s: %s\n' "$prog" "$*" >&2; }

# die MESSAGE [HINT]: one line each, nothing else.
die() {
    printf '%s: error: %s\n' "$prog" "$1" >&2
    if [[ -n ${2:-} ]]; then printf '%s: hint: %s\n' "$prog" "$2" >&2; fi
    exit 1
}

# help_asked ARGUMENT…: prints the first lines of the script and ends it where --help is among them.
help_asked() {
    local argument
    for argument in "$@"; do
        case $argument in
            -h | --help)
                sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"
                exit 0
                ;;
            --) return ;;
        esac
    done
}

need_root() { [[ $(id -u) == 0 ]] || die "$1 needs root" "run it as root or with sudo -E"; }

# need COMMAND:PACKAGE…: installs the packages of those commands which are missing, and only these.
need() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    if ((${#missing[@]} == 0)); then return; fi
    command -v apt-get >/dev/null ||
        die "missing: ${missing[*]}, and this is no Debian" "install them by hand and run this again"
    need_root "installing ${missing[*]}"
    say "installing ${missing[*]}"
    apt_install "${missing[@]}"
}

# The package lists of a fresh machine are empty or old: update only when the first try fails.
apt_install() {
    local log
    log=$(mktemp)
    if apt_try "$@" >"$log" 2>&1 || { apt-get update >>"$log" 2>&1 && apt_try "$@" >>"$log" 2>&1; }; then
        rm -f "$log"
        return
    fi
    tail -n 15 "$log" >&2
    rm -f "$log"
    die "apt could not install $*" "look at the lines above; is a Debian mirror reachable?"
}
apt_try() { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }

# Seconds with two digits since a value of now_ms.
now_ms() { printf '%s' $((${EPOCHREALTIME/[.,]/} / 1000)); }
since() {
    local ms=$(($(now_ms) - $1))
    printf '%d.%02d s' $((ms / 1000)) $((ms % 1000 / 10))
}

# The Debian architecture, also where dpkg is not there.
arch() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) die "architecture $(uname -m) is not supported" "amd64 and arm64 are" ;;
    esac
}

# start_time PID: ticks since boot, which together with the number names a process for good. Empty when it is gone.
start_time() {
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    read -ra fields <<<"${stat##*) }"
    printf '%s\n' "${fields[19]}"
}

# edit_distance A B: insertions, deletions and replacements of letters that make one into the other (Levenshtein).
edit_distance() {
    local a=$1 b=$2 row=() i j above corner change
    for ((j = 0; j <= ${#b}; j++)); do row[j]=$j; done
    for ((i = 1; i <= ${#a}; i++)); do
        corner=${row[0]} row[0]=$i
        for ((j = 1; j <= ${#b}; j++)); do
            above=${row[j]} change=$corner
            if [[ ${a:i-1:1} != "${b:j-1:1}" ]]; then ((change += 1)); fi
            corner=$above row[j]=$change
            if ((above + 1 < row[j])); then row[j]=$((above + 1)); fi
            if ((row[j - 1] + 1 < row[j])); then row[j]=$((row[j - 1] + 1)); fi
        done
    done
    printf '%s\n' "${row[${#b}]}"
}
