/*!
The order of an archive: a folder before what is in it, names of one folder side by side and ascending by byte.

The writer walks in this order, and the reader accepts no other. So a name can neither come twice, nor lie below a link
or in a folder that was not described, and nothing of what came before has to be remembered to know that.
*/
use super::entry::{Entry, Kind};

/// Longest name of one component, bytes, on every Linux file system.
const LONGEST_NAME: usize = 255;

/// How an entry relates to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A new name.
    New,
    /// The same file once more, because it changed while it was read: the earlier content does not count.
    Again,
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum OrderError {
    #[error("the folder itself does not come first")]
    NoRoot,
    #[error("the name is absolute or leads out of the folder")]
    Unsafe,
    #[error("a part of the name is longer than {LONGEST_NAME} bytes")]
    Long,
    #[error("the name lies below something that is no folder of the archive, or at the wrong place")]
    Stray,
    #[error("the name comes twice or at the wrong place")]
    Disorder,
}

/// What was seen last in a folder.
#[derive(Debug, Default)]
struct Last {
    name: Vec<u8>,
    file: bool,
}

/// Watches over the order.
#[derive(Debug, Default)]
pub struct Order {
    /// Path of the folder that is being described.
    folder: Vec<u8>,
    /// For it and each above it: the length of its path, and what came last in it.
    levels: Vec<(usize, Last)>,
}

impl Order {
    /// Takes the next entry.
    pub fn next(&mut self, entry: &Entry) -> Result<Place, OrderError> {
        if entry.path.is_empty() {
            if !self.levels.is_empty() || entry.kind != Kind::Folder {
                return Err(OrderError::NoRoot);
            }
            self.levels.push((0, Last::default()));
            return Ok(Place::New);
        }
        if self.levels.is_empty() {
            return Err(OrderError::NoRoot);
        }
        safe(&entry.path)?;
        let (parent, name) = split(&entry.path);
        while self.folder.len() > parent.len() {
            self.levels.pop();
            self.folder.truncate(self.levels.last().map_or(0, |(length, _)| *length));
        }
        if self.folder != parent {
            return Err(OrderError::Stray);
        }
        let Some((_, last)) = self.levels.last_mut() else { return Err(OrderError::NoRoot) };
        let file = matches!(entry.kind, Kind::File { .. });
        let again = last.file && file && last.name == name;
        if name <= last.name.as_slice() && !again {
            return Err(OrderError::Disorder);
        }
        *last = Last { name: name.to_vec(), file };
        if entry.kind == Kind::Folder {
            self.folder.clone_from(&entry.path);
            self.levels.push((self.folder.len(), Last::default()));
        }
        Ok(if again { Place::Again } else { Place::New })
    }
}

/// Whether a path stays below its folder by its letters alone.
pub fn safe(path: &[u8]) -> Result<(), OrderError> {
    for part in path.split(|byte| *byte == b'/') {
        if part.is_empty() || part == b"." || part == b".." || part.contains(&0) {
            return Err(OrderError::Unsafe);
        }
        if part.len() > LONGEST_NAME {
            return Err(OrderError::Long);
        }
    }
    Ok(())
}

/// Folder and name.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn judge(paths: &[(&str, char)]) -> Result<Vec<Place>, OrderError> {
        let mut order = Order::default();
        let root = Entry::plain(Vec::new(), Kind::Folder, 0);
        assert_eq!(order.next(&root), Ok(Place::New));
        let kind = |letter| match letter {
            'd' => Kind::Folder,
            'l' => Kind::Symlink { target: b"/etc".to_vec() },
            _ => Kind::File { size: 0 },
        };
        paths
            .iter()
            .map(|(path, letter)| order.next(&Entry::plain(path.as_bytes().to_vec(), kind(*letter), 0)))
            .collect()
    }

    #[test]
    fn a_walk_is_accepted() {
        let walk = [
            ("a", 'd'),
            ("a/b", 'd'),
            ("a/b/c", 'f'),
            ("a/d", 'l'),
            ("a.txt", 'f'),
            ("a.txt", 'f'),
            ("b", 'd'),
            ("c", 'f'),
        ];
        let places = judge(&walk).unwrap();
        assert_eq!(places.iter().filter(|place| **place == Place::Again).count(), 1);
        assert_eq!(places[5], Place::Again);
    }

    #[rstest]
    #[case(&[("/etc/passwd", 'f')], OrderError::Unsafe)]
    #[case(&[("..", 'd')], OrderError::Unsafe)]
    #[case(&[("a", 'd'), ("a/../b", 'f')], OrderError::Unsafe)]
    #[case(&[("a//b", 'f')], OrderError::Unsafe)]
    #[case(&[("./a", 'f')], OrderError::Unsafe)]
    #[case(&[("a/", 'f')], OrderError::Unsafe)]
    #[case(&[("a\0b", 'f')], OrderError::Unsafe)]
    #[case(&[("a", 'l'), ("a/b", 'f')], OrderError::Stray)]
    #[case(&[("a", 'f'), ("a/b", 'f')], OrderError::Stray)]
    #[case(&[("a/b", 'f')], OrderError::Stray)]
    #[case(&[("a", 'd'), ("b", 'f'), ("a/c", 'f')], OrderError::Stray)]
    #[case(&[("a", 'd'), ("ab/c", 'f')], OrderError::Stray)]
    #[case(&[("b", 'f'), ("a", 'f')], OrderError::Disorder)]
    #[case(&[("a", 'd'), ("a", 'd')], OrderError::Disorder)]
    #[case(&[("a", 'f'), ("a", 'l')], OrderError::Disorder)]
    #[case(&[("a", 'd'), ("a/x", 'f'), ("a", 'f')], OrderError::Disorder)]
    fn everything_else_is_not(#[case] paths: &[(&str, char)], #[case] want: OrderError) {
        assert_eq!(judge(paths).unwrap_err(), want);
    }

    #[test]
    fn without_the_folder_itself_nothing_is_accepted() {
        let mut order = Order::default();
        assert_eq!(order.next(&Entry::plain(b"a".to_vec(), Kind::Fifo, 0)), Err(OrderError::NoRoot));
        let long = [b'x'; 256];
        assert_eq!(safe(&long), Err(OrderError::Long));
    }
}
