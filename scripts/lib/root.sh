# shellcheck shell=bash
# shellcheck disable=SC2154 # lab_dir comes from common.sh
# Debian trees made from packages alone: the lab's engine, and the base image where no registry answers.
# Sourced after common.sh.

suite=trixie
base_tar=$lab_dir/cache/base.tar

# make_base: the tree of debian:trixie-slim as a tarball ($base_tar), kept for every later use. base_arch: another architecture, whose
# programs must run here.
make_base() {
    if [[ -s $base_tar ]]; then return; fi
    need debootstrap:debootstrap
    local tree=${base_tar%.tar}.new start log
    start=$(now_ms)
    log=${base_tar%.tar}.log
    mkdir -p "$lab_dir/cache/debs"
    rm -rf "$tree"
    say "fetching a Debian $suite base (about a minute; log: $log)"
    # ca-certificates is there from the start, so that the extra CA of an intercepting network has its place.
    debootstrap --variant=minbase --include=ca-certificates --cache-dir="$lab_dir/cache/debs" ${base_arch:+--arch="$base_arch"} \
        "$suite" "$tree" ${DINDCTL_DEBIAN_MIRROR:+"$DINDCTL_DEBIAN_MIRROR"} >"$log" 2>&1 ||
        die "debootstrap failed: $(tail -n 1 "$log")" "see $log; another mirror goes into DINDCTL_DEBIAN_MIRROR"
    slim "$tree"
    tar -C "$tree" --numeric-owner -cf "$base_tar.new" .
    mv "$base_tar.new" "$base_tar"
    rm -rf "$tree"
    say "Debian base ready after $(since "$start")"
}

# slim TREE: what the official slim images do as well: no documentation, no services started by packages, no package
# lists or caches, and the same for every package that is installed later.
slim() {
    local tree=$1
    printf '%s\n' 'path-exclude /usr/share/doc/*' 'path-include /usr/share/doc/*/copyright' \
        'path-exclude /usr/share/man/*' 'path-exclude /usr/share/info/*' 'path-exclude /usr/share/lintian/*' \
        'path-exclude /usr/share/locale/*' >"$tree/etc/dpkg/dpkg.cfg.d/docker"
    printf '%s\n' 'force-unsafe-io' >"$tree/etc/dpkg/dpkg.cfg.d/docker-speedup"
    # shellcheck disable=SC2016 # apt itself gets these words
    printf '%s\n' 'Acquire::Languages "none";' 'Acquire::GzipIndexes "true";' \
        'APT::AutoRemove::SuggestsImportant "false";' \
        'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' \
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };' \
        >"$tree/etc/apt/apt.conf.d/docker-clean"
    printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
    chmod 0755 "$tree/usr/sbin/policy-rc.d"
    find "$tree/usr/share/doc" -depth -type f ! -name copyright -delete
    find "$tree/usr/share/doc" -depth \( -type l -o -type d -empty \) -delete
    rm -rf "$tree"/usr/share/{man,info,lintian,locale}/* "$tree"/var/lib/apt/lists/* \
        "$tree"/var/cache/apt/archives/*.deb "$tree"/var/log/{apt/*,*.log} "$tree/etc/resolv.conf" "$tree/etc/hostname"
    : >"$tree/etc/machine-id"
}

# engine_tree SUITE: that suite's engine and what its machine boots with, for the disks of virtual machines.
engine_tree() {
    # make_root and make_base see these instead of the general ones.
    local suite=$1 base_tar=$lab_dir/cache/base-$1.tar
    if [[ $suite == trixie ]]; then base_tar=$lab_dir/cache/base.tar; fi
    make_root "$lab_dir/vm-$suite" docker.io iptables nftables iproute2 kmod apparmor ca-certificates
}

# make_root TREE PACKAGE…: the base with packages on top; the folder appears only when it is complete.
make_root() {
    local tree=$1 start log
    shift
    if [[ -d $tree ]]; then return; fi
    make_base
    start=$(now_ms)
    log=$lab_dir/cache/packages-${tree##*/}.log
    rm -rf "$tree.new"
    mkdir -p "$tree.new"
    tar -C "$tree.new" --numeric-owner -xf "$base_tar"
    cp -L /etc/resolv.conf "$tree.new/etc/resolv.conf"
    say "installing into $tree: $*"
    # shellcheck disable=SC2016 # expanded by the inner shell
    # A mount namespace of its own: proc is gone with it, whatever happens.
    unshare --mount --propagation private bash -euc '
        mount -t proc proc "$1/proc"
        tree=$1
        shift
        export DEBIAN_FRONTEND=noninteractive
        # The Release file of sid is sometimes past its date.
        chroot "$tree" apt-get -o Acquire::Check-Valid-Until=false update
        chroot "$tree" apt-get install -y --no-install-recommends "$@"
    ' root "$tree.new" "$@" </dev/null >"$log" 2>&1 ||
        die "packages could not be installed: $(grep -m 1 '^E:' "$log" || tail -n 1 "$log")" "see $log"
    rm -rf "$tree.new"/var/lib/apt/lists/*
    # Services of packages start nowhere in here, and dockerd writes to these folders only through mounts.
    mv "$tree.new" "$tree"
    say "packages ready after $(since "$start")"
}
