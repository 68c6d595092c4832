//! What came of each archive.

use std::path::PathBuf;

use serde::Serialize;

use super::source::Compression;
use super::survey::Format;

/// The format of a report.
pub const SCHEMA: &str = "dindctl.preload/v1";

/// What became of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its images were loaded now.
    Loaded,
    /// It was loaded before; images that were removed since stay away.
    Known,
    /// The daemon has all of its images.
    Present,
    /// It is no archive, and lies in a folder with others.
    Skipped,
    /// Nothing of it was loaded.
    Broken,
}

/// One archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Archive {
    /// Its file or folder.
    pub path: PathBuf,
    /// What became of it.
    pub status: Status,
    /// What kind it is, where that was looked at.
    pub format: Option<Format>,
    /// What it is compressed with; of a folder nothing.
    pub compression: Option<Compression>,
    /// Bytes on the disk.
    pub bytes: Option<u64>,
    /// References of its images, or their identifiers where they have none.
    pub images: Vec<String>,
    /// Why, where it is skipped or broken.
    pub reason: Option<String>,
    /// What to do about that.
    #[serde(skip)]
    pub hint: Option<&'static str>,
    /// What it took, milliseconds.
    pub ms: u64,
}

impl Archive {
    /// One that nothing is known of yet.
    pub const fn new(path: PathBuf, status: Status) -> Self {
        let (format, compression, bytes, reason, hint) = (None, None, None, None, None);
        Self { path, status, format, compression, bytes, images: Vec::new(), reason, hint, ms: 0 }
    }
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Every archive, in the order of their names.
    pub archives: Vec<Archive>,
}

impl Report {
    /// Of these.
    pub const fn new(archives: Vec<Archive>) -> Self {
        Self { schema: SCHEMA, archives }
    }

    /// Whether one could not be loaded.
    pub fn has_broken(&self) -> bool {
        self.archives.iter().any(|archive| archive.status == Status::Broken)
    }
}
