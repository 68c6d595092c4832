/*!
Receiver of `sd_notify(3)`: a datagram socket on which services tell that they are ready, reload or stop.

The kernel vouches for the sender's process id (`SO_PASSCRED`), and only messages of a process that we started
count: anything in the container may write to the socket.
*/
use std::ffi::{OsStr, OsString};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind, getsockname, recvmsg, sendto,
    setsockopt, socket, sockopt,
};

/// What a service tells; words that mean nothing to us are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// `READY=1`
    Ready,
    /// `RELOADING=1`
    Reloading,
    /// `STOPPING=1`
    Stopping,
}

/// A notice and who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// Process id as the kernel gives it.
    pub pid: i32,
    /// What it says.
    pub notice: Notice,
}

/// Reads the newline-separated `KEY=VALUE` pairs of one datagram, in their order.
pub fn parse(datagram: &[u8]) -> Vec<Notice> {
    datagram
        .split(|byte| *byte == b'\n')
        .filter_map(|line| match line {
            b"READY=1" => Some(Notice::Ready),
            b"RELOADING=1" => Some(Notice::Reloading),
            b"STOPPING=1" => Some(Notice::Stopping),
            _ => None,
        })
        .collect()
}

/// Sends a notice to the socket at `address` (the value of `NOTIFY_SOCKET`; `@` stands for an abstract address).
pub fn tell(address: &OsStr, notice: &str) -> Result<(), Errno> {
    let to = match address.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
        path => UnixAddr::new(path)?,
    };
    let socket = open_socket().map_err(|error| error.errno)?;
    sendto(socket.as_raw_fd(), notice.as_bytes(), &to, MsgFlags::MSG_NOSIGNAL).map(drop)
}

/// Why there is no notification socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the notification socket: {errno}")]
pub struct NotifyError {
    /// The call that failed.
    pub action: &'static str,
    /// Why.
    pub errno: Errno,
}

/// The receiving socket. Its file goes when it is dropped.
#[derive(Debug)]
pub struct NotifySocket {
    socket: OwnedFd,
    address: OsString,
    file: Option<PathBuf>,
    /// Why the socket is not a file in the folder asked for, when it is not.
    pub fallback: Option<String>,
}

/// Longest datagram taken; systemd's own receiver has the same limit.
const DATAGRAM: usize = 4096;

impl NotifySocket {
    /// Binds `folder/notify`, or an abstract address chosen by the kernel where that fails (a read-only `/run`).
    /// With `for_everyone`, services that run as other users can write to it.
    pub fn bind(folder: &Path, for_everyone: bool) -> Result<Self, NotifyError> {
        let path = folder.join("notify");
        match Self::bind_file(&path, for_everyone) {
            Ok(socket) => Ok(Self { socket, address: path.clone().into_os_string(), file: Some(path), fallback: None }),
            Err(errno) => {
                let socket = open_socket()?;
                let call = |action| move |errno| NotifyError { action, errno };
                bind(socket.as_raw_fd(), &UnixAddr::new_unnamed()).map_err(call("bind"))?;
                let address: UnixAddr = getsockname(socket.as_raw_fd()).map_err(call("name"))?;
                let name = address.as_abstract().ok_or(NotifyError { action: "name", errno: Errno::EINVAL })?;
                let mut text = b"@".to_vec();
                text.extend_from_slice(name);
                let fallback = Some(format!("cannot bind {}: {errno}", path.display()));
                Ok(Self { socket, address: OsString::from_vec(text), file: None, fallback })
            }
        }
    }

    fn bind_file(path: &Path, for_everyone: bool) -> Result<OwnedFd, Errno> {
        let errno = |error: &std::io::Error| error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| errno(&error))?;
        }
        match std::fs::remove_file(path) {
            // What an earlier run left: a socket file of the dead can only be replaced.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(errno(&error)),
            _ => {}
        }
        let socket = open_socket().map_err(|error| error.errno)?;
        bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        let mode = if for_everyone { 0o666 } else { 0o600 };
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, permissions).map_err(|error| errno(&error))?;
        Ok(socket)
    }

    /// Value for `NOTIFY_SOCKET`.
    pub fn address(&self) -> &OsString {
        &self.address
    }

    /// Takes the messages that arrived, at most 256 of them, without waiting.
    pub fn receive(&self) -> Vec<Notification> {
        let mut notifications = Vec::new();
        for _ in 0..256 {
            match self.receive_one() {
                Ok(Some((pid, notices))) => {
                    notifications.extend(notices.into_iter().map(|notice| Notification { pid, notice }));
                }
                Ok(None) | Err(Errno::EINTR) => {}
                // EAGAIN is the end; a datagram socket of our own has no other lasting failure.
                Err(_) => break,
            }
        }
        notifications
    }

    fn receive_one(&self) -> Result<Option<(i32, Vec<Notice>)>, Errno> {
        let mut buffer = [0_u8; DATAGRAM];
        // Room for descriptors as well (FDSTORE=1): what does not fit the kernel closes, what fits we close.
        let mut control = nix::cmsg_space!(nix::sys::socket::UnixCredentials, [std::os::fd::RawFd; 4]);
        let (length, pid, truncated) = {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            let message = recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
            let mut pid = None;
            for part in message.cmsgs()? {
                match part {
                    ControlMessageOwned::ScmCredentials(credentials) => pid = Some(credentials.pid()),
                    ControlMessageOwned::ScmRights(descriptors) => {
                        for descriptor in descriptors {
                            // Nobody can be told, and nothing is kept.
                            let _ = nix::unistd::close(descriptor);
                        }
                    }
                    _ => {}
                }
            }
            (message.bytes, pid, message.flags.contains(MsgFlags::MSG_TRUNC))
        };
        // A cut datagram may end in the middle of a word.
        let Some(pid) = pid.filter(|pid| *pid > 0 && !truncated) else { return Ok(None) };
        Ok(buffer.get(..length).map(|datagram| (pid, parse(datagram))))
    }
}

