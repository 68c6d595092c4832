/*!
The control socket: PID 1 tells about itself to whoever asks. It answers one question, and nothing that its state file, which
everyone may read as well, does not tell.

A client writes one line and reads one line of JSON; then the connection is closed. `status` is answered by a
[`SupervisorState`](super::state::SupervisorState) and what changes without an event (`docs/control.md`), everything else by
`{"error": …}`.

A client can do no harm: at most [`CLIENTS`] are served at once, the others wait in the backlog; none is ever waited for; one
that has not sent its line or taken its answer within [`PATIENCE`] is dropped, and so is one whose line is too long. While
nobody is connected PID 1 is not woken.
*/
use std::fs::Permissions;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Clients that are served at once.
pub const CLIENTS: usize = 8;
/// Longest time for a client from its connection to the end of its answer.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Longest line of a client, bytes.
pub const LONGEST: usize = 256;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `status`.
    Status,
}

impl Request {
    /// Reads a line, given without its newline. The error is for the client.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        match line.trim_ascii() {
            b"status" => Ok(Self::Status),
            other => Err(format!("unknown request {:?}: status is known", String::from_utf8_lossy(other))),
        }
    }
}

/// The socket cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the control socket {}: {error}", .path.display())]
pub struct ControlError {
    path: PathBuf,
    #[source]
    error: io::Error,
}

/// The socket and those who are connected.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    clients: Vec<Client>,
    /// No new ones before this moment: accepting failed, and would fail again at once.
    paused: Option<Duration>,
}

/// One connection.
#[derive(Debug)]
struct Client {
    stream: UnixStream,
    line: Vec<u8>,
    /// The answer, once there is one.
    answer: Option<Vec<u8>>,
    /// How much of it is written, bytes.
    written: usize,
    until: Duration,
}

