/*!
The agent protocol: framed messages on the attach stream of the sandbox container.

A frame is one byte of type, four bytes of payload length (big endian) and the payload. Bulk data travels raw;
everything else is JSON, so that fields can be added without a new version. The agent says [`Kind::Ready`] as soon as
it runs; the caller sends one [`Job`], then the whole archive when the workspace is a copy, then standard input. The
agent streams output and ends with one [`Kind::Report`]. End of file on the agent's input means that the caller is
gone: the agent then ends everything.

The attach stream is one queue, so a [`Kind::Cancel`] behind standard input that the program does not read would wait
for it. A caller therefore keeps at most [`STDIN_WINDOW`] bytes under way, counted by [`Kind::StdinTaken`]. The agent
stops reading from a caller that does not; such a caller still has the deadline and the container's own kill.
*/
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::egress::Policy;
use super::outcome::Report;

/// Largest payload either side sends or accepts, bytes. Bulk data is cut into frames of at most 32 KiB, the size in
/// which the daemon forwards an attached stream.
pub const MAX_PAYLOAD: usize = 64 * 1024 * 1024;

/// Bytes of standard input that the agent takes before the program has read any of them. A caller may send this much
/// more than the last [`Kind::StdinTaken`] said.
pub const STDIN_WINDOW: usize = 1024 * 1024;

/// Bytes before the payload.
pub const HEADER: usize = 5;

/// Type of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Caller → agent: what to run ([`Job`] as JSON).
    Job = 1,
    /// Caller → agent: bytes for the program's standard input.
    Stdin = 2,
    /// Caller → agent: no more standard input.
    StdinEof = 3,
    /// Caller → agent: end the run now; the report says `killed`.
    Cancel = 4,
    /// Caller → agent: send a signal to the program's process group (one byte: the number).
    Signal = 5,
    /// Caller → agent: size of the caller's terminal (rows, columns as two big-endian u16).
    Resize = 6,
    /// Caller → agent: a piece of the tar archive that is unpacked into the workspace (see [`Workspace::Copy`]).
    Archive = 7,
    /// Caller → agent: the archive is complete.
    ArchiveEof = 8,
    /// Agent → caller: the agent runs ([`Ready`] as JSON).
    Ready = 64,
    /// Agent → caller: the program was started (no payload).
    Started = 65,
    /// Agent → caller: bytes of the program's standard output (or of its terminal).
    Stdout = 66,
    /// Agent → caller: bytes of the program's standard error.
    Stderr = 67,
    /// Agent → caller: the run is over ([`Report`] as JSON). Nothing follows.
    Report = 68,
    /// Agent → caller: bytes dropped from the middle of stdout at this place (u64 big endian).
    StdoutGap = 69,
    /// Agent → caller: bytes dropped from the middle of stderr at this place (u64 big endian).
    StderrGap = 70,
    /// Agent → caller: bytes of standard input that the program took so far, or that were thrown away because it
    /// closed its end (u64 big endian). Sent after each quarter of [`STDIN_WINDOW`]; short input sees none.
    StdinTaken = 71,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Job,
        Self::Stdin,
        Self::StdinEof,
        Self::Cancel,
        Self::Signal,
        Self::Resize,
        Self::Archive,
        Self::ArchiveEof,
        Self::Ready,
        Self::Started,
        Self::Stdout,
        Self::Stderr,
        Self::Report,
        Self::StdoutGap,
        Self::StderrGap,
        Self::StdinTaken,
    ];
}

impl TryFrom<u8> for Kind {
    type Error = ProtocolError;

    fn try_from(byte: u8) -> Result<Self, Self::Error> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte).ok_or(ProtocolError::UnknownKind(byte))
    }
}

/// A message that cannot be understood. The connection is of no use after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The type byte is none of ours.
    #[error("unknown frame type {0}: the other side is not a dindctl agent of this version")]
    UnknownKind(u8),
    /// The length is above [`MAX_PAYLOAD`].
    #[error("frame of {0} bytes is above the limit of {MAX_PAYLOAD} bytes")]
    TooLong(usize),
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: Kind,
    /// Its content.
    pub payload: Vec<u8>,
}

/// Appends a frame to `out`.
pub fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(payload.len() <= MAX_PAYLOAD);
    out.push(kind as u8);
    // A payload is bounded by MAX_PAYLOAD, far below u32::MAX.
    #[allow(clippy::cast_possible_truncation)]
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
}

