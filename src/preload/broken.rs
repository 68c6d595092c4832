//! What is wrong with an archive.

use std::io;

/// Why it is not loaded. The messages go after the archive's name.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum Broken {
    #[error("it is empty")]
    Empty,
    #[error("it is no archive")]
    Foreign,
    #[error("it is no archive of images: it has neither manifest.json nor index.json with oci-layout")]
    NoImages,
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it breaks off, or is damaged: {0}")]
    Damaged(String),
    #[error("{name}: {why}")]
    Document { name: String, why: String },
    #[error("{0} is missing")]
    Missing(String),
    #[error("{name} has the digest sha256:{found}")]
    Digest { name: String, found: String },
    #[error("{name} has {found} bytes and not {stated}")]
    Size { name: String, found: u64, stated: u64 },
    #[error("it has no image for {wanted}, only for {found}")]
    Platform { wanted: String, found: String },
    #[error("more than {0}")]
    TooMuch(String),
    #[error("{0:?} is no name that such an archive has")]
    Name(String),
    #[error("the daemon does not take it: {0}")]
    Refused(String),
    #[error("it has changed since it was looked at")]
    Changed,
}

impl Broken {
    /// What to do.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoImages => "docker import takes file systems; docker save and buildx write images",
            Self::Foreign => "docker save, buildx (type=docker or type=oci) and skopeo write archives that are taken",
            Self::Platform { .. } => "write it anew with --platform, or with all platforms",
            Self::Read(_) => "look at its owner and mode, and at the disk",
            Self::Changed => "put archives there by renaming them, when they are whole",
            Self::Refused(_) => "the daemon's log may tell more: docker logs",
            _ => "copy or write it anew",
        }
    }

    pub(super) fn document(name: &str, why: impl Into<String>) -> Self {
        Self::Document { name: name.to_owned(), why: why.into() }
    }
}

impl From<io::Error> for Broken {
    /// What a decoder says has no number of the system.
    fn from(error: io::Error) -> Self {
        if error.raw_os_error().is_some() { Self::Read(error) } else { Self::Damaged(error.to_string()) }
    }
}
