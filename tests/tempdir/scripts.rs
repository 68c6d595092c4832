//! What the scripts of the stack refuse, before anything is started: they are run where there is no engine to be found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What a script said.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A script with settings of its own, and a `docker` that writes down that it was called.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let docker = folder.path().join("docker");
        fs::write(&docker, "#!/bin/sh\necho \"$*\" >>\"${0%/*}/called\"\nexit 1\n").unwrap();
        fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, script: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.folder.path().display());
        let output = Command::new("bash")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script))
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .env("settings_file", self.at("env"))
            // A lab that is nowhere.
            .env("DINDCTL_LAB_DIR", self.at("lab"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Refused with these words, with something to do, and nothing was begun.
    #[track_caller]
    fn assert_refused(&self, said: &Said, words: &[&str]) {
        assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
        for word in words.iter().chain(&[": error: ", ": hint: "]) {
            assert!(said.err.contains(word), "{word:?} is not in {:?}", said.err);
        }
        assert_eq!(said.err.lines().filter(|line| line.contains(": error: ")).count(), 1, "{}", said.err);
        assert!(!self.at("lab").exists(), "a lab was made");
    }
}

/// One value of each variable that cannot be.
const WRONG: [(&str, &str); 33] = [
    ("DINDCTL_PROFILE", "medium"),
    ("DINDCTL_CPUS", "two"),
    ("DINDCTL_CPUS", "0"),
    ("DINDCTL_MEMORY", "4x"),
    ("DINDCTL_MEMORY", "1m"),
    ("DINDCTL_CPUS_RESERVED", "3"),
    ("DINDCTL_MEMORY_RESERVED", "5g"),
    ("DINDCTL_WAIT", "0"),
    ("DINDCTL_IMAGE", "UPPER case"),
    ("DINDCTL_BASE", "debian:"),
    ("DINDCTL_BINARY", "download"),
    ("DINDCTL_RESTART", "sometimes"),
    ("DINDCTL_LISTEN", "dind:2375"),
    ("DIND_WORKSPACE_PATH", "workspaces"),
    ("DINDCTL_NETWORK", "a network"),
    ("DINDCTL_SUBNET", "172.28.0.1/16"),
    ("COMPOSE_PROJECT_NAME", "Upper"),
    ("DINDCTL_CODE_SERVER_IMAGE", "a//b"),
    ("DINDCTL_EDITOR_ADDRESS", "localhost"),
    ("DINDCTL_EDITOR_PORT", "65536"),
    ("DINDCTL_EDITOR_PORT", "9090"),
    ("DINDCTL_PASSWORD_FILE", "password"),
    ("DINDCTL_EDITOR_CPUS", "-1"),
    ("DINDCTL_EDITOR_MEMORY", "g"),
    ("DINDCTL_WORKSPACE_IMAGE", ":dev"),
    ("DINDCTL_DEV_PORT", "tls"),
    ("DINDCTL_PROMETHEUS_IMAGE", "prom@sha256:1"),
    ("DINDCTL_GRAFANA_IMAGE", "-x"),
    ("DINDCTL_PROMETHEUS_PORT", "0"),
    ("DINDCTL_GRAFANA_PORT", "03000"),
    ("DINDCTL_GRAFANA_PASSWORD_FILE", "./secrets/"),
    ("DINDCTL_METRICS_RETENTION", "0d"),
    ("DINDCTL_METRICS_TARGETS", "dind"),
];

#[test]
fn a_wrong_value_is_refused_by_name_before_anything_starts() {
    let desk = Desk::new();
    for (name, value) in WRONG {
        let said = desk.run("up", &["editor"], &[(name, value)]);
        desk.assert_refused(&said, &[&format!("{name} \"{value}\" (environment)"), "allowed: "]);
    }
    // In the file, too.
    for (name, value) in WRONG {
        fs::write(desk.at("env"), format!("# settings\n{name}={value}\n")).unwrap();
        let said = desk.run("up", &["editor"], &[]);
        desk.assert_refused(&said, &[&format!("{name} \"{value}\""), "allowed: "]);
    }
    assert!(!desk.at("called").exists(), "docker was called: {}", fs::read_to_string(desk.at("called")).unwrap());
}

/// The table has every variable but those whose wrong values are those of another.
#[test]
fn every_variable_is_tried() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lib/settings.sh")).unwrap();
    let table = table.split("\nsettings=(\n").nth(1).unwrap().split("\n)").next().unwrap();
    for line in table.lines() {
        let name = line.trim().trim_start_matches('\'').split(' ').next().unwrap();
        assert!(WRONG.iter().any(|(tried, _)| *tried == name), "{name} is not tried");
    }
}

