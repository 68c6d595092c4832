/*!
Whether the container has a daemon of its own, or its command is a client of another one: chosen by the environment.
*/
use std::path::Path;

use clap::ValueEnum;

use super::super::Environment;
use super::super::failure::Failure;
use crate::engine::ping::Address;

/// What was typed for `--daemon`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DaemonChoice {
    /// Always a daemon; the container ends where it cannot work.
    Own,
    /// By `DIND_ENABLED` and `DOCKER_HOST`. Where the daemon cannot even be prepared the command runs all the same; where it dies, a
    /// command goes on that did not wait for it (`--no-wait`).
    Auto,
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// A daemon of our own.
    Own,
    /// The daemon at this address.
    Client(String),
    /// None, and why.
    None(&'static str),
}

/// Decides. `is_socket` says whether something listens at a path already: a socket of another container's daemon that was
/// mounted here.
pub fn choose(environment: &Environment, root: bool, is_socket: impl Fn(&Path) -> bool) -> Result<Shape, Failure> {
    let host = environment.text("DOCKER_HOST");
    let elsewhere = host.filter(|host| match Address::parse(host) {
        Some(Address::Unix(path)) => is_socket(&path),
        Some(Address::Tcp(_)) | None => true,
    });
    let enabled = match environment.text("DIND_ENABLED") {
        None => None,
        Some(text) => Some(switch(text).ok_or_else(|| {
            Failure::new(format!("DIND_ENABLED {text:?} is neither true nor false"), "true: a daemon in this container")
        })?),
    };
    Ok(match (enabled, elsewhere) {
        (Some(true), _) | (None, None) if root => Shape::Own,
        (Some(true), _) => Shape::None("a daemon in this container needs root at its start (no --user, no -u)"),
        (Some(false) | None, Some(host)) => Shape::Client(host.to_owned()),
        (Some(false), None) => Shape::None("DIND_ENABLED is false, and DOCKER_HOST names no other daemon"),
        (None, None) => {
            Shape::None("the container was started as an ordinary user, and DOCKER_HOST names no other daemon")
        }
    })
}

/// The words that compose files have for it.
fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(pairs: &[(&str, &str)], root: bool) -> Option<Shape> {
        let pairs = pairs.iter().map(|(name, value)| (name.into(), value.into())).collect();
        choose(&Environment::from_pairs(pairs), root, |path| path == Path::new("/mounted.sock")).ok()
    }

    #[test]
    fn the_environment_chooses() {
        let client = |host: &str| Some(Shape::Client(host.into()));
        assert_eq!(chosen(&[], true), Some(Shape::Own));
        assert_eq!(chosen(&[("DIND_ENABLED", "")], true), Some(Shape::Own), "an empty value is none");
        assert_eq!(chosen(&[("DOCKER_HOST", "tcp://dind:2375")], true), client("tcp://dind:2375"));
        assert_eq!(chosen(&[("DOCKER_HOST", "unix:///mounted.sock")], true), client("unix:///mounted.sock"));
        assert_eq!(chosen(&[("DOCKER_HOST", "unix:///run/docker.sock")], true), Some(Shape::Own), "ours to make");
        assert_eq!(chosen(&[("DOCKER_HOST", "tcp://dind:1"), ("DIND_ENABLED", "True")], true), Some(Shape::Own));
        assert_eq!(chosen(&[("DOCKER_HOST", "ssh://x"), ("DIND_ENABLED", "0")], true), client("ssh://x"));
        assert!(matches!(chosen(&[("DIND_ENABLED", "off")], true), Some(Shape::None(_))));
        assert_eq!(chosen(&[("DIND_ENABLED", "maybe")], true), None);
    }

    #[test]
    fn an_ordinary_user_has_no_daemon_here() {
        assert!(matches!(chosen(&[], false), Some(Shape::None(_))));
        assert!(matches!(chosen(&[("DIND_ENABLED", "true")], false), Some(Shape::None(_))));
        assert_eq!(chosen(&[("DOCKER_HOST", "tcp://d:1")], false), Some(Shape::Client("tcp://d:1".into())));
    }
}
