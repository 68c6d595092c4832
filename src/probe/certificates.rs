/*!
The certificates below `DOCKER_TLS_CERTDIR`, in the files that the official image uses: `ca/{cert,key}.pem`,
`server/{ca,cert,key}.pem`, `client/{ca,cert,key}.pem`.

A file that is empty counts as missing, as the official scripts have it.
*/
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rcgen::PublicKeyData;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::storage;
use crate::probe::names::Name;

/// Where a system has the authorities that its programs trust, as Go looks for them (`crypto/x509/root_linux.go`).
pub const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A file and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content<T> {
    /// Not there, or empty.
    Missing,
    /// There, and not what it should be.
    Bad(String),
    /// Understood.
    Good(T),
}

impl<T> Content<T> {
    /// What is in it, if it was understood.
    pub fn good(&self) -> Option<&T> {
        match self {
            Self::Good(value) => Some(value),
            Self::Missing | Self::Bad(_) => None,
        }
    }

    /// Whether nothing is there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

/// What matters of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The whole of it, DER.
    pub der: Vec<u8>,
    /// Subject, DER.
    pub subject: Vec<u8>,
    /// Subject in words (`CN=docker:dind CA`).
    pub subject_text: String,
    /// First second of its validity, seconds since 1970.
    pub not_before: i64,
    /// Last second of its validity, seconds since 1970.
    pub not_after: i64,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Subject key identifier.
    pub key_id: Option<Vec<u8>>,
    /// The raw public key.
    pub public_key: Vec<u8>,
    /// Alternative names of the subject.
    pub names: BTreeSet<Name>,
}

impl Certificate {
    /// Reads PEM.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(text).map_err(|_| "it is no PEM file".to_owned())?;
        if pem.label != "CERTIFICATE" {
            return Err(format!("it holds a {} and no certificate", pem.label));
        }
        Self::parse_der(&pem.contents)
    }

    /// Reads DER.
    pub fn parse_der(der: &[u8]) -> Result<Self, String> {
        let (_, found) = X509Certificate::from_der(der).map_err(|error| format!("it is no certificate ({error})"))?;
        let names = found.subject_alternative_name().ok().flatten().map(|extension| &extension.value.general_names);
        let key_id = found.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        Ok(Self {
            der: der.to_vec(),
            subject: found.subject().as_raw().to_vec(),
            subject_text: found.subject().to_string(),
            not_before: found.validity().not_before.timestamp(),
            not_after: found.validity().not_after.timestamp(),
            is_ca: found.is_ca(),
            key_id,
            public_key: found.public_key().subject_public_key.data.to_vec(),
            names: names.into_iter().flatten().filter_map(name).collect(),
        })
    }

    /// Whether `authority` signed it.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let (Ok((_, own)), Ok((_, other))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&authority.der))
        else {
            return false;
        };
        own.issuer() == other.subject() && own.verify_signature(Some(other.public_key())).is_ok()
    }
}

fn name(name: &GeneralName<'_>) -> Option<Name> {
    match name {
        GeneralName::DNSName(text) => Some(Name::Dns((*text).to_owned())),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(|bytes| Name::Ip(Ipv4Addr::from(bytes).into()));
            let sixteen = || <[u8; 16]>::try_from(*bytes).map(|bytes| Name::Ip(Ipv6Addr::from(bytes).into()));
            four.or_else(|_| sixteen()).ok()
        }
        _ => None,
    }
}

/// What dockerd reads a key from.
const KEYS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// The key of a text that can be signed with here, as [`Key::parse`] finds it; `None` where it is of another kind.
pub fn signing_key(text: &str) -> Option<rcgen::KeyPair> {
    let mut blocks = x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()).map_while(Result::ok);
    pair(&blocks.find(|pem| KEYS.contains(&pem.label.as_str()))?)
}

/// PKCS#8, or PKCS#1 as `openssl genrsa` wrote it before version 3, and the official image with it.
fn pair(pem: &x509_parser::pem::Pem) -> Option<rcgen::KeyPair> {
    use rsa::pkcs1::DecodeRsaPrivateKey;
    use rsa::pkcs8::EncodePrivateKey;
    if pem.label == "RSA PRIVATE KEY" {
        let key = rsa::PrivateKey::from_pkcs1_der(&pem.contents).ok()?;
        return rcgen::KeyPair::try_from(key.to_pkcs8_der().ok()?.as_bytes()).ok();
    }
    rcgen::KeyPair::try_from(pem.contents.as_slice()).ok()
}

