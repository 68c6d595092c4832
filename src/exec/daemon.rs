//! The connection to the daemon, and the name of what is wrong with it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use tokio::time::timeout;

use super::chain::chain;
use super::endpoint::Endpoint;
use super::error::ExecError;
use crate::engine::ping::connect_unix;

/// How long a daemon may take to answer the first question. Long, because a socket that is activated holds its
/// clients while the daemon behind it starts.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a host may take to take a connection.
const DIAL: Duration = Duration::from_secs(10);
/// Time until somebody is told that the daemon is waited for.
const QUIET: Duration = Duration::from_secs(2);
/// How long the answer to any later request may take, seconds.
const REQUEST_SECONDS: u64 = 120;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum DaemonError {
    #[error("DOCKER_HOST {value:?} {why}")]
    BadHost { value: String, why: String },
    #[error("DOCKER_API_VERSION {0:?} is not a version such as 1.45")]
    BadVersion(String),
    #[error("no Docker daemon at {0}: there is no such socket")]
    NoSocket(String),
    #[error("no permission for the Docker daemon at {0}")]
    Denied(String),
    #[error("no Docker daemon at {0}: connection refused")]
    Refused(String),
    #[error("no Docker daemon at {0}: the host name does not resolve ({1})")]
    Unresolved(String, String),
    #[error("the Docker daemon at {0} does not answer within {1}")]
    Silent(String, humantime::Duration),
    #[error("the Docker daemon at {0} speaks TLS only")]
    WantsTls(String),
    #[error("TLS to the Docker daemon at {0} fails: {1}")]
    Tls(String, String),
    #[error("what answers at {0} is not a Docker daemon: {1}")]
    Stranger(String, String),
    #[error("cannot reach the Docker daemon at {0}: {1}")]
    Other(String, String),
}

impl DaemonError {
    /// What to do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::BadHost { .. } => "write unix:///path or tcp://host:port, or unset DOCKER_HOST".to_owned(),
            Self::BadVersion(_) => "unset DOCKER_API_VERSION".to_owned(),
            Self::NoSocket(_) | Self::Refused(_) => {
                "is the daemon running? dindctl health tells; DOCKER_HOST names another one".to_owned()
            }
            Self::Denied(_) => "join the group docker (usermod -aG docker USER, then log in anew)".to_owned(),
            Self::Unresolved(..) => "check the host name in DOCKER_HOST and the network that both share".to_owned(),
            Self::Silent(..) => "the daemon is starting or overloaded; try again, or look at its log".to_owned(),
            Self::WantsTls(_) => "set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH".to_owned(),
            Self::Tls(..) => {
                "DOCKER_CERT_PATH must hold the ca.pem, cert.pem and key.pem that fit this daemon".to_owned()
            }
            Self::Stranger(..) => "check DOCKER_HOST".to_owned(),
            Self::Other(..) => return None,
        })
    }

    /// Whether the same call may go through later.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::NoSocket(_) | Self::Refused(_) | Self::Silent(..) | Self::Other(..))
    }
}

/// What waits for a daemon: one thread, as nothing is computed meanwhile.
pub fn runtime() -> Result<tokio::runtime::Runtime, ExecError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ExecError::local("start"))
}

/// A daemon that answered.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// The API client, set to a version that both sides speak.
    pub docker: Docker,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Process that listens on its unix socket, where the kernel shows it to us.
    pub peer: Option<i32>,
}

/// Connects, asks for the version both sides speak, and names what is wrong otherwise. It blocks, so that signals are best listened to
/// afterwards; `waits` is told what for when that takes longer than two seconds.
pub async fn connect(
    endpoint: Endpoint,
    env: &BTreeMap<String, String>,
    waits: &dyn Fn(&str),
) -> Result<Daemon, DaemonError> {
    let place = endpoint.to_string();
    let wanted = match env.get("DOCKER_API_VERSION").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(version(text).ok_or_else(|| DaemonError::BadVersion(text.clone()))?),
    };
    let client_error = |error: bollard::errors::Error| DaemonError::Other(place.clone(), chain(&error));
    let (docker, peer) = match &endpoint {
        Endpoint::Unix(path) => {
            let stream = patiently(&place, PATIENCE, waits, |limit| connect_unix(path, limit))?;
            let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials)
                .ok()
                .map(|credentials| credentials.pid())
                .filter(|pid| *pid > 0);
            let spoken = ping(&place, stream, waits)?;
            let path = path.to_string_lossy();
            let version = wanted.unwrap_or(spoken);
            (Docker::connect_with_unix(&path, REQUEST_SECONDS, &version).map_err(client_error)?, peer)
        }
        Endpoint::Tcp(address) => {
            let version = wanted.unwrap_or(ping(&place, dial(&place, address, waits)?, waits)?);
            let url = format!("tcp://{address}");
            (Docker::connect_with_http(&url, REQUEST_SECONDS, &version).map_err(client_error)?, None)
        }
        Endpoint::Tls { address, certificates } => {
            // Told apart from a TLS failure before TLS is tried.
            drop(dial(&place, address, waits)?);
            let tls_error = |error: bollard::errors::Error| DaemonError::Tls(place.clone(), chain(&error));
            let docker = Docker::connect_with_ssl(
                &format!("tcp://{address}"),
                &certificates.join("key.pem"),
                &certificates.join("cert.pem"),
                &certificates.join("ca.pem"),
                REQUEST_SECONDS,
                wanted.as_ref().unwrap_or(API_DEFAULT_VERSION),
            )
            .map_err(tls_error)?;
            if wanted.is_some() {
                (docker, None)
            } else {
                (answered(&place, waits, docker.negotiate_version()).await?.map_err(tls_error)?, None)
            }
        }
    };
    Ok(Daemon { docker, endpoint, peer })
}

