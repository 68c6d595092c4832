/*!
`mount(2)` in the few shapes that the preparation needs.
*/
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, move_mount,
};

/// Mounts a new file system of type `fstype` on `target`.
pub fn mount(source: &str, target: &Path, fstype: &str, options: &[String], data: &str) -> Result<(), Errno> {
    let data = (!data.is_empty()).then_some(data);
    nix::mount::mount(Some(source), target, Some(fstype), flags(options), data)
}

/// Mounts a new file system of type `fstype` on the place of another mount. `mount(2)` refuses one of the same file system there
/// (`do_add_mount` in the kernel's fs/namespace.c), and all mounts of a control group hierarchy are of one; a mount that was made elsewhere
/// may be moved there. Needs Linux 5.2.
pub fn mount_over(source: &str, target: &Path, fstype: &str, options: &[String], data: &str) -> Result<(), Errno> {
    let errno = |error: rustix::io::Errno| Errno::from_raw(error.raw_os_error());
    let system = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(errno)?;
    fsconfig_set_string(&system, "source", source).map_err(errno)?;
    for word in data.split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&system, key, value),
            None => fsconfig_set_flag(&system, word),
        }
        .map_err(errno)?;
    }
    fsconfig_create(&system).map_err(errno)?;
    let mount = fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, attributes(options)).map_err(errno)?;
    move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(errno)
}

/// As [`flags`].
fn attributes(options: &[String]) -> MountAttrFlags {
    options.iter().fold(MountAttrFlags::empty(), |flags, option| {
        flags
            | match option.as_str() {
                "ro" => MountAttrFlags::MOUNT_ATTR_RDONLY,
                "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
                "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
                "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
                "noatime" => MountAttrFlags::MOUNT_ATTR_NOATIME,
                "nodiratime" => MountAttrFlags::MOUNT_ATTR_NODIRATIME,
                "strictatime" => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
                _ => MountAttrFlags::empty(),
            }
    })
}

/// Takes the read-only flag off one mount and keeps its other flags (`options` as `mountinfo` lists them).
///
/// `MS_BIND` confines the change to this mount: without it the flag of the whole file system would change, for every
/// container on the machine, which the kernel refuses or, worse, does.
pub fn remount_read_write(target: &Path, options: &[String]) -> Result<(), Errno> {
    let kept = flags(options) - MsFlags::MS_RDONLY;
    let flags = kept | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    nix::mount::mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
}

/// Takes the mount at `target` and all below it out of the tree at once, whoever still uses it.
pub fn detach(target: &Path) -> Result<(), Errno> {
    nix::mount::umount2(target, MntFlags::MNT_DETACH)
}

/// Makes the mount at `target` and all below it shared: later mounts reach the namespaces that copy it.
pub fn make_shared_recursively(target: &Path) -> Result<(), Errno> {
    nix::mount::mount(None::<&str>, target, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)
}

/// Runs `act` in a thread with a mount namespace of its own: what it mounts nobody else sees, and it goes with the thread.
pub fn privately<T: Send>(act: impl FnOnce() -> T + Send) -> Result<T, Errno> {
    let run = || {
        leave_namespace()?;
        Ok(act())
    };
    std::thread::scope(|scope| match std::thread::Builder::new().spawn_scoped(scope, run) {
        Ok(thread) => thread.join().unwrap_or(Err(Errno::EFAULT)),
        Err(error) => Err(super::file::errno(&error)),
    })
}

/// Moves the calling thread to a copy of its mount namespace, from which nothing reaches the one that it was.
pub fn leave_namespace() -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// The flags for options written as `mountinfo` and mount(8) write them; unknown ones have no flag.
fn flags(options: &[String]) -> MsFlags {
    options.iter().fold(MsFlags::empty(), |flags, option| {
        flags
            | match option.as_str() {
                "ro" => MsFlags::MS_RDONLY,
                "nosuid" => MsFlags::MS_NOSUID,
                "nodev" => MsFlags::MS_NODEV,
                "noexec" => MsFlags::MS_NOEXEC,
                "noatime" => MsFlags::MS_NOATIME,
                "nodiratime" => MsFlags::MS_NODIRATIME,
                "relatime" => MsFlags::MS_RELATIME,
                "strictatime" => MsFlags::MS_STRICTATIME,
                _ => MsFlags::empty(),
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_flags() {
        let options: Vec<String> = ["rw", "nosuid", "nodev", "noexec", "relatime"].map(String::from).into();
        let expected = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
        assert_eq!(flags(&options), expected);
    }
}