/// What matters of a private key; the key itself stays in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The raw public key; `None` for a form or a kind that only dockerd reads (SEC1, P-521, RSA of 8192 bits).
    pub public_key: Option<Vec<u8>>,
}

impl Key {
    /// Reads PEM.
    pub fn parse(text: &str) -> Result<Self, String> {
        // As Go's crypto/tls does, what comes before the key is passed over: parameters of its curve, its certificate.
        let mut other = None;
        for pem in x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()) {
            let pem = pem.map_err(|_| "it is no PEM file".to_owned())?;
            match pem.label.as_str() {
                "ENCRYPTED PRIVATE KEY" => return Err("the key is encrypted".into()),
                "PRIVATE KEY" if rsa::pkcs8::PrivateKeyInfoRef::try_from(pem.contents.as_slice()).is_err() => {
                    return Err("the key is damaged".into());
                }
                label if KEYS.contains(&label) => {
                    let key = pair(&pem);
                    return Ok(Self { public_key: key.map(|key| key.der_bytes().to_vec()) });
                }
                label => other = other.or_else(|| Some(label.to_owned())),
            }
        }
        Err(other.map_or_else(|| "it is no PEM file".into(), |label| format!("it holds a {label} and no private key")))
    }
}

/// The three files of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The authority that the other side is checked against.
    pub ca: Content<Certificate>,
    /// The own certificate.
    pub cert: Content<Certificate>,
    /// Its private key.
    pub key: Content<Key>,
}

impl Side {
    /// Whether all three files are there.
    pub fn is_whole(&self) -> bool {
        !self.ca.is_missing() && !self.cert.is_missing() && !self.key.is_missing()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.ca.is_missing() && self.cert.is_missing() && self.key.is_missing()
    }
}

/// Everything in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFolder {
    /// Value of `DOCKER_TLS_CERTDIR`.
    pub path: PathBuf,
    /// Why it cannot be written.
    pub unwritable: Option<Errno>,
    /// `ca/cert.pem`.
    pub ca_cert: Content<Certificate>,
    /// `ca/key.pem`.
    pub ca_key: Content<Key>,
    /// `server/`.
    pub server: Side,
    /// `client/`.
    pub client: Side,
}

/// Looks at the folder `path`, which may not exist yet.
pub fn look(path: &Path) -> CertificateFolder {
    let nearest = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
    let certificate = |name: &str| read(&path.join(name), Certificate::parse);
    let key = |name: &str| {
        read(&path.join(name), |text| {
            Key::parse(std::str::from_utf8(text).map_err(|_| "it is no PEM file".to_owned())?)
        })
    };
    let side = |name: &str| Side {
        ca: certificate(&format!("{name}/ca.pem")),
        cert: certificate(&format!("{name}/cert.pem")),
        key: key(&format!("{name}/key.pem")),
    };
    CertificateFolder {
        path: path.into(),
        unwritable: storage::writable(nearest).err(),
        ca_cert: certificate("ca/cert.pem"),
        ca_key: key("ca/key.pem"),
        server: side("server"),
        client: side("client"),
    }
}

fn read<T>(path: &Path, parse: impl FnOnce(&[u8]) -> Result<T, String>) -> Content<T> {
    match std::fs::read(path) {
        Ok(text) if text.is_empty() => Content::Missing,
        Ok(text) => parse(&text).map_or_else(Content::Bad, Content::Good),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Content::Missing,
        Err(error) => Content::Bad(format!("it cannot be read: {error}")),
    }
}