#[test]
fn a_line_that_is_none_and_a_name_that_nobody_knows_are_refused() {
    let desk = Desk::new();
    for (text, words) in [
        ("DINDCTL_CPUS 2\n", &["line 1", "is no NAME=VALUE"][..]),
        ("\n# x\nDINDCTL_CPU=2\n", &["line 3", "no variable DINDCTL_CPU", "did you mean DINDCTL_CPUS?"]),
        ("DINDCTL_NOTHING_LIKE_IT=2\n", &["no variable DINDCTL_NOTHING_LIKE_IT"]),
    ] {
        fs::write(desk.at("env"), text).unwrap();
        desk.assert_refused(&desk.run("up", &[], &[]), words);
    }
    assert!(!desk.at("called").exists());
}

#[test]
fn overlays_that_are_none_or_do_not_go_together_are_refused() {
    let desk = Desk::new();
    for (overlays, word) in [
        (&["nosuch"][..], "unknown overlay nosuch"),
        (&["--bild"], "unknown overlay --bild"),
        (&["dev", "production"], "dev publishes the daemon's port, and production does not"),
        (&["editor", "monitoring"], "editor has a daemon of its own"),
    ] {
        desk.assert_refused(&desk.run("up", overlays, &[]), &[word]);
    }
    assert!(!desk.at("called").exists());
}

#[test]
fn without_an_engine_the_scripts_of_a_stack_start_none() {
    let desk = Desk::new();
    for script in ["restart", "rebuild", "stats", "clean", "logs", "backup"] {
        let said = desk.run(script, &[], &[]);
        desk.assert_refused(&said, &["no engine runs", "scripts/up"]);
    }
    let said = desk.run("down", &[], &[]);
    assert_eq!((said.code, said.err.contains("no engine runs")), (Some(0), true), "{}", said.err);
    assert!(!desk.at("lab").exists());
}

#[test]
fn help_is_there_and_needs_nothing() {
    let desk = Desk::new();
    for script in
        ["up", "down", "restart", "rebuild", "stats", "clean", "logs", "scan", "diagnostics", "backup", "restore"]
    {
        let said = desk.run(script, &["--help"], &[]);
        assert!(
            said.code == Some(0) && said.out.contains(&format!("scripts/{script}")),
            "{script}: {}{}",
            said.out,
            said.err
        );
    }
    assert!(!desk.at("called").exists());
}

/// Through the filter of scripts/diagnostics.
fn redacted(text: &str, masks: &str) -> String {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("masks"), masks).unwrap();
    let script = format!(". {}/scripts/lib/redact.sh && redact masks", env!("CARGO_MANIFEST_DIR"));
    let mut child = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn no_secret_comes_through_the_filter_and_facts_do() {
    let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let key = "-----BEGIN EC PRIVATE KEY-----\nPLANTED\nPLANTED\n-----END EC PRIVATE KEY-----\nafter the key\n";
    for text in [
        "level=info msg=\"password=PLANTED next\"",
        "token: PLANTED, then",
        "\"client_secret\": \"PLANTED with words\", \"other\": 1",
        "MY_API_KEY='PLANTED and more' x",
        "Authorization: Bearer PLANTED",
        "sent X-Registry-Auth: PLANTED\"",
        "a Bearer PLANTED-PLANTED.PLANTED",
        "https://bob:PLANTED@registry.example/v2/",
        "HTTP_PROXY=http://PLANTED@proxy:3128",
        "docker login --password PLANTED -u bob",
        "eyJPLANTEDPLANTED.eyJPLANTEDPLANTED.PLANTED",
        "GITHUB=ghp_PLANTEDabcdefghijklmnopqrst",
        key,
        "{\"k\":\"-----BEGIN PRIVATE KEY-----\\nPLANTED\\n-----END PRIVATE KEY-----\\n\"}",
        "{\"k\":\"-----BEGIN RSA PRIVATE KEY-----\\nPLANTED",
        "it says PLANTED-MASK-1 and PLANTED-MASK",
    ] {
        let said = redacted(&format!("before {id}\n{text}\n"), "PLANTED-MASK\nPLANTED-MASK-1\nab\n");
        assert!(!said.contains("PLANTED") && said.contains("left out"), "{text:?} became {said:?}");
        assert!(said.starts_with(&format!("before {id}\n")), "{said:?}");
    }
    assert!(redacted(key, "").ends_with("\nafter the key\n"));
    // One without an end takes no more than the longest key has.
    let open = format!("-----BEGIN RSA PRIVATE KEY-----\n{}after\n", "PLANTED\n".repeat(61));
    assert_eq!(redacted(&open, ""), "(a private key was left out)\nafter\n");
    for fact in [
        "tls.key ecdsa default",
        "tokens unlimited",
        &format!("sha256:{id}"),
        "unix:///var/run/docker.sock,tcp://0.0.0.0:2376",
        "ab abc",
    ] {
        assert_eq!(redacted(&format!("{fact}\n"), "ab\n"), format!("{fact}\n"));
    }
}
