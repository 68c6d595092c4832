/*!
A log file that rotates on line boundaries, in the process that writes it.
*/
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
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
}

impl RotatingFile {
    /// Opens the file for appending, mode 0640 when it is new, and makes its folder.
    pub fn open(spec: LogFile) -> Result<Self, LogFileError> {
        if let Some(folder) = spec.path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| fail("make the folder of", &spec.path, error))?;
        }
        let file = append_to(&spec.path)?;
        Ok(Self { spec, file })
    }

    /// Adds one line, given without its newline, after rotating if it does not fit any more.
    pub fn line(&mut self, line: &[u8]) -> Result<(), LogFileError> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
        let size = self.follow()?.1;
        if size > 0 && size.saturating_add(length) > self.spec.max_size {
            self.rotate()?;
        }
        // One write for both, so that a reader never sees half a line.
        let mut whole = Vec::with_capacity(line.len() + 1);
        whole.extend_from_slice(line);
        whole.push(b'\n');
        write_or_take_back(&mut self.file, &whole).map_err(|error| fail("write to", &self.spec.path, error))
    }

    /// Begins a new file, as `SIGHUP` asks for. One that somebody else has moved away is made anew and nothing else is
    /// moved; an empty one stays.
    pub fn begin_anew(&mut self) -> Result<(), LogFileError> {
        let (moved, size) = self.follow()?;
        if moved || size == 0 { Ok(()) } else { self.rotate() }
    }

    /// Goes on in the file that has the name now: another service that writes to the same one rotates it too, and so
    /// may the user. Tells whether that was another one, and its size.
    fn follow(&mut self) -> Result<(bool, u64), LogFileError> {
        let path = &self.spec.path;
        let look = |file: &File| file.metadata().map_err(|error| fail("look at", path, error));
        let ours = look(&self.file)?;
        if std::fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Ok((false, ours.len()));
        }
        self.file = append_to(path)?;
        Ok((true, look(&self.file)?.len()))
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

    #[test]
    fn a_request_begins_a_new_file_and_respects_who_moved_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut file = RotatingFile::open(LogFile { path: path.clone(), max_size: 1000, keep: 3 }).unwrap();
        file.begin_anew().unwrap();
        assert_eq!(read(&folder, "a.log.1"), None, "nothing to rotate");
        file.line(b"one").unwrap();
        file.begin_anew().unwrap();
        file.line(b"two").unwrap();
        assert_eq!(read(&folder, "a.log.1").unwrap(), "one\n");
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        file.begin_anew().unwrap();
        file.line(b"three").unwrap();
        assert_eq!(
            [read(&folder, "moved"), read(&folder, "a.log.1"), read(&folder, "a.log")].map(Option::unwrap),
            ["two\n", "one\n", "three\n"]
        );
    }

    /// dockerd and containerd write to one file: after one of them had rotated it, the other went on in the old one.
    #[test]
    fn two_writers_of_one_file_rotate_it_together() {
        let folder = tempfile::tempdir().unwrap();
        let spec = LogFile { path: folder.path().join("a.log"), max_size: 20, keep: 9 };
        let mut writers = [RotatingFile::open(spec.clone()).unwrap(), RotatingFile::open(spec).unwrap()];
        for number in 0..12 {
            writers[number % 2].line(format!("line {number:02}").as_bytes()).unwrap();
        }
        for (name, numbers) in [("a.log", [10, 11]), ("a.log.1", [8, 9]), ("a.log.5", [0, 1])] {
            let expected = numbers.map(|number| format!("line {number:02}\n")).concat();
            assert_eq!(read(&folder, name).unwrap(), expected, "{name}");
        }
        writers[0].begin_anew().unwrap();
        writers[1].begin_anew().unwrap();
        assert_eq!(read(&folder, "a.log").unwrap(), "");
        assert_eq!(read(&folder, "a.log.1").unwrap(), "line 10\nline 11\n", "rotated once");
    }
}
