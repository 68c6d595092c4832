/*!
What the engine that is installed can be told.
*/
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use memchr::memmem;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use object::read::StringTable;
use object::read::elf::{FileHeader as _, SectionHeader as _, SectionTable};
use object::{Endianness, ReadCache, elf};

/// Limit on the answer of a daemon that has to be asked, which takes 40 ms.
const LIMIT: Duration = Duration::from_secs(2);
/// As much of a program's constants as is searched at once, bytes: little enough for the stack, as each page of the heap that is new
/// costs more than to search it.
const PIECE: usize = 16 * 1024;
/// The most that the names of a program's sections take, bytes; a dockerd has 352.
const NAMES: u64 = 1024 * 1024;

/// Whether dockerd knows an option, given without its dashes; `None` when it cannot be found out.
///
/// A program that knows an option has the name among its constants, which are read in 0.3 to 1 ms; to ask the daemon itself takes
/// 40 ms, and is done where something else, such as a script, stands in its place.
pub fn understands(path: &OsStr, option: &str) -> Option<bool> {
    let program = crate::sys::spawn::find_program(OsStr::new("dockerd"), Some(path))?;
    has_constant(&program, option.as_bytes()).or_else(|| Some(offers(&answer(&program, "--help", LIMIT)?, option)))
}

/// Whether a program has a word among its constants; not where it is a script, or for another machine.
pub fn names(program: &Path, word: &str) -> bool {
    has_constant(program, word.as_bytes()).unwrap_or(false)
}

/// What a program of `PATH` answers to one argument; `None` when there is none, or no whole answer in time.
pub fn ask(name: &str, argument: &str, path: &OsStr, limit: Duration) -> Option<String> {
    let program = crate::sys::spawn::find_program(OsStr::new(name), Some(path))?;
    answer(&program, argument, limit)
}

/// Whether the read-only data of a program of this machine's word size contains these bytes; `None` for what is no such
/// program.
fn has_constant(program: &Path, bytes: &[u8]) -> Option<bool> {
    let file = File::open(program).ok()?;
    let (offset, size) = constants(&file)?;
    contains(&file, offset..offset.checked_add(size)?, &mut [0; PIECE], bytes)
}

/// Whether part of a file contains these bytes. It is read piece by piece, as memory for 5 MB takes longer to get than they
/// take to search.
fn contains(file: &File, range: Range<u64>, buffer: &mut [u8], bytes: &[u8]) -> Option<bool> {
    let piece = buffer.len();
    let mut offset = range.start;
    while offset < range.end {
        let length = usize::try_from(range.end - offset).map_or(piece, |left| left.min(piece));
        let part = buffer.get_mut(..length)?;
        file.read_exact_at(part, offset).ok()?;
        if memmem::find(part, bytes).is_some() {
            return Some(true);
        }
        // The next piece repeats the end of this one, as the name may lie across it.
        let step = if length < piece { length } else { piece.checked_sub(bytes.len()).filter(|step| *step > 0)? };
        offset += step as u64;
    }
    Some(false)
}

/// Where a program has its constants: offset and size in bytes.
fn constants(file: &File) -> Option<(u64, u64)> {
    let headers = ReadCache::new(file);
    let header = elf::FileHeader64::<Endianness>::parse(&headers).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.section_headers(endian, &headers).ok()?;
    let names = sections.get(usize::try_from(header.shstrndx(endian, &headers).ok()?).ok()?)?;
    let (offset, size) = names.file_range(endian).filter(|(_, size)| *size <= NAMES)?;
    // All at once: one by one they take longer to read than the constants take to search.
    let mut names = vec![0; usize::try_from(size).ok()?];
    file.read_exact_at(&mut names, offset).ok()?;
    let table =
        SectionTable::<elf::FileHeader64<Endianness>, _>::new(sections, StringTable::new(names.as_slice(), 0, size));
    table.section_by_name(endian, b".rodata")?.1.file_range(endian)
}

/// What the program says to one argument; `None` when it has not said it all in time.
fn answer(program: &Path, argument: &str, limit: Duration) -> Option<String> {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let text = child.stdout.take().and_then(|answer| read_within(answer, limit));
    // It ends, or has ended.
    let _ = child.kill();
    let _ = child.wait();
    text
}

