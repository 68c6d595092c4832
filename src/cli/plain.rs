/*!
Command lines that mean one thing only. They are understood without the definitions of all commands, which take a third of a millisecond
and a megabyte of the program: a quarter of what a health check takes, each time.
*/
use std::ffi::OsString;

use super::Command;
use super::entrypoint::EntrypointArgs;
use super::health::HealthArgs;

/// What is meant, where it is one of them: a health check as images have it, and commands whose words all belong to somebody else.
pub fn command(argv: &[OsString]) -> Option<Command> {
    let (command, words) = argv.get(1..)?.split_first()?;
    let arguments = || words.to_vec();
    match command.to_str()? {
        "health" if words.is_empty() => Some(Command::Health(HealthArgs::default())),
        "entrypoint" => Some(Command::Entrypoint(EntrypointArgs::new(arguments()))),
        "docker-entrypoint" => Some(Command::DockerEntrypoint { arguments: arguments() }),
        "modprobe" => Some(Command::Modprobe { arguments: arguments() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::super::{Cli, FOREIGN, protect};
    use super::*;

    fn both(words: &[String]) -> (Option<String>, String) {
        let argv: Vec<OsString> =
            ["dindctl"].into_iter().map(OsString::from).chain(words.iter().map(OsString::from)).collect();
        let typed = Cli::try_parse_from(protect(argv.clone())).unwrap();
        (command(&argv).map(|command| format!("{command:?}")), format!("{:?}", typed.command))
    }

    proptest! {
        #[test]
        fn it_is_what_the_definitions_say(
            name in prop::sample::select(FOREIGN.to_vec()),
            words in prop::collection::vec("|-|--|--help|-V|--log-level|--log-level=debug|dockerd|[a-z=é ]{1,4}", 0..4),
        ) {
            let words: Vec<String> = std::iter::once(name.to_owned()).chain(words).collect();
            let (plain, typed) = both(&words);
            prop_assert_eq!(plain, Some(typed));
        }
    }

    #[test]
    fn a_health_check_has_the_usual_limits() {
        let (plain, typed) = both(&["health".to_owned()]);
        assert_eq!(plain, Some(typed));
    }

    #[test]
    fn the_rest_needs_the_definitions() {
        for words in [
            &[][..],
            &["--help"],
            &["health", "--wait", "1s"],
            &["--log-level", "debug", "entrypoint"],
            &["up", "--", "x"],
        ] {
            let argv: Vec<OsString> = ["dindctl"].iter().chain(words).map(OsString::from).collect();
            assert!(command(&argv).is_none(), "{words:?}");
        }
    }
}
