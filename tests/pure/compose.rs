//! The compose files, `.env.example`, the profiles and the table of the scripts say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dindctl::cli::config::keys::KEYS;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compose")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every compose file with its text.
fn files() -> BTreeMap<String, String> {
    let names = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let all: BTreeMap<String, String> = names
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "yaml"))
        .map(|name| (name.clone(), text(&name)))
        .collect();
    assert!(all.len() >= 6, "{:?}", all.keys());
    all
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// Every service that a file makes (an overlay may only add to one): its name and what it is.
fn services() -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (file, text) in files() {
        for (name, service) in yaml(&text)["services"].as_object().unwrap() {
            if service.get("image").is_some() {
                all.push((file.clone(), name.clone(), service.clone()));
            }
        }
    }
    assert!(all.len() >= 6);
    all
}

/// `${NAME:-default}` in a text; `$$` is a dollar sign.
fn variables(text: &str) -> Vec<(String, Option<String>)> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for piece in code.replace("$$", "").split("${").skip(1) {
        let inside = piece.split('}').next().unwrap_or_default();
        found.push(match inside.split_once(":-") {
            Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
            None => (inside.to_owned(), None),
        });
    }
    found
}

/// `#NAME=default` lines.
fn examples() -> BTreeMap<String, String> {
    let text = text(".env.example");
    let lines = text.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
    lines
        .filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        .map(|(name, default)| (name.to_owned(), default.to_owned()))
        .collect()
}

/// `'NAME KIND DEFAULT'` in the table of scripts/lib/settings.sh.
fn settings() -> BTreeMap<String, String> {
    let text = text("../scripts/lib/settings.sh");
    let table = text.split("\nsettings=(\n").nth(1).unwrap().split("\n)").next().unwrap();
    table
        .lines()
        .map(|line| {
            let mut words = line.trim().trim_matches('\'').splitn(3, ' ');
            let name = words.next().unwrap().to_owned();
            assert!(words.next().is_some(), "{line}");
            (name, words.next().unwrap_or_default().to_owned())
        })
        .collect()
}

#[test]
fn every_variable_has_one_default_and_is_explained() {
    let (examples, settings) = (examples(), settings());
    assert!(examples.len() > 20);
    assert_eq!(examples, settings, ".env.example and scripts/lib/settings.sh");
    let mut used = BTreeSet::new();
    for (file, text) in files() {
        for (name, default) in variables(&text) {
            assert_eq!(default.as_ref(), settings.get(&name), "${{{name}}} in {file}");
            used.insert(name);
        }
    }
    let scripts_own = ["DINDCTL_PROFILE", "DINDCTL_WAIT"];
    let unused: Vec<&String> = settings.keys().filter(|name| !used.contains(*name)).collect();
    assert_eq!(unused, scripts_own, "variables that no compose file uses");
}

/// The scripts export some of them, and dindctl itself reads the environment: one name has one meaning.
#[test]
fn no_variable_means_something_else_to_dindctl() {
    for name in settings().keys().filter(|name| KEYS.iter().any(|key| key.env == **name)) {
        let handed_on = services().iter().any(|(_, _, service)| {
            service["environment"][name].as_str().is_some_and(|value| value.starts_with(&format!("${{{name}:-")))
        });
        assert!(handed_on, "{name} is a setting of dindctl's and of the stack's");
    }
}

#[test]
fn the_search_for_variables_finds_them() {
    let found = variables("# ${NO:-1}\na: ${ONE:-x:y}/${TWO}\nb: $${THREE} $$FOUR");
    assert_eq!(found, [("ONE".into(), Some("x:y".into())), ("TWO".into(), None)]);
}

#[test]
fn profiles_are_those_of_the_design_and_reserve_half() {
    for (name, cpus, gigabytes) in [("low", 2, 4), ("standard", 4, 8), ("high", 8, 16)] {
        let text = text(&format!("profiles/{name}.env"));
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let want = [
            format!("DINDCTL_CPUS={cpus}"),
            format!("DINDCTL_MEMORY={gigabytes}g"),
            format!("DINDCTL_CPUS_RESERVED={}", cpus / 2),
            format!("DINDCTL_MEMORY_RESERVED={}g", gigabytes / 2),
        ];
        assert_eq!(lines, want);
    }
}

