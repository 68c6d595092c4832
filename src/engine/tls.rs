/*!
The certificates of the daemon's TCP sockets, found under `DOCKER_TLS_CERTDIR` by the names that the official image
uses: `server/ca.pem`, `server/cert.pem`, `server/key.pem`.
*/
use std::path::{Path, PathBuf};

use super::arguments::DaemonArguments;
use super::daemon_json::DaemonJson;

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

/// What flags and daemon.json say of TLS themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Whether dockerd serves TLS because of them: `tlsverify` does that with any value, `tls` if it is true
    /// (`loadDaemonCliConfig` in moby's daemon/command/daemon.go).
    pub on: bool,
    /// Whether a client needs a certificate then.
    pub verifies: bool,
    /// Whether they name the daemon's certificate and its key.
    pub names_certificate: bool,
}

impl Told {
    /// Reads both. A flag that dockerd would not understand is taken for true; it ends there.
    pub fn new(arguments: &DaemonArguments, file: &DaemonJson) -> Self {
        let value = |name: &str| {
            let by_flag = || arguments.told.get(name).map(|value| value.as_str().is_none_or(|text| !is_false(text)));
            let in_file = || file.value(name).map(|value| value.as_bool().unwrap_or(true));
            if arguments.flags.contains(name) { by_flag().or(Some(true)) } else { in_file() }
        };
        let (verify, tls) = (value("tlsverify"), value("tls"));
        let named = |name: &&str| arguments.flags.contains(*name) || file.sets(name);
        Self {
            on: verify.is_some() || tls == Some(true),
            verifies: verify.unwrap_or(true),
            names_certificate: ["tlscert", "tlskey"].iter().all(named),
        }
    }

    /// Whether nothing is left to be said of TLS.
    pub const fn is_whole(self) -> bool {
        self.on && self.names_certificate
    }
}

/// As Go's `strconv.ParseBool` reads it.
fn is_false(text: &str) -> bool {
    matches!(text, "0" | "f" | "F" | "false" | "False" | "FALSE")
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

    fn told(words: &[&str], file: &str) -> Told {
        let arguments = DaemonArguments::parse(words.iter().map(Into::into));
        Told::new(&arguments, &DaemonJson::parse("x".into(), file).unwrap())
    }

    /// A certificate and its key alone were taken for TLS, which dockerd does not serve for them.
    #[test]
    fn only_what_turns_tls_on_does() {
        let pair = ["--tlscert=/c", "--tlskey", "/k"];
        for (words, file, on, verifies) in [
            (&[][..], "", false, true),
            (&["--tls=false"], "", false, true),
            (&["--tls"], "", true, true),
            (&["--tlsverify"], "", true, true),
            (&["--tlsverify=false"], "", true, false),
            (&["--tlsverify=0"], r#"{"tls": true}"#, true, false),
            (&[], r#"{"tls": true}"#, true, true),
            (&[], r#"{"tlsverify": false}"#, true, false),
            (&["--tls"], r#"{"tlsverify": false}"#, true, false),
        ] {
            let found = told(&[&pair[..], words].concat(), file);
            assert_eq!(found, Told { on, verifies, names_certificate: true }, "{words:?} {file}");
            assert_eq!(found.is_whole(), on);
        }
        let parts = [&pair[..1], &pair[1..]].map(|some| told(&[some, &["--tlsverify"]].concat(), "").is_whole());
        assert_eq!(parts, [false, false]);
        assert!(told(&["--tlsverify", "--tlskey=/k"], r#"{"tlscert": "/c"}"#).is_whole());
    }

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
