/*!
Making what was decided. Runs in a process of its own, under a lock that other containers on the same volume respect.
*/
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::SecureRandom;
use time::OffsetDateTime;

use super::decide::{Decision, Part, Work, decide};
use super::store::{Store, StoreError};
use super::{DAY, KeyKind, TlsFacts, TlsWishes};
use crate::probe::certificates::{self, Certificate};
use crate::probe::names::Name;

/// Subject of the authority, the official image's.
pub(super) const AUTHORITY_SUBJECT: &str = "CN=docker:dind CA";
const AUTHORITY: &str = "docker:dind CA";
const SERVER: &str = "docker:dind server";
const CLIENT: &str = "docker:dind client";

/// Clocks differ: a certificate is valid from this long before it was made, seconds.
const BACK: i64 = DAY;

/// Why certificates were not made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// What is there forbids it.
    #[error("{cause}")]
    Refused {
        /// What is wrong.
        cause: String,
        /// What to do about it.
        hint: String,
    },
    /// The folder cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key could not be made or used, or a certificate not signed.
    #[error("cannot make {what}: {why}")]
    Make {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
}

impl IssueError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Refused { hint, .. } => hint.clone(),
            Self::Store(error) => error.hint().into(),
            Self::Make { .. } => "move the file away, so that it is made anew".into(),
        }
    }
}

fn make<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> IssueError {
    move |error| IssueError::Make { what, why: error.to_string() }
}

/// Looks again under the lock, makes what is needed by then, and says what was made; `None` when another container was
/// faster.
pub fn issue(wishes: &TlsWishes, names: &std::collections::BTreeSet<Name>) -> Result<Option<Work>, IssueError> {
    let store = Store::open(&wishes.directory)?;
    let facts = TlsFacts { folder: certificates::look(&wishes.directory), names: names.clone() };
    let work = match decide(&facts, wishes) {
        Decision::Keep { .. } | Decision::Postpone { .. } => return Ok(None),
        Decision::Refuse { cause, hint } => return Err(IssueError::Refused { cause, hint }),
        Decision::Issue(work) => work,
    };
    let authority_key = key(&store, wishes, "ca/key.pem", facts.folder.ca_key.is_missing(), 0o600)?;
    let authority = if work.has(Part::Authority) {
        let pem = authority(wishes, &authority_key, facts.folder.ca_cert.good())?;
        store.write("ca/cert.pem", 0o644, &pem)?;
        pem
    } else {
        std::fs::read_to_string(wishes.directory.join("ca/cert.pem")).map_err(make("use of ca/cert.pem"))?
    };
    let parsed = Certificate::parse(authority.as_bytes()).map_err(make("use of ca/cert.pem"))?;
    let issuer = Issuer::from_ca_cert_pem(&authority, authority_key).map_err(make("use of ca/cert.pem"))?;
    repeats_its_name(&issuer, &parsed, wishes)?;
    let sides = [(Part::Server, &facts.folder.server, 0o600), (Part::Client, &facts.folder.client, 0o644)];
    for (part, side, mode) in sides.into_iter().filter(|(part, ..)| work.has(*part)) {
        let own = key(&store, wishes, &format!("{part}/key.pem"), side.key.is_missing(), mode)?;
        let params = leaf(part, &work, wishes, &parsed)?;
        let pem = params.signed_by(&own, &issuer).map_err(make("a certificate"))?.pem();
        store.write(&format!("{part}/ca.pem"), 0o644, &authority)?;
        store.write(&format!("{part}/cert.pem"), 0o644, &pem)?;
    }
    Ok(Some(work))
}

/// An authority of somebody else may have a subject that cannot be written again as the issuer of what it signs, such as one with an
/// attribute twice: nobody could verify that.
fn repeats_its_name(
    issuer: &Issuer<'_, KeyPair>,
    authority: &Certificate,
    wishes: &TlsWishes,
) -> Result<(), IssueError> {
    if authority.subject_text == AUTHORITY_SUBJECT {
        return Ok(());
    }
    let key = KeyPair::generate().map_err(make("a key"))?;
    let trial = params(CLIENT, wishes)?.signed_by(&key, issuer).map_err(make("a certificate"))?;
    if Certificate::parse_der(trial.der()).is_ok_and(|trial| trial.is_signed_by(authority)) {
        return Ok(());
    }
    let cause = format!(
        "{}/ca/cert.pem: what {} signs here would not name it as it names itself, so that nobody could verify it",
        wishes.directory.display(),
        authority.subject_text
    );
    let hint = "sign server and client yourself and take ca/key.pem away, or use an authority with each attribute of its name once";
    Err(IssueError::Refused { cause, hint: hint.into() })
}

