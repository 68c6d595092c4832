/*!
Secrets by their looks: each rule adds the places that it would take out of a line. All places begin and end beside letters of ASCII.
*/
use std::ops::Range;

use super::names::{Worth, counts, worth};
use super::random;

type Found = Vec<Range<usize>>;

/// Every rule for one line, private keys apart.
pub fn all(line: &str, found: &mut Found) {
    assignments(line, found);
    schemes(line, found);
    credentials_of_addresses(line, found);
    tokens(line, found);
    random::runs(line, found);
}

fn byte(line: &str, at: usize) -> u8 {
    line.as_bytes().get(at).copied().unwrap_or(0)
}

fn from(line: &str, at: usize) -> &str {
    line.get(at..).unwrap_or_default()
}

/// How many bytes from a place on are of a kind.
fn count(line: &str, at: usize, of: impl Fn(u8) -> bool) -> usize {
    from(line, at).bytes().take_while(|byte| of(*byte)).count()
}

fn of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// `-----BEGIN … PRIVATE KEY-----`, to its end or that of the line; whether it goes on in the next one.
pub fn private_keys(line: &str, found: &mut Found) -> bool {
    let mut at = 0;
    while let Some(begin) = from(line, at).find("-----BEGIN ").map(|place| at + place) {
        let label = from(line, begin + 11);
        let label = label.get(..label.find("-----").unwrap_or(label.len())).unwrap_or_default();
        at = begin + 11;
        if !(label.contains("PRIVATE") || label.contains("SECRET")) {
            continue;
        }
        let Some(end) = key_end(from(line, at)) else {
            found.push(begin..line.len());
            return true;
        };
        found.push(begin..at + end);
        at += end;
    }
    false
}

/// Where the end mark of a key ends.
pub fn key_end(line: &str) -> Option<usize> {
    let end = line.find("-----END ")? + 9;
    Some(end + from(line, end).find("-----").map_or(from(line, end).len(), |dashes| dashes + 5))
}

/// `name=value`, `name: value`, `"name":"value"`, `--name value`, `["--name","value"]` with a name of secrets.
fn assignments(line: &str, found: &mut Found) {
    let first_quote = line.find('"').unwrap_or(line.len());
    let mut at = 0;
    while at < line.len() {
        let length = count(line, at, of_name);
        if length == 0 {
            at += 1;
            continue;
        }
        let name = line.get(at..at + length).unwrap_or_default();
        let worth = worth(name);
        if worth != Worth::Plain
            && let Some(value) = value_behind(line, at..at + length, first_quote, worth)
        {
            at = value.end.max(at + length);
            found.push(value);
            continue;
        }
        at += length;
    }
    short_flags(line, found);
}

/// The value that a name's separator is followed by.
fn value_behind(line: &str, name: Range<usize>, first_quote: usize, worth: Worth) -> Option<Range<usize>> {
    let Range { start, end } = name;
    let before = if start == 0 { 0 } else { byte(line, start - 1) };
    let closed = end + count(line, end, |byte| matches!(byte, b'\\' | b'"' | b'\'' | b']'));
    let at = closed + count(line, closed, |byte| matches!(byte, b' ' | b'\t'));
    let flag = byte(line, start) == b'-';
    let (at, spaced) = match byte(line, at) {
        // `/etc/passwd: no such file`
        b':' if before == b'/' => return None,
        b':' | b'=' => {
            let signs = at + count(line, at, |byte| matches!(byte, b':' | b'=' | b'>'));
            let value = signs + count(line, signs, |byte| matches!(byte, b' ' | b'\t' | b'['));
            (value, value > signs && byte(line, at) == b':')
        }
        b',' if flag && closed > end => (at + 1 + count(line, at + 1, |byte| matches!(byte, b' ' | b'\t')), false),
        b'-' | 0 => return None,
        _ if flag && at > closed => (at, false),
        _ => return None,
    };
    let value =
        value_at(line, at, first_quote, before, spaced && matches!(worth, Worth::Phrase | Worth::Secret), worth)?;
    counts(worth, line.get(value.clone())?).then_some(value)
}

fn value_at(line: &str, at: usize, first_quote: usize, before: u8, spaced: bool, worth: Worth) -> Option<Range<usize>> {
    let slashes = count(line, at, |byte| byte == b'\\');
    let quote = byte(line, at + slashes);
    if matches!(quote, b'"' | b'\'') {
        let start = at + slashes + 1;
        return Some(start..closing(line, start, quote, slashes));
    }
    // Headers have schemes before what counts, phrases have spaces.
    let whole = spaced && (worth == Worth::Phrase || is_header(line, at));
    // A quotation mark ends it where one has been before; else it is part of it.
    let quoted = first_quote < at;
    let length = count(line, at, |byte| match byte {
        b'"' => !quoted,
        b'\'' => before != b'\'',
        b' ' | b'\t' => whole,
        _ => true,
    });
    (length > 0).then_some(at..at + length)
}

/// A quotation ends at its mark with as many backslashes before it as the first one has.
fn closing(line: &str, start: usize, quote: u8, slashes: usize) -> usize {
    let mut run = 0;
    for (place, byte) in from(line, start).bytes().enumerate() {
        if byte == b'\\' {
            run += 1;
        } else {
            if byte == quote && run <= slashes {
                return start + place - run;
            }
            run = 0;
        }
    }
    line.len()
}

