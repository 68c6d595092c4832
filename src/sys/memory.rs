/*!
How our own memory is used: the heap of a short start, and giving back pages of the program that only the start needed.

PID 1 lives for weeks in a loop of a few pages, and what its start touched (the command line, the plan, the merge of
daemon.json) stays mapped all that time. Dropping the mapping costs one fault for each page that is needed again; the
pages themselves stay in the page cache, where every other dindctl of the machine shares them.
*/
#![allow(unsafe_code)]

use std::path::Path;

use nix::errno::Errno;

/// Why nothing was given back.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The list of mappings cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The list.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The kernel refused.
    #[error("madvise(MADV_DONTNEED) of the program's own pages: {0}")]
    Advise(Errno),
}

/// Memory that the heap gets at once from now on, bytes; what is not touched takes none.
const STEP: libc::c_int = 512 * 1024;

/// One heap for all threads, which grows in large steps. The C library's own way, a heap for each thread and 132 KiB at a time, is
/// right for threads that live long and ask for much; a thread that lives for a millisecond waits for the set-up of its heap for
/// a tenth of that (glibc's `mallopt(3)`). For a start with few short threads; nothing depends on it.
pub fn one_heap() {
    // SAFETY: plain numbers, which the C library checks; it has a lock of its own.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TOP_PAD, STEP);
    }
}

/// Drops the resident pages of this program's code and constants, and of the heap those that hold nothing. `proc` is a mounted
/// procfs.
///
/// Only mappings of our own executable are touched that cannot be written and in which every page is the file's: what the
/// linker's relocations changed is anonymous memory (`Anonymous` of `proc_pid_smaps(5)`), and a mapping with such pages
/// stays whole. A page that is needed again is simply read again.
pub fn release_program(proc: &Path) -> Result<(), ReleaseError> {
    let maps = proc.join("self/smaps");
    let read = |path: &Path, error| ReleaseError::Read { path: path.display().to_string(), error };
    let program = std::fs::read_link(proc.join("self/exe")).map_err(|error| read(&proc.join("self/exe"), error))?;
    let text = std::fs::read_to_string(&maps).map_err(|error| read(&maps, error))?;
    let unchanged = unchanged(&text, &program);
    drop(text);
    // SAFETY: a plain number; what is in use stays.
    unsafe { libc::malloc_trim(0) };
    for (start, end) in unchanged {
        // SAFETY: the range is a private mapping of our own file that nobody can write, and no page of it differs from
        // the file. Dropping its pages changes nothing that can be read from it, not even for the instructions that run now.
        let result = unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        Errno::result(result).map_err(ReleaseError::Advise)?;
    }
    Ok(())
}

/// The mappings of `/proc/PID/smaps` that hold just what `program` holds.
fn unchanged(smaps: &str, program: &Path) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !first.ends_with(':') {
            candidate = unwritable_range(line, program);
        } else if first == "Anonymous:" {
            // A kernel that does not tell it lets nothing be dropped.
            let none = line.split_whitespace().nth(1) == Some("0");
            found.extend(candidate.take().filter(|_| none));
        }
    }
    found
}

/// The range in the first line of a mapping if it is one of `program` that cannot be written.
fn unwritable_range(line: &str, program: &Path) -> Option<(usize, usize)> {
    let (fields, path) = line.split_once('/')?;
    if Path::new(&format!("/{path}")) != program {
        return None;
    }
    let mut fields = fields.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if !matches!(fields.next()?, "r-xp" | "r--p") {
        return None;
    }
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "\
7fca3e0e4000-7fca3e492000 r-xp 0012c000 00:2c 1794063                    /usr/local/bin/dindctl
Size:               3768 kB
Rss:                2304 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
";

    #[test]
    fn only_what_is_as_in_the_file_is_taken() {
        let ranges = |smaps: &str| unchanged(smaps, Path::new("/usr/local/bin/dindctl"));
        let whole = vec![(0x7fca_3e0e_4000, 0x7fca_3e49_2000)];
        assert_eq!(ranges(CODE), whole);
        assert_eq!(ranges(&CODE.replace("r-xp", "r--p")), whole, "constants");
        let relocated = CODE.replace("r-xp", "r--p").replace("Anonymous:             0", "Anonymous:           144");
        assert_eq!(ranges(&relocated), []);
        assert_eq!(ranges(&CODE.replace("r-xp", "rwxp")), []);
        assert_eq!(ranges(&CODE.replace("r-xp", "rw-p")), []);
        assert_eq!(ranges(&CODE.replace("dindctl", "other")), []);
        assert_eq!(ranges(&CODE.replace("Anonymous", "Unknown")), []);
        assert_eq!(ranges(&CODE.replace("/usr/local/bin/dindctl", "[vdso]")), []);
        assert_eq!(ranges(&[CODE, &relocated, CODE].concat()), [whole.clone(), whole].concat(), "each by itself");
    }

    /// The kernel's list of this very process, with the relocated data of a program that is position independent.
    #[test]
    fn relocated_data_of_a_real_process_stays() {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let taken = unchanged(&smaps, &program);
        let changed = &raw const RELOCATED as usize;
        let code = unchanged as fn(&str, &Path) -> Vec<(usize, usize)> as usize;
        assert!(taken.iter().any(|(start, end)| (*start..*end).contains(&code)), "{taken:x?}");
        assert!(!taken.iter().any(|(start, end)| (*start..*end).contains(&changed)), "{taken:x?}");
    }

    static RELOCATED: fn(Vec<u8>) -> Result<String, std::string::FromUtf8Error> = String::from_utf8;

    #[test]
    fn the_program_goes_on_after_giving_its_pages_back() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let own = text.lines().skip_while(|line| !line.contains(" r-xp ") || !line.contains('/'));
            let rss = own.skip(1).find(|line| line.starts_with("Rss:")).unwrap().to_owned();
            rss.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        release_program(Path::new("/proc")).unwrap();
        let words: Vec<String> = (0..100).map(|number| format!("{number:x}")).collect();
        assert_eq!(words.concat().len(), 16 + 84 * 2);
        assert!(resident() > 0, "what runs is read again");
    }
}
