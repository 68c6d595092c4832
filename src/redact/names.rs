/*!
Which names of settings, variables, flags and headers stand before a secret.
*/

/// What is to become of the value behind a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// It may stay.
    Plain,
    /// It is the path of a file with a secret, or the secret itself.
    SecretOrPath,
    /// It goes.
    Secret,
    /// It goes, and may have spaces in it.
    Phrase,
}

/// Anywhere in a name, separators apart.
const PARTS: &[&str] = &[
    "secret",
    "token",
    "credential",
    "cookie",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "signature",
    "connectionstring",
    "authorization",
    "registryauth",
];

/// Typed by people.
const PHRASES: &[&str] = &["password", "passwd", "passphrase", "passcode", "kennwort"];

/// A whole word of a name.
const WORDS: &[&str] = &["pwd", "pass", "psk", "auth", "sig", "jwt", "pat", "dsn", "pin", "otp"];

/// The last word of a name whose value is a path.
const PATHS: &[&str] = &["file", "files", "path", "dir", "folder"];

/// Judges a name such as `DB_PASSWORD`, `--api-key`, `identityToken` or `X-Registry-Auth`.
pub fn worth(name: &str) -> Worth {
    let lower = name.to_ascii_lowercase();
    let mut words = lower.split(['_', '-', '.']).filter(|word| !word.is_empty());
    let joined: String = words.clone().collect();
    let has = |parts: &[&str]| parts.iter().any(|part| joined.contains(part));
    let last = words.clone().next_back().unwrap_or_default();
    let worth = if has(PHRASES) {
        Worth::Phrase
    } else if has(PARTS) || words.any(|word| WORDS.contains(&word)) {
        Worth::Secret
    } else if last == "key" && joined != "key" {
        // `tls-key` is a path, `ENCRYPTION_KEY` is not.
        return Worth::SecretOrPath;
    } else {
        return Worth::Plain;
    };
    if PATHS.contains(&last) { Worth::SecretOrPath } else { worth }
}

/// Whether a text is a secret for the name that it stands behind.
pub fn named(name: &str, text: &str) -> bool {
    counts(worth(name), text)
}

/// The same for a name that was judged: the path of a file may stand behind some, and what stands for nothing behind any.
pub fn counts(worth: Worth, text: &str) -> bool {
    let path = ["/", "./", "../", "~/"].iter().any(|prefix| text.starts_with(prefix));
    let nothing = ["", "true", "false", "null", "nil", "<nil>"].contains(&text);
    match worth {
        Worth::Plain => false,
        Worth::SecretOrPath => !path && !nothing,
        Worth::Secret | Worth::Phrase => !nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_every_spelling() {
        for name in ["PASSWORD", "db_passwd", "--passphrase", "spring.datasource.password"] {
            assert_eq!(worth(name), Worth::Phrase, "{name}");
        }
        for name in [
            "API_KEY",
            "apiKey",
            "x-api-key",
            "identitytoken",
            "AWS_SECRET_ACCESS_KEY",
            "auth",
            "--token",
            "MYSQL_PWD",
            "Set-Cookie",
            "X-Registry-Auth",
            "X-Amz-Signature",
            "client_secret",
            "DB_PASS",
            "PGPASS.PASS",
        ] {
            assert_eq!(worth(name), Worth::Secret, "{name}");
        }
        for name in ["ENCRYPTION.KEY", "tls-key", "PASSWORD_FILE", "token-path"] {
            assert!(matches!(worth(name), Worth::SecretOrPath | Worth::Secret), "{name}");
        }
        assert_eq!(worth("DINDCTL_PASSWORD_FILE"), Worth::SecretOrPath);
    }

    #[test]
    fn what_is_no_secret_stays() {
        for name in ["key", "author", "bypass", "compass", "DINDCTL_LISTEN", "path", "Author-Name", "keys", "pins"] {
            assert_eq!(worth(name), Worth::Plain, "{name}");
        }
    }
}
