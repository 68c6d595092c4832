/*!
The hidden `dindctl redact`: standard input without secrets on standard output, for `scripts/diagnostics`.

Exit code 0; 1: the input is no JSON where it should be (dindctl's own is treated as text then, of other documents nothing is kept) or was
longer than `--most` (its end is there); 125: usage.
*/
use std::io::{BufRead, BufReader, Read};

use clap::{Args, ValueEnum};
use serde_json::Value;
use serde_json::error::Category;

use super::config::keys::KEYS;
use super::failure::Failure;
use super::say::{Voice, result};
use crate::redact::masks::{Masks, fits};
use crate::redact::shape::{self, Shape};
use crate::redact::text::Redactor;
use crate::redact::{fields, known};

/// What the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Lines of any kind
    Text,
    /// JSON of dindctl's own: all of it, with its strings redacted
    Json,
    /// `docker inspect` of containers: the fields that are known to be harmless
    Inspect,
    /// `docker info` as JSON: the same
    Info,
    /// `docker compose config` as JSON: the same
    Compose,
    /// `daemon.json`: the same
    DaemonJson,
    /// JSON of any kind: prints the secrets in it as JSON strings, one a line
    Secrets,
    /// A file that is a secret: prints it in the same way
    Secret,
}

/// Arguments of `redact`.
#[derive(Debug, Args)]
pub struct RedactArgs {
    /// What the input is
    #[arg(long = "as", value_enum, default_value_t = Form::Text)]
    form: Form,
    /// The first line of the input is a JSON list of what is known to be secret
    #[arg(long)]
    masks_first: bool,
    /// Longest input that is taken; of a longer text the end
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20)]
    most: usize,
}

/// Variables whose values say how dindctl is set up, and which have nothing of anybody's own in them when they are valid.
const HARMLESS: [&str; 29] = [
    "DINDCTL_LOG_FORMAT",
    "DINDCTL_LOG_LEVEL",
    "DINDCTL_DAEMON_LOG",
    "DINDCTL_DAEMON_LOG_SIZE",
    "DINDCTL_DAEMON_LOG_COUNT",
    "DINDCTL_LISTEN",
    "DINDCTL_STOP_TIMEOUT",
    "DINDCTL_OUTER_STOP_TIMEOUT",
    "DINDCTL_STOP_DELAY",
    "DINDCTL_STOP_CODE",
    "DINDCTL_CGROUP_NAMESPACE",
    "DINDCTL_APPARMOR",
    "DINDCTL_SOCKET_GROUP",
    "DINDCTL_SOCKET_MODE",
    "DINDCTL_MTU",
    "DINDCTL_BIP",
    "DINDCTL_ADDRESS_POOLS",
    "DINDCTL_DNS",
    "DINDCTL_DNS_SEARCH",
    "DINDCTL_STORAGE_DRIVER",
    "DINDCTL_PRELOAD",
    "DINDCTL_CA_FILE",
    "DINDCTL_REGISTRY_MIRRORS",
    "DINDCTL_INSECURE_REGISTRIES",
    "DINDCTL_RESTART",
    "DINDCTL_LIVE_RESTORE",
    "DINDCTL_TMP",
    "DINDCTL_TLS_KEY",
    "DINDCTL_TLS_DAYS",
];

/// Those of the official image, where the value is a path, an address or nothing.
const OFFICIAL: [&str; 7] = [
    "DOCKER_TLS_CERTDIR",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "DOCKER_HOST",
    "DOCKER_IPTABLES_LEGACY",
    "DIND_WORKSPACE_PATH",
    "container",
];

fn harmless(name: &str, value: &str) -> bool {
    if HARMLESS.contains(&name) {
        return KEYS.iter().any(|key| key.env == name && (key.check)(value).is_ok());
    }
    OFFICIAL.contains(&name)
}

/// Runs the command.
pub fn run(arguments: &RedactArgs, voice: Voice) -> u8 {
    match redacted(arguments) {
        Ok((text, whole)) => {
            if !text.is_empty() {
                result(text.strip_suffix('\n').unwrap_or(&text));
            }
            u8::from(!whole)
        }
        Err(failure) => failure.report(voice),
    }
}

