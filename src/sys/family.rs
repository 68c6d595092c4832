/*!
Who descends from whom, as `/proc` tells.
*/
use std::collections::HashMap;
use std::path::Path;

/// Every process below `root` among pairs of process and parent.
pub fn descendants(table: &[(i32, i32)], root: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, parent) in table {
        children.entry(*parent).or_default().push(*pid);
    }
    let (mut found, mut open) = (Vec::new(), vec![root]);
    while let Some(parent) = open.pop() {
        // The table is no snapshot: a process may be shown below its own descendant.
        for child in children.remove(&parent).unwrap_or_default().into_iter().filter(|child| *child != root) {
            found.push(child);
            open.push(child);
        }
    }
    found
}

/// Process and parent of every entry below `proc` that can be read.
pub fn processes(proc: &Path) -> Vec<(i32, i32)> {
    let Ok(entries) = std::fs::read_dir(proc) else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read(proc.join(format!("{pid}/stat"))).ok()?;
            Some((pid, parent_in(&stat)?))
        })
        .collect()
}

/// The parent in a line of `/proc/PID/stat`. The command in it is free text in brackets, so what counts begins after
/// the last one.
fn parent_in(stat: &[u8]) -> Option<i32> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn all_generations_below_and_nobody_else() {
        let table = [(1, 0), (5, 1), (6, 5), (7, 6), (8, 1), (9, 7)];
        assert_eq!(descendants(&table, 5), [6, 7, 9]);
        assert_eq!(descendants(&table, 9), [0; 0]);
        assert_eq!(descendants(&[(3, 4), (4, 3)], 3), [4], "a torn table must not loop");
    }

    #[test]
    fn a_command_with_brackets_does_not_hide_the_parent() {
        assert_eq!(parent_in(b"12 (a) S 99 (b) S 7 12"), Some(7));
        assert_eq!(parent_in(b"nonsense"), None);
    }

    #[test]
    fn our_own_entry_is_read() {
        let own = (Pid::this().as_raw(), Pid::parent().as_raw());
        assert!(processes(Path::new("/proc")).contains(&own));
    }
}
