//! `scripts/diagnostics` of a stack with secrets in every place that people put them.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libtest_mimic::Failed;

use super::compose::Stack;
use super::docker::docker;

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[(
    "diagnostics::planted_secrets_are_in_no_file_and_gaps_are_named",
    planted_secrets_are_in_no_file_and_gaps_are_named,
)];

/// Every planted value has this in it.
const PLANTED: &str = "pLaNtEd";

/// Variables, a label, and words of the command line.
const FURTHER: &str = r#"
services:
  dind:
    environment:
      REGISTRY_TOKEN: "pLaNtEd-token"
      HTTP_PROXY: "http://bob:pLaNtEd-proxy@127.0.0.1:9"
      NO_PROXY: "*"
      HARMLESS: "pLaNtEd-in-any-variable"
    labels:
      note: "pLaNtEd-label"
    command: ["--label", "password=pLaNtEd-argument"]
    build:
      context: .
      args:
        NPM_TOKEN: "pLaNtEd-build"
"#;

/// What is inside: the log, the credentials of a registry, nested containers.
const INSIDE: &str = r#"
    set -e
    printf '%s\n' 'login with password=pLaNtEd-log' 'the bare pLaNtEd-token of a variable' 'the bare pLaNtEd-file of a secret' \
        'GET https://bob:pLaNtEd-url@host/' '-----BEGIN EC PRIVATE KEY-----' 'pLaNtEd+key' '-----END EC PRIVATE KEY-----' >/proc/1/fd/2
    mkdir -p /root/.docker
    echo "{\"auths\":{\"registry.example\":{\"auth\":\"$(printf bob:pLaNtEd-auth | base64)\"}}}" >/root/.docker/config.json
    echo '{"proxies":{"http-proxy":"http://bob:pLaNtEd-daemon@127.0.0.1:9"},"labels":["k=pLaNtEd-label-of-the-daemon"]}' >/etc/docker/daemon.json
    tar -C /usr/local/bin -c dindctl | docker import - tiny >/dev/null
    docker run -d --name nested --network=none -e SECRET=pLaNtEd-nested --label x=pLaNtEd-nested-label tiny \
        /dindctl health --wait 1h --timeout 9s >/dev/null
    docker create --name created tiny /nothing --password pLaNtEd-nested-argument >/dev/null
    printf '%s\n' 'bare pLaNtEd-nested, pLaNtEd-nested-argument, pLaNtEd-auth and pLaNtEd-daemon' "$(printf bob:pLaNtEd-auth | base64)" >/proc/1/fd/2
"#;

/// How `printf bob:pLaNtEd-auth | base64` ends, without its last letters.
fn encoded() -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode("bob:pLaNtEd-auth")[6..18].to_owned()
}

/// The files of an archive by name.
fn unpacked(path: &Path) -> BTreeMap<String, String> {
    let archive = std::fs::File::open(path).expect("the archive");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let mut files = BTreeMap::new();
    for entry in archive.entries().expect("tar") {
        let mut entry = entry.expect("tar");
        let name = entry.path().expect("name").display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("tar");
        files.insert(name, String::from_utf8_lossy(&content).into_owned());
    }
    files
}

fn planted_secrets_are_in_no_file_and_gaps_are_named() -> Result<(), Failed> {
    let mut stack = Stack::new(&["production"]);
    let further = stack.folder.join("further.yaml");
    std::fs::write(&further, FURTHER)?;
    std::fs::write(stack.folder.join("password"), "pLaNtEd-file\n")?;
    stack.further = Some(further);
    stack.up(&[]);
    stack.sh("dind", INSIDE).ok();
    let file = stack.folder.join("bundle.tar.gz");
    let path = file.to_str().ok_or("path")?;
    let said = stack.script("diagnostics", &[path]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let files = unpacked(&file);
    for (name, content) in &files {
        assert!(
            !content.contains(PLANTED) && !content.contains(&encoded()),
            "{name}: {}",
            content.lines().find(|line| line.contains(PLANTED)).unwrap_or_default()
        );
    }
    assert!(!said.out.contains(PLANTED) && !said.err.contains(PLANTED), "{said:?}");

    // What it is for is there.
    let of = |end: &str| {
        let found = files.iter().find(|(name, _)| name.ends_with(end));
        found.map_or_else(|| panic!("no {end} in {:?}", files.keys()), |(_, content)| content.as_str())
    };
    for (end, want) in [
        ("inside/status.json", "\"dockerd\""),
        ("inside/health.json", "healthy"),
        ("inside/doctor.json", "\"verdict\""),
        ("inside/plan.json", "cgroup"),
        ("inside/containers.txt", "nested tiny"),
        ("inside/containers.json", "\"SECRET=(left out)\""),
        ("inside/daemon.json", "http://(left out)@127.0.0.1:9"),
        ("stack/compose.json", "\"REGISTRY_TOKEN=(left out)\""),
        ("inside/processes.txt", "dockerd"),
        ("inside/mounts.txt", " /var/lib/docker "),
        ("/log.txt", "dockerd is ready"),
        ("/log.txt", "(left out)"),
        ("/container.json", "\"REGISTRY_TOKEN=(left out)\""),
        ("/container.json", "\"Privileged\": true"),
        ("engine/info.json", "\"CgroupVersion\""),
        ("stack/containers.txt", "dind"),
        ("settings.txt", "DINDCTL_SUBNET="),
        ("machine/kernel.txt", "Linux"),
    ] {
        assert!(of(end).contains(want), "{end} has no {want}:\n{}", of(end));
    }
    for part in files.keys().filter_map(|name| name.strip_prefix("diagnostics/")).filter(|name| !name.is_empty()) {
        let part = part.trim_end_matches(".stderr");
        let listed =
            part == "MANIFEST" || part.ends_with('/') || of("MANIFEST").lines().any(|line| line.starts_with(part));
        assert!(listed, "{part} is not in the manifest");
    }

    // Half dead: what is left is gathered, and the rest is named.
    stack.compose(&["stop", "--timeout", "45", "dind"]).ok();
    let said = stack.script("diagnostics", &["--lines", "50", path]);
    assert!(said.code == 2 && said.err.contains("the dind service does not run"), "{said:?}");
    let files = unpacked(&file);
    assert!(files["diagnostics/MANIFEST"].contains("FAILED: the dind service does not run"));
    assert!(
        files
            .iter()
            .any(|(name, content)| name.ends_with("/container.json") && content.contains("\"Status\": \"exited\""))
    );
    assert!(files.values().all(|content| !content.contains(PLANTED)));
    // And no stack at all.
    let project = stack.environment.iter().position(|(name, _)| *name == "COMPOSE_PROJECT_NAME").ok_or("project")?;
    let before = std::mem::replace(&mut stack.environment[project].1, "no-such-stack".into());
    let said = stack.script("diagnostics", &[path]);
    stack.environment[project].1 = before;
    assert!(said.code == 2 && said.err.contains("stack: FAILED: no stack"), "{said:?}");
    let left: Vec<_> =
        std::fs::read_dir(&stack.folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
    assert!(docker(&["version"]).code == 0);
    Ok(())
}
