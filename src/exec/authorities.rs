/*!
Authorities that programs of a sandbox trust besides those of their image (`DINDCTL_CA_FILE`): behind a proxy that looks into
TLS, `pip install` fails without its authority.

The agent writes the image's own bundle and the extra ones into one file, and the usual variables lead programs to it. Java is
left out: its key store is no PEM file, and none of its variables takes one.
*/
use std::path::Path;

use super::rejection::Rejection;
use crate::probe::certificates;

/// Folder in the sandbox, which only the agent can write.
pub const FOLDER: &str = "/run/dindctl";
/// The image's authorities and the extra ones.
pub const BUNDLE: &str = "/run/dindctl/ca-certificates.crt";
/// The extra ones alone.
pub const EXTRA: &str = "/run/dindctl/extra-ca-certificates.crt";
/// Options of the file system that holds them. Its size is room for the largest bundle of an
/// image (4 MiB) and for the largest extra file (1 MiB) twice.
pub const TMPFS: &str = "rw,noexec,nosuid,nodev,size=8388608,nr_inodes=16,mode=0755";

/// Largest file of extra authorities, bytes.
const LARGEST: u64 = 1 << 20;

/// Which variables programs find the authorities by. Node adds a file to those that it brings along, all others take the
/// file in the place of the system's.
const VARIABLES: [(&str, &str); 9] = [
    // OpenSSL, and so Python's ssl, Ruby and PHP; Go.
    ("SSL_CERT_FILE", BUNDLE),
    ("CURL_CA_BUNDLE", BUNDLE),
    // requests, and so most of Python; it brings a bundle of its own.
    ("REQUESTS_CA_BUNDLE", BUNDLE),
    ("PIP_CERT", BUNDLE),
    ("GIT_SSL_CAINFO", BUNDLE),
    ("CARGO_HTTP_CAINFO", BUNDLE),
    ("AWS_CA_BUNDLE", BUNDLE),
    ("NODE_EXTRA_CA_CERTS", EXTRA),
    ("DENO_CERT", EXTRA),
];

/// The variables with their values.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    VARIABLES.into_iter().map(|(name, file)| (name.to_owned(), file.to_owned()))
}

/// Reads a file of the caller, and makes sure that it holds authorities and nothing else.
pub fn read(path: &Path) -> Result<String, Rejection> {
    let name = path.display().to_string();
    let refuse = |why: String| {
        Rejection::new("DINDCTL_CA_FILE (trust.ca_file)", &name, why)
            .with_hint("name a file of certificates in PEM form (-----BEGIN CERTIFICATE-----)")
    };
    let size = std::fs::metadata(path).map_err(|error| refuse(format!("cannot be read: {error}")))?.len();
    if size > LARGEST {
        return Err(refuse(format!("has {size} bytes, more than {LARGEST}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    certificates::authorities(&text).map_err(refuse)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_authorities_is_read_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        assert_eq!(read(&put("good", &pem)), Ok(pem));
        let why = |path: &Path| read(path).unwrap_err().to_string();
        assert!(why(&put("key", &key.serialize_pem())).contains("private key"));
        assert!(why(&put("text", "hello")).contains("holds no certificate"));
        assert!(why(&put("large", &"#".repeat((1 << 20) + 1))).contains("1048577 bytes"));
        let missing = why(&folder.path().join("missing"));
        assert!(missing.starts_with("DINDCTL_CA_FILE") && missing.contains("No such file"), "{missing}");
    }

    #[test]
    fn both_files_lie_in_the_folder() {
        assert!(Path::new(BUNDLE).starts_with(FOLDER) && Path::new(EXTRA).starts_with(FOLDER));
        assert!(variables().all(|(_, file)| file == BUNDLE || file == EXTRA));
    }
}
