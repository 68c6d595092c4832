/*!
The certificates of the API: an authority, the daemon's certificate and one for clients, in the files, names and modes
of the official image, made without openssl.

[`decide()`] looks at what is there and says what is to be done; [`issue()`] does it in a process of its own
(`dindctl certificates`), so that PID 1 holds no key and no code that makes one. Keys are kept for ever; certificates
are issued again only when they would not do any longer.
*/
mod decide;
mod issue;
pub mod san;
pub mod step;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use decide::{Decision, Part, Work, decide, renewal};
pub use issue::{IssueError, issue};
pub use san::{SanError, parse as parse_san};

use crate::probe::certificates::CertificateFolder;
use crate::probe::names::Name;

/// Seconds of a day.
pub const DAY: i64 = 86_400;

/// How long certificates are valid where nobody says otherwise; the official image's figure, days.
pub const DAYS: u32 = 825;

/// Kind of the keys that are made; a key that is there is kept, whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// P-256: made in less than a millisecond.
    #[default]
    Ecdsa,
    /// 4096 bits, as the official image has it: seconds of work.
    Rsa,
}

impl KeyKind {
    /// The names that the configuration uses.
    pub const NAMES: [&'static str; 2] = ["ecdsa", "rsa"];

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ecdsa" => Some(Self::Ecdsa),
            "rsa" => Some(Self::Rsa),
            _ => None,
        }
    }
}

/// What the operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsWishes {
    /// `DOCKER_TLS_CERTDIR`.
    pub directory: PathBuf,
    /// Names of `DOCKER_TLS_SAN`.
    pub names: BTreeSet<Name>,
    /// Kind of new keys.
    pub key: KeyKind,
    /// Validity of new certificates, days.
    pub days: u32,
    /// The time, seconds since 1970.
    pub now: i64,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// The folder.
    pub folder: CertificateFolder,
    /// Names and addresses of this container.
    pub names: BTreeSet<Name>,
}
