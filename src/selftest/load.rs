/*!
What the container does against its limit. It runs as its PID 1, from an image that holds nothing else, until it is killed.
*/
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Hidden command that runs a load.
pub const COMMAND: &str = "load";
/// Command of the child that [`Load::Memory`] starts.
const HOLD: &str = "hold";

const MEBIBYTE: usize = 1 << 20;
/// Files opened with `O_DIRECT` are written in whole blocks from aligned memory; no disk has larger ones.
const BLOCK: usize = 4096;

/// A load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// So many threads that never rest.
    Cpu {
        /// How many.
        threads: u32,
    },
    /// A process that fills so much memory, and a parent that outlives it.
    Memory {
        /// Bytes.
        bytes: u64,
    },
    /// So many tasks that do nothing.
    Tasks {
        /// How many.
        count: u32,
    },
    /// A file that is written over and over past the page cache.
    Write {
        /// The file.
        path: String,
        /// Its size, bytes.
        bytes: u64,
    },
}

impl Load {
    /// As arguments of dindctl.
    pub fn words(&self) -> Vec<String> {
        let words = |kind: &str, rest: &[String]| [&[COMMAND.to_owned(), kind.to_owned()], rest].concat();
        match self {
            Self::Cpu { threads } => words("cpu", &[threads.to_string()]),
            Self::Memory { bytes } => words("memory", &[bytes.to_string()]),
            Self::Tasks { count } => words("tasks", &[count.to_string()]),
            Self::Write { path, bytes } => words("write", &[path.clone(), bytes.to_string()]),
        }
    }

    /// From the words behind `load`.
    fn read(words: &[&str]) -> Option<Self> {
        Some(match words {
            ["cpu", threads] => Self::Cpu { threads: threads.parse().ok()? },
            ["memory", bytes] => Self::Memory { bytes: bytes.parse().ok()? },
            ["tasks", count] => Self::Tasks { count: count.parse().ok()? },
            ["write", path, bytes] => Self::Write { path: (*path).to_owned(), bytes: bytes.parse().ok()? },
            _ => return None,
        })
    }
}

/// Runs a load with the words behind `load`; comes back only when that is not possible. The container has no log, so the
/// exit code says all: 2 for words that name no load, 1 for a load that failed.
pub fn main(words: &[OsString]) -> u8 {
    let Some(words) = words.iter().map(|word| word.to_str()).collect::<Option<Vec<&str>>>() else { return 2 };
    if let [HOLD, bytes] = words.as_slice() {
        return bytes.parse().map_or(2, hold);
    }
    match Load::read(&words).map(|load| run(&load)) {
        None => 2,
        Some(Ok(never)) => match never {},
        Some(Err(_)) => 1,
    }
}

fn run(load: &Load) -> io::Result<std::convert::Infallible> {
    match load {
        Load::Cpu { threads } => {
            for _ in 1..*threads {
                thread::spawn(spin);
            }
            spin();
        }
        Load::Memory { bytes } => {
            // The child is the larger one and dies of the limit; the group and its counters stay as long as we do.
            let mut child = Command::new("/proc/self/exe").args([COMMAND, HOLD, &bytes.to_string()]).spawn()?;
            child.wait()?;
            rest()
        }
        Load::Tasks { count } => {
            for _ in 0..*count {
                let small = thread::Builder::new().stack_size(64 * 1024);
                if small.spawn(|| -> () { match rest() {} }).is_err() {
                    break;
                }
            }
            rest()
        }
        Load::Write { path, bytes } => write(Path::new(path), *bytes),
    }
}

/// For a mebibyte; somebody looks about as often, and the limit is judged to three.
const PACE: Duration = Duration::from_millis(10);

fn rest() -> ! {
    loop {
        thread::park();
    }
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Fills memory, a mebibyte at a time, and keeps it. From a quarter on slowly enough for others to see how far it has come: there are
/// kernels and daemons that keep no peak.
fn hold(bytes: usize) -> u8 {
    let mut pieces = Vec::new();
    while pieces.len() * MEBIBYTE < bytes {
        // Ones, as untouched zeroes take no memory.
        pieces.push(vec![1_u8; MEBIBYTE]);
        std::hint::black_box(&pieces);
        if pieces.len() * MEBIBYTE > bytes / 4 {
            thread::sleep(PACE);
        }
    }
    rest()
}

fn write(path: &Path, bytes: u64) -> io::Result<std::convert::Infallible> {
    let memory = vec![1_u8; MEBIBYTE / 4 + BLOCK];
    let start = memory.as_ptr().align_offset(BLOCK);
    let piece = memory.get(start..start + MEBIBYTE / 4).ok_or(io::ErrorKind::InvalidInput)?;
    let open = |flag| OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flag).open(path);
    let mut file = match open(libc::O_DIRECT) {
        // Not every file system knows it; each write then waits for the disk.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => open(libc::O_SYNC),
        opened => opened,
    }?;
    loop {
        let mut offset = 0;
        while offset < bytes {
            file.write_all_at(piece, offset)?;
            offset += piece.len() as u64;
        }
        file.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Load::Cpu { threads: 2 })]
    #[case(Load::Memory { bytes: 1 << 40 })]
    #[case(Load::Tasks { count: 64 })]
    #[case(Load::Write { path: "/load/file".into(), bytes: 1 })]
    fn words_read_back(#[case] load: Load) {
        let words = load.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(words[0], COMMAND);
        assert_eq!(Load::read(&words[1..]), Some(load));
    }

    #[rstest]
    #[case(&["cpu"])]
    #[case(&["cpu", "many"])]
    #[case(&["dance", "1"])]
    #[case(&[])]
    fn other_words_do_nothing(#[case] words: &[&str]) {
        assert_eq!(main(&words.iter().map(OsString::from).collect::<Vec<_>>()), 2);
    }

    #[test]
    fn a_place_that_cannot_be_written_ends_the_load() {
        assert_eq!(main(&["write", "/nowhere/file", "1"].map(OsString::from)), 1);
    }
}
