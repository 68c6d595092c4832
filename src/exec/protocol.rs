/*!
The agent protocol: framed messages on the attach stream of the sandbox container.

A frame is one byte of type, four bytes of payload length (big endian) and the payload. Bulk data travels raw;
everything else is JSON, so that fields can be added without a new version. The caller speaks first with
[`Job`]; the agent answers with [`Kind::Ready`] as soon as it runs, streams output, and ends with one
[`Kind::Report`]. End of file on the agent's input means that the caller is gone: the agent then ends everything.
*/
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::outcome::Report;

/// Largest payload either side sends or accepts, bytes. Bulk data is cut into frames of at most 32 KiB, the size in
/// which the daemon forwards an attached stream.
pub const MAX_PAYLOAD: usize = 64 * 1024 * 1024;

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
}

impl TryFrom<u8> for Kind {
    type Error = ProtocolError;

    fn try_from(byte: u8) -> Result<Self, Self::Error> {
        Ok(match byte {
            1 => Self::Job,
            2 => Self::Stdin,
            3 => Self::StdinEof,
            4 => Self::Cancel,
            5 => Self::Signal,
            6 => Self::Resize,
            7 => Self::Archive,
            8 => Self::ArchiveEof,
            64 => Self::Ready,
            65 => Self::Started,
            66 => Self::Stdout,
            67 => Self::Stderr,
            68 => Self::Report,
            69 => Self::StdoutGap,
            70 => Self::StderrGap,
            other => return Err(ProtocolError::UnknownKind(other)),
        })
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

/// Cuts a byte stream into frames, however it was split on its way.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Adds bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start >= self.buffer.len() / 2 {
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

    /// Whether bytes of an incomplete frame are left.
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
    /// Wall-clock limit for all stages, milliseconds.
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
