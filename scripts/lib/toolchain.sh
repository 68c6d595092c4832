# shellcheck shell=bash
# shellcheck disable=SC2154 # from common.sh
# The Rust toolchain: the installed one when it is new enough, else Debian sid's in a tree of its own, because a stable
# Debian's compiler is too old and rustup's servers may be out of reach. Sourced after common.sh.

# rust-version of Cargo.toml: older compilers fail with errors that say less than these scripts can.
rust_wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$repo/Cargo.toml")

# has_rust: a cargo and a compiler that is new enough. DINDCTL_TOOLCHAIN=debian looks at none.
has_rust() {
    local found
    if [[ ${DINDCTL_TOOLCHAIN:-} == debian ]]; then return 1; fi
    command -v cargo >/dev/null && command -v cc >/dev/null || return 1
    found=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
    [[ -n $found && $(printf '%s\n' "$rust_wanted" "$found" | sort -V | head -n 1) == "$rust_wanted" ]]
}

# rust COMMAND…: runs it with the toolchain, wherever that is.
rust() {
    if has_rust; then "$@"; else in_toolchain "$@"; fi
}

# in_toolchain COMMAND…: runs it there, with this repository and cargo's downloads at their own paths.
in_toolchain() {
    local tree=$lab_dir/rust cargo_home=$lab_dir/cache/cargo
    need_root "a Rust toolchain from Debian packages"
    make_toolchain "$tree"
    mkdir -p "$cargo_home" "$tree$repo"
    cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
    # What the host trusts, for networks that intercept TLS.
    if [[ -s /etc/ssl/certs/ca-certificates.crt ]]; then
        cp -L /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/ca-certificates.crt"
    fi
    # Newer compilers pass on each remark of the linker about static glibc, hundreds of lines of them.
    # shellcheck disable=SC2016 # expanded by the inner shell
    RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }-A linker-messages" unshare --mount --propagation private bash -euc '
        tree=$1 repo=$2 cargo_home=$3
        shift 3
        mount --bind "$repo" "$tree$repo"
        mkdir -p "$tree/cargo"
        mount --bind "$cargo_home" "$tree/cargo"
        mount -t proc proc "$tree/proc"
        mount --rbind /dev "$tree/dev"
        export CARGO_HOME=/cargo PATH=/usr/sbin:/usr/bin:/sbin:/bin CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt
        exec chroot "$tree" sh -euc "cd \"\$1\"; shift; exec \"\$@\"" _ "$repo" "$@"
    ' _ "$tree" "$repo" "$cargo_home" "$@"
}

make_toolchain() {
    local tree=$1 start log=$lab_dir/cache/toolchain.log
    if [[ -d $tree ]]; then return; fi
    need debootstrap:debootstrap
    start=$(now_ms)
    say "no Rust $rust_wanted here: fetching Debian sid's into $tree (a few minutes; log: $log)"
    mkdir -p "$lab_dir/cache"
    rm -rf "$tree.new"
    debootstrap --variant=minbase --include=ca-certificates,cargo,rustc,rust-clippy,rustfmt,gcc,libc6-dev,git \
        sid "$tree.new" ${DINDCTL_DEBIAN_MIRROR:+"$DINDCTL_DEBIAN_MIRROR"} >"$log" 2>&1 ||
        die "debootstrap failed: $(tail -n 1 "$log")" "install Rust $rust_wanted and a C compiler by hand, e.g. with rustup"
    rm -f "$tree.new"/var/cache/apt/archives/*.deb
    mv "$tree.new" "$tree"
    say "toolchain ready after $(since "$start")"
}