/// A step that blocks: tried for two seconds, then said to be waited for, then tried for the rest of its time.
fn patiently<T>(
    place: &str,
    most: Duration,
    waits: &dyn Fn(&str),
    mut step: impl FnMut(Duration) -> io::Result<T>,
) -> Result<T, DaemonError> {
    let answer = match step(QUIET) {
        Err(error) if is_silence(&error) => {
            waits(&waiting(place, most));
            step(most.saturating_sub(QUIET))
        }
        answer => answer,
    };
    answer.map_err(|error| named(place, most, &error))
}

/// The same of a question that is asked in the background.
async fn answered<T>(place: &str, waits: &dyn Fn(&str), asked: impl Future<Output = T>) -> Result<T, DaemonError> {
    let mut asked = pin!(asked);
    if let Ok(answer) = timeout(QUIET, asked.as_mut()).await {
        return Ok(answer);
    }
    waits(&waiting(place, PATIENCE));
    let late = timeout(PATIENCE.saturating_sub(QUIET), asked).await;
    late.map_err(|_| DaemonError::Silent(place.to_owned(), PATIENCE.into()))
}

fn waiting(place: &str, most: Duration) -> String {
    format!("waiting for the Docker daemon at {place}, for {} at most", humantime::Duration::from(most))
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn named(place: &str, waited: Duration, error: &io::Error) -> DaemonError {
    let place = place.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => DaemonError::NoSocket(place),
        io::ErrorKind::PermissionDenied => DaemonError::Denied(place),
        io::ErrorKind::ConnectionRefused => DaemonError::Refused(place),
        _ if is_silence(error) => DaemonError::Silent(place, waited.into()),
        _ => DaemonError::Other(place, error.to_string()),
    }
}

/// What a question is asked through.
trait Line: Read + Write {
    /// Sets how long one piece of the answer may take.
    fn limit(&self, limit: Duration) -> io::Result<()>;
}

impl Line for UnixStream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
}

impl Line for TcpStream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
}

fn dial(place: &str, address: &str, waits: &dyn Fn(&str)) -> Result<TcpStream, DaemonError> {
    let unresolved = |error: io::Error| DaemonError::Unresolved(place.to_owned(), error.to_string());
    let candidates: Vec<_> = address.to_socket_addrs().map_err(unresolved)?.collect();
    patiently(place, DIAL, waits, |limit| {
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for candidate in &candidates {
            match TcpStream::connect_timeout(candidate, limit) {
                Ok(stream) => return Ok(stream),
                // One that was silent may answer yet.
                Err(error) if !is_silence(&failed) => failed = error,
                Err(_) => {}
            }
        }
        Err(failed)
    })
}

/// One question by hand instead of the API's own negotiation: `/version` makes the daemon start three programs.
fn ping(place: &str, mut line: impl Line, waits: &dyn Fn(&str)) -> Result<ClientVersion, DaemonError> {
    let failed = |error: io::Error| named(place, PATIENCE, &error);
    line.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut answer = Vec::new();
    let mut piece = [0_u8; 4096];
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") && answer.len() < 64 * 1024 {
        let mut read = |limit| line.limit(limit).and_then(|()| line.read(&mut piece));
        match patiently(place, PATIENCE, waits, &mut read)? {
            0 => break,
            count => answer.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
    }
    read_ping(place, &String::from_utf8_lossy(&answer))
}

