#!/bin/bash
# The inside of the lab, started by `scripts/lab up` in new mount, network and PID namespaces: the host's mounts, firewall,
# bridges and daemons stay untouched, and everything in here ends with its PID 1.
# Arguments: state folder, number of the lab, MTU, folders shared at the same path.
set -euo pipefail

state=$1 n=$2 mtu=$3
shift 3
root=$state/root

# shellcheck source=scripts/lib/common.sh
. "$(dirname "$0")/common.sh"

# /proc still belongs to the outer PID namespace, so this is the number by which `lab down` can reach us.
read -r pid _ </proc/self/stat
printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$state/engine.pid.new"
mv "$state/engine.pid.new" "$state/engine.pid"

mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc -o nosuid,nodev,noexec proc proc
# A sysfs of its own shows the network devices of this namespace; the cgroup trees are the host's.
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p run/lab
mount --bind "$state/run" run/lab
for name in docker containerd; do
    mkdir -p "var/lib/$name"
    mount --bind "$state/data/$name" "var/lib/$name"
done
for dir in "$@"; do
    mkdir -p ".$dir"
    mount --bind "$dir" ".$dir"
done

# pivot_root, not chroot: runc refuses to work when / is not a mount point.
pivot_root . .
umount -l .
cd /
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

# The other end of the cable is pushed in by the host's side.
for ((i = 0; i < 200; i++)); do
    if [[ -e /sys/class/net/uplink ]]; then break; fi
    sleep 0.05
done
ip link set lo up
ip address add "10.$n.0.2/30" dev uplink
ip link set uplink mtu "$mtu" up
ip route add default via "10.$n.0.1"

# Debian's iptables is the nft variant. It works here (kernels with NFT_COMPAT) and in nested daemons; dockerd of this
# version knows no native nftables back end. What comes from the host may reach every container by its address.
iptables -N DOCKER-USER
iptables -A DOCKER-USER -i uplink -j ACCEPT
iptables -A DOCKER-USER -j RETURN

# tini reaps the shims' leftovers and hands SIGTERM on.
exec tini -- dockerd \
    --host unix:///run/lab/docker.sock --group root \
    --data-root /var/lib/docker --exec-root /run/docker --pidfile /run/docker.pid \
    --cgroup-parent "/dindctl-lab-$n" \
    --bip "10.$n.1.1/24" --default-address-pool "base=10.$n.128.0/17,size=24" --mtu "$mtu"