fn redacted(arguments: &RedactArgs) -> Result<(String, bool), Failure> {
    let mut stream = BufReader::new(std::io::stdin().lock());
    let unreadable = |error: std::io::Error| Failure::new(format!("standard input: {error}"), "pipe something into it");
    let mut secrets = Vec::new();
    if arguments.masks_first {
        let mut line = String::new();
        stream.read_line(&mut line).map_err(unreadable)?;
        secrets = serde_json::from_str::<Vec<String>>(&line).map_err(|error| {
            let message = format!("the first line of the input is no JSON list of strings: {}", why(&error));
            Failure::new(message, "that is what --masks-first asks for")
        })?;
    }
    let mut input = Vec::new();
    let whole = read_end(&mut stream, arguments.most, &mut input).map_err(unreadable)?;
    let input = String::from_utf8_lossy(&input).into_owned();
    let mut redactor = Redactor::new(Masks::new(secrets.iter().map(String::as_str)));
    let kept: fn(&Value, &mut Redactor) -> Value = match arguments.form {
        Form::Text => return Ok((redactor.text(&input), whole)),
        Form::Secret => return Ok((lines(&secret_file(&input)), whole)),
        Form::Secrets => {
            let values = parse(&input);
            let mut found = Vec::new();
            for value in values.iter().flatten() {
                known::known_secrets(value, &mut found);
            }
            return Ok((lines(&found), whole && values.is_some()));
        }
        Form::Json => shape::strings,
        Form::Inspect => |value, redactor| keep(value, &fields::INSPECT, redactor),
        Form::Info => |value, redactor| keep(value, &fields::INFO, redactor),
        Form::Compose => |value, redactor| keep(value, &fields::COMPOSE, redactor),
        Form::DaemonJson => |value, redactor| keep(value, &fields::DAEMON_JSON, redactor),
    };
    match (parse(&input), arguments.form) {
        (Some(values), _) if whole && !values.is_empty() => {
            let kept: Vec<String> = values.iter().map(|value| format!("{:#}", kept(value, &mut redactor))).collect();
            Ok((kept.join("\n"), true))
        }
        // Of what should have been chosen from, nothing can be.
        (_, Form::Json) => Ok((redactor.text(&input), false)),
        _ if input.trim().is_empty() => Ok((String::new(), false)),
        _ => Ok(("no JSON, or too much of it: left out\n".into(), false)),
    }
}

fn keep(value: &Value, shape: &Shape, redactor: &mut Redactor) -> Value {
    shape::keep(value, shape, harmless, redactor)
}

/// The last bytes of a stream, from the begin of a line on; whether that is all of it.
fn read_end(input: &mut impl Read, most: usize, into: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut chunk = vec![0; 64 << 10];
    let mut whole = true;
    loop {
        let count = input.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        into.extend_from_slice(&chunk[..count]);
        if into.len() > most.saturating_mul(2) {
            into.drain(..into.len() - most);
            whole = false;
        }
    }
    if into.len() > most {
        into.drain(..into.len() - most);
        whole = false;
    }
    if !whole {
        // Half a line may have lost the name that its secret stood behind.
        let line = into.iter().position(|byte| *byte == b'\n').map_or(into.len(), |end| end + 1);
        into.drain(..line);
    }
    Ok(whole)
}

/// One or more documents, or none when it is anything else.
fn parse(text: &str) -> Option<Vec<Value>> {
    serde_json::Deserializer::from_str(text).into_iter().collect::<Result<Vec<Value>, _>>().ok()
}

/// The library's own message would quote what stands there.
fn why(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        Category::Io => "unreadable",
        Category::Syntax => "wrong syntax",
        Category::Data => "another type",
        Category::Eof => "it ends too early",
    }
}

/// A secret in a file is its text, and each of its lines.
fn secret_file(text: &str) -> Vec<String> {
    let whole = text.trim();
    let lines = whole.lines().map(str::trim);
    std::iter::once(whole).chain(lines).map(str::to_owned).collect()
}

fn lines(secrets: &[String]) -> String {
    let mut lines: Vec<String> =
        secrets.iter().filter(|secret| fits(secret)).map(|secret| Value::from(secret.as_str()).to_string()).collect();
    lines.sort_unstable();
    lines.dedup();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harmless_variables_are_settings() {
        for name in HARMLESS {
            assert!(KEYS.iter().any(|key| key.env == name), "{name} is no setting");
        }
        assert!(harmless("DINDCTL_MTU", "1400") && harmless("DOCKER_TLS_CERTDIR", "/certs"));
        assert!(!harmless("DINDCTL_MTU", "what somebody typed by mistake") && !harmless("PATH", "/bin"));
    }

    #[test]
    fn of_too_much_the_end_is_taken_from_a_whole_line_on() {
        let mut end = Vec::new();
        assert!(!read_end(&mut b"first\nsecond\nthird\n".as_slice(), 10, &mut end).unwrap());
        assert_eq!(end, b"third\n");
        let mut end = Vec::new();
        assert!(read_end(&mut b"all\n".as_slice(), 4, &mut end).unwrap());
        assert_eq!(end, b"all\n");
        let mut end = Vec::new();
        assert!(!read_end(&mut b"oneverylongline".as_slice(), 4, &mut end).unwrap());
        assert_eq!(end, b"");
    }

    #[test]
    fn a_secret_file_is_found_whole_and_by_line() {
        assert_eq!(
            lines(&secret_file("first-line-\"1\"\nsecond-line\nend\n")),
            "\"first-line-\\\"1\\\"\"\n\"first-line-\\\"1\\\"\\nsecond-line\\nend\"\n\"second-line\""
        );
    }
}