impl Control {
    /// Makes the socket, for everyone in the container, in the place of one that an earlier supervisor left.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let fail = |error| ControlError { path: path.to_owned(), error };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o666)).map_err(fail)?;
        Ok(Self { listener, path: path.to_owned(), clients: Vec::new(), paused: None })
    }

    /// Takes new clients, reads and writes what can be read and written without waiting. `answer` gives a line of JSON.
    pub fn turn(&mut self, now: Duration, mut answer: impl FnMut(Request) -> String) {
        self.accept(now);
        self.clients.retain_mut(|client| now < client.until && client.go_on(&mut answer));
    }

    fn accept(&mut self, now: Duration) {
        if self.paused.is_some_and(|moment| now < moment) {
            return;
        }
        self.paused = None;
        while self.clients.len() < CLIENTS {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    // A client that could block us is none.
                    if stream.set_nonblocking(true).is_ok() {
                        let until = now.saturating_add(PATIENCE);
                        self.clients.push(Client { stream, line: Vec::new(), answer: None, written: 0, until });
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // No descriptor or no memory: the client waits in the backlog, and we must not spin.
                Err(_) => {
                    self.paused = Some(now.saturating_add(PATIENCE));
                    return;
                }
            }
        }
    }

    /// Descriptors to poll for input.
    pub fn readable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let room = self.clients.len() < CLIENTS && self.paused.is_none();
        let clients = self.clients.iter().filter(|client| client.answer.is_none()).map(|client| client.stream.as_fd());
        room.then(|| self.listener.as_fd()).into_iter().chain(clients)
    }

    /// Descriptors to poll for room.
    pub fn writable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.clients.iter().filter(|client| client.answer.is_some()).map(|client| client.stream.as_fd())
    }

    /// Moment to look again when nothing else happens.
    pub fn timer(&self) -> Option<Duration> {
        self.clients.iter().map(|client| client.until).chain(self.paused).min()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Gone already is what was wanted; anything else is of no use to anybody now.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Client {
    /// Whether it is still to be served.
    fn go_on(&mut self, answer: &mut impl FnMut(Request) -> String) -> bool {
        if self.answer.is_none() {
            match self.read_line() {
                Line::Whole(line) => {
                    let text = match Request::parse(&line) {
                        Ok(request) => answer(request),
                        Err(error) => refusal(&error),
                    };
                    self.answer = Some(format!("{text}\n").into_bytes());
                }
                Line::Unfinished => return true,
                Line::Never => return false,
            }
        }
        self.write()
    }

    fn read_line(&mut self) -> Line {
        let mut buffer = [0; LONGEST];
        loop {
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                self.line.truncate(end);
                return Line::Whole(std::mem::take(&mut self.line));
            }
            if self.line.len() >= LONGEST {
                return Line::Never;
            }
            match self.stream.read(&mut buffer) {
                // A line without its newline, and no more to come: as good as whole.
                Ok(0) if !self.line.is_empty() => return Line::Whole(std::mem::take(&mut self.line)),
                Ok(0) => return Line::Never,
                Ok(count) => self.line.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Line::Unfinished,
                Err(_) => return Line::Never,
            }
        }
    }

    /// Whether something is left to be written.
    fn write(&mut self) -> bool {
        let Some(answer) = &self.answer else { return true };
        while let Some(rest) = answer.get(self.written..).filter(|rest| !rest.is_empty()) {
            // Rust ignores SIGPIPE, so a client that has left is an error here.
            match self.stream.write(rest) {
                Ok(count) => self.written = self.written.saturating_add(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        false
    }
}

/// The answer where there is none.
pub fn refusal(error: &str) -> String {
    // Not by json!, which panics where a value has no JSON form.
    let fields = serde_json::Map::from_iter([("error".to_owned(), serde_json::Value::String(error.to_owned()))]);
    serde_json::Value::Object(fields).to_string()
}

/// What has come of a line.
enum Line {
    Whole(Vec<u8>),
    Unfinished,
    /// It will not be one.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Duration = Duration::ZERO;

    fn bound() -> (tempfile::TempDir, PathBuf, Control) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let control = Control::bind(&path).unwrap();
        (folder, path, control)
    }

    fn serve(control: &mut Control, now: Duration) {
        control.turn(now, |Request::Status| "{\"fine\":true}".to_owned());
    }

    fn ask(path: &Path, line: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(line).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    }

    fn answer(mut stream: &UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_line_is_answered_by_a_line_and_the_connection_ends() {
        let (_folder, path, mut control) = bound();
        let good = [ask(&path, b"status\n"), ask(&path, b" status \r\nmore")];
        let bad = ask(&path, b"stat\"us\n");
        serve(&mut control, ZERO);
        assert!(good.iter().all(|stream| answer(stream) == "{\"fine\":true}\n"));
        assert_eq!(answer(&bad), "{\"error\":\"unknown request \\\"stat\\\\\\\"us\\\": status is known\"}\n");
        assert!(control.clients.is_empty() && control.timer().is_none());
    }

    #[test]
    fn a_line_may_come_in_pieces_and_end_with_the_stream() {
        let (_folder, path, mut control) = bound();
        let mut stream = ask(&path, b"sta");
        serve(&mut control, ZERO);
        assert_eq!((control.clients.len(), control.timer()), (1, Some(PATIENCE)));
        stream.write_all(b"tus").unwrap();
        serve(&mut control, ZERO);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        serve(&mut control, ZERO);
        assert_eq!(answer(&stream), "{\"fine\":true}\n");
    }

    #[test]
    fn who_says_nothing_too_much_or_leaves_is_dropped() {
        let (_folder, path, mut control) = bound();
        let silent = ask(&path, b"");
        let _long = ask(&path, &[b'x'; LONGEST + 1]);
        drop(ask(&path, b""));
        serve(&mut control, ZERO);
        assert_eq!(control.clients.len(), 1);
        serve(&mut control, PATIENCE);
        assert!(control.clients.is_empty());
        assert_eq!(answer(&silent), "");
    }

    #[test]
    fn a_flood_waits_in_the_backlog_and_everybody_is_served_in_the_end() {
        let (_folder, path, mut control) = bound();
        let silent: Vec<UnixStream> = (0..CLIENTS).map(|_| ask(&path, b"")).collect();
        let patient: Vec<UnixStream> = (0..20).map(|_| ask(&path, b"status\n")).collect();
        serve(&mut control, ZERO);
        assert_eq!((control.clients.len(), control.readable().count()), (CLIENTS, CLIENTS));
        for turn in 0..4 {
            serve(&mut control, PATIENCE * (1 + turn));
        }
        assert!(patient.iter().all(|stream| answer(stream) == "{\"fine\":true}\n"));
        drop(silent);
    }

    #[test]
    fn an_answer_that_is_not_taken_does_not_hold_us() {
        let (_folder, path, mut control) = bound();
        let stream = ask(&path, b"status\n");
        control.turn(ZERO, |Request::Status| "x".repeat(4 << 20));
        assert_eq!((control.writable().count(), control.readable().count()), (1, 1));
        control.turn(PATIENCE, |Request::Status| String::new());
        assert!(control.clients.is_empty());
        drop(stream);
    }

    #[test]
    fn the_socket_is_its_owners_replaces_an_old_one_and_goes_with_its_owner() {
        let (_folder, path, control) = bound();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o666);
        std::mem::forget(control);
        let again = Control::bind(&path).unwrap();
        drop(again);
        assert!(!path.exists());
        let error = Control::bind(Path::new("/nonexistent/control.sock")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/control.sock"), "{error}");
    }
}