fn open_socket() -> Result<OwnedFd, NotifyError> {
    let call = |action| move |errno| NotifyError { action, errno };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None).map_err(call("open"))?;
    setsockopt(&socket, sockopt::PassCred, &true).map_err(call("set SO_PASSCRED on"))?;
    Ok(socket)
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // /run is gone with the container anyway.
            let _ = std::fs::remove_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_read_in_order_and_unknown_ones_left_out() {
        let datagram = b"STATUS=READY=1\nRELOADING=1\nMONOTONIC_USEC=5\nREADY=1\nREADY=0\n";
        assert_eq!(parse(datagram), [Notice::Reloading, Notice::Ready]);
        assert_eq!(parse(b"STOPPING=1"), [Notice::Stopping]);
        assert_eq!(parse(b""), []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            prop_assert!(parse(&bytes).len() <= lines);
        }

        #[test]
        fn known_words_are_found_between_any_others(
            lines in proptest::collection::vec("[A-Z]{1,8}=[a-z0-9 =]{0,8}", 0..8), place in any::<prop::sample::Index>(),
        ) {
            let mut lines = lines;
            lines.retain(|line| parse(line.as_bytes()).is_empty());
            lines.insert(place.index(lines.len() + 1), "READY=1".into());
            prop_assert_eq!(parse(lines.join("\n").as_bytes()), [Notice::Ready]);
        }
    }

    #[test]
    fn what_is_told_arrives_at_a_file_and_at_an_abstract_address() {
        let folder = tempfile::tempdir().unwrap();
        let file = NotifySocket::bind(folder.path(), false).unwrap();
        let nowhere = NotifySocket::bind(Path::new("/proc/self/x"), false).unwrap();
        for socket in [file, nowhere] {
            tell(socket.address(), "READY=1").unwrap();
            let own = std::process::id().cast_signed();
            assert_eq!(socket.receive(), [Notification { pid: own, notice: Notice::Ready }]);
        }
        assert_eq!(tell(OsStr::new("/nonexistent/socket"), "READY=1"), Err(Errno::ENOENT));
    }

    #[test]
    fn the_kernel_names_the_sender() {
        let folder = tempfile::tempdir().unwrap();
        let socket = NotifySocket::bind(&folder.path().join("made"), false).unwrap();
        assert_eq!(socket.fallback, None);
        UnixDatagram::unbound().unwrap().send_to(b"READY=1", socket.address()).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(socket.receive(), [Notification { pid, notice: Notice::Ready }]);
        assert_eq!(socket.receive(), []);
        let path = PathBuf::from(socket.address());
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_leads_to_an_abstract_address() {
        let socket = NotifySocket::bind(Path::new("/proc/nowhere"), false).unwrap();
        assert!(socket.fallback.as_ref().unwrap().contains("/proc/nowhere/notify"));
        let name = socket.address().as_bytes().strip_prefix(b"@").unwrap();
        let address = SocketAddr::from_abstract_name(name).unwrap();
        UnixDatagram::unbound().unwrap().send_to_addr(b"STOPPING=1", &address).unwrap();
        assert_eq!(socket.receive().len(), 1);
    }

    #[test]
    fn what_is_too_long_is_dropped_whole() {
        let folder = tempfile::tempdir().unwrap();
        let socket = NotifySocket::bind(folder.path(), false).unwrap();
        let mut long = b"READY=1\n".to_vec();
        long.resize(DATAGRAM + 1, b'x');
        UnixDatagram::unbound().unwrap().send_to(&long, socket.address()).unwrap();
        assert_eq!(socket.receive(), []);
    }
}
