/*!
Creating a file system object without any permission.
*/
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

/// Runs `create` under a umask that takes every permission away.
///
/// The umask belongs to the whole process, so `create` runs in a thread that leaves the shared one (`CLONE_FS`) first
/// and ends with the call. Where a seccomp filter refuses that, the whole process has the umask for the moment of the
/// call: then nothing else may create files meanwhile, which holds for PID 1.
pub fn without_permissions<T: Send>(create: impl FnOnce() -> Result<T, Errno> + Send) -> Result<T, Errno> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            let alone = unshare(CloneFlags::CLONE_FS).is_ok();
            let before = umask(Mode::S_IRWXU | Mode::S_IRWXG | Mode::S_IRWXO);
            let created = create();
            if !alone {
                umask(before);
            }
            created
        });
        match thread {
            Ok(thread) => thread.join().unwrap_or(Err(Errno::EFAULT)),
            Err(error) => Err(super::file::errno(&error)),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn only_what_is_created_inside_is_bare() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().mode() & 0o777;
        let create = |name: &str| {
            std::fs::File::create(folder.path().join(name)).map(|_| ()).map_err(|error| crate::sys::file::errno(&error))
        };
        create("before").unwrap();
        without_permissions(|| create("inside")).unwrap();
        create("after").unwrap();
        assert_eq!(mode("inside"), 0);
        assert_eq!(mode("after"), mode("before"));
        assert_ne!(mode("after"), 0);
    }

    #[test]
    fn the_error_of_the_call_comes_back() {
        assert_eq!(without_permissions(|| Err::<(), _>(Errno::EPERM)), Err(Errno::EPERM));
    }
}
