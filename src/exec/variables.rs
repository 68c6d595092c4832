//! Environment variables and labels as `docker run` reads them.

use std::collections::BTreeMap;

use super::rejection::Rejection;
use super::typed::{Caller, Typed};

/// Labels that begin so are ours.
pub const LABEL_PREFIX: &str = "io.dindctl.";

/// Variables of all env files, then those of `-e`, later ones winning. A bare name takes the caller's value, or
/// nothing where the caller has none.
pub fn environment(typed: &Typed, caller: &Caller) -> Result<BTreeMap<String, String>, Rejection> {
    let mut env = BTreeMap::new();
    for (path, content) in &typed.env_files {
        for (index, line) in content.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("{}:{}", path.display(), index + 1);
            let refused = |why: &str| {
                Rejection::new("--env-file", &place, why).with_hint("lines are NAME=VALUE, NAME, # comment")
            };
            add(&mut env, line, caller).map_err(refused)?;
        }
    }
    for item in &typed.env {
        let refused =
            |why: &str| Rejection::new("--env", item, why).with_hint("write NAME=VALUE, or NAME to pass yours on");
        add(&mut env, item, caller).map_err(refused)?;
    }
    Ok(env)
}

fn add(env: &mut BTreeMap<String, String>, item: &str, caller: &Caller) -> Result<(), &'static str> {
    let (name, value) = match item.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (item, caller.env.get(item).cloned()),
    };
    if name.is_empty() {
        return Err("has no name");
    }
    if name.contains(char::is_whitespace) {
        return Err("has white space in its name");
    }
    if item.contains('\0') {
        return Err("contains a NUL byte");
    }
    if let Some(value) = value {
        env.insert(name.to_owned(), value);
    }
    Ok(())
}

/// The caller's labels.
pub fn labels(typed: &[String]) -> Result<BTreeMap<String, String>, Rejection> {
    let mut labels = BTreeMap::new();
    for item in typed {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        if name.is_empty() {
            return Err(Rejection::new("--label", item, "has no name").with_hint("write NAME=VALUE"));
        }
        if name.starts_with(LABEL_PREFIX) {
            return Err(Rejection::new("--label", item, "is a name that dindctl uses itself")
                .with_hint("choose a name of your own"));
        }
        labels.insert(name.to_owned(), value.to_owned());
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller { env: BTreeMap::from([("HOME".to_owned(), "/me".to_owned())]), ..Caller::default() }
    }

    #[test]
    fn later_wins_and_bare_names_take_ours() {
        let typed = Typed {
            env: vec!["A=2".into(), "HOME".into(), "ABSENT".into(), "E=".into()],
            env_files: vec![("f".into(), "# c\n\n A=1\nB=x y # kept\n".into())],
            ..Typed::default()
        };
        let env = environment(&typed, &caller()).unwrap();
        let want = [("A", "2"), ("B", "x y # kept"), ("E", ""), ("HOME", "/me")];
        assert_eq!(env, want.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn bad_line_is_named() {
        let typed = Typed { env_files: vec![("vars".into(), "A=1\nB C=2\n".into())], ..Typed::default() };
        let text = environment(&typed, &caller()).unwrap_err().to_string();
        assert_eq!(text, "--env-file \"vars:2\": has white space in its name");
    }

    #[test]
    fn our_own_labels_cannot_be_forged() {
        assert!(labels(&["io.dindctl.run=x".into()]).is_err());
        assert_eq!(labels(&["a".into(), "b=c=d".into()]).unwrap().get("b").unwrap(), "c=d");
    }
}
