/*!
One `GET /_ping`, by hand: a health check runs every few seconds for the life of a container, so it gets neither an
HTTP library nor a runtime.
*/
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::TimeVal;

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// Host and port without TLS.
    Tcp(String),
}

/// Why the daemon did not answer as a healthy one does.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// Nobody takes the connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The connection stands and no answer came.
    #[error("{address} did not answer within {} ms: {source}", .limit.as_millis())]
    Silent {
        /// Where.
        address: String,
        /// How long was waited.
        limit: Duration,
        /// The last error.
        source: io::Error,
    },
    /// An answer came, and it is not `200`.
    #[error("{address} answered {status:?} to GET /_ping")]
    Answer {
        /// Where.
        address: String,
        /// First line of the answer.
        status: String,
    },
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

impl Address {
    /// Reads `unix:///path` or `tcp://host:port`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix://") {
            return (!path.is_empty()).then(|| Self::Unix(path.into()));
        }
        text.strip_prefix("tcp://").filter(|host| !host.is_empty()).map(|host| Self::Tcp(host.into()))
    }
}

/// What Go's HTTP server says on a port with TLS to somebody who speaks without. It does serve, and more than that cannot be asked
/// without the certificates of a client.
const WANTS_TLS: &str = "HTTP request to an HTTPS server";

/// Whether the answer can be told by more of it only: by its first line, or for a refusal by its body.
fn wants_more(answer: &[u8]) -> bool {
    !answer.contains(&b'\n') || answer.starts_with(b"HTTP/1.0 400 ")
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Asks once and returns how long the answer took. `limit` bounds connecting and answering each.
pub fn ping(address: &Address, limit: Duration) -> Result<Duration, PingError> {
    let started = Instant::now();
    let failed = |source| PingError::Connect { address: address.to_string(), source };
    let mut stream: Box<dyn Stream> = match address {
        Address::Unix(path) => Box::new(connect_unix(path, limit).map_err(failed)?),
        Address::Tcp(host) => Box::new(connect_tcp(host, limit).map_err(failed)?),
    };
    let silent = |source| PingError::Silent { address: address.to_string(), limit, source };
    // HTTP/1.0 ends the connection after the answer, so reading to the end is enough.
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n").map_err(silent)?;
    let mut answer = [0_u8; 128];
    let mut length = 0;
    while wants_more(answer.get(..length).unwrap_or_default()) {
        let Some(room) = answer.get_mut(length..).filter(|room| !room.is_empty()) else { break };
        match stream.read(room) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(silent(error)),
        }
    }
    let text = String::from_utf8_lossy(answer.get(..length).unwrap_or_default());
    let status = text.lines().next().unwrap_or_default().trim_end();
    if status.split(' ').nth(1) == Some("200") || text.contains(WANTS_TLS) {
        Ok(started.elapsed())
    } else {
        Err(PingError::Answer { address: address.to_string(), status: status.to_owned() })
    }
}

/// Connects within `limit`, which then holds for every read as well. A unix connect blocks while the backlog is full; the send timeout
/// bounds it (unix(7)).
pub fn connect_unix(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    setsockopt(&fd, SendTimeout, &TimeVal::new(seconds, i64::from(limit.subsec_micros())))?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(fd);
    stream.set_read_timeout(Some(limit))?;
    Ok(stream)
}

fn connect_tcp(host: &str, limit: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => {
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn answered_with(answer: &'static [u8]) -> Result<Duration, PingError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0_u8; 256];
            let got = stream.read(&mut request).unwrap();
            assert!(request[..got].starts_with(b"GET /_ping HTTP/1.0\r\n"));
            stream.write_all(answer).unwrap();
        });
        let result = ping(&Address::Unix(path), Duration::from_secs(5));
        server.join().unwrap();
        result
    }

    #[test]
    fn two_hundred_is_healthy_and_nothing_else_is() {
        answered_with(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nOK").unwrap();
        assert!(matches!(answered_with(b"HTTP/1.0 500 Internal Server Error\r\n\r\n"), Err(PingError::Answer { .. })));
        assert!(matches!(answered_with(b""), Err(PingError::Answer { .. })));
        assert!(matches!(answered_with(b"HTTP/1.0 2000\r\n"), Err(PingError::Answer { .. })));
    }

    #[test]
    fn a_listener_that_says_nothing_is_given_up_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let started = Instant::now();
        let error = ping(&Address::Unix(path), Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, PingError::Silent { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn addresses_are_read_in_both_forms() {
        assert_eq!(Address::parse("unix:///a"), Some(Address::Unix("/a".into())));
        assert_eq!(Address::parse("tcp://h:1"), Some(Address::Tcp("h:1".into())));
        assert_eq!(Address::parse("ssh://h"), None);
        assert_eq!(Address::parse("unix://"), None);
    }
}
