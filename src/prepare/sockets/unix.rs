/*!
A unix socket that nobody can connect to before its owner and mode are what they should be.

`bind(2)` creates the file with the permissions of the socket itself, less the umask (`unix_bind_bsd` in the kernel's
`net/unix/af_unix.c`): with none at all. It gets its group, then its mode, and only then does it listen, as until then every connection is
refused. It is bound at its final path, not renamed onto it, because dockerd prints the name it was bound under (`API listen on
/var/run/docker.sock`), and scripts wait for that line.
*/
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen as nix_listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

use super::ListenAddress;
use super::bind::{SocketError, errno};

/// Why it cannot be had.
#[derive(Debug)]
pub(super) enum Problem {
    Taken,
    NoSocket,
    Call(&'static str, Errno),
}

impl Problem {
    pub(super) fn at(self, path: &Path, address: &ListenAddress) -> SocketError {
        match self {
            Self::Taken => SocketError::Taken { path: path.into() },
            Self::NoSocket => SocketError::NoSocket { path: path.into() },
            Self::Call(doing, errno) => SocketError::Call { doing, address: address.clone(), errno },
        }
    }
}

/// Listens at `path` with the given group and mode; a socket file that nobody answers on is replaced.
pub(super) fn listen(path: &Path, gid: u32, mode: u32, backlog: i32) -> Result<OwnedFd, Problem> {
    let call = |doing| move |errno| Problem::Call(doing, errno);
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(|error| Problem::Call("create the folder of", errno(&error)))?;
    remove_stale(path)?;
    let address = UnixAddr::new(path).map_err(call("name the socket of"))?;
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(call("create the socket of"))?;
    // A kernel that is not Linux's (gVisor) may know nothing of it: then others see the file with another mode, and are refused.
    let _ = fchmod(&fd, Mode::empty());
    match bind(fd.as_raw_fd(), &address) {
        Ok(()) => {}
        // Somebody was faster between the look and the bind.
        Err(Errno::EADDRINUSE) => return Err(Problem::Taken),
        Err(errno) => return Err(Problem::Call("bind", errno)),
    }
    settle(&fd, path, gid, mode, backlog).inspect_err(|_| {
        // Best effort: the error of the step that failed is the one to report.
        let _ = fs::remove_file(path);
    })?;
    Ok(fd)
}

fn settle(fd: &OwnedFd, path: &Path, gid: u32, mode: u32, backlog: i32) -> Result<(), Problem> {
    let failed = |doing: &'static str| move |error: std::io::Error| Problem::Call(doing, errno(&error));
    match std::os::unix::fs::chown(path, None, Some(gid)) {
        // Without root the group stays ours, which is as strict.
        Err(_) if !nix::unistd::geteuid().is_root() => {}
        other => other.map_err(failed("set the group of"))?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("set the mode of"))?;
    let backlog = Backlog::new(backlog).unwrap_or(Backlog::MAXCONN);
    nix_listen(fd, backlog).map_err(|errno| Problem::Call("listen on", errno))
}

/// A socket file is stale when connecting to it is refused. Anything else that is in the way stays.
fn remove_stale(path: &Path) -> Result<(), Problem> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Problem::Call("look at", errno(&error))),
    };
    if !kind.is_socket() {
        return Err(Problem::NoSocket);
    }
    let call = |doing| move |errno| Problem::Call(doing, errno);
    let address = UnixAddr::new(path).map_err(call("name the socket of"))?;
    // Without blocking: a daemon whose queue is full would keep a blocking connect waiting for ever.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(call("create the socket of"))?;
    match connect(probe.as_raw_fd(), &address) {
        Err(Errno::ECONNREFUSED) => {
            fs::remove_file(path).map_err(|error| Problem::Call("remove the stale socket file of", errno(&error)))
        }
        Err(Errno::ENOENT) => Ok(()),
        // A full queue (EAGAIN), a datagram socket (EPROTOTYPE): somebody is there.
        Ok(()) | Err(_) => Err(Problem::Taken),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn permissions(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn mode_and_group_are_as_asked_and_clients_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/docker.sock");
        let gid = if nix::unistd::geteuid().is_root() { 2375 } else { nix::unistd::getegid().as_raw() };
        let fd = listen(&path, gid, 0o660, 16).unwrap();
        assert_eq!((permissions(&path), fs::metadata(&path).unwrap().gid()), (0o660, gid));
        let listener = UnixListener::from(fd);
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(path.as_path()), "the name that dockerd prints");
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"x").unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_live_socket_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let first = listen(&path, nix::unistd::getegid().as_raw(), 0o600, 1).unwrap();
        assert!(matches!(listen(&path, 0, 0o600, 1), Err(Problem::Taken)));
        drop(first);
        assert!(path.exists(), "the file outlives its socket");
        // A child that another test is just starting may hold the first socket for a moment longer.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        let _second = loop {
            match listen(&path, nix::unistd::getegid().as_raw(), 0o600, 1) {
                Err(Problem::Taken) if std::time::Instant::now() < end => {}
                other => break other.unwrap(),
            }
        };
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_daemon_with_a_full_queue_is_alive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _busy = listen(&path, nix::unistd::getegid().as_raw(), 0o600, 0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        // The second client would block; the probe must neither wait nor take the daemon for dead. It runs apart
        // so that a hang is a failure rather than the end of all tests.
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || send.send(matches!(remove_stale(&path), Err(Problem::Taken))));
        assert_eq!(receive.recv_timeout(std::time::Duration::from_secs(5)), Ok(true));
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path, 0, 0o600, 1), Err(Problem::NoSocket)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