fn read_ping(place: &str, answer: &str) -> Result<ClientVersion, DaemonError> {
    let first = answer.lines().next().unwrap_or_default();
    let stranger = |why: &str| DaemonError::Stranger(place.to_owned(), why.to_owned());
    if answer.contains("HTTP request to an HTTPS server") || answer.starts_with('\u{15}') {
        return Err(DaemonError::WantsTls(place.to_owned()));
    }
    if !first.starts_with("HTTP/1.") {
        return Err(stranger("it does not speak HTTP"));
    }
    if !first.contains(" 200") {
        return Err(stranger(&format!("it answers {first:?}")));
    }
    let header = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("api-version").then(|| value.trim().to_owned())
    });
    let header = header.ok_or_else(|| stranger("it names no API version"))?;
    let spoken = version(&header).ok_or_else(|| stranger("it names no API version"))?;
    Ok(if spoken < *API_DEFAULT_VERSION { spoken } else { *API_DEFAULT_VERSION })
}

fn version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn minor(answer: &str) -> Result<usize, String> {
        read_ping("here", answer).map(|version| version.minor_version).map_err(|error| error.to_string())
    }

    #[test]
    fn the_lower_version_is_spoken() {
        assert_eq!(minor("HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\n\r\nOK"), Ok(45));
        assert_eq!(minor("HTTP/1.1 200 OK\r\nApi-Version: 1.99\r\n\r\nOK"), Ok(API_DEFAULT_VERSION.minor_version));
    }

    #[rstest]
    #[case("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", "TLS only")]
    #[case("SSH-2.0-OpenSSH\r\n", "does not speak HTTP")]
    #[case("HTTP/1.1 404 Not Found\r\n\r\n", "404")]
    #[case("HTTP/1.1 200 OK\r\n\r\nhello", "no API version")]
    #[case("", "does not speak HTTP")]
    fn strangers_are_named(#[case] answer: &str, #[case] want: &str) {
        let error = minor(answer).unwrap_err();
        assert!(error.contains(want), "{error}");
    }

    #[tokio::test]
    async fn a_missing_socket_is_named() {
        let error =
            connect(Endpoint::Unix("/nowhere/docker.sock".into()), &BTreeMap::new(), &|_| ()).await.unwrap_err();
        assert!(matches!(error, DaemonError::NoSocket(_)), "{error}");
        assert!(error.hint().is_some());
    }

    #[tokio::test]
    async fn a_refusal_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = connect(Endpoint::Tcp(address), &BTreeMap::new(), &|_| ()).await.unwrap_err();
        assert!(matches!(error, DaemonError::Refused(_)), "{error}");
    }
    /// A daemon behind a socket of ours, which takes as long as this to answer.
    fn slow(socket: &std::path::Path, taking: Duration) -> std::thread::JoinHandle<()> {
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let mut client = listener.accept().unwrap().0;
            std::thread::sleep(taking);
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\n\r\nOK");
        })
    }

    #[tokio::test]
    async fn what_takes_long_is_said_once_and_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        for (taking, lines) in [(Duration::ZERO, 0), (QUIET + QUIET / 4, 1)] {
            let daemon = slow(&socket, taking);
            let said = std::cell::RefCell::new(Vec::new());
            let waits = |text: &str| said.borrow_mut().push(text.to_owned());
            connect(Endpoint::Unix(socket.clone()), &BTreeMap::new(), &waits).await.unwrap();
            assert_eq!(said.borrow().len(), lines, "{said:?}");
            assert!(said.borrow().iter().all(|line| line.contains("/s, for 1m at most")), "{said:?}");
            daemon.join().unwrap();
            std::fs::remove_file(&socket).unwrap();
        }
    }

    /// A daemon that takes no connections any more held its clients for ever, whatever their time limit was.
    #[tokio::test]
    async fn a_full_queue_is_not_waited_for_without_a_word() {
        use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket as make};
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        // One of a length that few descriptors fill.
        let fd = make(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(&socket).unwrap()).unwrap();
        listen(&fd, Backlog::new(1).unwrap()).unwrap();
        let listener = std::os::unix::net::UnixListener::from(fd);
        let mut queue = Vec::new();
        while let Ok(client) = connect_unix(&socket, Duration::from_millis(50)) {
            queue.push(client);
        }
        let freed = std::sync::Mutex::new(Vec::new());
        let waits = |_: &str| freed.lock().unwrap().push(listener.accept().unwrap().0);
        let error = patiently("here", QUIET + QUIET / 4, &waits, |limit| connect_unix(&socket, limit));
        assert!(error.is_ok() && freed.lock().unwrap().len() == 1, "{error:?}");
        let error = patiently("here", QUIET + QUIET / 4, &|_| (), |limit| connect_unix(&socket, limit)).unwrap_err();
        assert!(error.to_string().contains("does not answer within 2s 500ms"), "{error}");
    }
}
