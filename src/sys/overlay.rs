/*!
An overlay file system for a moment, which nobody else ever sees: to find out whether there can be one at all.

It is made by fsopen(2) and fsmount(2) and mounted nowhere. A kernel before 5.2 has only mount(2); there it is mounted in a
mount namespace of a thread and goes with both.
*/
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::Mode;

/// Folders of an overlay, all of them below one that is given with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers<'a> {
    /// Folders that are only read, the topmost first.
    pub lower: &'a [&'a str],
    /// The one that is written.
    pub upper: &'a str,
    /// Where the kernel prepares what it writes; empty, and on the file system of `upper`.
    pub work: &'a str,
    /// Options without a value (`volatile`, `userxattr`).
    pub flags: &'a [&'a str],
}

/// How it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Mounted nowhere.
    Detached,
    /// Mounted on the folder `at`, in a namespace that nobody else is in.
    Namespace {
        /// A folder beside the others.
        at: &'static str,
    },
}

/// Has `look` look at the root of an overlay of folders below `folder`.
///
/// However that is named: with colons and commas in it, it could not be an option of a mount, so the folders are named relative to
/// a descriptor of it, or to the working folder of a thread of its own.
pub fn with<T: Send>(
    folder: &Path,
    layers: &Layers<'_>,
    way: Way,
    look: impl FnOnce(BorrowedFd<'_>) -> T + Send,
) -> Result<T, Errno> {
    match way {
        Way::Detached => {
            let folder = open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            let root = detached(layers, &folder)?;
            let seen = look(root.as_fd());
            // The kernel waits for all its CPUs before it lets go of an overlay, milliseconds on a busy machine.
            super::beside::close(root);
            Ok(seen)
        }
        Way::Namespace { at } => super::mount::privately(|| {
            nix::unistd::chdir(folder)?;
            let root = mounted(layers, at)?;
            Ok(look(root.as_fd()))
        })?,
    }
}

fn detached(layers: &Layers<'_>, folder: &OwnedFd) -> Result<OwnedFd, Errno> {
    // SAFETY: the name is a C string; the flag is FSOPEN_CLOEXEC.
    let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), 1) })?;
    let text = |text: &str| CString::new(text).map_err(|_| Errno::EINVAL);
    let below = |name: &str| format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
    let lower: Vec<String> = layers.lower.iter().map(|name| below(name)).collect();
    for (key, value) in [
        (c"lowerdir", text(&lower.join(":"))?),
        (c"upperdir", text(&below(layers.upper))?),
        (c"workdir", text(&below(layers.work))?),
    ] {
        configure(&context, libc::FSCONFIG_SET_STRING, Some(key), Some(&value))?;
    }
    for flag in layers.flags {
        configure(&context, libc::FSCONFIG_SET_FLAG, Some(&text(flag)?), None)?;
    }
    configure(&context, libc::FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: plain numbers; the flag is FSMOUNT_CLOEXEC.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, 0) })
}

fn configure(context: &OwnedFd, command: u32, key: Option<&CStr>, value: Option<&CStr>) -> Result<(), Errno> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: both texts are C strings or null, as the command wants them, and outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(key), pointer(value), 0) };
    Errno::result(result).map(drop)
}

fn descriptor(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let number = Errno::result(result)?;
    let number = i32::try_from(number).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just given it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Mounts it where only this thread sees it, whose working folder has the layers; with the thread the namespace ends, and the mount
/// with it.
fn mounted(layers: &Layers<'_>, at: &str) -> Result<OwnedFd, Errno> {
    let paths = format!("lowerdir={},upperdir={},workdir={}", layers.lower.join(":"), layers.upper, layers.work);
    let data = std::iter::once(paths.as_str()).chain(layers.flags.iter().copied()).collect::<Vec<_>>().join(",");
    nix::mount::mount(Some("overlay"), at, Some("overlay"), MsFlags::empty(), Some(data.as_str()))?;
    open(at, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_folders_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let layers = Layers { lower: &["no"], upper: "no", work: "no", flags: &[] };
        for way in [Way::Detached, Way::Namespace { at: "no" }] {
            // ENOENT where it may be tried at all; EINVAL in a chroot, whose root is no mount that could be made private.
            let refused = with(folder.path(), &layers, way, |_| ()).unwrap_err();
            assert!(
                [Errno::ENOENT, Errno::EPERM, Errno::ENODEV, Errno::EINVAL].contains(&refused),
                "{way:?}: {refused}"
            );
        }
        assert_eq!(with(&folder.path().join("no"), &layers, Way::Detached, |_| ()), Err(Errno::ENOENT));
    }
}
