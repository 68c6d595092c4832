/*!
The output of one service on its way through PID 1: from a pipe to our own stream, to the last lines kept for the
report of a crash, and to a log file when one is asked for.

One pipe serves the service for our whole life. Both of its ends stay with us, so that a process left over from an
earlier start (a containerd shim) can still write and does not die of `SIGPIPE`.

What waits for our reader is bounded: when it is full, the pipe is read no further, and the service waits in its own
`write(2)` as it would without us. While stopping it is the other way round: the oldest lines go, because a service
that is stuck in a write cannot end.
*/
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag};

use super::lines::{LastLines, LineSplitter, take_front};
use super::logfile::RotatingFile;
use super::outlet::PIECE;
use super::say::{service_line, unix_time};
use super::spec::LogFile;

/// Bytes of one service that wait for our reader.
pub const ROOM: usize = 256 * 1024;

/// Bytes beyond that which a dead service may have left: what its pipe holds, several times.
const LEFT: usize = 256 * 1024;

/// Lines kept for the report of a crash, and their bytes.
const LAST: (usize, usize) = (50, 16 * 1024);

/// Longest line, bytes. A longer one is cut into lines of this length: it could not be held back until it ends, and others must
/// not get into the middle of it.
const LONGEST_LINE: usize = 64 * 1024;

/// Reads of one pipe in one turn, of at most [`PIECE`] bytes each.
const READS_PER_TURN: usize = 64;

/// The output of one service.
#[derive(Debug)]
pub struct Pump {
    read: OwnedFd,
    write: OwnedFd,
    /// Name of the service, where its lines are told as JSON.
    wrap: Option<String>,
    /// Whole lines.
    waiting: VecDeque<u8>,
    splitter: LineSplitter,
    last: LastLines,
    file: Option<RotatingFile>,
    file_failed: bool,
    lossy: bool,
    lost: u64,
    watch: Watch,
}

/// Words that are looked for in the lines.
#[derive(Debug)]
enum Watch {
    Nothing,
    For(String),
    Seen,
}

