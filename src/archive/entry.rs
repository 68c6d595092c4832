//! One thing of a tree, as data.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Mode bits that are kept: permissions, set-user-id, set-group-id, sticky.
pub const MODE: u32 = 0o7777;

/// A moment, with nanoseconds that count forward from the second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970, negative before it.
    pub sec: i64,
    /// Nanoseconds, below 1 000 000 000.
    pub nsec: u32,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file of so many bytes.
    File {
        /// Length, bytes.
        size: u64,
    },
    /// Another name of a file that came before.
    HardLink {
        /// Path of that file, as [`Entry::path`] has it.
        target: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Its text.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// A name in a tree and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path below the folder, without a leading slash; empty for the folder itself. Any bytes but NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, see [`MODE`].
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Time,
    /// Extended attributes, POSIX ACLs among them in the kernel's own form.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// One without attributes, for what dindctl adds by itself and for tests.
    pub const fn plain(path: Vec<u8>, kind: Kind, mode: u32) -> Self {
        Self { path, kind, mode, uid: 0, gid: 0, mtime: Time { sec: 0, nsec: 0 }, xattrs: BTreeMap::new() }
    }

    /// Bytes of content that follow it in an archive.
    pub const fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size } => size,
            _ => 0,
        }
    }

    /// For messages.
    pub fn shown(&self) -> String {
        shown(&self.path)
    }
}

/// A path as one line for people: what is no text or would move the cursor is escaped.
pub fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let mut line = String::new();
    for chunk in path.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() {
                line.extend(letter.escape_default());
            } else {
                line.push(letter);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(line, "\\x{byte:02x}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_whatever_it_holds() {
        assert_eq!(shown(b""), ".");
        assert_eq!(shown("a/é b".as_bytes()), "a/é b");
        assert_eq!(shown(b"a\nb\x1b[1m\xff"), "a\\nb\\u{1b}[1m\\xff");
    }
}
