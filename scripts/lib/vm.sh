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

# The suites whose engines the cells take: Docker 20.10, 26.1 and sid's.
vm_suites=(bookworm trixie sid)

# vm_disks [SUITE…]: prints VM_DISKS, a folder with one disk for each suite: its engine, the modules of both kernels and
# an init that goes on with what a second disk says. vm_kernel's lines are the input.
vm_disks() {
    if (($# == 0)); then set -- "${vm_suites[@]}"; fi
    local of line top release disks=$lab_dir/vm-disks modules=()
    need mke2fs:e2fsprogs
    while read -r line; do
        if [[ $line == VM_MODULES*=* ]]; then modules+=("${line#*=}"); fi
    done
    mkdir -p "$disks"
    for of in "$@"; do
        engine_tree "$of"
        for line in "${modules[@]}"; do
            release=${line##*/}
            if [[ -e $lab_dir/vm-$of/usr/lib/modules/$release/modules.dep.bin ]]; then continue; fi
            mkdir -p "$lab_dir/vm-$of/usr/lib/modules"
            cp -a "$line" "$lab_dir/vm-$of/usr/lib/modules/"
            top=${line%/lib/modules/*}
            cp "${top%/usr}/boot/config-$release" "$lab_dir/vm-$of/boot/"
            chroot "$lab_dir/vm-$of" depmod "$release"
            rm -f "$disks/$of"
        done
        if ! cmp -s "$repo/scripts/lib/vm-init.sh" "$lab_dir/vm-$of/sbin/vm-init"; then
            install -m 0755 "$repo/scripts/lib/vm-init.sh" "$lab_dir/vm-$of/sbin/vm-init"
            rm -f "$disks/$of"
        fi
        if [[ -s $disks/$of ]]; then continue; fi
        mkdir -p "$lab_dir/vm-$of"/{lab,out}
        rm -f "$disks/$of.new"
        mke2fs -q -F -t ext4 -O ^has_journal -d "$lab_dir/vm-$of" "$disks/$of.new" 1600M >/dev/null
        mv "$disks/$of.new" "$disks/$of"
    done
    printf 'VM_DISKS=%s\n' "$disks"
}

# vm_exports: all that the tests in virtual machines need, as variables.
vm_exports() {
    local kernel disks key value
    kernel=$(vm_kernel)
    disks=$(vm_disks <<<"$kernel")
    while IFS='=' read -r key value; do export "$key=$value"; done <<<"$kernel"$'\n'"$disks"
}

# vm_cells CELL…: runs these cells with the binary that ships; `all` and `--list` are what they say, and `--table` prints
# what the last runs left as the rows of README.md's table.
vm_cells() {
    local names=() name cells=$repo/tests/cells/table.rs
    mapfile -t names < <(grep -o 'name: "[^"]\+"' "$cells" | cut -d '"' -f 2)
    case ${1:-} in
        --list)
            printf '%s\n' "${names[@]}"
            return
            ;;
        --table)
            for name in "${names[@]}"; do
                if [[ -e $repo/target/vm-cells/$name/row ]]; then cat "$repo/target/vm-cells/$name/row"; fi
            done
            return
            ;;
        '') die "which cell?" "scripts/lab vm --list names them; all is all of them" ;;
        all) ;;
        *)
            for name in "$@"; do
                if [[ " ${names[*]} " != *" $name "* ]]; then
                    die "there is no cell $name" "scripts/lab vm --list names them"
                fi
            done
            export DINDCTL_CELLS="$*"
            ;;
    esac
    need_root "making the machines' disks"
    vm_exports
    if [[ -z ${DINDCTL_BIN:-} ]]; then
        "$repo/scripts/build"
        export DINDCTL_BIN=$repo/target/dist/dindctl
    fi
    export DINDCTL_TEST_ALL=1
    if has_rust; then
        cargo test --quiet --locked --manifest-path "$repo/Cargo.toml" --test cells -- --quiet || exit 1
    else
        die "running cells by hand needs Rust $rust_wanted" "scripts/test vm --all works without it"
    fi
}