impl Pump {
    /// Makes the pipe and opens the log file. `wrap` names the service where its lines are to be JSON. A log file that cannot be
    /// opened is told in the second value; the service runs without it.
    pub fn new(file: Option<LogFile>, wrap: Option<String>) -> Result<(Self, Option<String>), Errno> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        nix::fcntl::fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let (file, problem) = match file.map(RotatingFile::open) {
            None => (None, None),
            Some(Ok(file)) => (Some(file), None),
            Some(Err(error)) => (None, Some(error.to_string())),
        };
        let pump = Self {
            read,
            write,
            wrap,
            waiting: VecDeque::new(),
            splitter: LineSplitter::new(LONGEST_LINE),
            last: LastLines::new(LAST.0, LAST.1),
            file,
            file_failed: false,
            lossy: false,
            lost: 0,
            watch: Watch::Nothing,
        };
        Ok((pump, problem))
    }

    /// The service's end of the pipe.
    pub fn child_end(&self) -> std::io::Result<OwnedFd> {
        self.write.try_clone()
    }

    /// Descriptor to poll for input, while there is room for it.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.has_room().then(|| self.read.as_fd())
    }

    fn has_room(&self) -> bool {
        self.lossy || self.waiting.len() < ROOM
    }

    /// From now on the oldest lines are dropped when the reader stalls, instead of holding the service up.
    pub fn set_lossy(&mut self) {
        self.lossy = true;
    }

    /// Begins a new log file. Tells why it could not.
    pub fn begin_file_anew(&mut self) -> Option<String> {
        self.file.as_mut().and_then(|file| file.begin_anew().err()).map(|error| error.to_string())
    }

    /// Looks for these words in the lines from now on.
    pub fn watch_for(&mut self, words: &str) {
        self.watch = Watch::For(words.to_owned());
    }

    /// Whether a line with the words came; told once.
    pub fn saw_watched(&mut self) -> bool {
        let seen = matches!(self.watch, Watch::Seen);
        if seen {
            self.watch = Watch::Nothing;
        }
        seen
    }

    /// Bytes dropped so far.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Reads what there is and there is room for. Tells the first failure of the log file after a success.
    pub fn read(&mut self) -> Option<String> {
        self.read_while(Self::has_room)
    }

    fn read_while(&mut self, wanted: impl Fn(&Self) -> bool) -> Option<String> {
        let mut problem = None;
        for _ in 0..READS_PER_TURN {
            if !wanted(self) {
                break;
            }
            let mut buffer = [0_u8; PIECE];
            match nix::unistd::read(&self.read, &mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    problem = self.split(bytes).or(problem);
                    self.drop_oldest();
                }
                Err(Errno::EINTR) => {}
                // EAGAIN: all read. We hold the other end, so nothing else can be wrong with it.
                Err(_) => break,
            }
        }
        problem
    }

    /// The process has died: takes what it left in the pipe, even beyond the room, and lets its unfinished last
    /// line go out as it is. One that dies over and over while nobody reads does not fill the memory.
    pub fn drain(&mut self) -> Option<String> {
        let problem = self.read_while(|pump| pump.lossy || pump.waiting.len() < ROOM + LEFT);
        let mut splitter = std::mem::replace(&mut self.splitter, LineSplitter::new(LONGEST_LINE));
        let mut rest = None;
        splitter.finish(|line| rest = self.line(line));
        rest.or(problem)
    }

    fn split(&mut self, bytes: &[u8]) -> Option<String> {
        let mut splitter = std::mem::replace(&mut self.splitter, LineSplitter::new(0));
        let mut problem = None;
        splitter.push(bytes, |line| problem = self.line(line).or(problem.take()));
        self.splitter = splitter;
        problem
    }

    fn line(&mut self, line: &[u8]) -> Option<String> {
        self.last.push(line);
        if let Watch::For(words) = &self.watch
            && String::from_utf8_lossy(line).contains(words.as_str())
        {
            self.watch = Watch::Seen;
        }
        let wrapped = self.wrap.as_ref().map(|service| service_line(service, line, unix_time()));
        let line = wrapped.as_deref().map_or(line, str::as_bytes);
        self.waiting.extend(line);
        self.waiting.push_back(b'\n');
        let failed = self.file.as_mut()?.line(line).err();
        let problem = failed.as_ref().filter(|_| !self.file_failed).map(ToString::to_string);
        self.file_failed = failed.is_some();
        problem
    }

    fn drop_oldest(&mut self) {
        while self.lossy && self.waiting.len() > ROOM {
            let excess = self.waiting.len() - ROOM;
            // Up to the end of a line, so that the reader does not get half of one.
            let end = self.waiting.iter().skip(excess).position(|byte| *byte == b'\n');
            let length = end.map_or(self.waiting.len(), |place| excess + place + 1);
            drop(take_front(&mut self.waiting, length));
            self.lost = self.lost.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        }
    }

    /// Whether a line waits for our reader.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Moves whole lines into `piece`, which is empty: as many as [`PIECE`] bytes hold, or one that is longer.
    pub fn take(&mut self, piece: &mut Vec<u8>) {
        let window = self.waiting.iter().take(PIECE).enumerate();
        let end = window.filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place + 1).next_back();
        let first =
            || self.waiting.iter().position(|byte| *byte == b'\n').map_or(self.waiting.len(), |place| place + 1);
        let length = end.unwrap_or_else(first);
        piece.extend(take_front(&mut self.waiting, length));
    }

    /// Forgets what waits: nobody can read it.
    pub fn discard(&mut self) {
        self.waiting.clear();
    }

    /// The last lines of the present process.
    pub fn last_lines(&self) -> Vec<String> {
        self.last.to_vec()
    }

    /// A new process begins.
    pub fn begin(&mut self) {
        self.last.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pump() -> (Pump, std::fs::File) {
        let (pump, problem) = Pump::new(None, None).unwrap();
        assert_eq!(problem, None);
        let end = pump.child_end().unwrap();
        // The service would block in a full pipe; the test wants to go on.
        nix::fcntl::fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        (pump, end.into())
    }

    fn taken(pump: &mut Pump) -> String {
        let mut piece = Vec::new();
        pump.take(&mut piece);
        String::from_utf8(piece).unwrap()
    }

    /// Writes lines until the pipe takes no more, with the pump reading.
    fn flood(pump: &mut Pump, end: &mut std::fs::File, bytes: usize) -> usize {
        let mut written = 0;
        while written < bytes {
            if let Ok(count) = end.write(&[b"y".repeat(99), b"\n".to_vec()].concat()) {
                written += count;
                continue;
            }
            let before = (pump.waiting.len(), pump.lost());
            pump.read();
            if before == (pump.waiting.len(), pump.lost()) {
                break;
            }
        }
        written
    }

    #[test]
    fn only_whole_lines_go_out_until_the_process_is_dead() {
        let (mut pump, mut end) = pump();
        end.write_all(b"one\ntwo\nthr").unwrap();
        pump.read();
        assert_eq!(taken(&mut pump), "one\ntwo\n");
        assert_eq!(taken(&mut pump), "");
        end.write_all(b"ee").unwrap();
        pump.drain();
        assert_eq!(taken(&mut pump), "three\n");
        assert_eq!(pump.last_lines(), ["one", "two", "three"]);
    }

    #[test]
    fn a_full_buffer_holds_the_service_up() {
        let (mut pump, mut end) = pump();
        let written = flood(&mut pump, &mut end, 10 * ROOM);
        assert!(written < 2 * ROOM, "{written}");
        assert!(pump.awaited().is_none());
        assert!(pump.waiting.len() < ROOM + PIECE);
        assert_eq!(pump.lost(), 0);
        taken(&mut pump);
        taken(&mut pump);
        assert!(pump.awaited().is_some(), "room again");
    }

    /// The oldest lines went when a service died while the reader lagged.
    #[test]
    fn what_a_dead_process_left_is_kept_beside_what_waits() {
        let (mut pump, mut end) = pump();
        end.write_all(b"first\n").unwrap();
        flood(&mut pump, &mut end, 10 * ROOM);
        let waited = pump.waiting.len();
        pump.drain();
        assert!(pump.waiting.len() > waited && pump.lost() == 0);
        assert!(taken(&mut pump).starts_with("first\n"));
        // A crash loop that nobody reads has a bound.
        for _ in 0..40 {
            flood(&mut pump, &mut end, 10 * ROOM);
            pump.drain();
        }
        assert!(pump.waiting.len() <= ROOM + LEFT + PIECE, "{}", pump.waiting.len());
    }

    #[test]
    fn a_lossy_pump_never_holds_up_and_keeps_the_newest_whole_lines() {
        let (mut pump, mut end) = pump();
        pump.set_lossy();
        assert!(flood(&mut pump, &mut end, 4 * ROOM) >= 4 * ROOM);
        end.write_all(b"last\n").unwrap();
        pump.read();
        assert!(pump.lost() > 0 && pump.waiting.len() <= ROOM);
        let mut all = String::new();
        while pump.is_waiting() {
            all.push_str(&taken(&mut pump));
        }
        assert!(all.ends_with("last\n") && all.lines().next().unwrap().len() == 99);
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let (mut pump, mut end) = pump();
        for _ in 0..=LONGEST_LINE / PIECE {
            end.write_all(&b"z".repeat(PIECE)).unwrap();
            pump.read();
        }
        assert_eq!(taken(&mut pump).len(), LONGEST_LINE + 1);
        assert!(!pump.is_waiting());
    }

    #[test]
    fn a_line_longer_than_a_piece_goes_out_whole() {
        let (mut pump, mut end) = pump();
        let long = "z".repeat(3 * PIECE);
        end.write_all(format!("{long}\nshort\n").as_bytes()).unwrap();
        pump.read();
        assert_eq!(taken(&mut pump), long + "\n");
        assert_eq!(taken(&mut pump), "short\n");
    }

    #[test]
    fn lines_are_wrapped_with_their_service_where_that_is_wanted() {
        let (mut pump, _) = Pump::new(None, Some("dockerd".into())).unwrap();
        let mut end = std::fs::File::from(pump.child_end().unwrap());
        end.write_all(b"time=x level=warning msg=\"a\"\nhalf").unwrap();
        pump.drain();
        let text = taken(&mut pump);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["service"], &lines[0]["level"]), (&"dockerd".into(), &"warn".into()));
        assert_eq!(lines[0]["message"], "time=x level=warning msg=\"a\"");
        assert_eq!((&lines[1]["message"], &lines[1]["level"]), (&"half".into(), &serde_json::Value::Null));
        assert!(lines[1]["time"].as_f64().is_some_and(|time| time > 1e9));
        assert_eq!(pump.last_lines()[1], "half", "the report of a crash has the words alone");
    }

    #[test]
    fn lines_are_copied_to_the_file_and_its_failure_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d/service.log");
        let spec = LogFile { path: path.clone(), max_size: 1 << 20, keep: 1 };
        let (mut pump, problem) = Pump::new(Some(spec), None).unwrap();
        assert_eq!(problem, None);
        let mut end = std::fs::File::from(pump.child_end().unwrap());
        end.write_all(b"kept\n").unwrap();
        assert_eq!(pump.read(), None);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "kept\n");

        let full = LogFile { path: "/dev/full".into(), max_size: 1 << 20, keep: 1 };
        let (mut pump, _) = Pump::new(Some(full), None).unwrap();
        let mut end = std::fs::File::from(pump.child_end().unwrap());
        end.write_all(b"a\nb\n").unwrap();
        assert!(pump.read().unwrap().contains("/dev/full"));
        end.write_all(b"c\n").unwrap();
        assert_eq!(pump.read(), None);
    }
}
