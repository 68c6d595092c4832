/*!
`DOCKER_TLS_SAN`: further names for the daemon's certificate.
*/
use std::collections::BTreeSet;

use crate::probe::names::Name;

/// An entry that no certificate can carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DOCKER_TLS_SAN: {entry:?} cannot stand in a certificate: {why}")]
pub struct SanError {
    /// The entry.
    pub entry: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl SanError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        "write names and addresses separated by commas, for example DOCKER_TLS_SAN=DNS:build.example,IP:10.0.0.5".into()
    }
}

/// Reads the list: entries as OpenSSL writes them (`DNS:name`, `IP:address`) or bare, separated by commas or blanks.
pub fn parse(text: &str) -> Result<BTreeSet<Name>, SanError> {
    let entries = text.split(|letter: char| letter == ',' || letter.is_whitespace());
    entries.filter(|entry| !entry.is_empty()).map(entry).collect()
}

fn entry(entry: &str) -> Result<Name, SanError> {
    let fail = |why| SanError { entry: entry.to_owned(), why };
    let prefixed = |prefix: &str| {
        let head = entry.get(..prefix.len())?;
        if head.eq_ignore_ascii_case(prefix) { entry.get(prefix.len()..) } else { None }
    };
    if let Some(name) = prefixed("DNS:") {
        return Name::dns(name).map_err(fail);
    }
    let address = prefixed("IP:").or_else(|| prefixed("IP Address:"));
    let bare = address.unwrap_or(entry);
    if let Ok(found) = bare.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(Name::Ip(found));
    }
    if address.is_some() {
        return Err(fail("an address is expected after IP:"));
    }
    Name::dns(entry).map_err(fail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        parse(text)
            .map(|names| names.iter().map(ToString::to_string).collect())
            .map_err(|error| format!("{} | {}", error.entry, error.why))
    }

    #[test]
    fn openssl_bare_and_sloppy_spellings_are_read() {
        let text = "DNS:docker.example., IP:10.0.0.5,,\n build  dns:B 192.168.1.1 fd00::1 [::2]";
        let want =
            ["DNS:b", "DNS:build", "DNS:docker.example", "IP:10.0.0.5", "IP:192.168.1.1", "IP:::2", "IP:fd00::1"];
        assert_eq!(read(text).unwrap(), want);
        assert_eq!(read("").unwrap(), [""; 0]);
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(read("ok,IP:host").unwrap_err(), "IP:host | an address is expected after IP:");
        assert_eq!(read("URI:http://x").unwrap_err(), "URI:http://x | a DNS name or an address is expected");
        assert!(parse("DNS:").unwrap_err().to_string().starts_with("DOCKER_TLS_SAN: \"DNS:\""));
    }

    proptest! {
        #[test]
        fn any_text_is_names_or_an_error(text in ".{0,60}") {
            if let Ok(names) = parse(&text) {
                let again: Vec<String> = names.iter().map(ToString::to_string).collect();
                prop_assert_eq!(parse(&again.join(",")), Ok(names));
            }
        }
    }
}
