/*!
Documents of which only what is named stays: what a container, an engine or a compose file is made of is known, and where people
write secrets into it is not.
*/
use serde_json::{Map, Value};

use super::names::named;
use super::text::{GAP, Redactor};

/// What may stay. A pattern is names with dots between them; `*` is any name, a list is as each of its elements, and only what is no
/// object stays at a pattern's end. Where it ends in `=names`, a list or map of variables stays by name.
#[derive(Debug)]
pub struct Shape(pub &'static [&'static str]);

/// Whether the value of a variable may stay beside its name.
pub type Harmless = fn(&str, &str) -> bool;

/// The document with nothing in it that the shape does not name, and its strings redacted.
pub fn keep(value: &Value, shape: &Shape, harmless: Harmless, redactor: &mut Redactor) -> Value {
    let patterns: Vec<Vec<&str>> = shape.0.iter().map(|pattern| pattern.split('.').collect()).collect();
    let patterns: Vec<&[&str]> = patterns.iter().map(Vec::as_slice).collect();
    pick(value, &patterns, harmless, redactor).unwrap_or(Value::Null)
}

fn pick(value: &Value, patterns: &[&[&str]], harmless: Harmless, redactor: &mut Redactor) -> Option<Value> {
    match value {
        Value::Array(list) => {
            Some(list.iter().filter_map(|element| pick(element, patterns, harmless, redactor)).collect())
        }
        Value::Object(fields) => {
            let mut kept = Map::new();
            for (name, value) in fields {
                if patterns.iter().any(|pattern| matches!(pattern, [only] if only.strip_suffix("=names") == Some(name)))
                {
                    kept.insert(name.clone(), variables(value, harmless, redactor));
                    continue;
                }
                let below: Vec<&[&str]> = patterns
                    .iter()
                    .filter_map(|pattern| match pattern {
                        [first, rest @ ..] if first == name || *first == "*" => Some(rest),
                        _ => None,
                    })
                    .collect();
                if let Some(value) = (!below.is_empty()).then(|| pick(value, &below, harmless, redactor)).flatten() {
                    kept.insert(redactor.text(name), value);
                }
            }
            (!kept.is_empty() || patterns.iter().all(|pattern| !pattern.is_empty())).then_some(Value::Object(kept))
        }
        plain if patterns.iter().any(|pattern| pattern.is_empty()) => Some(strings(plain, redactor)),
        _ => None,
    }
}

/// Variables by name; the value stays where it is known to be harmless.
fn variables(value: &Value, harmless: Harmless, redactor: &mut Redactor) -> Value {
    let mut show = |name: &str, value: &str| {
        let value = if value.is_empty() {
            String::new()
        } else if harmless(name, value) {
            redactor.text(value)
        } else {
            GAP.to_owned()
        };
        format!("{}={value}", redactor.text(name))
    };
    match value {
        Value::Array(list) => list
            .iter()
            .filter_map(Value::as_str)
            .map(|line| line.split_once('=').map_or_else(|| line.to_owned(), |(name, value)| show(name, value)))
            .collect(),
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| show(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect(),
        _ => Value::Null,
    }
}

/// The document as it is, with its strings redacted, and with what stands behind names of secrets taken out.
pub fn strings(value: &Value, redactor: &mut Redactor) -> Value {
    match value {
        Value::String(text) => Value::String(redactor.text(text)),
        Value::Array(list) => list.iter().map(|element| strings(element, redactor)).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| {
                    let value = match value {
                        Value::String(text) if named(name, text) => Value::String(GAP.into()),
                        value => strings(value, redactor),
                    };
                    (redactor.text(name), value)
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
