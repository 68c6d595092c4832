/*!
A log file that rotates on line boundaries, in the process that writes it.
*/
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::spec::LogFile;

/// What failed, with its path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the log file {}: {error}", .path.display())]
pub struct LogFileError {
    action: &'static str,
    path: PathBuf,
    error: io::Error,
}

/// An open log file.
#[derive(Debug)]
pub struct RotatingFile {
    spec: LogFile,
    file: File,
    size: u64,
}

impl RotatingFile {
    /// Opens the file for appending, mode 0640 when it is new, and makes its folder.
    pub fn open(spec: LogFile) -> Result<Self, LogFileError> {
        if let Some(folder) = spec.path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| fail("make the folder of", &spec.path, error))?;
        }
        let file = append_to(&spec.path)?;
        let size = file.metadata().map_err(|error| fail("look at", &spec.path, error))?.len();
        Ok(Self { spec, file, size })
    }

    /// Adds one line, given without its newline, after rotating if it does not fit any more.
    pub fn line(&mut self, line: &[u8]) -> Result<(), LogFileError> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
        if self.size > 0 && self.size.saturating_add(length) > self.spec.max_size {
            self.rotate()?;
        }
        // One write for both, so that a reader never sees half a line.
        let mut whole = Vec::with_capacity(line.len() + 1);
        whole.extend_from_slice(line);
        whole.push(b'\n');
        write_or_take_back(&mut self.file, &whole).map_err(|error| fail("write to", &self.spec.path, error))?;
        self.size = self.size.saturating_add(length);
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), LogFileError> {
        let path = &self.spec.path;
        for number in (1..self.spec.keep).rev() {
            move_if_there(&numbered(path, number), &numbered(path, number + 1))?;
        }
        if self.spec.keep == 0 {
            self.file.set_len(0).map_err(|error| fail("empty", path, error))?;
        } else {
            move_if_there(path, &numbered(path, 1))?;
            self.file = append_to(path)?;
        }
        self.size = 0;
        Ok(())
    }
}

/// Writes all of `whole` at the end, or leaves the file as it was: on a full disk the beginning of a line fits, and the next
/// line that finds room would go on behind it.
fn write_or_take_back(file: &mut File, whole: &[u8]) -> io::Result<()> {
    let mut rest = whole;
    while !rest.is_empty() {
        let failed = match file.write(rest) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(count) => {
                rest = rest.get(count..).unwrap_or_default();
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        let written = u64::try_from(whole.len() - rest.len()).unwrap_or(u64::MAX);
        // From where the file ends now: somebody may have emptied it since it was opened. Of the two errors the first is the cause.
        let _ = (written > 0).then(|| take_back(file, written));
        return Err(failed);
    }
    Ok(())
}

fn take_back(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(file.metadata()?.len().saturating_sub(bytes))
}

fn append_to(path: &Path) -> Result<File, LogFileError> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path).map_err(|error| fail("open", path, error))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn move_if_there(from: &Path, to: &Path) -> Result<(), LogFileError> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail("rotate", from, error)),
        _ => Ok(()),
    }
}

fn fail(action: &'static str, path: &Path, error: io::Error) -> LogFileError {
    LogFileError { action, path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &tempfile::TempDir, name: &str) -> Option<String> {
        std::fs::read_to_string(folder.path().join(name)).ok()
    }

    fn write(folder: &tempfile::TempDir, max_size: u64, keep: u32, lines: &[&str]) {
        let spec = LogFile { path: folder.path().join("a.log"), max_size, keep };
        let mut file = RotatingFile::open(spec).unwrap();
        for line in lines {
            file.line(line.as_bytes()).unwrap();
        }
    }

    #[test]
    fn it_rotates_between_lines_and_keeps_so_many() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, 8, 2, &["one", "two", "three", "four", "five"]);
        assert_eq!(read(&folder, "a.log").unwrap(), "five\n");
        assert_eq!(read(&folder, "a.log.1").unwrap(), "four\n");
        assert_eq!(read(&folder, "a.log.2").unwrap(), "three\n");
        assert_eq!(read(&folder, "a.log.3"), None);
    }

    #[test]
    fn a_later_run_appends_and_counts_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, 8, 1, &["one"]);
        write(&folder, 8, 1, &["two", "xyz"]);
        assert_eq!(read(&folder, "a.log").unwrap(), "xyz\n");
        assert_eq!(read(&folder, "a.log.1").unwrap(), "one\ntwo\n");
    }

    #[test]
    fn keeping_none_empties_the_file_and_a_long_line_stays_whole() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, 4, 0, &["one", "a long line"]);
        assert_eq!(read(&folder, "a.log").unwrap(), "a long line\n");
        assert_eq!(read(&folder, "a.log.1"), None);
    }

    #[test]
    fn half_a_line_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, 100, 1, &["whole"]);
        let path = folder.path().join("a.log");
        let mut file = append_to(&path).unwrap();
        file.write_all(b"hal").unwrap();
        take_back(&file, 3).unwrap();
        write_or_take_back(&mut file, b"next\n").unwrap();
        assert_eq!(read(&folder, "a.log").unwrap(), "whole\nnext\n");
    }

    #[test]
    fn a_failure_names_the_path() {
        let spec = LogFile { path: "/proc/no/a.log".into(), max_size: 1, keep: 1 };
        assert!(RotatingFile::open(spec).unwrap_err().to_string().contains("/proc/no/a.log"));
    }
}
