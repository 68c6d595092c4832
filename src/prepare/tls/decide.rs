/*!
What is to be done about the certificates. Pure.

The states are those of the official image's script: certificates that somebody else manages (a whole `server/` and
no `ca/key.pem`) are only looked at; with the authority's key, or with nothing at all, they are ours.
*/
use std::collections::BTreeSet;
use std::fmt;

use super::{DAY, TlsFacts, TlsWishes};
use crate::probe::certificates::{Certificate, CertificateFolder, Content, Side};
use crate::probe::names::Name;

/// A certificate is issued again this long before its end, or when a third of its life is left if that is less.
const SPARE: i64 = 30 * DAY;

/// Above this many, names of earlier containers on the same volume are dropped.
const NAMES: usize = 64;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Everything is in order.
    Keep {
        /// What was found.
        found: String,
    },
    /// Make what is in the list.
    Issue(Work),
    /// Something would be made if the folder could be written; what is there does for now.
    Postpone {
        /// What would be made, and why.
        work: Work,
        /// Why it cannot.
        why: String,
    },
    /// It cannot work.
    Refuse {
        /// What is wrong.
        cause: String,
        /// What to do about it.
        hint: String,
    },
}

/// A certificate to make, with its key where that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `ca/`.
    Authority,
    /// `server/`.
    Server,
    /// `client/`.
    Client,
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Authority => "ca",
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// What is to be made, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Each part once, the authority first.
    pub parts: Vec<(Part, String)>,
    /// Names of the daemon's certificate.
    pub names: BTreeSet<Name>,
}

impl Work {
    /// Whether the part is to be made.
    pub fn has(&self, part: Part) -> bool {
        self.parts.iter().any(|(found, _)| *found == part)
    }

