/*!
`/proc/PID/mountinfo`, as `Documentation/filesystems/proc.rst` section 3.5 of the kernel describes it.
*/
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::{ProbeError, Roots};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Number of the mount, unique while it exists.
    pub id: u64,
    /// Number of the mount it lies on.
    pub parent: u64,
    /// Which folder of the file system is mounted; `/` unless it is a bind mount or a cgroup of another namespace.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// Options of this mount alone (`rw`, `nosuid`, …).
    pub options: Vec<String>,
    /// Peer group when the mount is shared: what is mounted below it shows up in its peers.
    pub shared: Option<u64>,
    /// `tmpfs`, `cgroup2`, ….
    pub fstype: String,
    /// What was mounted: a device or a name.
    pub source: String,
    /// Options of the file system as a whole, shared by all its mounts.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Whether writing through this mount is refused because of the mount's own flag.
    pub fn read_only_mount(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }

    /// Whether the file system itself refuses to be written, whatever the mount says.
    pub fn read_only_super(&self) -> bool {
        self.super_options.iter().any(|option| option == "ro")
    }

    /// Whether nothing can be written here, for either reason.
    pub fn read_only(&self) -> bool {
        self.read_only_mount() || self.read_only_super()
    }
}

/// All mounts of the own mount namespace, in the order they were made.
pub fn own(roots: &Roots) -> Result<Vec<Mount>, ProbeError> {
    let path = roots.own.join("mountinfo");
    let bytes = crate::sys::file::read(&path).map_err(|error| ProbeError::Read { path: path.clone(), error })?;
    parse(&bytes, &path)
}

/// Parses the content of `path`.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Vec<Mount>, ProbeError> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            parse_line(line).map_err(|what| ProbeError::Parse {
                path: path.into(),
                what,
                line: String::from_utf8_lossy(line).into_owned(),
            })
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Result<Mount, &'static str> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut next = || fields.next().ok_or("a field is missing");
    let id = number(next()?)?;
    let parent = number(next()?)?;
    next()?; // major:minor of the device
    let root = unescape_path(next()?);
    let point = unescape_path(next()?);
    let options = split_options(next()?);
    let mut shared = None;
    // Any number of optional fields up to a single hyphen.
    loop {
        let field = next()?;
        if field == b"-" {
            break;
        }
        if let Some(group) = field.strip_prefix(b"shared:") {
            shared = Some(number(group)?);
        }
    }
    let fstype = text(next()?);
    // An empty source is written as an empty field; a missing one is an error.
    let source = text(next()?);
    let super_options = split_options(next()?);
    Ok(Mount { id, parent, root, point, options, shared, fstype, source, super_options })
}

fn number(field: &[u8]) -> Result<u64, &'static str> {
    std::str::from_utf8(field).ok().and_then(|digits| digits.parse().ok()).ok_or("a number is expected")
}

fn split_options(field: &[u8]) -> Vec<String> {
    field.split(|byte| *byte == b',').filter(|option| !option.is_empty()).map(text).collect()
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

fn unescape_path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// The kernel writes blank, tab, newline and backslash as a backslash and three octal digits (`mangle_path`).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) = (byte, after) {
            plain.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
            rest = after;
        } else {
            plain.push(*byte);
            rest = after;
        }
    }
    plain
}

/// The mount that is visible at `point`: of several on one place the last one hides the others.
pub fn at<'a>(mounts: &'a [Mount], point: &Path) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.point == point)
}

/// The mount that holds `path`. `path` must be absolute and free of symbolic links.
pub fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    path.ancestors().find_map(|ancestor| at(mounts, ancestor))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Mount {
        parse(line.as_bytes(), Path::new("mountinfo")).unwrap().remove(0)
    }

    #[test]
    fn a_line_of_the_kernel_documentation() {
        let mount = one("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n");
        assert_eq!((mount.id, mount.parent, mount.shared), (36, 35, Some(7)));
        assert_eq!((mount.root.as_path(), mount.point.as_path()), (Path::new("/mnt1"), Path::new("/mnt2")));
        assert_eq!(mount.options, ["rw", "noatime"]);
        assert_eq!((mount.fstype.as_str(), mount.source.as_str()), ("ext3", "/dev/root"));
        assert_eq!(mount.super_options, ["rw", "errors=continue"]);
    }

    #[test]
    fn an_empty_source_is_kept_apart_from_a_missing_one() {
        assert_eq!(one("1 0 0:1 / /a rw - tmpfs  rw").source, "");
        let error = parse(b"1 0 0:1 / /a rw - tmpfs none", Path::new("m")).unwrap_err().to_string();
        assert_eq!(error, r#"cannot understand m: a field is missing in "1 0 0:1 / /a rw - tmpfs none""#);
    }

    #[test]
    fn read_only_of_the_mount_and_of_the_file_system_are_two_things() {
        let bind = one("1 0 0:1 / /a ro,nosuid - cgroup2 cgroup rw");
        assert!(bind.read_only_mount() && !bind.read_only_super() && bind.read_only());
        let whole = one("1 0 0:1 / /a rw - cgroup2 cgroup ro");
        assert!(!whole.read_only_mount() && whole.read_only_super() && whole.read_only());
    }

    #[test]
    fn the_last_mount_on_a_place_hides_the_others() {
        let mounts = parse(
            b"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /tmp rw - tmpfs b rw\n3 2 0:3 / /tmp rw - ext4 c rw\n",
            Path::new("m"),
        )
        .unwrap();
        assert_eq!(at(&mounts, Path::new("/tmp")).unwrap().id, 3);
        assert_eq!(holding(&mounts, Path::new("/tmp/x/y")).unwrap().id, 3);
        assert_eq!(holding(&mounts, Path::new("/tmpx")).unwrap().id, 1);
        assert!(at(&mounts, Path::new("/tmp/x")).is_none());
    }

    /// What `mangle_path` in the kernel does.
    fn mangle(path: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for byte in path {
            if b" \t\n\\".contains(byte) {
                out.extend(format!("\\{byte:03o}").into_bytes());
            } else {
                out.push(*byte);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn any_mount_point_survives_the_kernels_escaping(path in prop::collection::vec(1_u8.., 1..40)) {
            let mut line = b"1 0 0:1 / ".to_vec();
            line.extend(mangle(&path));
            line.extend(b" rw shared:3 - tmpfs none rw");
            let mounts = parse(&line, Path::new("m")).unwrap();
            prop_assert_eq!(mounts.len(), 1);
            prop_assert_eq!(mounts[0].point.as_os_str().as_bytes(), &path[..]);
            prop_assert_eq!(mounts[0].shared, Some(3));
        }

        #[test]
        fn no_input_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, Path::new("m"));
        }
    }
}
