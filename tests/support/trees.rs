//! Trees for the tests of backup and restore: grown at random with everything a file system can hold, and compared by what
//! `stat`, `readlink`, `listxattr` and reading say, with no code of the archive's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use sha2::{Digest, Sha256};

/// Everything that a restore has to bring back, one line for each path.
pub fn facts(folder: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        let stat = std::fs::symlink_metadata(&path).unwrap();
        let kind = stat.file_type();
        let name = path.strip_prefix(folder).unwrap().as_os_str().as_bytes().to_vec();
        let content = if kind.is_file() {
            format!("file {} {:x?}", stat.len(), Sha256::digest(std::fs::read(&path).unwrap()))
        } else if kind.is_symlink() {
            format!("link {:x?}", std::fs::read_link(&path).unwrap().as_os_str().as_bytes())
        } else if kind.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "folder".to_owned()
        } else if kind.is_fifo() {
            "pipe".to_owned()
        } else {
            format!("device {} {:x}", kind.is_block_device(), stat.rdev())
        };
        let xattrs: BTreeMap<OsString, Vec<u8>> = xattr::list(&path)
            .map(|names| {
                names.map(|name| (name.clone(), xattr::get(&path, &name).unwrap().unwrap_or_default())).collect()
            })
            .unwrap_or_default();
        let links = if kind.is_dir() { 0 } else { stat.nlink() };
        if links > 1 {
            first_names.entry(stat.ino()).or_insert_with(Vec::new).push(name.clone());
        }
        let line = format!(
            "{content} mode {:o} owner {}:{} time {}.{:09} links {links} {xattrs:x?}",
            stat.mode() & 0o7777,
            stat.uid(),
            stat.gid(),
            stat.mtime(),
            stat.mtime_nsec()
        );
        found.insert(name, line);
    }
    for mut names in first_names.into_values() {
        names.sort();
        found.insert([b"links of ", names[0].as_slice()].concat(), format!("{names:x?}"));
    }
    found
}

/// Fails with the first paths that differ.
pub fn assert_same(one: &BTreeMap<Vec<u8>, String>, other: &BTreeMap<Vec<u8>, String>, what: &str) {
    let keys: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let different: Vec<String> = keys
        .into_iter()
        .filter(|key| one.get(*key) != other.get(*key))
        .take(5)
        .map(|key| format!("{:?}:\n  {:?}\n  {:?}", String::from_utf8_lossy(key), one.get(key), other.get(key)))
        .collect();
    assert!(different.is_empty(), "{what}: {}", different.join("\n"));
}

/// Numbers that are the same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn name(&mut self) -> OsString {
        let length = if self.below(8) == 0 { 200 + self.below(56) } else { 1 + self.below(12) };
        let alphabet: &[u8] = if self.below(3) == 0 { b"\x01\n\t \\\"'*?\xff\xfe\x80=%.-" } else { b"abcdefgh.-_" };
        let bytes: Vec<u8> =
            (0..length).map(|_| alphabet[usize::try_from(self.below(alphabet.len() as u64)).unwrap()]).collect();
        // Never one of the two names that are taken.
        OsString::from_vec([b"n".as_slice(), &bytes].concat()[..=bytes.len().min(254)].to_vec())
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

