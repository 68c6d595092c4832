//! The names under which scripts of others call dindctl, with programs of theirs.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

fn program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// `name WORDS`, with the folder in `PATH` and as working directory.
fn called(name: &str, folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dindctl"))
        .arg0(name)
        .args(words)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The kernel starts none (ENOEXEC), and a shell reads it as its own.
#[test]
fn a_script_without_its_first_line_is_one_for_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    program(&folder.path().join("plain"), "echo \"by sh: $*\"; exit 7\n");
    let said = called("docker-entrypoint.sh", folder.path(), &["./plain", "a b", "c"]);
    assert_eq!((said.status.code(), text(&said.stdout)), (Some(7), "by sh: a b c\n"), "{said:?}");
    let hooks = folder.path().join("hooks");
    std::fs::create_dir(&hooks).unwrap();
    program(&hooks.join("1"), "echo hook\n");
    let said = called("dindctl", folder.path(), &["hooks", hooks.to_str().unwrap(), "--", "plain", "x"]);
    assert_eq!((said.status.code(), text(&said.stdout)), (Some(7), "hook\nby sh: x\n"), "{said:?}");
}

/// `init` was taken for our own command whatever the name was.
#[test]
fn a_program_of_another_name_is_that_program() {
    let folder = tempfile::tempdir().unwrap();
    program(&folder.path().join("init"), "#!/bin/sh\necho \"theirs: $*\"\n");
    for words in [&["init", "--foo"][..], &["init", "--version"], &["init"]] {
        let said = called("docker-entrypoint.sh", folder.path(), words);
        let want = format!("theirs: {}\n", words[1..].join(" "));
        assert_eq!((said.status.code(), text(&said.stdout)), (Some(0), want.as_str()), "{said:?}");
    }
    let said = called("dindctl", folder.path(), &["init", "--version"]);
    assert!(text(&said.stdout).starts_with("tini version "), "{said:?}");
}
