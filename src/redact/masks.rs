/*!
What is known to be secret, and the forms in which it turns up elsewhere: as it is, escaped in JSON or in a URL, and inside of something
encoded in base64, as in `Authorization: Basic`.
*/
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem::Finder;

/// Shorter ones would take words out of everything.
pub const SHORTEST: usize = 5;

/// What goes wherever it turns up.
#[derive(Debug, Default)]
pub struct Masks(Vec<Finder<'static>>);

impl Masks {
    /// Of secrets; those that are too short to be told from words are passed over.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms: Vec<String> =
            secrets.into_iter().map(str::trim).filter(|secret| fits(secret)).flat_map(forms).collect();
        forms.sort_unstable();
        forms.dedup();
        Self(forms.iter().map(|form| Finder::new(form.as_bytes()).into_owned()).collect())
    }

    /// The places in a text.
    pub fn find(&self, text: &str, found: &mut Vec<Range<usize>>) {
        for finder in &self.0 {
            let length = finder.needle().len();
            found.extend(finder.find_iter(text.as_bytes()).map(|start| start..start + length));
        }
    }
}

/// Whether it can be looked for: long enough, and none of the words that stand for nothing.
pub fn fits(secret: &str) -> bool {
    secret.len() >= SHORTEST && !["false", "undefined", "(left out)"].contains(&secret)
}

fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    let json = serde_json::Value::from(secret).to_string();
    forms.push(json.trim_matches('"').to_owned());
    forms.extend(url::form_urlencoded::byte_serialize(secret.as_bytes()).map(str::to_owned).reduce(|a, b| a + &b));
    forms.push(forms.last().map(|form| form.replace('+', "%20")).unwrap_or_default());
    // Three letters make four; where the secret begins among them is not known, so what neighbours have a share in is cut off.
    for before in 0..3_usize {
        let padded = ["\0".repeat(before).as_bytes(), secret.as_bytes()].concat();
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            let from = (before * 8).div_ceil(6);
            let to = padded.len() * 8 / 6;
            forms.extend(encoded.get(from..to).filter(|core| core.len() >= 8).map(str::to_owned));
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(secret: &str, text: &str) -> String {
        let mut found = Vec::new();
        Masks::new([secret]).find(text, &mut found);
        super::super::text::cut(text, found)
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        let secret = "p\"w/ö 1+2";
        for form in [secret, "p\\\"w/ö 1+2", "p%22w%2F%C3%B6%201%2B2", "p%22w%2F%C3%B6+1%2B2"] {
            assert_eq!(without(secret, &format!("<{form}>")), "<(left out)>");
        }
        for before in ["", "u:", "us:", "use:", "user:"] {
            let text = STANDARD_NO_PAD.encode(format!("{before}correct-horse-battery"));
            let rest = without("correct-horse-battery", &text);
            assert!(rest.contains("(left out)") && rest.len() - 10 <= 4 + before.len() * 4 / 3, "{before}: {rest}");
        }
    }

    #[test]
    fn words_are_no_secrets() {
        assert_eq!(without("root", "root and false"), "root and false");
        assert_eq!(without("false", "root and false"), "root and false");
    }
}