/// Grows a tree of about `count` names. With `root` it has owners, devices and attributes that only root can give.
pub fn grow(folder: &Path, seed: u64, count: u64, root: bool) {
    let mut random = Random::new(seed);
    let mut folders = vec![folder.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    let mut all = vec![folder.to_owned()];
    for _ in 0..count {
        let parent = folders[usize::try_from(random.below(folders.len() as u64)).unwrap()].clone();
        let path = parent.join(random.name());
        // The kernel takes no longer paths in one piece.
        if path.as_os_str().len() > 3000 || path.symlink_metadata().is_ok() {
            continue;
        }
        match random.below(if root { 12 } else { 10 }) {
            0..=2 => {
                std::fs::create_dir(&path).unwrap();
                folders.push(path.clone());
            }
            3..=5 => {
                let length = match random.below(6) {
                    0 => 0,
                    1 => 512 * random.below(20),
                    2 => 4096 * (1 + random.below(3)),
                    _ => random.below(9000),
                };
                std::fs::write(&path, random.bytes(length)).unwrap();
                files.push(path.clone());
            }
            6 => {
                let length = 1 + random.below(60);
                let target = OsString::from_vec(random.bytes(length).iter().map(|byte| byte | 1).collect());
                symlink(if random.below(2) == 0 { OsString::from("/etc/shadow") } else { target }, &path).unwrap();
            }
            7 if !files.is_empty() => {
                let old = &files[usize::try_from(random.below(files.len() as u64)).unwrap()];
                std::fs::hard_link(old, &path).unwrap();
                continue;
            }
            8 => nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o640)).unwrap(),
            9 => {
                // Mostly hole.
                let file = std::fs::File::create(&path).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, b"end", 1_000_000).unwrap();
                files.push(path.clone());
            }
            10 => {
                let kind = if random.below(2) == 0 { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
                let device = makedev(random.below(4096), random.below(1 << 20));
                mknod(&path, kind, Mode::from_bits_truncate(0o600), device).unwrap();
            }
            _ => {
                let file = std::fs::File::create(&path).unwrap();
                drop(file);
                files.push(path.clone());
            }
        }
        all.push(path);
    }
    // From the bottom up, because a change below is a change of the folder.
    for path in all.iter().rev() {
        adorn(path, &mut random, root);
    }
}

fn adorn(path: &Path, random: &mut Random, root: bool) {
    let stat = path.symlink_metadata().unwrap();
    let link = stat.is_symlink();
    if root && random.below(2) == 0 {
        let id = |random: &mut Random| u32::try_from(random.below(70_000)).unwrap();
        std::os::unix::fs::lchown(path, Some(id(random)), Some(id(random))).unwrap();
    }
    if (stat.is_file() || stat.is_dir()) && random.below(3) == 0 {
        let length = random.below(300);
        let value = random.bytes(length);
        // Not every file system has them for users.
        let _ = xattr::set(path, "user.a=b%c", &value);
    }
    if root && random.below(3) == 0 {
        let _ = xattr::set(path, "trusted.note", &random.bytes(20));
    }
    if root && stat.is_file() && random.below(3) == 0 {
        // cap_net_raw, effective, version 2.
        let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        xattr::set(path, "security.capability", &capability).unwrap();
    }
    if (stat.is_file() || stat.is_dir()) && random.below(3) == 0 {
        // user::rwx, user:1234:r-x, group::r--, mask::rwx, other::---; version 2, little endian.
        let entry =
            |tag: u16, bits: u16, id: u32| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat();
        let none = u32::MAX;
        let list = [
            2_u32.to_le_bytes().to_vec(),
            entry(1, 7, none),
            entry(2, 5, 1234),
            entry(4, 4, none),
            entry(16, 7, none),
            entry(32, 0, none),
        ]
        .concat();
        let name =
            if stat.is_dir() && random.below(2) == 0 { "system.posix_acl_default" } else { "system.posix_acl_access" };
        let _ = xattr::set(path, name, &list);
    }
    if !link {
        // An ordinary user must be able to get in again.
        let keep = if stat.is_dir() && !root {
            0o700
        } else if root {
            0
        } else {
            0o400
        };
        let bits = u32::try_from(random.below(0o10000)).unwrap() | keep;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
    }
    let sec = i64::try_from(random.below(4_000_000_000)).unwrap() - 2_000_000_000;
    let time = nix::sys::time::TimeSpec::new(sec, i64::try_from(random.below(1_000_000_000)).unwrap());
    let follow = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
    nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, follow).unwrap();
}
