/*!
The secrets that documents name as such, to be found where nothing tells that they are secrets: a variable's value in a log line.
*/
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::names::named;
use super::text::secrets;

/// What in a document is secret by its looks or by the name it stands behind.
pub fn known_secrets(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => gather(text, found),
        Value::Array(list) => {
            // `["--password", "…"]`
            let words: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            for pair in words.windows(2) {
                if let [name, text] = pair
                    && name.starts_with('-')
                    && !name.contains('=')
                    && !text.starts_with('-')
                    && named(name, text)
                {
                    found.push((*text).to_owned());
                }
            }
            for element in list {
                known_secrets(element, found);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Value::String(text) = value
                    && named(name, text)
                {
                    gather_encoded(text, found);
                    found.push(text.clone());
                }
                known_secrets(value, found);
            }
        }
        _ => {}
    }
}

/// Of a variable the whole value counts, with spaces and quotes.
fn gather(text: &str, found: &mut Vec<String>) {
    if let Some((name, value)) = text.split_once('=')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        && named(name, value)
    {
        found.push(value.to_owned());
    }
    for secret in secrets(text) {
        // The password without the name before it.
        found.extend(secret.split_once(':').map(|(_, password)| password.to_owned()));
        found.push(secret);
    }
}

/// `"auth": "bmFtZTpwYXNzd29yZA=="`
fn gather_encoded(text: &str, found: &mut Vec<String>) {
    let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    found.extend(decoded.as_deref().and_then(|text| text.split_once(':')).map(|(_, password)| password.to_owned()));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::masks::Masks;
    use super::super::text::Redactor;
    use super::*;

    #[test]
    fn the_secrets_of_a_document_are_gathered() {
        let mut found = Vec::new();
        known_secrets(
            &json!({
                "Env": ["DB_PASSWORD=with space \"and\" quotes", "PLAIN=value"], "Args": ["--token", "argument-secret"],
                "Labels": { "com.example.secret": "label-secret" },
                "auths": { "r": { "auth": "dXNlcjpyZWdpc3RyeS1wYXNzd29yZA==" } }, "proxy": "http://u:proxy-password@p",
            }),
            &mut found,
        );
        for secret in
            ["with space \"and\" quotes", "argument-secret", "label-secret", "registry-password", "proxy-password"]
        {
            assert!(found.iter().any(|known| known == secret), "{secret} is not in {found:?}");
        }
        assert!(!found.iter().any(|known| known == "value"), "{found:?}");
        let mut redactor = Redactor::new(Masks::new(found.iter().map(String::as_str)));
        assert_eq!(redactor.text("it said label-secret"), "it said (left out)");
    }
}
