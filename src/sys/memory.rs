/*!
Giving back pages of our own program that only its start needed.

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
    #[error("madvise(MADV_DONTNEED) of the program's text: {0}")]
    Advise(Errno),
}

/// Drops the resident pages of this program's text. `proc` is a mounted procfs.
///
/// Only mappings of our own executable that are executable and not writable are touched: those hold exactly what the
/// file holds (the linker's relocations are elsewhere), so a page that is needed again is simply read again.
pub fn release_text(proc: &Path) -> Result<(), ReleaseError> {
    let maps = proc.join("self/maps");
    let read = |path: &Path, error| ReleaseError::Read { path: path.display().to_string(), error };
    let program = std::fs::read_link(proc.join("self/exe")).map_err(|error| read(&proc.join("self/exe"), error))?;
    let text = std::fs::read_to_string(&maps).map_err(|error| read(&maps, error))?;
    for (start, end) in text.lines().filter_map(|line| text_range(line, &program)) {
        // SAFETY: the range is a private, read-only, executable mapping of our own file. Dropping its pages changes
        // nothing that can be read from it, not even for the instructions that run right now.
        let result = unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        Errno::result(result).map_err(ReleaseError::Advise)?;
    }
    Ok(())
}

/// The range of a line of `/proc/PID/maps` (`proc_pid_maps(5)`) if it is text of `program`.
fn text_range(line: &str, program: &Path) -> Option<(usize, usize)> {
    let (fields, path) = line.split_once('/')?;
    if Path::new(&format!("/{path}")) != program {
        return None;
    }
    let mut fields = fields.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if fields.next()? != "r-xp" {
        return None;
    }
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_of_the_program_is_taken() {
        let program = Path::new("/usr/local/bin/dindctl");
        let range = |line: &str| text_range(line, program);
        let text = "7fca3e0e4000-7fca3e492000 r-xp 0012c000 00:2c 1794063                    /usr/local/bin/dindctl";
        assert_eq!(range(text), Some((0x7fca_3e0e_4000, 0x7fca_3e49_2000)));
        assert_eq!(range(&text.replace("r-xp", "r--p")), None, "relocated data looks like this");
        assert_eq!(range(&text.replace("r-xp", "rwxp")), None);
        assert_eq!(range(&text.replace("dindctl", "other")), None);
        assert_eq!(range("7fca3dfb5000-7fca3dfb7000 r-xp 00000000 00:00 0                          [vdso]"), None);
    }

    #[test]
    fn the_program_goes_on_after_giving_its_text_back() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let own = text.lines().skip_while(|line| !line.contains(" r-xp ") || !line.contains('/'));
            let rss = own.skip(1).find(|line| line.starts_with("Rss:")).unwrap().to_owned();
            rss.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        release_text(Path::new("/proc")).unwrap();
        let words: Vec<String> = (0..100).map(|number| format!("{number:x}")).collect();
        assert_eq!(words.concat().len(), 16 + 84 * 2);
        assert!(resident() > 0, "what runs is read again");
    }
}
