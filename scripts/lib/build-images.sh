# shellcheck shell=bash
# shellcheck disable=SC2154 # from common.sh and images.sh
# scripts/build --image: which images, for which platforms, and in what order. Sourced after images.sh.

# build_images TAG PLATFORMS FORCE NAME…: PLATFORMS are words, the own one when there are none. What can be found wrong is found
# before anything is built.
build_images() {
    local tag=$1 platforms=$2 force=$3 name arch wanted=() needed=() arches=() foreign=()
    shift 3
    for name in "$@"; do
        if [[ $name == all ]]; then wanted+=("${image_names[@]}"); else
            contains "$name" "${image_names[@]}" || unknown_image "$name"
            wanted+=("$name")
        fi
    done
    if is_whole "$tag" && ((${#wanted[@]} != 1)); then
        die "--tag $tag is the name of one image, and ${#wanted[@]} are to be made" "a tag alone (--tag ci) serves for several"
    fi
    [[ -z $tag || $tag =~ ^[A-Za-z0-9_][A-Za-z0-9_./:-]*$ ]] || die "--tag \"$tag\" is no tag" "letters, digits, dots, hyphens"
    for name in ${platforms:-linux/$(arch)}; do
        arch=${name#linux/}
        [[ $arch == amd64 || $arch == arm64 ]] || die "--platform $name is not supported" "linux/amd64, linux/arm64, or both with a comma"
        if ! contains "$arch" "${arches[@]}"; then arches+=("$arch"); fi
        if [[ $arch != "$(arch)" ]] && ! contains "$arch" "${foreign[@]}"; then foreign+=("$arch"); fi
    done
    for name in "${wanted[@]}"; do
        while [[ $name ]]; do
            needed+=("$name")
            recipe "$name"
            name=$recipe_beneath
        done
    done
    use_engine
    for arch in "${foreign[@]}"; do can_build_for "$arch"; done
    if needs_binary "${needed[@]}"; then
        for arch in "${arches[@]}"; do binary_ready "$arch"; done
    fi
    for arch in "${arches[@]}"; do build_for "$arch"; done
}

contains() {
    local word=$1 other
    shift
    for other in "$@"; do
        if [[ $other == "$word" ]]; then return; fi
    done
    return 1
}

needs_binary() {
    local name
    for name in "$@"; do
        recipe "$name"
        if [[ $recipe_binary ]]; then return; fi
    done
    return 1
}

# build_for ARCH: with the variables of build_images.
build_for() {
    local arch=$1 name base own as forced
    base=$(base_for "$arch")
    for name in "${image_order[@]}"; do
        if ! contains "$name" "${needed[@]}"; then continue; fi
        recipe "$name"
        as=$(reference_of "$name" "$arch")
        own=$base
        if [[ -z $recipe_binary ]]; then own=$(debian_for "$arch"); fi
        if [[ $recipe_beneath ]]; then own=$(reference_of "$recipe_beneath" "$arch"); fi
        if [[ -z $tag && -z $force && ($name == python || $name == node) ]] && image_exists "$as" && foreign_or_pulled "$as"; then
            say "$as: an image from elsewhere, left alone; --force or --tag make ours"
            continue
        fi
        forced=''
        if contains "$name" "${wanted[@]}"; then forced=$force; fi
        make_image "$name" "$as" "$own" "$arch" "$forced"
    done
}

# reference_of NAME ARCH: of an image that was asked for, or of one beneath it.
reference_of() {
    local name=$1 arch=$2
    if contains "$name" "${wanted[@]}" || ! is_whole "$tag"; then
        reference "$name" "$tag" "$arch"
    else
        beneath "$name" "$(reference "${wanted[0]}" "$tag" "$arch")"
    fi
}

# base_for ARCH, debian_for ARCH: the images from elsewhere, made ready.
base_for() {
    if [[ -z ${DINDCTL_BASE:-} ]]; then debian_for "$1"; return; fi
    if [[ $1 == "$(arch)" ]]; then base_ready "$DINDCTL_BASE"; fi
    printf '%s\n' "$DINDCTL_BASE"
}
debian_for() {
    local image=$debian
    if [[ $1 == "$(arch)" ]]; then
        base_ready "$image"
    elif [[ $engine_name == lab ]]; then
        image+=-$1
        debian_of "$1" "$image"
    fi # else the builder itself asks the registry for that architecture
    printf '%s\n' "$image"
}

# debian_of ARCH IMAGE: made from Debian packages, whose programs run in an emulator meanwhile.
debian_of() {
    # make_base sees these.
    local base_arch=$1 image=$2 base_tar=$lab_dir/cache/base-$1.tar
    if image_exists "$image"; then return; fi
    make_base
    docker import --platform "linux/$base_arch" --change 'CMD ["bash"]' "$base_tar" "$image" >/dev/null
}

# can_build_for ARCH: whether the builder runs programs of another architecture.
can_build_for() {
    local platforms
    platforms=$(docker buildx inspect | sed -n 's/^Platforms: *//p' | tr -s ',* \n' ' ')
    # shellcheck disable=SC2086 # words
    if contains "linux/$1" $platforms; then return; fi
    die "the engine's builder runs no programs of linux/$1 (it has $platforms)" \
        "register QEMU on the engine's machine (Debian: apt install qemu-user-static binfmt-support), or choose a builder that has it: docker buildx use NAME"
}

# binary_ready ARCH: built where that can be, else taken as it is.
binary_ready() {
    local arch=$1 triple file machine
    triple=$(triple_of "$arch") file=$(binary_of "$arch")
    if [[ $arch == "$(arch)" ]]; then
        "$repo/scripts/build" >&2
        return
    fi
    if has_rust && [[ -d $(rustc --print sysroot)/lib/rustlib/$triple ]]; then
        DINDCTL_TARGET=$triple "$repo/scripts/build" >&2
        return
    fi
    [[ -x $repo/$file ]] || die "$file is missing, and the Rust here cannot make it" \
        "rustup target add $triple and a cross compiler (Debian: gcc-${triple%%-*}-linux-gnu), then DINDCTL_TARGET=$triple scripts/build; or copy one there"
    # e_machine of ELF: what the file is for (elf(5)).
    machine=$(od -An -t u2 -j 18 -N 2 "$repo/$file" | tr -d ' ')
    case $arch:$machine in
        arm64:183 | amd64:62) ;;
        *) die "$file is no program of $arch (ELF machine $machine)" "remove it, and build it with DINDCTL_TARGET=$triple" ;;
    esac
    if [[ -n $(cd "$repo" && find "${binary_sources[@]}" -newer "$file" -print -quit) ]]; then
        say "$file is older than the sources, and the Rust here cannot make it anew: taken as it is"
    fi
}
