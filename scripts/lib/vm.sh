# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # from common.sh and root.sh
# Kernels and QEMU for the tests that boot a machine of their own. Sourced after root.sh.

# vm_kernel: prints VM_KERNEL, VM_MODULES and VM_RELEASE of the suite's kernel, the same with _61 of bookworm's 6.1 (the
# last one with every cgroup v1 controller), and VM_QEMU. Debian's cloud kernels have ext4 and NVMe built in, so they boot a
# disk image without an initramfs: -device nvme,…, root=/dev/nvme0n1 rw init=/SCRIPT. Modules are for the rest.
vm_kernel() {
    local arch qemu package
    arch=$(arch)
    case $arch in
        amd64) qemu='qemu-system-x86_64' package='qemu-system-x86' ;;
        arm64) qemu='qemu-system-aarch64' package='qemu-system-arm' ;;
    esac
    need "$qemu:$package"
    fetch_kernel "$suite" "$lab_dir/vm" ''
    fetch_kernel bookworm "$lab_dir/vm61" _61
    printf 'VM_QEMU=%s\n' "$(command -v "$qemu")"
}

# fetch_kernel SUITE TREE SUFFIX: unpacks that suite's cloud kernel, once, and prints where it is.
fetch_kernel() {
    local from=$1 tree=$2 suffix=$3 log=$lab_dir/cache/vm.log kernel release modules
    if [[ ! -d $tree ]]; then
        need_root "fetching a kernel"
        mkdir -p "$lab_dir/cache"
        make_base
        rm -rf "$tree.new"
        mkdir -p "$tree.new/root"
        tar -C "$tree.new/root" --numeric-owner -xf "$base_tar"
        cp -L /etc/resolv.conf "$tree.new/root/etc/resolv.conf"
        say "fetching Debian's cloud kernel ($from)"
        # Unpacked, not installed: no initramfs is wanted. The name with the version is a dependency of the general one.
        # shellcheck disable=SC2016 # expanded by the inner shell
        chroot "$tree.new/root" bash -euc '
            for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
                if [[ -f $list ]]; then sed -i "s/\b$3\b/$2/g" "$list"; fi
            done
            apt-get update
            package=$(apt-cache depends "linux-image-cloud-$1" | sed -n "s/^ *Depends: \(linux-image-[0-9].*\)/\1/p" | head -n 1)
            cd /tmp
            apt-get download "$package"
            dpkg-deb -x "$package"_*.deb /tmp/kernel
        ' _ "$(arch)" "$from" "$suite" </dev/null >"$log" 2>&1 ||
            die "the kernel could not be fetched: $(tail -n 1 "$log")" "see $log"
        mv "$tree.new/root/tmp/kernel" "$tree"
        rm -rf "$tree.new"
    fi
    kernel=$(echo "$tree"/boot/vmlinuz-*)
    release=${kernel##*/vmlinuz-}
    printf 'VM_KERNEL%s=%s\n' "$suffix" "$kernel"
    printf 'VM_RELEASE%s=%s\n' "$suffix" "$release"
    for modules in "$tree"/usr/lib/modules/"$release" "$tree"/lib/modules/"$release"; do
        if [[ -d $modules ]]; then
            printf 'VM_MODULES%s=%s\n' "$suffix" "$modules"
            break
        fi
    done
}