/// Whether what stands before a value is the name of a header with several words.
fn is_header(line: &str, at: usize) -> bool {
    let from = (at.saturating_sub(40)..=at).find(|from| line.is_char_boundary(*from)).unwrap_or(at);
    let before = line.get(from..at).unwrap_or_default().to_ascii_lowercase();
    let before = before.trim_end_matches([' ', '\t', '[', ':', '=', '"']);
    ["authorization", "cookie", "x-registry-auth", "x-registry-config"].iter().any(|name| before.ends_with(name))
}

/// `-u name:password`, and what `docker login -p` and its like are given.
fn short_flags(line: &str, found: &mut Found) {
    let words: Vec<Range<usize>> = words(line, |byte| matches!(byte, b' ' | b'\t' | b'"' | b'\'' | b',' | b'[' | b']'));
    let login = line.contains("login") || line.contains("mysql") || line.contains("sshpass");
    for pair in words.windows(2) {
        let [flag, value] = pair else { continue };
        let (Some(name), Some(text)) = (line.get(flag.clone()), line.get(value.clone())) else { continue };
        let user = matches!(name, "-u" | "--user" | "--proxy-user" | "-U") && text.contains(':');
        if user && !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') || login && name == "-p" {
            found.push(value.clone());
        }
    }
    if login {
        for word in words {
            if line.get(word.clone()).is_some_and(|text| text.starts_with("-p") && text.len() > 3) {
                found.push(word.start + 2..word.end);
            }
        }
    }
}

fn words(line: &str, parts: impl Fn(u8) -> bool) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let mut start = 0;
    for (at, byte) in line.bytes().chain([b' ']).enumerate() {
        if parts(byte) || at == line.len() {
            if at > start {
                all.push(start..at);
            }
            start = at + 1;
        }
    }
    all
}

/// `Bearer …`, `Basic …`, wherever.
fn schemes(line: &str, found: &mut Found) {
    let lower = line.to_ascii_lowercase();
    for scheme in ["bearer ", "basic ", "negotiate ", "digest "] {
        let mut at = 0;
        while let Some(place) = lower.get(at..).and_then(|rest| rest.find(scheme)) {
            let start = at + place + scheme.len();
            let length = count(line, start, |byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-' | b'.' | b'~')
            });
            let text = line.get(start..start + length).unwrap_or_default();
            // A word of a sentence is none.
            if length >= 6
                && text.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase() || byte == b'=')
            {
                found.push(start..start + length);
            }
            at = start + length;
        }
    }
}

/// `scheme://name:password@host`, and `name:password@host` where a proxy is meant.
fn credentials_of_addresses(line: &str, found: &mut Found) {
    for word in words(line, |byte| matches!(byte, b' ' | b'\t' | b'"' | b'\'' | b'<' | b'>' | b'`')) {
        let text = line.get(word.clone()).unwrap_or_default();
        // A digest behind the name of an image is none.
        let Some(at) = text.rmatch_indices('@').map(|(at, _)| at).find(|at| !from(text, at + 1).starts_with("sha256:"))
        else {
            continue;
        };
        let before = text.get(..at).unwrap_or_default();
        if let Some(scheme) = before.find("://") {
            let who = from(before, scheme + 3);
            // An @ in the path of an address without a colon is no credential.
            if !who.contains('/') || who.contains(':') {
                found.push(word.start + scheme + 3..word.start + at);
            }
        } else if let Some(colon) = before.find(':') {
            let start =
                before.get(..colon).and_then(|name| name.rfind(['=', '(', '[', ','])).map_or(0, |sign| sign + 1);
            found.push(word.start + start..word.start + at);
        }
    }
}

/// Beginnings by which issuers make their tokens known, and the least that follows.
const ISSUED: &[(&str, usize)] = &[
    ("eyJ", 24),
    ("ghp_", 16),
    ("gho_", 16),
    ("ghu_", 16),
    ("ghs_", 16),
    ("ghr_", 16),
    ("github_pat_", 16),
    ("glpat-", 12),
    ("dckr_pat_", 12),
    ("dckr_oat_", 12),
    ("AKIA", 12),
    ("ASIA", 12),
    ("AIza", 24),
    ("xoxb-", 8),
    ("xoxp-", 8),
    ("xoxa-", 8),
    ("sk-", 20),
    ("sk_live_", 12),
    ("rk_live_", 12),
    ("npm_", 20),
    ("pypi-", 20),
    ("hf_", 20),
    ("SWMTKN-", 12),
    ("SWMKEY-", 12),
    ("hvs.", 16),
];

fn tokens(line: &str, found: &mut Found) {
    for (prefix, least) in ISSUED {
        for (at, _) in line.match_indices(prefix) {
            // In the middle of a word it means nothing.
            if at > 0 && byte(line, at - 1).is_ascii_alphanumeric() {
                continue;
            }
            let length = count(line, at + prefix.len(), |byte| of_name(byte) || byte == b'=');
            if length >= *least {
                found.push(at..at + prefix.len() + length);
            }
        }
    }
}
