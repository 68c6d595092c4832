//! Ring 1: rules about the source itself. No privileges, no files but the checkout's own.

#[path = "pure/chaos.rs"]
mod chaos;
#[path = "pure/compose.rs"]
mod compose;
#[path = "pure/kubernetes.rs"]
mod kubernetes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which rooms each room may import: the arrows of the design, spelled out with what follows from them.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    BTreeMap::from([
        ("sys", vec![]),
        ("probe", vec!["sys"]),
        ("prepare", vec!["probe", "sys"]),
        ("init", vec!["sys"]),
        ("home", vec!["probe", "sys"]),
        ("engine", vec!["probe", "sys"]),
        ("exec", vec!["engine", "probe", "sys"]),
        ("selftest", vec!["exec", "engine", "probe", "sys"]),
        ("clean", vec!["exec", "engine", "prepare", "probe", "sys"]),
        ("stats", vec!["exec", "engine", "probe", "sys"]),
        ("archive", vec!["exec", "engine", "probe", "sys"]),
        ("preload", vec!["exec", "engine", "probe", "sys"]),
        ("doctor", vec!["engine", "init", "prepare", "probe", "sys"]),
        ("redact", vec![]),
        (
            "cli",
            vec![
                "archive", "clean", "preload", "stats", "selftest", "doctor", "exec", "engine", "home", "init",
                "prepare", "probe", "redact", "sys",
            ],
        ),
    ])
}

/// Crates that PID 1's path must not touch.
const HEAVY: [&str; 3] = ["tokio", "bollard", "futures_util"];

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// All files of `src/`, each with the room it belongs to.
fn rooms() -> Vec<(String, PathBuf, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > 10, "the search for source files is broken");
    files
        .into_iter()
        .filter_map(|path| {
            let room = path.strip_prefix(&source).unwrap().components().next()?.as_os_str().to_str()?.to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            path.parent().is_none_or(|folder| folder != source).then_some((room, path, text))
        })
        .collect()
}

/// The rooms a text mentions as `crate::room`, in code as well as in `use` lines.
fn imports(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1).map(str::to_owned).collect::<Vec<_>>())
        .map(|rest| rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect())
        .collect()
}

