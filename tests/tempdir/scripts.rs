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
    ("DINDCTL_CONTAINER_RESTART", "sometimes"),
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

/// Its program is Python, which says what may be said and ends with 2.
#[test]
fn a_bench_that_cannot_be_is_refused_before_anything_is_made() {
    let desk = Desk::new();
    let empty = desk.folder.path().display().to_string();
    for (arguments, words) in [
        (&["--runs", "many"][..], "'many' is no number of rounds: 1 or more is expected"),
        (&["--runs", "0"], "'0' is no number of rounds"),
        (&["--only", "speed"], "invalid choice: 'speed'"),
        (&["--official-scripts", &empty], "has no dockerd-entrypoint.sh, docker-entrypoint.sh, dind"),
        (&["--image"], "expected one argument"),
        (&["--nothing-like-it"], "unrecognized arguments: --nothing-like-it"),
    ] {
        let said = desk.run("bench", arguments, &[]);
        assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
        assert!(said.err.contains("scripts/bench: error: ") && said.err.contains(words), "{}", said.err);
    }
    assert!(!desk.at("lab").exists() && !desk.at("called").exists());
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
fn redacted(text: &str, masks: &[&str]) -> String {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_dindctl"))
        .args(["redact", "--masks-first"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = format!("{}\n{text}", serde_json::json!(masks));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
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
        "{\"msg\":\"x\",\"password\":\"a\\\"PLANTED\"}",
        "msg=\"{\\\"token\\\":\\\"PLANTED\\\",\\\"n\\\":1}\"",
        "[\"--password\",\"PLANTED\",\"--debug\"]",
        "proxy http://user:pa/PLANTED@proxy:3128",
        "proxy http://user:pa@PLANTED@proxy:3128",
        "HTTP_PROXY=me:PLANTED@proxy:3128",
        "PASSWORD=it's\"PLANTED",
        "{\"auths\":{\"r\":{\"auth\":\"PLANTED\"}}}",
        "curl -u admin:PLANTED http://x",
        "docker login -u me -p PLANTED host",
        "password: correct horse PLANTED",
        "GET /x?X-Amz-Signature=PLANTED HTTP/1.1",
        "a8Fk2Lq9Zx7Cv3Bn5Mm1Ww4Ee6RrPLANTEDTt0Yy",
        "t1 -----BEGIN EC PRIVATE KEY-----\nt2 PLANTED\nt3 -----END EC PRIVATE KEY-----",
        "it says PLANTED-MASK-1 and PLANTED-MASK",
    ] {
        let said = redacted(&format!("before {id}\n{text}\n"), &["PLANTED-MASK", "PLANTED-MASK-1", "ab"]);
        assert!(!said.contains("PLANTED") && said.contains("left out"), "{text:?} became {said:?}");
        assert!(said.starts_with(&format!("before {id}\n")), "{said:?}");
    }
    assert!(redacted(key, &[]).ends_with("\nafter the key\n"));
    for fact in [
        "tls.key ecdsa default",
        "tokens unlimited",
        &format!("sha256:{id}"),
        "unix:///var/run/docker.sock,tcp://0.0.0.0:2376",
        "ab abc",
    ] {
        assert_eq!(redacted(&format!("{fact}\n"), &["ab"]), format!("{fact}\n"));
    }
}

/// A `docker` with one container, full of secrets, whose daemon is dead.
const HALF_DEAD: &str = r#"#!/bin/sh
# The last case is what nobody expects.
case "$*" in
    "version --format "*) echo 26.1.5 ;;
    "compose version" | "buildx version") echo v2 ;;
    "inspect --type container -f {{.Id}} my-dind") echo 0123456789ab ;;
    "inspect -f {{.Id}} 0123456789ab") echo 0123456789ab ;;
    "inspect -f {{.State.Running}} 0123456789ab") echo true ;;
    "inspect 0123456789ab")
        echo '[{"Id":"0123456789ab","Name":"/my-dind","Args":["--api-token","PLANTED-argument"],"State":{"Status":"running","Error":"x"},
            "Config":{"Env":["DB_PASSWORD=PLANTED-password with spaces","ANY=PLANTED-any","DINDCTL_MTU=1400","DINDCTL_BIP=PLANTED-wrong"],
            "Labels":{"com.example.secret":"PLANTED-label"},"Cmd":["PLANTED-cmd"]}}]' ;;
    "logs "*)
        echo 'dockerd is ready'
        echo 'bare PLANTED-argument, PLANTED-label and PLANTED-password with spaces'
        echo 'bare PLANTED-auth and UExBTlRFRC1hdXRo' >&2
        printf 'password\033=PLANTED-escape\n' | tr -d '\033' ;;
    "cp "*:/root/.docker/config.json*)
        echo '{"auths":{"r":{"auth":"dXNlcjpQTEFOVEVELWF1dGg="}}}' >"$0.config.json"
        tar -C "${0%/*}" -c docker.config.json
        rm "$0.config.json" ;;
    "cp "*:/var/lib/docker/containers*) echo 'Error response from daemon: disk' >&2; exit 1 ;;
    "cp "*) echo "Error response from daemon: Could not find the file $4 in container" >&2; exit 1 ;;
    "exec 0123456789ab cat /etc/docker/daemon.json")
        echo '{"proxies":{"http-proxy":"http://u:PLANTED-daemon@p:1"},"labels":["k=PLANTED-key"],"mtu":1400}' ;;
    "exec 0123456789ab test -e /etc/docker/"*) ;;
    "exec 0123456789ab dindctl health -o json") echo '{"healthy":false,"token":"PLANTED-token"}'; exit 1 ;;
    "exec 0123456789ab dindctl plan -o json") echo '{"arguments":["--http-proxy=http://u:PLANTED-plan@p"]}'; echo 'note: password=PLANTED-note' >&2 ;;
    "exec 0123456789ab dindctl status -o json") echo 'Error response from daemon: it is paused' >&2; exit 1 ;;
    "exec 0123456789ab dindctl "*) echo '{}' ;;
    "exec 0123456789ab docker "* | "exec 0123456789ab sh -c "*ids=*) echo 'Cannot connect, password=PLANTED-inner' >&2; exit 1 ;;
    "exec 0123456789ab "*) echo inside ;;
    *) echo "asked: $*" ;;