/// The key of that file, made where it is missing.
fn key(store: &Store, wishes: &TlsWishes, name: &str, missing: bool, mode: u32) -> Result<KeyPair, IssueError> {
    if !missing {
        // Somebody's own may be mounted read-only; only clients of other users have to be able to read theirs.
        if mode & 0o044 != 0 {
            store.mode(name, mode)?;
        }
        let text = std::fs::read_to_string(wishes.directory.join(name)).map_err(make("use of a key"))?;
        return certificates::signing_key(&text)
            .ok_or("it is of a kind that dindctl cannot sign with")
            .map_err(make("use of a key"));
    }
    let key = match wishes.key {
        KeyKind::Ecdsa => KeyPair::generate().map_err(make("a key"))?,
        KeyKind::Rsa => rsa_key()?,
    };
    store.write(name, mode, &key.serialize_pem())?;
    Ok(key)
}

/// ring signs with RSA keys and makes none.
fn rsa_key() -> Result<KeyPair, IssueError> {
    use rsa::pkcs8::EncodePrivateKey;
    let mut random = rsa::rand_core::UnwrapErr(getrandom::SysRng);
    let key = rsa::PrivateKey::new(&mut random, 4096).map_err(make("an RSA key"))?;
    let der = key.to_pkcs8_der().map_err(make("an RSA key"))?;
    KeyPair::try_from(der.as_bytes()).map_err(make("an RSA key"))
}

fn params(name: &str, wishes: &TlsWishes) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String(name.into()));
    params.not_before = moment(wishes.now - BACK)?;
    params.not_after = moment(wishes.now + i64::from(wishes.days) * DAY)?;
    // Two certificates of one authority must not share a number (RFC 5280), and the key, of which rcgen would make it,
    // stays the same.
    let mut serial = [0_u8; 16];
    ring::rand::SystemRandom::new().fill(&mut serial).map_err(make("a serial number"))?;
    params.serial_number = Some(SerialNumber::from_slice(&positive(serial)));
    Ok(params)
}

/// The first bit is the sign.
fn positive(mut bytes: [u8; 16]) -> [u8; 16] {
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    bytes
}

fn moment(seconds: i64) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(make("a date"))
}

fn authority(wishes: &TlsWishes, key: &KeyPair, earlier: Option<&Certificate>) -> Result<String, IssueError> {
    let mut params = params(AUTHORITY, wishes)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = true;
    // What the earlier certificate signed names the key by the number it had there.
    if let Some(id) = earlier.filter(|cert| cert.public_key == key_bytes(key)).and_then(|cert| cert.key_id.clone()) {
        params.key_identifier_method = KeyIdMethod::PreSpecified(id);
    }
    Ok(params.self_signed(key).map_err(make("the authority's certificate"))?.pem())
}

fn key_bytes(key: &KeyPair) -> &[u8] {
    use rcgen::PublicKeyData;
    key.der_bytes()
}

fn leaf(part: Part, work: &Work, wishes: &TlsWishes, authority: &Certificate) -> Result<CertificateParams, IssueError> {
    let (name, usage) = match part {
        Part::Server => (SERVER, ExtendedKeyUsagePurpose::ServerAuth),
        Part::Authority | Part::Client => (CLIENT, ExtendedKeyUsagePurpose::ClientAuth),
    };
    let mut params = params(name, wishes)?;
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    // It does not outlive its authority, nor is it older.
    params.not_before = params.not_before.max(moment(authority.not_before)?);
    params.not_after = params.not_after.min(moment(authority.not_after)?);
    if part == Part::Server {
        params.subject_alt_names = work.names.iter().map(san).collect::<Result<_, _>>()?;
    }
    Ok(params)
}

fn san(name: &Name) -> Result<SanType, IssueError> {
    Ok(match name {
        Name::Dns(name) => SanType::DnsName(name.as_str().try_into().map_err(make("a name of the certificate"))?),
        Name::Ip(address) => SanType::IpAddress(*address),
    })
}