/// Bytes that an emptied decoder keeps allocated; a large job does not hold its memory for the whole run.
const KEPT: usize = 128 * 1024;

/// Cuts a byte stream into frames, however it was split on its way. Holds only bytes that have arrived: a length that
/// is announced costs nothing.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Adds bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.is_empty() {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT);
            self.start = 0;
        } else if self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete frame, or `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        let pending = self.buffer.get(self.start..).unwrap_or_default();
        let Some((header, rest)) = pending.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *header;
        let kind = Kind::try_from(kind)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_PAYLOAD {
            return Err(ProtocolError::TooLong(length));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.start += HEADER + length;
        Ok(Some(Frame { kind, payload }))
    }

    /// Whether nothing is left: neither a frame nor a part of one.
    pub fn is_empty(&self) -> bool {
        self.start >= self.buffer.len()
    }
}

/// First words of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Version of the agent's binary.
    pub version: String,
}

/// Who the program runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunAs {
    /// Numbers, used as they are.
    Ids {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// `USER`, `USER:GROUP`, names or numbers, looked up in the sandbox's own `/etc/passwd` and `/etc/group`, the
    /// way `docker run --user` reads them.
    Spec(String),
}

/// Identity of a directory as `stat` tells it; equal on both sides of a bind mount, different for a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryIdentity {
    /// Inode number.
    pub ino: u64,
    /// Change time, seconds.
    pub ctime: i64,
    /// Change time, nanoseconds.
    pub ctime_nsec: i64,
}

/// What the program finds at the place of the caller's workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workspace {
    /// The daemon bound a directory of its own file system there. The agent refuses to start when it is not the
    /// very directory the caller meant (problem code `workspace_mismatch`).
    Bound {
        /// Where it is mounted.
        path: String,
        /// The caller's view of the same directory.
        identity: DirectoryIdentity,
    },
    /// The caller sends a tar archive ([`Kind::Archive`]) that the agent unpacks there before the start.
    Copy {
        /// Where it is unpacked; a tmpfs.
        path: String,
    },
}

/// A file that the agent writes before the start (the program text of `-c`, of a script, of standard input).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeFile {
    /// Absolute path in the sandbox, on a writable file system.
    pub path: String,
    /// Content as text, or base64 of it when `base64` is set.
    pub content: String,
    /// Whether `content` is base64.
    pub base64: bool,
}

/// What happens when a stream passes its cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOutputLimit {
    /// Keep head and tail, count what is dropped, let the program go on.
    #[default]
    Truncate,
    /// End the program; the status is `output_limit`.
    Kill,
}

/// Everything the agent needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Identifier of the run, for messages.
    pub id: String,
    /// Stages in the order of their run; the first that fails ends the job. The plain case is one stage.
    pub stages: Vec<Stage>,
    /// Files written before the first stage, owned by the job's user.
    #[serde(default)]
    pub files: Vec<CodeFile>,
    /// Variables added to (and replacing) those of the image.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working directory; must exist.
    pub workdir: String,
    /// Who runs it.
    pub run_as: RunAs,
    /// The workspace, if any.
    #[serde(default)]
    pub workspace: Option<Workspace>,
    /// Wall-clock limit for all stages, milliseconds; 0 is refused.
    pub timeout_ms: u64,
    /// Limit on the CPU time of all processes together, milliseconds.
    #[serde(default)]
    pub cpu_time_ms: Option<u64>,
    /// Between SIGTERM and SIGKILL when a limit is hit, milliseconds; 0 kills at once.
    #[serde(default)]
    pub grace_ms: u64,
    /// Cap for each of stdout and stderr, bytes; `None` streams without one.
    #[serde(default)]
    pub max_output: Option<u64>,
    /// What passing the cap does.
    #[serde(default)]
    pub on_output_limit: OnOutputLimit,
    /// Whether [`Kind::Stdin`] frames follow; otherwise the program reads end of file at once.
    #[serde(default)]
    pub stdin: bool,
    /// Run the program on a terminal of the sandbox's own (rows, columns).
    #[serde(default)]
    pub tty: Option<(u16, u16)>,
    /// Writable places whose being full explains a failure (`disk_limit`).
    #[serde(default)]
    pub watch_full: Vec<String>,
    /// What the sandbox's network is closed to; `None` leaves it as the daemon made it.
    #[serde(default)]
    pub egress: Option<Policy>,
    /// Authorities that the agent adds to those of the image (PEM), in the [folder](super::authorities::FOLDER) for them.
    #[serde(default)]
    pub authorities: Option<String>,
}

/// One program of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// `run`, `compile`, `install`.
    pub name: String,
    /// Program and arguments; the program is looked up in the sandbox's `PATH`.
    pub argv: Vec<String>,
}

/// Serialises a report for its frame.
pub fn report_payload(report: &Report) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(report)
}

/// Reads the number of a [`Kind::StdoutGap`], [`Kind::StderrGap`] or [`Kind::StdinTaken`] frame; `None` when the payload
/// has another length.
pub fn count_payload(payload: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(payload.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        (0..Kind::ALL.len(), proptest::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(kind, payload)| Frame { kind: Kind::ALL[kind], payload })
    }

    fn drain(decoder: &mut Decoder, into: &mut Vec<Frame>) {
        while let Some(frame) = decoder.next_frame().unwrap() {
            into.push(frame);
        }
    }

    proptest! {
        #[test]
        fn any_split_of_a_stream_gives_the_same_frames(
            frames in proptest::collection::vec(any_frame(), 0..20),
            cuts in proptest::collection::vec(1_usize..700, 1..40),
        ) {
            let mut wire = Vec::new();
            for frame in &frames {
                encode(frame.kind, &frame.payload, &mut wire);
            }
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            let mut rest = wire.as_slice();
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                decoder.push(piece);
                drain(&mut decoder, &mut got);
                rest = after;
            }
            prop_assert!(decoder.is_empty());
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn garbage_never_gives_more_than_it_held(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            let mut seen = 0;
            while let Ok(Some(frame)) = decoder.next_frame() {
                seen += HEADER + frame.payload.len();
            }
            prop_assert!(seen <= bytes.len());
        }

        #[test]
        fn a_broken_stream_stays_broken(kind in any::<u8>(), more in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assume!(Kind::try_from(kind).is_err());
            let mut decoder = Decoder::default();
            decoder.push(&[kind, 0, 0, 0, 0]);
            prop_assert_eq!(decoder.next_frame(), Err(ProtocolError::UnknownKind(kind)));
            decoder.push(&more);
            prop_assert_eq!(decoder.next_frame(), Err(ProtocolError::UnknownKind(kind)));
        }
    }

    #[test]
    fn every_kind_survives_its_byte() {
        for kind in Kind::ALL {
            assert_eq!(Kind::try_from(kind as u8), Ok(kind));
        }
        let known = (0..=u8::MAX).filter(|byte| Kind::try_from(*byte).is_ok()).count();
        assert_eq!(known, Kind::ALL.len());
    }

    #[test]
    fn an_announced_length_above_the_limit_is_refused_and_none_is_allocated_for() {
        let mut decoder = Decoder::default();
        decoder.push(&[Kind::Stdin as u8, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.next_frame(), Err(ProtocolError::TooLong(0xffff_ffff)));

        let mut decoder = Decoder::default();
        let announced = u32::try_from(MAX_PAYLOAD).unwrap().to_be_bytes();
        decoder.push(&[&[Kind::Stdin as u8], announced.as_slice()].concat());
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.buffer.capacity() < 1024, "{}", decoder.buffer.capacity());
    }

    #[test]
    fn a_large_frame_does_not_keep_its_memory() {
        let mut wire = Vec::new();
        encode(Kind::Job, &vec![b'x'; 4 * 1024 * 1024], &mut wire);
        let mut decoder = Decoder::default();
        decoder.push(&wire);
        assert_eq!(decoder.next_frame().unwrap().unwrap().payload.len(), 4 * 1024 * 1024);
        decoder.push(&[Kind::Cancel as u8]);
        assert!(decoder.buffer.capacity() <= KEPT, "{}", decoder.buffer.capacity());
    }

    #[test]
    fn a_job_needs_only_its_essentials_and_ignores_what_a_newer_caller_adds() {
        let job: Job = serde_json::from_str(
            r#"{"id":"x","stages":[{"name":"run","argv":["true"]}],"workdir":"/","run_as":{"ids":{"uid":1,"gid":2}},
                "timeout_ms":1000,"from_the_future":true}"#,
        )
        .unwrap();
        assert_eq!(job.run_as, RunAs::Ids { uid: 1, gid: 2 });
        assert_eq!(job.on_output_limit, OnOutputLimit::Truncate);
        assert!(!job.stdin && job.tty.is_none() && job.max_output.is_none());
    }
}
