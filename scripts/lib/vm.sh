# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # from common.sh and root.sh
# A kernel and QEMU for the tests that boot a machine of their own. Sourced after root.sh.

# vm_kernel: prints VM_KERNEL, VM_MODULES, VM_QEMU and VM_RELEASE. Debian's cloud kernel has ext4 and NVMe built in, so it
# boots a disk image without an initramfs: -device nvme,…, root=/dev/nvme0n1 rw init=/SCRIPT. Modules are for the rest.
vm_kernel() {
    local arch qemu package modules tree=$lab_dir/vm log=$lab_dir/cache/vm.log kernel release
    arch=$(arch)
    case $arch in
        amd64) qemu='qemu-system-x86_64' package='qemu-system-x86' ;;
        arm64) qemu='qemu-system-aarch64' package='qemu-system-arm' ;;
    esac
    need "$qemu:$package"
    if [[ ! -d $tree ]]; then
        need_root "fetching a kernel"
        mkdir -p "$lab_dir/cache"
        make_base
        rm -rf "$tree.new"
        mkdir -p "$tree.new/root"
        tar -C "$tree.new/root" --numeric-owner -xf "$base_tar"
        cp -L /etc/resolv.conf "$tree.new/root/etc/resolv.conf"
        say "fetching Debian's cloud kernel ($suite)"
        # Unpacked, not installed: no initramfs is wanted. The name with the version is a dependency of the general one.
        # shellcheck disable=SC2016 # expanded by the inner shell
        chroot "$tree.new/root" bash -euc '
            apt-get update
            package=$(apt-cache depends "linux-image-cloud-$1" | sed -n "s/^ *Depends: \(linux-image-[0-9].*\)/\1/p" | head -n 1)
            cd /tmp
            apt-get download "$package"
            dpkg-deb -x "$package"_*.deb /tmp/kernel
        ' _ "$arch" </dev/null >"$log" 2>&1 || die "the kernel could not be fetched: $(tail -n 1 "$log")" "see $log"
        mv "$tree.new/root/tmp/kernel" "$tree"
        rm -rf "$tree.new"
    fi
    kernel=$(echo "$tree"/boot/vmlinuz-*)
    release=${kernel##*/vmlinuz-}
    printf 'VM_KERNEL=%s\n' "$kernel"
    printf 'VM_RELEASE=%s\n' "$release"
    for modules in "$tree"/usr/lib/modules/"$release" "$tree"/lib/modules/"$release"; do
        if [[ -d $modules ]]; then printf 'VM_MODULES=%s\n' "$modules"; fi
    done
    printf 'VM_QEMU=%s\n' "$(command -v "$qemu")"
}