esac
"#;

#[test]
fn of_a_half_dead_container_the_bundle_has_what_is_left_and_no_secret() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    fs::write(desk.at("docker"), HALF_DEAD).unwrap();
    let bundle = desk.at("bundle.tar.gz");
    let path = bundle.to_str().unwrap();
    let environment =
        [("DINDCTL_BIN", env!("CARGO_BIN_EXE_dindctl")), ("TMPDIR", desk.folder.path().to_str().unwrap())];
    let said = desk.run("diagnostics", &["--container", "my-dind", path], &environment);
    assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
    assert_eq!(fs::metadata(&bundle).unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpacked(&bundle);
    for (name, content) in &files {
        let line = content.lines().find(|line| line.contains("PLANTED") || line.contains("UExBTlRFRC1"));
        assert!(line.is_none(), "{name}: {}", line.unwrap());
    }
    assert!(!format!("{}{}", said.out, said.err).contains("PLANTED"), "{}{}", said.out, said.err);
    assert!(!said.err.contains("dindctl: "), "{}", said.err);
    let of = |name: &str| files.get(&format!("diagnostics/{name}")).map_or("", String::as_str);
    let manifest = of("MANIFEST");
    for line in
        ["inside/containers.json", "inside/engine-info.json", "inside/status.json", "secrets of nested containers"]
    {
        let listed = manifest.lines().find(|known| known.starts_with(line));
        assert!(listed.is_some_and(|line| line.contains("FAILED: ")) && said.err.contains(line), "{line}:\n{manifest}");
    }
    assert!(manifest.contains("inside/health.json               whole, exit code 1"), "{manifest}");
    for (name, want) in [
        ("services/my-dind/container.json", "\"DINDCTL_MTU=1400\""),
        ("services/my-dind/container.json", "\"DB_PASSWORD=(left out)\""),
        ("services/my-dind/container.json", "\"DINDCTL_BIP=(left out)\""),
        ("services/my-dind/log.txt", "dockerd is ready"),
        ("services/my-dind/log.txt", "bare (left out), (left out) and (left out)\n"),
        ("inside/daemon.json", "http://(left out)@p:1"),
        ("inside/plan.json", "--http-proxy=http://(left out)@p"),
        ("inside/plan.json.stderr", "note: password=(left out)"),
        ("inside/health.json", "\"healthy\": false"),
        ("machine/kernel.txt", "Linux"),
    ] {
        assert!(of(name).contains(want), "{name} has no {want}:\n{}", of(name));
    }
    // Every part is in the manifest, and nothing else is left in the folder.
    for part in files.keys().filter_map(|name| name.strip_prefix("diagnostics/")) {
        let part = part.trim_end_matches(".stderr");
        let known = part.is_empty() || part == "MANIFEST" || part.ends_with('/');
        assert!(known || manifest.lines().any(|line| line.starts_with(part)), "{part} is not in\n{manifest}");
    }
    let left = fs::read_dir(desk.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name != "docker" && name != "bundle.tar.gz").count(), 0);
}