/// Gives a program a text to read; an error is the last line of what it says, or how it ended.
pub fn feed(program: &Path, arguments: &[&str], text: &str, limit: Duration) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", program.display());
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(told)?;
    // A pipe holds more than any text of ours; one that nobody reads any more is told by how the program ends.
    let _ = child.stdin.take().map(|mut input| input.write_all(text.as_bytes()));
    let said = child.stderr.take().and_then(|answer| read_within(answer, limit));
    if said.is_none() {
        // It does not end by itself.
        let _ = child.kill();
    }
    let status = child.wait().map_err(told)?;
    let Some(said) = said else { return Err(format!("{} did not end in {limit:?}", program.display())) };
    if status.success() {
        return Ok(());
    }
    let last = said.lines().rfind(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned());
    Err(last.unwrap_or_else(|| format!("{} ended with {status}", program.display())))
}

/// Everything up to the end of the stream. A program that the asked one leaves behind may hold it open for ever.
fn read_within(mut answer: impl Read + AsFd, limit: Duration) -> Option<String> {
    let begun = Instant::now();
    let mut text = Vec::new();
    let mut part = [0; 16 * 1024];
    loop {
        let left = PollTimeout::try_from(limit.checked_sub(begun.elapsed())?).ok()?;
        let mut ready = [PollFd::new(answer.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, left) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
        }
        match answer.read(&mut part).ok()? {
            0 => return Some(String::from_utf8_lossy(&text).into_owned()),
            count => text.extend(part.get(..count)?),
        }
    }
}

/// `      --default-network-opt mapmap   Default network options …`.
fn offers(help: &str, option: &str) -> bool {
    help.split_whitespace().any(|word| word.strip_prefix("--") == Some(option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_the_names_of_its_options_among_its_constants() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(has_constant(&own, b"default-network-opt"), Some(true));
        let absent: Vec<u8> = b"tpo-krowten-tluafed".iter().map(|byte| byte ^ 0x80).collect();
        assert_eq!(has_constant(&own, &absent), Some(false));
    }

    #[test]
    fn a_name_is_found_across_two_pieces() {
        let mut file = tempfile::tempfile().unwrap();
        Write::write_all(&mut file, b"0123456789abcdefghij").unwrap();
        for piece in 5..25 {
            let find = |bytes: &[u8], end| contains(&file, 0..end, &mut vec![0; piece], bytes);
            assert_eq!(find(b"9abc", 20), Some(true), "pieces of {piece}");
            assert_eq!(find(b"ghij", 20), Some(true), "pieces of {piece}");
            assert_eq!(find(b"ghij", 19), Some(false), "pieces of {piece}");
            assert_eq!(find(b"none", 20), Some(false), "pieces of {piece}");
        }
        assert_eq!(contains(&file, 0..20, &mut [0; 4], b"none"), None);
        assert_eq!(contains(&file, 0..21, &mut [0; 5], b"none"), None);
    }

    #[test]
    fn a_program_that_is_fed_tells_what_is_wrong_and_is_not_waited_for_for_ever() {
        let shell = |script: &str, limit| feed(Path::new("/bin/sh"), &["-c", script], "profile x {}\n", limit);
        let long = Duration::from_secs(10);
        assert_eq!(shell("read -r word rest; test $word = profile", long), Ok(()));
        assert_eq!(shell("echo one >&2; echo two >&2; exit 3", long), Err("two".into()));
        assert!(shell("exit 3", long).unwrap_err().ends_with("exit status: 3"));
        assert!(shell("exec sleep 60", Duration::from_millis(50)).unwrap_err().contains("did not end in 50ms"));
        assert!(feed(Path::new("/nonexistent"), &[], "", long).unwrap_err().starts_with("/nonexistent: "));
    }

    #[test]
    fn what_is_no_program_has_no_constants() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "#!/bin/sh\n# default-network-opt\n").unwrap();
        assert_eq!(has_constant(file.path(), b"default-network-opt"), None);
        assert_eq!(has_constant(Path::new("/nonexistent"), b"default-network-opt"), None);
        assert_eq!(understands(OsStr::new("/nonexistent"), "mtu"), None);
    }

    #[test]
    fn a_program_says_what_it_can_be_told() {
        let text = answer(Path::new("/bin/cat"), "--help", LIMIT).unwrap();
        assert!(offers(&text, "show-nonprinting"), "{text}");
        assert!(!offers(&text, "show-nonprintin"), "{text}");
    }

    #[test]
    fn a_stream_that_somebody_holds_open_is_left_in_time() {
        let mut child = Command::new("/bin/sleep").arg("60").stdout(Stdio::piped()).spawn().unwrap();
        let answer = child.stdout.take().unwrap();
        assert_eq!(read_within(answer, Duration::from_millis(20)), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