    fn add(&mut self, part: Part, why: impl Into<String>) {
        if !self.has(part) {
            self.parts.push((part, why.into()));
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.parts.iter().map(|(part, why)| format!("{part} ({why})")).collect();
        out.write_str(&parts.join(", "))
    }
}

/// Decides.
pub fn decide(facts: &TlsFacts, wishes: &TlsWishes) -> Decision {
    let folder = &facts.folder;
    let theirs_only = folder.ca_key.is_missing() && folder.server.is_whole();
    if let Some(refusal) = unusable(folder, theirs_only) {
        return refusal;
    }
    if folder.ca_key.is_missing() {
        if theirs_only {
            return theirs(folder, wishes.now);
        }
        if let Some(refusal) = half(folder) {
            return refusal;
        }
    }
    ours(facts, wishes)
}

/// A key that cannot be used is never overwritten: it may be the only copy. Of somebody else's only the daemon's own counts.
fn unusable(folder: &CertificateFolder, theirs: bool) -> Option<Decision> {
    let keys = [("server", &folder.server.key), ("ca", &folder.ca_key), ("client", &folder.client.key)];
    keys.into_iter().take(if theirs { 1 } else { 3 }).find_map(|(name, key)| {
        let Content::Bad(why) = key else { return None };
        let cause = format!("{}/{name}/key.pem cannot be used: {why}", folder.path.display());
        Some(refuse(cause, "put a private key there (PEM, `openssl pkcs8 -topk8 -nocrypt` converts other forms), or move the file away"))
    })
}

fn refuse(cause: impl Into<String>, hint: impl Into<String>) -> Decision {
    Decision::Refuse { cause: cause.into(), hint: hint.into() }
}

/// Some files are there and the authority's key is not: whoever put them there manages them, and has not finished.
fn half(folder: &CertificateFolder) -> Option<Decision> {
    let path = folder.path.display();
    let missing = [
        ("ca", folder.server.ca.is_missing()),
        ("cert", folder.server.cert.is_missing()),
        ("key", folder.server.key.is_missing()),
    ];
    let hint =
        format!("put ca.pem, cert.pem and key.pem into {path}/server, or empty {path} so that all of it is made anew");
    if !folder.server.is_empty() {
        let missing: Vec<String> = missing
            .into_iter()
            .filter(|(_, gone)| *gone)
            .map(|(name, _)| format!("{path}/server/{name}.pem"))
            .collect();
        return Some(refuse(
            format!("the certificates are not complete: {} is missing or empty", missing.join(", ")),
            hint,
        ));
    }
    if !folder.ca_cert.is_missing() {
        return Some(refuse(
            format!("{path}/ca/cert.pem is there without its key, {path}/ca/key.pem, so nothing can be signed"),
            hint,
        ));
    }
    None
}

/// Somebody else's certificates.
fn theirs(folder: &CertificateFolder, now: i64) -> Decision {
    let path = folder.path.display();
    let hint = format!("replace the files in {path}/server");
    let files = [("ca", &folder.server.ca), ("cert", &folder.server.cert)];
    for (name, content) in files {
        if let Content::Bad(why) = content {
            return refuse(format!("{path}/server/{name}.pem cannot be used: {why}"), hint);
        }
    }
    let (Some(ca), Some(cert)) = (folder.server.ca.good(), folder.server.cert.good()) else {
        return refuse(format!("{path}/server is not complete"), hint);
    };
    if !matches_key(&folder.server, cert) {
        return refuse(format!("{path}/server/key.pem is not the key of {path}/server/cert.pem"), hint);
    }
    for (name, certificate) in [("ca", ca), ("cert", cert)] {
        if now > certificate.not_after {
            return refuse(format!("{path}/server/{name}.pem has expired {}", ago(now - certificate.not_after)), hint);
        }
        if now < certificate.not_before {
            let hint = "check the clock of the host";
            return refuse(
                format!(
                    "{path}/server/{name}.pem is not valid yet, for another {}",
                    span(certificate.not_before - now)
                ),
                hint,
            );
        }
    }
    // An intermediate authority in cert.pem is dockerd's to follow; only a direct signature can be judged here.
    if !ca.is_ca && !cert.is_signed_by(ca) {
        return refuse(format!("{path}/server/cert.pem is not signed by {path}/server/ca.pem"), hint);
    }
    Decision::Keep { found: format!("certificates of somebody else, {}", left(cert.not_after - now)) }
}

fn matches_key(side: &Side, cert: &Certificate) -> bool {
    let key = side.key.good().and_then(|key| key.public_key.as_ref());
    key.is_none_or(|key| *key == cert.public_key)
}

/// Our own.
fn ours(facts: &TlsFacts, wishes: &TlsWishes) -> Decision {
    let folder = &facts.folder;
    let now = wishes.now;
    let wanted: BTreeSet<Name> = facts.names.iter().chain(&wishes.names).cloned().collect();
    let mut work = Work { parts: Vec::new(), names: names(folder, wanted.clone()) };
    let authority = match authority(folder, now) {
        Ok(certificate) => Some(certificate),
        Err(Stop::Make(why)) => {
            work.add(Part::Authority, why);
            None
        }
        Err(Stop::Refuse(decision)) => return decision,
    };
    // The authority keeps its key and name, so what it signed stays valid when its certificate is issued again; only
    // the copies beside the other two follow.
    for (part, side) in [(Part::Server, &folder.server), (Part::Client, &folder.client)] {
        if let Some(why) = leaf(side, authority, folder, now) {
            work.add(part, why);
        }
    }
    let covered = folder.server.cert.good().is_some_and(|cert| wanted.is_subset(&cert.names));
    if !covered {
        work.add(Part::Server, "names or addresses are new");
    }
    if work.parts.is_empty() {
        let end = [&folder.server.cert, &folder.client.cert]
            .into_iter()
            .filter_map(Content::good)
            .map(|cert| cert.not_after)
            .min();
        return Decision::Keep { found: left(end.unwrap_or(now) - now) };
    }
    let Some(errno) = folder.unwritable else { return Decision::Issue(work) };
    let path = folder.path.display();
    let why = format!("{path} cannot be written: {errno}");
    if serves(folder, now) {
        return Decision::Postpone { work, why };
    }
    refuse(format!("{why}; to be made: {work}"), "mount the folder writable, or put certificates of your own there")
}

/// Whether what is there does for now.
fn serves(folder: &CertificateFolder, now: i64) -> bool {
    let valid = |content: &Content<Certificate>| {
        content.good().is_some_and(|cert| (cert.not_before..=cert.not_after).contains(&now))
    };
    valid(&folder.server.ca)
        && valid(&folder.server.cert)
        && folder.server.cert.good().is_some_and(|cert| matches_key(&folder.server, cert))
}

enum Stop {
    Make(String),
    Refuse(Decision),
}

/// The authority's certificate, when it does.
fn authority(folder: &CertificateFolder, now: i64) -> Result<&Certificate, Stop> {
    let make = |why: &str| Err(Stop::Make(why.into()));
    let Some(key) = folder.ca_key.good() else { return make("nothing is there yet") };
    let path = folder.path.display();
    let Some(public_key) = &key.public_key else {
        return Err(Stop::Refuse(refuse(
            format!("{path}/ca/key.pem is a key in a form that dindctl cannot sign with"),
            format!("convert it: openssl pkcs8 -topk8 -nocrypt -in {path}/ca/key.pem"),
        )));
    };
    let cert = match &folder.ca_cert {
        Content::Missing => return make("its certificate is missing"),
        Content::Bad(_) => return make("its certificate cannot be read"),
        Content::Good(cert) => cert,
    };
    if cert.public_key != *public_key || !cert.is_ca {
        return make("its certificate does not belong to its key");
    }
    if !due(cert, now) {
        return Ok(cert);
    }
    // An authority with a name of its own was made by somebody who signs it again himself.
    if cert.subject_text == super::issue::AUTHORITY_SUBJECT {
        return make(&time(cert, now));
    }
    if now > cert.not_after {
        let cause = format!("{path}/ca/cert.pem ({}) has expired {}", cert.subject_text, ago(now - cert.not_after));
        return Err(Stop::Refuse(refuse(cause, "issue it again, with the same key and name")));
    }
    Ok(cert)
}

/// Why a side's certificate is to be made, if it is.
fn leaf(side: &Side, authority: Option<&Certificate>, folder: &CertificateFolder, now: i64) -> Option<String> {
    let cert = match (&side.key, &side.cert) {
        (Content::Missing, _) => return Some("nothing is there yet".into()),
        (_, Content::Missing) => return Some("its certificate is missing".into()),
        (_, Content::Bad(_)) => return Some("its certificate cannot be read".into()),
        (_, Content::Good(cert)) => cert,
    };
    if !matches_key(side, cert) {
        return Some("its certificate does not belong to its key".into());
    }
    let signer = authority.or(folder.ca_cert.good());
    if !signer.is_some_and(|signer| cert.is_signed_by(signer)) {
        return Some("the authority did not sign it".into());
    }
    let Some(authority) = authority else { return Some("its authority is issued again".into()) };
    if side.ca.good().is_none_or(|copy| copy.der != authority.der) {
        return Some("its copy of the authority is another one".into());
    }
    // One that ends with its authority is not improved by another that does.
    (due(cert, now) && cert.not_after < authority.not_after).then(|| time(cert, now))
}

/// Whether so little of its life is left that it is time for another, or it has not begun.
fn due(cert: &Certificate, now: i64) -> bool {
    now < cert.not_before || now >= renewal(cert)
}

/// The second from which on a certificate is issued again.
pub fn renewal(cert: &Certificate) -> i64 {
    let life = cert.not_after.saturating_sub(cert.not_before).max(0);
    cert.not_after.saturating_sub(SPARE.min(life / 3))
}

fn time(cert: &Certificate, now: i64) -> String {
    if now < cert.not_before {
        "its certificate is not valid yet".into()
    } else if now > cert.not_after {
        format!("its certificate has expired {}", ago(now - cert.not_after))
    } else {
        format!("its certificate ends in {}", span(cert.not_after - now))
    }
}

/// Names for the daemon's certificate: the wanted ones, and those of other containers that share the volume, so that
/// they do not issue it anew in turns.
fn names(folder: &CertificateFolder, wanted: BTreeSet<Name>) -> BTreeSet<Name> {
    let earlier = folder.server.cert.good().map(|cert| cert.names.clone()).unwrap_or_default();
    let all: BTreeSet<Name> = wanted.union(&earlier).cloned().collect();
    if all.len() > NAMES { wanted } else { all }
}

fn left(seconds: i64) -> String {
    format!("valid for another {}", span(seconds))
}

fn ago(seconds: i64) -> String {
    format!("{} ago", span(seconds))
}

fn span(seconds: i64) -> String {
    let count = |number: i64, unit: &str| if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") };
    match seconds {
        seconds if seconds >= 2 * DAY => count(seconds / DAY, "day"),
        seconds if seconds >= 7200 => count(seconds / 3600, "hour"),
        seconds => count(seconds / 60, "minute"),
    }
}
