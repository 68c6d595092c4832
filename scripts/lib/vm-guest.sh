#!/bin/bash
# The inside of a virtual machine of `scripts/lab vm`: as the machine's PID 1 it makes the set-up of one cell and starts
# the cell's container, where dindctl is PID 1 in turn. What comes of it leaves over the second serial port, one line for
# each file: name, space, base64.
#
# From the kernel's command line:
#   cell_groups    v2, v1 or hybrid
#   cell_twists    what is odd about this cell: functions of this file that begin with machine_, group_, inside_ or start_
#   cell_tests     what `dindctl selftest` tries
#   cell_port      the second serial port
#   cell_patience  seconds until the daemon must be healthy
# shellcheck disable=SC2154 # these variables
set -uo pipefail

lab=/lab         # the second disk: this script and dindctl
out=/out         # results, seen by machine and container
own=/docker/cell # the container's group, in every hierarchy
cgroup=/sys/fs/cgroup
v1=('cpu,cpuacct' cpuset memory devices freezer blkio pids 'net_cls,net_prio' perf_event)
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
export DOCKER_TLS_CERTDIR=/certs

note() { printf '%6s guest: %s\n' "$(cut -d ' ' -f 1 /proc/uptime)" "$*" >/dev/console; }

# twist PREFIX: whatever the cell wants done at this place.
twist() {
    local name
    for name in ${cell_twists//,/ }; do
        if [[ $name == "$1"_* ]]; then
            note "$name"
            "$name" || note "$name failed"
        fi
    done
}
has_twist() { [[ ,${cell_twists:-}, == *",$1,"* ]]; }

# deliver NAME: the file of that name among the results.
deliver() {
    if [[ -e $out/$1 ]]; then printf '%s %s\n' "$1" "$(base64 -w 0 "$out/$1")" >"$cell_port"; fi
}

# ---- the machine

machine() {
    mount -t devtmpfs dev /dev
    mkdir -p /dev/pts /dev/shm
    ln -s /proc/self/fd /dev/fd
    mount -t devpts -o gid=5,mode=620 devpts /dev/pts
    mount -t sysfs sysfs /sys
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t tmpfs -o mode=1777 tmpfs /tmp
    mount -t tmpfs tmpfs "$out"
    exec </dev/null >/dev/console 2>&1
    stty -F "$cell_port" raw -echo
    cp "$lab/dindctl" /usr/local/bin/dindctl
    like_the_image
    ip link set lo up
    # Swap, so that its limit can be measured.
    dd if=/dev/zero of=/swap bs=1M count=192 status=none
    chmod 600 /swap
    mkswap -q /swap
    swapon /swap
    mount_groups
    twist machine
    make_group
    twist group
    run_container
    note 'done'
    echo b >/proc/sysrq-trigger
    sleep infinity
}

# What images/dind adds to the packages.
like_the_image() {
    local name legacy=/usr/local/sbin/.iptables-legacy
    mkdir -p "$legacy"
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        ln -s /usr/sbin/xtables-legacy-multi "$legacy/$name"
    done
}

mount_groups() {
    local name
    if [[ $cell_groups == v2 ]]; then
        # As systemd mounts it.
        mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 "$cgroup"
        hand_on "$cgroup"
        return
    fi
    mount -t tmpfs -o mode=755 tmpfs "$cgroup"
    for name in "${v1[@]}"; do
        mkdir "$cgroup/$name"
        mount -t cgroup -o "$name" cgroup "$cgroup/$name"
    done
    mkdir "$cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$cgroup/systemd"
    for name in cpu cpuacct; do ln -s cpu,cpuacct "$cgroup/$name"; done
    for name in net_cls net_prio; do ln -s net_cls,net_prio "$cgroup/$name"; done
    if [[ $cell_groups == hybrid ]]; then
        mkdir "$cgroup/unified"
        mount -t cgroup2 -o nsdelegate cgroup2 "$cgroup/unified"
    fi
}

# hand_on GROUP: every controller of a version 2 group to its children.
hand_on() {
    local name
    for name in $(<"$1/cgroup.controllers"); do echo "+$name" >"$1/cgroup.subtree_control"; done
}

hierarchies() {
    if [[ $cell_groups == v2 ]]; then
        echo "$cgroup"
    else
        find "$cgroup" -mindepth 1 -maxdepth 1 -type d
    fi
}

# make_group: what an engine makes for a container.
make_group() {
    local top part
    while read -r top; do
        if [[ -e $top/cgroup.clone_children ]]; then echo 1 >"$top/cgroup.clone_children"; fi
        mkdir -p "$top$own"
        part=${own%/*}
        if [[ $cell_groups == v2 ]] && [[ ,$cell_twists != *,group_without_* ]]; then hand_on "$top$part"; fi
    done < <(hierarchies)
}

# join GROUP…: the calling shell, in every hierarchy; the first group that takes it.
join() {
    local top group
    while read -r top; do
        for group in "$@"; do
            if [[ -d $top$group ]] && echo 0 >"$top$group/cgroup.procs"; then break; fi
        done 2>/dev/null
    done < <(hierarchies)
}

# launch ROLE: the container, whose PID 1 this script is at first. Sets launcher and pid.
launch() {
    local flags=(--mount --pid --uts --ipc --net --fork --kill-child)
    if ! has_twist start_host_namespace; then flags+=(--cgroup); fi
    (
        join "$own"
        exec unshare "${flags[@]}" bash "$lab/guest.sh" "$1"
    ) &
    launcher=$!
    # Before it becomes unshare, its children are those of this script.
    until [[ $(<"/proc/$launcher/comm") == unshare ]] && pid=$(<"/proc/$launcher/task/$launcher/children") &&
        [[ -n ${pid// /} ]]; do sleep 0.1; done
    pid=${pid// /}
    # The launcher has no number in the container's pid namespace, so an engine would not leave it in the group.
    if [[ $cell_groups == v2 ]] && ! has_twist start_foreign; then echo "$launcher" >"$cgroup/cgroup.procs"; fi
    echo go >"$out/go"
}

run_container() {
    local launcher pid begun state=pending
    mkfifo "$out/go"
    begun=$(uptime_ms)
    launch inside
    note "container $pid starts"
    while (($(uptime_ms) - begun < cell_patience * 1000)); do
        if [[ ! -d /proc/$pid ]]; then
            state=ended
            break
        fi
        if visit "$pid" health dindctl health --output json; then
            state=healthy
            break
        fi
        sleep 0.5
    done
    printf '%s %d\n' "$state" $(($(uptime_ms) - begun)) >"$out/state"
    note "$(<"$out/state") ms"
    deliver plan
    deliver state
    if [[ $state == ended ]]; then
        wait "$launcher"
        echo $? >"$out/exit"
        # What doctor says of a container that did not start: in one more of them.
        launch doctor
        wait "$launcher"
    else
        visit "$pid" doctor dindctl doctor --output json --all
        if [[ $state == healthy ]]; then
            selftest "$pid"
            twist later
        fi
        # Profiles of AppArmor; without it there are none.
        visit "$pid" profiles cat /sys/kernel/security/apparmor/profiles
        kill -TERM "$pid"
        wait "$launcher"
        echo $? >"$out/exit"
    fi
    deliver doctor
    deliver clock
    deliver profiles
    deliver exit
    deliver log
}

uptime_ms() {
    local up
    read -r up _ </proc/uptime
    printf '%d' "$((10#${up/./}))0"
}

# visit PID NAME COMMAND…: as `docker exec` does; its output is a result, and so are its errors where it fails.
visit() {
    local pid=$1 name=$2 code=0
    shift 2
    (
        # The leaf, as the group takes no process once it hands controllers on. Nobody enters before dindctl is done: a
        # process that is not yet in the container's pid namespace could not be moved by it.
        if [[ $name != health ]]; then join "$own/init" "$own"; fi
        exec nsenter --target "$pid" --mount --pid --cgroup --uts --ipc --net timeout --kill-after=5 240 "$@"
    ) >"$out/$name" 2>"$out/$name.err" || code=$?
    echo "$code" >"$out/$name.code"
    return "$code"
}

# selftest PID: and, seen from the machine, in which groups the containers of the daemon were meanwhile.
selftest() {
    local watcher
    (
        while sleep 0.3; do
            find "$cgroup" -type d -regextype posix-extended -regex '.*/[0-9a-f]{64}' -printf '%h\n' 2>/dev/null
            nested_processes
        done >"$out/groups.all"
    ) &
    watcher=$!
    # shellcheck disable=SC2086 # words
    visit "$1" selftest dindctl selftest --output json ${cell_tests//,/ }
    kill "$watcher"
    wait "$watcher" 2>/dev/null
    sort -u "$out/groups.all" >"$out/groups"
    local name
    sort -u -o "$out/nested" "$out/nested"
    daemons >"$out/daemons"
    for name in selftest selftest.err selftest.code groups nested daemons; do deliver "$name"; done
}

# nested_processes: of each process in a nested container, who is killed first when memory runs out, and its profile.
nested_processes() {
    local file process score profile
    while read -r file; do
        while read -r process; do
            # It may be gone, and the kernel may have no profiles.
            score='' profile=none
            read -r score <"/proc/$process/oom_score_adj"
            read -r profile <"/proc/$process/attr/current"
            if [[ $score ]]; then printf 'oom_score_adj %s, profile %s\n' "$score" "$profile"; fi
        done <"$file"
    done < <(find "$cgroup" -regextype posix-extended -regex '.*/[0-9a-f]{64}/cgroup.procs') >>"$out/nested" 2>/dev/null
}

# daemons: the same of those who keep them.
daemons() {
    local folder name score
    for folder in /proc/[0-9]*; do
        name=''
        read -r name <"$folder/comm"
        case $name in
            dockerd | containerd | dindctl) read -r score <"$folder/oom_score_adj" && printf '%s %s\n' "$name" "$score" ;;
        esac
    done 2>/dev/null
}

# later_clock_jumps: a day on, two days back, and a daemon that dies meanwhile.
later_clock_jumps() {
    local step folder name
    for step in 86400 -172800; do
        date -s "@$(($(date +%s) + step))" >/dev/null
        for folder in /proc/[0-9]*; do
            if read -r name <"$folder/comm" && [[ $name == dockerd ]]; then kill -KILL "${folder#/proc/}"; fi
        done 2>/dev/null
        sleep 1
        visit "$pid" clock.health dindctl health --wait 120s
        visit "$pid" clock.status dindctl status --output json
        printf '%s: health %s, status %s\n' "$step" "$(<"$out/clock.health.code")" "$(<"$out/clock.status")" >>"$out/clock"
    done
}

# ---- the container

inside() {
    local kind=$1 _
    read -r _ <"$out/go"
    mount --make-rprivate /
    mount -t proc proc /proc
    # The sysfs of this network namespace; its folder for cgroups is what the machine's was.
    mount --move "$cgroup" /mnt
    mount -t sysfs sysfs /sys
    mount --move /mnt "$cgroup"
    mount_own_groups
    # Modules come from the machine, not from the image.
    mount -t tmpfs tmpfs /usr/lib/modules
    mount -t tmpfs -o mode=755 tmpfs /run
    touch /.dockerenv
    hostname cell
    ip link set lo up
    twist inside
    if [[ $kind == doctor ]]; then
        exec dindctl doctor --output json --all >"$out/doctor" 2>"$out/doctor.err"
    fi
    ${start_with[@]+"${start_with[@]}"} dindctl plan --output json >"$out/plan" 2>"$out/plan.err"
    exec ${start_with[@]+"${start_with[@]}"} dindctl entrypoint >"$out/log" 2>&1
}

# What a runtime mounts in a namespace of its own: the own groups only.
mount_own_groups() {
    local name
    if has_twist start_host_namespace; then return; fi
    if [[ $cell_groups == v2 ]]; then
        umount "$cgroup"
        mount -t cgroup2 cgroup2 "$cgroup"
        return
    fi
    umount -R "$cgroup"
    mount -t tmpfs -o mode=755 tmpfs "$cgroup"
    for name in "${v1[@]}"; do
        mkdir "$cgroup/$name"
        mount -t cgroup -o "$name" cgroup "$cgroup/$name"
    done
    mkdir "$cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$cgroup/systemd"
    for name in cpu cpuacct; do ln -s cpu,cpuacct "$cgroup/$name"; done
    for name in net_cls net_prio; do ln -s net_cls,net_prio "$cgroup/$name"; done
    if [[ $cell_groups == hybrid ]]; then
        mkdir "$cgroup/unified"
        mount -t cgroup2 cgroup2 "$cgroup/unified"
    fi
}

# ---- what is odd; called by name

# start_host_namespace and start_foreign are looked at where the container is started.
start_host_namespace() { :; }
start_foreign() { :; }
start_with=()

machine_without_nsdelegate() { mount -o remount,memory_recursiveprot "$cgroup"; }
machine_without_user_namespaces() { echo 0 >/proc/sys/user/max_user_namespaces; }

# The group above hands on all controllers but this one.
group_without_memory() {
    local name
    for name in cpu pids io cpuset; do echo "+$name" >"$cgroup${own%/*}/cgroup.subtree_control"; done
}
group_without_controllers() { :; }
group_threaded() {
    mkdir "$cgroup$own/thread"
    echo threaded >"$cgroup$own/thread/cgroup.type"
}
group_no_descendants() { echo 0 >"$cgroup$own/cgroup.max.descendants"; }

inside_read_only_groups() {
    local top
    while read -r top; do mount -o remount,bind,ro "$top"; done < <(hierarchies)
    mount -o remount,bind,ro "$cgroup"
}
inside_missing_hierarchies() { umount "$cgroup/systemd" "$cgroup/devices" && rmdir "$cgroup"/{systemd,devices}; }
inside_read_only_sys() { mount -o remount,bind,ro /sys; }
inside_apparmor_auto() { export DINDCTL_APPARMOR=auto; }
inside_apparmor_on() { export DINDCTL_APPARMOR=on; }
inside_without_parser() { mount --bind /dev/null "$(command -v apparmor_parser)"; }
# What an engine gives without --privileged, and --cap-add SYS_ADMIN --cap-add NET_ADMIN: its usual capabilities, and read-only
# what it mounts so.
inside_least_rights() {
    local path
    inside_read_only_groups
    inside_read_only_sys
    for path in bus fs irq sys sysrq-trigger; do
        if [[ ! -e /proc/$path ]]; then continue; fi
        mount --bind "/proc/$path" "/proc/$path"
        mount -o remount,bind,ro "/proc/$path"
    done
    local caps=-all name
    for name in chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod \
        audit_write setfcap sys_admin net_admin; do caps+=,+$name; done
    start_with=(setpriv --bounding-set "$caps" --inh-caps=-all)
}
inside_without_sys_resource() { start_with=(setpriv --bounding-set -sys_resource --inh-caps -sys_resource); }

case ${1:-machine} in
    machine) machine ;;
    inside | doctor) inside "$1" ;;
esac