#[test]
fn arrows_between_rooms_point_down() {
    let allowed = allowed();
    let mut wrong = Vec::new();
    for (room, path, text) in rooms() {
        let known = allowed.get(room.as_str()).unwrap_or_else(|| panic!("src/{room} is no room of the design"));
        for import in imports(&text) {
            if import != room && !known.contains(&import.as_str()) {
                wrong.push(format!("{} uses crate::{import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_search_for_arrows_finds_one() {
    assert_eq!(imports("use crate::cli::say;\n// crate::exec\nlet x = crate::sys::spawn();"), ["cli", "sys"]);
}

#[test]
fn pid_one_never_touches_an_async_runtime() {
    for (room, path, text) in rooms() {
        if ["sys", "probe", "prepare", "init"].contains(&room.as_str()) {
            for heavy in HEAVY {
                assert!(!text.contains(&format!("{heavy}::")), "{} uses {heavy}", path.display());
            }
        }
    }
}

#[test]
fn unsafe_code_lives_in_sys_only() {
    for (room, path, text) in rooms() {
        let lifted = text.contains("allow(unsafe_code)");
        assert!(room == "sys" || !lifted, "{} lifts the ban on unsafe code", path.display());
    }
}

#[test]
fn rooms_on_pid_ones_path_deny_panics() {
    for room in ["sys", "probe", "prepare", "init"] {
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{room}/mod.rs"))).unwrap();
        for lint in ["unwrap_used", "expect_used", "panic", "indexing_slicing"] {
            assert!(text.contains(&format!("clippy::{lint}")), "src/{room} does not deny {lint}");
        }
    }
}

/// Names of steps and checks in a text: the first argument of what makes one, up to where it is put together.
fn names_of_checks(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    ["Step::nothing(", "Check::ok(", "folder("]
        .iter()
        .flat_map(|maker| code.split(maker).skip(1))
        .filter_map(|rest| {
            let word = rest.trim_start();
            let word = word.strip_prefix("format!(").unwrap_or(word).strip_prefix('"')?;
            Some(word.split(['"', '{']).next()?.trim_end_matches([':', '.']).to_owned())
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn every_step_and_check_is_explained() {
    let of = |room: &str| room == "prepare" || room == "doctor";
    let names: Vec<String> =
        rooms().iter().filter(|(room, ..)| of(room)).flat_map(|(_, _, text)| names_of_checks(text)).collect();
    assert!(names.len() > 30, "the search for names is broken: {names:?}");
    let unexplained: Vec<&String> = names
        .iter()
        .filter(|name| name.as_str() != "engine" && dindctl::doctor::docs::section(name).is_none())
        .collect();
    assert!(unexplained.is_empty(), "no section in docs/checks.md for {unexplained:?}");
}

/// Each complaint once, and every test that is named for it is one.
#[test]
fn the_tests_that_answer_complaints_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/complaints.md")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('|').map(str::trim).collect())
        .filter(|row: &Vec<_>| row.len() == 6)
        .collect();
    let numbers: Vec<u32> = rows.iter().filter_map(|row| row[1].parse().ok()).collect();
    assert_eq!(numbers, (1..=55).collect::<Vec<_>>());
    for row in rows.iter().filter(|row| row[1].parse::<u32>().is_ok()) {
        let tests: Vec<&str> = row[4].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row:?}");
        for test in tests {
            let (path, name) = test.split_once("::").unwrap_or_else(|| panic!("{test}"));
            let source = std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(source.contains(&format!("fn {name}(")), "{test} of {}", row[1]);
            // A test of its own, or a case of a list.
            let marked = source.split(&format!("fn {name}(")).next().is_some_and(|before| {
                let lines: Vec<&str> =
                    before.trim_end().lines().rev().take_while(|line| !line.trim().is_empty()).collect();
                lines.iter().any(|line| line.contains("#[test]") || line.contains("#[rstest]"))
            });
            let listed = source.matches(&format!(" {name})")).count() + source.matches(&format!(" {name},")).count();
            let property = source.split("proptest!").skip(1).any(|part| part.contains(&format!("fn {name}(")));
            assert!(marked || listed > 0 || property || source.contains(&format!("body: {name}")), "{test} is no test");
        }
    }
}

/// The clock of the world jumps: it is set by hand, by NTP, by a machine that wakes up. Only what is told to people or compared
/// with dates of certificates may come from it, and each such place is listed here with its reason.
const WALL_CLOCK: [(&str, &str); 2] = [
    ("init/say.rs", "time stamps of our own lines"),
    ("cli/daemon/renewal.rs", "dates of certificates; looked at again every day, so a jump delays nothing for longer"),
];

#[test]
fn a_clock_that_jumps_changes_no_decision_of_pid_one() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let listens = |text: &str| {
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        ["SystemTime::now", "now_utc", "now_local", "CLOCK_REALTIME", "libc::time("]
            .iter()
            .any(|call| code.iter().any(|line| line.contains(call)))
    };
    let mut found: Vec<String> = Vec::new();
    for (room, path, text) in rooms() {
        let own = path.strip_prefix(&source).unwrap().display().to_string();
        let pid_one = ["sys", "probe", "prepare", "init", "engine"].contains(&room.as_str());
        if (pid_one || own.starts_with("cli/daemon")) && listens(text.split("#[cfg(test)]").next().unwrap_or_default())
        {
            found.push(own);
        }
    }
    found.sort();
    let mut allowed: Vec<&str> = WALL_CLOCK.iter().map(|(file, _)| *file).collect();
    allowed.sort_unstable();
    assert_eq!(found, allowed, "the wall clock is read in other places than are known");
}

/// What the supervisor measures time with, and what every moment of a decision comes from.
#[test]
fn the_supervisor_measures_with_the_monotonic_clock() {
    let texts: BTreeMap<PathBuf, String> = rooms().into_iter().map(|(_, path, text)| (path, text)).collect();
    let supervisor = texts.iter().find(|(path, _)| path.ends_with("init/supervisor.rs")).unwrap().1;
    assert!(supervisor.contains("self.epoch.elapsed()") && supervisor.contains("epoch: Instant::now()"));
    for decides in ["init/service.rs", "init/policy.rs", "init/shutdown.rs"] {
        let (_, text) = texts.iter().find(|(path, _)| path.ends_with(decides)).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(!code.contains("Instant") && !code.contains("SystemTime"), "{decides} asks a clock by itself");
    }
}

#[test]
fn help_and_version_need_no_settings() {
    let run = |argument: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dindctl"));
        command.arg(argument).env("DINDCTL_RESTART", "unless-stopped").output().unwrap()
    };
    for argument in ["--version", "--help"] {
        let said = run(argument);
        assert!(said.status.success() && said.stderr.is_empty() && !said.stdout.is_empty(), "{argument}: {said:?}");
    }
    let said = run("status");
    assert_eq!(said.status.code(), Some(125), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("DINDCTL_RESTART"), "{said:?}");
}