/// A bundle once said of them "exit code 1" and no more.
#[test]
fn of_settings_that_cannot_be_the_bundle_says_why() {
    let desk = Desk::new();
    let bundle = desk.at("bundle.tar.gz");
    let environment = [("DINDCTL_BIN", env!("CARGO_BIN_EXE_dindctl")), ("DINDCTL_DEV_PORT", "8080")];
    let said = desk.run("diagnostics", &[bundle.to_str().unwrap()], &environment);
    assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
    let why = "FAILED: DINDCTL_DEV_PORT \"8080\" (environment) cannot be";
    let files = unpacked(&bundle);
    let manifest = &files["diagnostics/MANIFEST"];
    assert!(manifest.lines().any(|line| line.starts_with("settings.txt ") && line.contains(why)), "{manifest}");
    assert!(said.err.contains(&format!("settings.txt: {why}")), "{}", said.err);
}

/// The files of an archive by name.
fn unpacked(path: &Path) -> std::collections::BTreeMap<String, String> {
    use std::io::Read;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(path).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), String::from_utf8_lossy(&content).into_owned())
    });
    entries.collect()
}

#[test]
fn diagnostics_without_an_engine_has_the_machine_and_a_bundle_is_never_put_where_it_does_not_belong() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    let environment = [("DINDCTL_BIN", env!("CARGO_BIN_EXE_dindctl"))];
    let bundle = desk.at("bundle.tar.gz");
    let said = desk.run("diagnostics", &[bundle.to_str().unwrap()], &environment);
    assert!(said.code == Some(2) && said.err.contains("engine: FAILED: no engine answers"), "{}{}", said.out, said.err);
    let files = unpacked(&bundle);
    assert!(files["diagnostics/MANIFEST"].contains("FAILED: no engine answers"));
    assert!(files["diagnostics/machine/kernel.txt"].contains("Linux"));

    let open = desk.at("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let said = desk.run("diagnostics", &[open.join("x").to_str().unwrap()], &environment);
    desk.assert_refused(&said, &["anybody may write in", "open"]);
    let folder = desk.folder.path().to_str().unwrap();
    desk.assert_refused(&desk.run("diagnostics", &[folder], &environment), &["is a folder"]);
    desk.assert_refused(&desk.run("diagnostics", &["/dev/null"], &environment), &["/dev/null is no file"]);
    desk.assert_refused(&desk.run("diagnostics", &["/no/such/x"], &environment), &["/no/such is no folder"]);
    desk.assert_refused(&desk.run("diagnostics", &["--lines", "0"], &environment), &["--lines needs a number"]);
    desk.assert_refused(
        &desk.run("diagnostics", &["--container", "-x"], &environment),
        &["--container needs the name"],
    );
}
