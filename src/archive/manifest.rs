/*!
What an archive says of itself: a description first, a manifest last.

The manifest is JSON lines: a summary with the digest of everything before it, then one line for each regular file in the
order of the archive.
*/
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::entry::shown;

/// Name of the format; another number is another format.
pub const SCHEMA: &str = "dindctl.backup/v1";
/// Largest description, bytes.
pub const LONGEST_HEADER: u64 = 1 << 20;
/// Longest line of a manifest, bytes: a path as long as an extended header may have, every byte of it escaped.
pub const LONGEST_LINE: usize = 64 << 20;

/// A path in JSON: text where it is UTF-8, else its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PathText {
    /// As it is.
    Text(String),
    /// In base 64.
    Bytes {
        /// The bytes.
        base64: String,
    },
}

impl PathText {
    /// Of a path as entries have it; the folder itself is `.`.
    pub fn new(path: &[u8]) -> Self {
        match std::str::from_utf8(path) {
            Ok("") => Self::Text(".".to_owned()),
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes { base64: STANDARD.encode(path) },
        }
    }

    /// The path; `None` when the text is none.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) if text == "." => Some(Vec::new()),
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Bytes { base64 } => STANDARD.decode(base64).ok(),
        }
    }

    /// For people.
    pub fn shown(&self) -> String {
        self.bytes().map_or_else(|| "?".to_owned(), |bytes| shown(&bytes))
    }
}

/// The description at the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: String,
    /// When the backup began, RFC 3339, UTC.
    pub created: String,
    /// Version of dindctl.
    pub dindctl: String,
    /// The folder.
    pub folder: PathText,
    /// Host name.
    pub host: String,
    /// What was left out by wish.
    pub exclude: Vec<String>,
    /// Containers that were paused meanwhile.
    pub paused: Vec<String>,
}

/// What was left out, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// By wish.
    pub excluded: u64,
    /// Sockets, which nobody listens on after a restore.
    pub sockets: u64,
    /// Other file systems mounted below, by path.
    pub mounts: Vec<PathText>,
    /// Gone between the listing of their folder and the look at them.
    pub vanished: u64,
    /// The archive itself, or another restore's or backup's working files.
    pub own: u64,
}

/// First line of the manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: String,
    /// Names in the tree, the folder itself among them.
    pub entries: u64,
    /// Regular files, each once.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Files that changed whenever they were read, and are kept as they were read last.
    pub changed: Vec<PathText>,
    /// What is not in the archive.
    pub skipped: Skipped,
    /// Bytes of the stream before the manifest.
    pub stream_bytes: u64,
    /// Their digest, hexadecimal.
    pub stream_sha256: String,
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileLine {
    /// Its path.
    pub path: PathText,
    /// Length, bytes.
    pub size: u64,
    /// Digest of its content, hexadecimal.
    pub sha256: String,
    /// It changed while it was read, and comes once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
}

/// A digest in hexadecimal.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_can_be_told_in_json() {
        for path in [b"a/b".as_slice(), b"", b"\xff\n", "é".as_bytes(), b"a\"\\"] {
            let text = serde_json::to_string(&PathText::new(path)).unwrap();
            let read: PathText = serde_json::from_str(&text).unwrap();
            assert_eq!(read.bytes().unwrap(), path);
        }
        assert_eq!(PathText::new(b"\xff").shown(), "\\xff");
    }

    #[test]
    fn a_line_has_no_more_than_it_needs() {
        let line = FileLine { path: PathText::new(b"a"), size: 1, sha256: hex(&[0xab]), superseded: false };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"path":"a","size":1,"sha256":"ab"}"#);
        assert_eq!(serde_json::from_str::<FileLine>(&text).unwrap(), line);
    }
}