#[test]
fn every_service_is_bounded_watched_and_stopped_in_order() {
    for (file, name, service) in services() {
        let place = format!("{name} in {file}");
        let limits = &service["deploy"]["resources"]["limits"];
        assert!(limits["cpus"].is_string() && limits["memory"].is_string(), "{place}: {limits}");
        let logging = serde_json::json!({"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}});
        assert_eq!(service["logging"], logging, "{place}");
        assert_eq!(service["restart"], "${DINDCTL_CONTAINER_RESTART:-unless-stopped}", "{place}");
        assert_eq!(service["networks"], serde_json::json!(["default"]), "{place}");
        for wanted in ["test", "interval", "timeout", "retries", "start_period", "start_interval"] {
            assert!(!service["healthcheck"][wanted].is_null(), "{place}: no healthcheck.{wanted}");
        }
        assert!(service["stop_grace_period"].is_string(), "{place}");
        let test = service["healthcheck"]["test"].to_string();
        // What has a daemon is healthy when that is.
        assert_eq!(
            test.contains("dindctl") && test.contains("health"),
            name == "dind" || file.contains("editor"),
            "{place}"
        );
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            assert_eq!(how["condition"], "service_healthy", "{place} depends on {other}");
        }
        let tag = service["image"].as_str().unwrap().trim_end_matches('}').rsplit(':').next().unwrap().to_owned();
        assert!(!tag.contains('/') && tag != "latest" && !tag.is_empty(), "{place}: an image without a tag");
    }
}

#[test]
fn only_what_has_a_daemon_is_privileged() {
    for (file, name, service) in services() {
        let has_daemon = (file.as_str(), name.as_str()) == ("compose.yaml", "dind") || file == "compose.editor.yaml";
        assert_eq!(service["privileged"] == true, has_daemon, "{name} in {file}");
        assert!(!service.to_string().contains("/var/run/docker.sock:"), "{name} in {file} has the machine's socket");
    }
}

#[test]
fn ports_are_published_on_this_machine_only_and_none_of_the_daemon_in_production() {
    for (file, text) in files() {
        for (name, service) in yaml(&text)["services"].as_object().unwrap() {
            for port in service["ports"].as_array().into_iter().flatten() {
                let port = port.as_str().unwrap();
                let here = ["127.0.0.1:", "${DINDCTL_EDITOR_ADDRESS:-127.0.0.1}:"];
                assert!(here.iter().any(|start| port.starts_with(start)), "{name} in {file}: {port}");
                let daemons = name == "dind";
                assert!(!daemons || file == "compose.dev.yaml", "{file} publishes the daemon's port {port}");
                assert!(!daemons || port.ends_with(":2376"), "{file} publishes a plain port of the daemon: {port}");
            }
        }
    }
}

#[test]
fn a_client_and_production_have_mutual_tls_alone() {
    for file in ["compose.code-server.yaml", "compose.dev.yaml", "compose.production.yaml"] {
        let environment = yaml(&text(file))["services"]["dind"]["environment"].clone();
        assert_eq!(environment["DOCKER_TLS_CERTDIR"], "/certs", "{file}");
        let listen = environment["DINDCTL_LISTEN"].as_str().unwrap_or_default().to_owned();
        assert_eq!(listen, "unix:///var/run/docker.sock,tcp://0.0.0.0:2376", "{file}");
    }
}

#[test]
fn secrets_are_files() {
    for (file, text) in files() {
        for (name, secret) in yaml(&text)["secrets"].as_object().into_iter().flatten() {
            assert!(secret["file"].is_string() && secret.as_object().unwrap().len() == 1, "{name} in {file}: {secret}");
        }
        let given = text.lines().find(|line| {
            let line = line.trim_start();
            line.starts_with("PASSWORD:") || line.contains("_PASSWORD:") || line.contains("PASSWORD=")
        });
        assert_eq!(given, None, "{file} hands a password over in the environment");
    }
}

#[test]
fn the_dashboard_asks_the_source_that_is_provisioned() {
    let source = yaml(&text("monitoring/datasource.yml"));
    let uid = source["datasources"][0]["uid"].as_str().unwrap().to_owned();
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let dashboard: Value = serde_json::from_str(&text("monitoring/dashboards/dindctl.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let charts: Vec<&Value> = panels.iter().filter(|panel| panel["type"] != "row").collect();
    assert!(charts.len() >= 5, "{} charts", charts.len());
    for panel in charts {
        assert_eq!(panel["datasource"]["uid"], uid.as_str(), "{}", panel["title"]);
        let asks = panel["targets"].as_array().is_some_and(|targets| {
            !targets.is_empty()
                && targets.iter().all(|target| target["expr"].as_str().is_some_and(|it| it.contains("dindctl")))
        });
        assert!(asks, "{} asks nothing of dindctl", panel["title"]);
    }
}