/// Number of certificates in a bundle; an error says what is wrong with the text.
pub fn authorities(text: &str) -> Result<usize, String> {
    let mut count = 0;
    for (index, pem) in x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()).enumerate() {
        let number = index + 1;
        let pem = pem.map_err(|error| format!("part {number} is no PEM: {error}"))?;
        match pem.label.as_str() {
            "CERTIFICATE" | "TRUSTED CERTIFICATE" => {}
            label if label.contains("PRIVATE KEY") => return Err(format!("part {number} is a private key")),
            label => return Err(format!("part {number} is a {label} and no certificate")),
        }
        pem.parse_x509().map_err(|error| format!("part {number} is no certificate: {error}"))?;
        count += 1;
    }
    if count == 0 { Err("it holds no certificate".into()) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Certificate::parse(&bytes);
            let _ = Certificate::parse_der(&bytes);
            let _ = Key::parse(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn a_broken_byte_is_no_crash(place in 0_usize..2000, byte: u8) {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut der = rcgen::CertificateParams::new(vec!["x".into()]).unwrap().self_signed(&key).unwrap().der().to_vec();
            let place = place % der.len();
            der[place] = byte;
            if let Ok(found) = Certificate::parse_der(&der) {
                let _ = found.is_signed_by(&found);
            }
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["host".to_owned(), "10.0.0.1".into(), "fe80::1".into()];
        let pem = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem();
        let found = Certificate::parse(pem.as_bytes()).unwrap();
        let names: Vec<String> = found.names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["DNS:host", "IP:10.0.0.1", "IP:fe80::1"]);
        assert!(found.is_signed_by(&found));
        let read = Key::parse(&key.serialize_pem()).unwrap();
        assert_eq!(read.public_key.as_deref(), Some(found.public_key.as_slice()));
    }

    #[test]
    fn what_is_no_certificate_or_key_says_what_it_is() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert_eq!(Certificate::parse(key.as_bytes()).unwrap_err(), "it holds a PRIVATE KEY and no certificate");
        assert_eq!(Certificate::parse(b"hello").unwrap_err(), "it is no PEM file");
        assert_eq!(Key::parse("hello").unwrap_err(), "it is no PEM file");
        assert_eq!(Key::parse("").unwrap_err(), "it is no PEM file");
        let certificate = pem("CERTIFICATE", b"x");
        assert_eq!(Key::parse(&certificate).unwrap_err(), "it holds a CERTIFICATE and no private key");
        assert_eq!(Key::parse(&pem("ENCRYPTED PRIVATE KEY", b"x")).unwrap_err(), "the key is encrypted");
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("ca")).unwrap();
        std::fs::write(folder.path().join("ca/cert.pem"), "").unwrap();
        let found = look(folder.path());
        assert!(found.ca_cert.is_missing() && found.server.is_empty() && found.unwritable.is_none());
    }

    fn pem(label: &str, content: &[u8]) -> String {
        use base64::Engine;
        let content = base64::engine::general_purpose::STANDARD.encode(content);
        format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n")
    }

    /// `openssl ecparam -genkey` writes the curve before the key, and dockerd reads kinds that dindctl cannot sign with.
    #[test]
    fn keys_that_only_dockerd_can_use_are_keys() {
        let ours = rcgen::KeyPair::generate().unwrap();
        let curve = pem("EC PARAMETERS", &[6, 8, 42, 134, 72, 206, 61, 3, 1, 7]);
        assert_eq!(Key::parse(&(curve.clone() + &pem("EC PRIVATE KEY", b"x"))), Ok(Key { public_key: None }));
        // PKCS#8 of X25519, which signs nothing.
        let other = [&[0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 43, 101, 110, 4, 34, 4, 32][..], &[7; 32]].concat();
        assert_eq!(Key::parse(&pem("PRIVATE KEY", &other)), Ok(Key { public_key: None }));
        assert_eq!(Key::parse(&pem("PRIVATE KEY", b"x")).unwrap_err(), "the key is damaged");
        let ssh = Key::parse(&pem("OPENSSH PRIVATE KEY", b"x")).unwrap_err();
        assert_eq!(ssh, "it holds a OPENSSH PRIVATE KEY and no private key");
        let behind = Key::parse(&(curve + &ours.serialize_pem())).unwrap();
        assert_eq!(behind.public_key.as_deref(), Some(ours.der_bytes()));
    }

    #[test]
    fn a_bundle_is_counted_and_nothing_else_passes() {
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        assert_eq!(authorities(&format!("# one\n{pem}\n{pem}")), Ok(2));
        assert_eq!(authorities("hello"), Err("it holds no certificate".into()));
        assert_eq!(authorities(&key.serialize_pem()), Err("part 1 is a private key".into()));
        let broken = pem.replace('M', "A");
        assert!(authorities(&format!("{pem}\n{broken}")).unwrap_err().starts_with("part 2 "));
    }
}
