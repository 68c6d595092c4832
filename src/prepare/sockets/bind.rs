/*!
Binding all the addresses, or none.
*/
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::ListenAddress;
use super::{tcp, unix};
use crate::probe::{ProbeError, Roots, users};

/// Lowest number of a descriptor that is returned: clear of the places that activation fills in the daemon.
const FLOOR: i32 = 64;

/// How long a queue of clients may get that nobody has accepted yet; capped by `net.core.somaxconn`. Clients that come
/// while the daemon restarts wait there.
const BACKLOG: i32 = 4096;

/// Who may use the unix sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketWishes {
    /// Name or number of the owning group.
    pub group: String,
    /// Permission bits.
    pub mode: u32,
}

impl Default for SocketWishes {
    /// Group `docker`, mode 0660, as dockerd does by itself.
    fn default() -> Self {
        Self { group: "docker".into(), mode: 0o660 }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    /// Where.
    pub address: ListenAddress,
    /// The socket: close-on-exec, number 64 or above.
    pub fd: OwnedFd,
}

/// All sockets, in the order of their addresses.
#[derive(Debug, Default)]
pub struct Bound {
    /// The sockets.
    pub listeners: Vec<Listener>,
    /// What has to be said.
    pub warnings: Vec<String>,
}

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// An address cannot be understood.
    #[error("bad listen address {value:?}: {what}")]
    Address {
        /// As typed.
        value: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Somebody answers there already.
    #[error("another daemon listens on unix://{path}")]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// There is something at the path that is no socket.
    #[error("{path} exists and is not a socket")]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The port is in use.
    #[error("port {} of {} is taken by {}", .address.port(), .address.ip(), .holder.as_deref().unwrap_or("another process, which is not visible from here"))]
    Port {
        /// The address.
        address: std::net::SocketAddr,
        /// Who has it: name and pid.
        holder: Option<String>,
    },
    /// A call failed.
    #[error("cannot {doing} {address}: {errno}")]
    Call {
        /// What was tried.
        doing: &'static str,
        /// Where.
        address: ListenAddress,
        /// Why it failed.
        errno: Errno,
    },
    /// The list of groups cannot be read.
    #[error(transparent)]
    Users(#[from] ProbeError),
}

impl SocketError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Address { .. } => {
                "write DINDCTL_LISTEN as unix:///run/docker.sock,tcp://0.0.0.0:2375 (either may be left out)".into()
            }
            Self::Taken { path } => format!(
                "stop that daemon, or listen elsewhere with DINDCTL_LISTEN (is the host's {} mounted into this container?)",
                path.display()
            ),
            Self::NoSocket { path } => format!("remove {}, or choose another path with DINDCTL_LISTEN", path.display()),
            Self::Port { .. } => {
                "stop that process, or choose another port with DINDCTL_LISTEN (with --network host the ports are the host's)"
                    .into()
            }
            Self::Call { errno: Errno::EADDRNOTAVAIL, .. } => "no interface has that address: use 0.0.0.0 for all".into(),
            Self::Call { errno: Errno::EACCES | Errno::EPERM, .. } => "start the container as root".into(),
            Self::Call { errno: Errno::EROFS, .. } => "make the folder writable, for example with --tmpfs /run".into(),
            Self::Call { .. } => return None,
            Self::Users(error) => return error.hint(),
        })
    }
}

/// Binds every address and listens. Where one fails, those bound before are closed and their files removed.
pub fn bind(addresses: &[ListenAddress], wishes: &SocketWishes, roots: &Roots) -> Result<Bound, SocketError> {
    let mut bound = Bound::default();
    let result = bind_all(addresses, wishes, roots, &mut bound);
    if let Err(error) = result {
        for listener in &bound.listeners {
            if let ListenAddress::Unix(path) = &listener.address {
                // The error that is about to be reported matters more than a leftover file, which a later start removes.
                let _ = std::fs::remove_file(roots.resolve(path));
            }
        }
        return Err(error);
    }
    Ok(bound)
}

fn bind_all(
    addresses: &[ListenAddress],
    wishes: &SocketWishes,
    roots: &Roots,
    bound: &mut Bound,
) -> Result<(), SocketError> {
    let gid = users::find_gid(&users::groups(roots)?, &wishes.group);
    let mut files = Vec::new();
    for address in addresses {
        let fd = match address {
            // The same socket under another name, such as /run/docker.sock where /var/run leads to /run.
            ListenAddress::Unix(path) if real(&roots.resolve(path)).is_some_and(|file| files.contains(&file)) => {
                continue;
            }
            ListenAddress::Unix(path) => {
                let mode = if gid.is_some() || wishes.mode & 0o007 != 0 { wishes.mode } else { wishes.mode & 0o600 };
                if gid.is_none() {
                    bound.warnings.push(format!(
                        "there is no group {:?}: {address} is owned by group root with mode {mode:04o}",
                        wishes.group
                    ));
                }
                unix::listen(&roots.resolve(path), gid.unwrap_or(0), mode, BACKLOG)
                    .map_err(|problem| problem.at(path, address))?
            }
            ListenAddress::Tcp(socket) => {
                tcp::listen(*socket, BACKLOG).map_err(|problem| problem.at(*socket, address, roots))?
            }
        };
        let fd = crate::sys::spawn::duplicate_above(fd.as_raw_fd(), FLOOR).map_err(|errno| SocketError::Call {
            doing: "keep the socket of",
            address: address.clone(),
            errno,
        })?;
        if let ListenAddress::Unix(path) = address {
            files.extend(real(&roots.resolve(path)));
        }
        bound.listeners.push(Listener { address: address.clone(), fd });
    }
    Ok(())
}

/// The path without links in its folder, which has to be there.
fn real(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
}

/// A port that strangers may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Openness {
    /// In words that follow "is open".
    pub how: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

/// What has to be printed when a TCP port is open to strangers. `None` when it is not, or no address is reachable from outside.
pub fn insecure_warning(addresses: &[ListenAddress], openness: Option<Openness>) -> Option<String> {
    let Openness { how, advice } = openness?;
    let open: Vec<String> = addresses.iter().filter(|address| !address.is_local()).map(ToString::to_string).collect();
    (!open.is_empty()).then(|| {
        format!(
            "{} is open {how}: whoever reaches it is root in this container, and on its host if the container \
             is privileged; {advice}, or set DINDCTL_LISTEN=tcp://127.0.0.1:2375",
            open.join(", ")
        )
    })
}

/// The errno of an I/O error.
pub(super) fn errno(error: &io::Error) -> Errno {
    crate::sys::file::errno(error)
}
