/*!
The system calls that applying a plan makes, as a trait: tests hand a folder or a recorder, PID 1 hands [`Linux`].
*/
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use nix::sys::wait::WaitStatus;

use super::patience::Patience;
use crate::sys;
use crate::sys::spawn::{Spawn, spawn};

/// What applying may do. Paths are those of the plan.
pub trait System {
    /// A step begins that is called so.
    fn at(&mut self, _step: &str) {}
    /// Mounts a new file system; `options` as mount(8) writes them.
    fn mount(&mut self, source: &str, target: &Path, fstype: &str, options: &[String], data: &str)
    -> Result<(), Errno>;
    /// The same on the place of a mount that cannot be taken away, and that may be one of the same file system.
    fn mount_over(
        &mut self,
        source: &str,
        target: &Path,
        fstype: &str,
        options: &[String],
        data: &str,
    ) -> Result<(), Errno>;
    /// Takes a mount and all below it away from its place; what still uses it goes on.
    fn unmount(&mut self, target: &Path) -> Result<(), Errno>;
    /// Moves this process to a new cgroup namespace, whose root are the groups that it is in.
    fn new_cgroup_namespace(&mut self) -> Result<(), Errno>;
    /// Takes the read-only flag off a mount and keeps its other `options`.
    fn remount_read_write(&mut self, target: &Path, options: &[String]) -> Result<(), Errno>;
    /// Makes a mount and all below it shared.
    fn make_shared(&mut self, target: &Path) -> Result<(), Errno>;
    /// Reads a small file.
    fn read(&mut self, path: &Path) -> Result<String, Errno>;
    /// Writes an existing file in one call.
    fn write(&mut self, path: &Path, value: &str) -> Result<(), Errno>;
    /// Creates a folder and those above it; one that exists is fine. The last one gets exactly `mode` if given.
    fn create_dir(&mut self, path: &Path, mode: Option<u32>) -> Result<(), Errno>;
    /// Removes a file.
    fn remove_file(&mut self, path: &Path) -> Result<(), Errno>;
    /// Makes a symbolic link, in the place of one that is there.
    fn link(&mut self, target: &Path, link: &Path) -> Result<(), Errno>;
    /// Runs `dindctl certificates` and gives its exit code; it says itself what went wrong.
    fn issue_certificates(&mut self) -> Result<u8, Errno>;
    /// Sets `RLIMIT_NOFILE`.
    fn set_open_files(&mut self, soft: u64, hard: u64) -> Result<(), Errno>;
    /// Time since any fixed moment, monotonic.
    fn now(&mut self) -> Duration;
    /// Waits.
    fn sleep(&mut self, duration: Duration);
}

/// The kernel.
#[derive(Debug)]
pub struct Linux<'a> {
    start: Instant,
    patience: Option<&'a Patience>,
}

impl<'a> Linux<'a> {
    /// The system that this process runs on.
    pub fn new() -> Self {
        Self { start: Instant::now(), patience: None }
    }

    /// The same, where steps that take long are named.
    pub fn watched(patience: &'a Patience) -> Self {
        Self { patience: Some(patience), ..Self::new() }
    }
}

impl Default for Linux<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl System for Linux<'_> {
    fn at(&mut self, step: &str) {
        if let Some(patience) = self.patience {
            patience.at(step);
        }
    }

    fn mount(
        &mut self,
        source: &str,
        target: &Path,
        fstype: &str,
        options: &[String],
        data: &str,
    ) -> Result<(), Errno> {
        sys::mount::mount(source, target, fstype, options, data)
    }

    fn mount_over(
        &mut self,
        source: &str,
        target: &Path,
        fstype: &str,
        options: &[String],
        data: &str,
    ) -> Result<(), Errno> {
        sys::mount::mount_over(source, target, fstype, options, data)
    }

    fn unmount(&mut self, target: &Path) -> Result<(), Errno> {
        sys::mount::detach(target)
    }

    fn new_cgroup_namespace(&mut self) -> Result<(), Errno> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
    }

    fn remount_read_write(&mut self, target: &Path, options: &[String]) -> Result<(), Errno> {
        sys::mount::remount_read_write(target, options)
    }

    fn make_shared(&mut self, target: &Path) -> Result<(), Errno> {
        sys::mount::make_shared_recursively(target)
    }

    fn read(&mut self, path: &Path) -> Result<String, Errno> {
        std::fs::read_to_string(path).map_err(|error| sys::file::errno(&error))
    }

    fn write(&mut self, path: &Path, value: &str) -> Result<(), Errno> {
        sys::file::write_once(path, value)
    }

    fn create_dir(&mut self, path: &Path, mode: Option<u32>) -> Result<(), Errno> {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir_all(path).map_err(|error| sys::file::errno(&error))?;
        let Some(mode) = mode else { return Ok(()) };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(|error| sys::file::errno(&error))
    }

    fn remove_file(&mut self, path: &Path) -> Result<(), Errno> {
        std::fs::remove_file(path).map_err(|error| sys::file::errno(&error))
    }

    fn link(&mut self, target: &Path, link: &Path) -> Result<(), Errno> {
        match std::os::unix::fs::symlink(target, link) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                self.remove_file(link)?;
                std::os::unix::fs::symlink(target, link)
            }
            other => other,
        }
        .map_err(|error| sys::file::errno(&error))
    }

    fn issue_certificates(&mut self) -> Result<u8, Errno> {
        let own = Spawn {
            program: "/proc/self/exe".into(),
            argv: vec!["dindctl".into(), "certificates".into()],
            env: std::env::vars_os().collect(),
            ..Spawn::default()
        };
        let child = spawn(&own).map_err(|error| error.errno())?;
        loop {
            match nix::sys::wait::waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => return Ok(u8::try_from(code).unwrap_or(u8::MAX)),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128_u8.saturating_add(signal as u8)),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn set_open_files(&mut self, soft: u64, hard: u64) -> Result<(), Errno> {
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft, hard)
    }

    fn now(&mut self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&mut self, duration: Duration) {
        std::thread::sleep(duration);
    }
}
