/*!
The certificates of the daemon's TCP sockets, found under `DOCKER_TLS_CERTDIR` by the names that the official image
uses: `server/ca.pem`, `server/cert.pem`, `server/key.pem`.
*/
use std::path::{Path, PathBuf};

/// The three files dockerd needs for mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCertificates {
    /// Certificate authority that clients must be signed by.
    pub ca: PathBuf,
    /// The daemon's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Certificates were asked for and are not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DOCKER_TLS_CERTDIR={} asks for TLS, but {} is missing or empty", .directory.display(), .missing.display())]
pub struct MissingCertificate {
    /// Value of `DOCKER_TLS_CERTDIR`.
    pub directory: PathBuf,
    /// The first file that is not there.
    pub missing: PathBuf,
}

impl MissingCertificate {
    /// What to do about it. An open port is never the answer to a missing certificate.
    pub fn hint(&self) -> String {
        format!(
            "put ca.pem, cert.pem and key.pem into {}/server, or set DOCKER_TLS_CERTDIR= (empty) for TCP without TLS",
            self.directory.display()
        )
    }
}

/// Looks for the certificates. `None` or an empty `directory` means TCP without TLS, as the official image has it.
pub fn find(directory: Option<&Path>) -> Result<Option<ServerCertificates>, MissingCertificate> {
    let Some(directory) = directory.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(None);
    };
    let server = directory.join("server");
    let found =
        ServerCertificates { ca: server.join("ca.pem"), cert: server.join("cert.pem"), key: server.join("key.pem") };
    let files = [&found.ca, &found.cert, &found.key];
    let missing: Vec<_> = files
        .into_iter()
        .filter(|file| !std::fs::metadata(file).is_ok_and(|about| about.is_file() && about.len() > 0))
        .collect();
    match missing.first() {
        None => Ok(Some(found)),
        Some(first) => Err(MissingCertificate { directory: directory.to_owned(), missing: (*first).clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_directory_means_no_tls() {
        assert_eq!(find(None), Ok(None));
        assert_eq!(find(Some(Path::new(""))), Ok(None));
    }

    #[test]
    fn an_incomplete_set_is_an_error_and_never_an_open_port() {
        let folder = tempfile::tempdir().unwrap();
        assert!(find(Some(folder.path())).unwrap_err().missing.ends_with("server/ca.pem"));
        let server = folder.path().join("server");
        std::fs::create_dir(&server).unwrap();
        std::fs::write(server.join("ca.pem"), "x").unwrap();
        std::fs::write(server.join("cert.pem"), "").unwrap();
        let error = find(Some(folder.path())).unwrap_err();
        assert!(error.missing.ends_with("server/cert.pem"));
        std::fs::write(server.join("cert.pem"), "x").unwrap();
        std::fs::write(server.join("key.pem"), "x").unwrap();
        assert!(find(Some(folder.path())).unwrap().is_some());
    }
}
