//! `dindctl selftest` on a real daemon, with limits that hold and with limits that do not.

use libtest_mimic::Failed;
use serde_json::Value;

use super::docker::{Container, docker, image};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("selftest::limits_hold_and_are_measured", limits_hold_and_are_measured),
    ("selftest::a_runtime_that_loosens_limits_is_caught", a_runtime_that_loosens_limits_is_caught),
    ("selftest::a_tighter_group_around_is_told", a_tighter_group_around_is_told),
    ("selftest::an_interrupted_run_leaves_nothing", an_interrupted_run_leaves_nothing),
    ("selftest::usage_errors_are_told_at_once", usage_errors_are_told_at_once),
];

/// Name, verdict and source of each check.
fn rows(report: &Value) -> Vec<(String, String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let row = |row: &Value| (text(row, "name"), text(row, "verdict"), text(row, "source"));
    report["checks"].as_array().unwrap().iter().map(row).collect()
}

fn nothing_is_left(dind: &Container) {
    let left = dind.sh("docker ps --all --quiet; docker images --quiet; docker volume ls --quiet").ok();
    assert_eq!(left, "");
}

fn limits_hold_and_are_measured() -> Result<(), Failed> {
    let dind = Container::dind("selftest", &[]);
    let report: Value = serde_json::from_str(&dind.exec(&["dindctl", "selftest", "-o", "json"]).ok())?;
    assert_eq!(report["schema"], "dindctl.selftest/v1");
    assert!(report["host"]["name"].as_str().is_some_and(|name| name.contains("Docker container")), "{report}");
    assert!(report["engine"]["parts"]["runc"].is_string(), "{report}");
    for (name, verdict, source) in rows(&report) {
        match name.as_str() {
            "memory" | "pids" => assert_eq!((verdict.as_str(), source.as_str()), ("pass", "control-group"), "{report}"),
            // A busy machine, one without swap, or a data root on no disk is told and is no failure.
            _ => assert_ne!(verdict, "fail", "{report}"),
        }
    }
    nothing_is_left(&dind);
    // From elsewhere only the daemon can read the counters.
    let (host, options) =
        (format!("DOCKER_HOST=tcp://{}:2375", dind.address()), ["run", "--rm", "--entrypoint=dindctl"]);
    let remote = ["--env", &host, &image(), "selftest", "-o", "json", "cpu", "memory", "pids", "io"];
    let report: Value = serde_json::from_str(&docker(&[&options[..], &remote].concat()).ok())?;
    for (name, verdict, source) in rows(&report) {
        match name.as_str() {
            "memory" | "pids" => assert_eq!((verdict.as_str(), source.as_str()), ("pass", "daemon"), "{report}"),
            "io" => assert_eq!(verdict, "skipped", "{report}"),
            _ => assert_ne!(verdict, "fail", "{report}"),
        }
    }
    nothing_is_left(&dind);
    Ok(())
}

fn a_runtime_that_loosens_limits_is_caught() -> Result<(), Failed> {
    // Every container gets more than it was promised.
    const LOOSE: &str = r#"cat >/usr/local/bin/loose <<'EOF' && chmod +x /usr/local/bin/loose
#!/bin/sh
for word; do
    if [ "$previous" = --bundle ]; then
        sed -i 's/67108864/100663296/g; s/33554432/100663296/g; s/"quota":50000/"quota":80000/; s/"limit":32\b/"limit":40/' "$word/config.json"
    fi
    previous=$word
done
exec runc "$@"
EOF"#;
    let options = ["--privileged", "--env=DOCKER_TLS_CERTDIR="];
    let runtime = ["--add-runtime=loose=/usr/local/bin/loose", "--default-runtime=loose"];
    let dind = Container::start("selftest", &options, &runtime);
    dind.wait_healthy(std::time::Duration::from_secs(60));
    dind.sh(LOOSE).ok();
    let said = dind.exec(&["dindctl", "selftest", "-o", "json", "memory", "pids", "cpu"]);
    assert_eq!(said.code, 1, "{said:?}");
    let report: Value = serde_json::from_str(&said.out)?;
    let verdict =
        |number: usize| (report["checks"][number]["verdict"].clone(), report["checks"][number]["reason"].clone());
    for number in [0, 1] {
        let (verdict, reason) = verdict(number);
        assert_eq!(verdict, "fail", "{report}");
        assert!(reason.as_str().is_some_and(|reason| reason.contains("more than its limit")), "{report}");
    }
    assert_eq!(report["checks"][1]["measured"]["value"], 40.0, "{report}");
    // Half a CPU that became four fifths; a machine too busy to give more than the tolerance allows proves nothing.
    let half = &report["checks"][2];
    assert!(
        half["verdict"] == "fail" || half["measured"]["value"].as_f64().is_some_and(|cpus| cpus < 0.55),
        "{report}"
    );
    nothing_is_left(&dind);
    Ok(())
}

fn a_tighter_group_around_is_told() -> Result<(), Failed> {
    let dind = Container::dind("selftest", &[]);
    docker(&["update", "--cpus", "0.3", &dind.name]).ok();
    let said = dind.exec(&["dindctl", "selftest", "cpu"]);
    // cgroup v1 refuses a quota above that of the group around; v2 takes it and gives less.
    let told = said.out.contains("a group around it has a lower limit") || said.out.contains("refuses the limit");
    assert!(said.code == 1 && told, "{said:?}");
    Ok(())
}

fn an_interrupted_run_leaves_nothing() -> Result<(), Failed> {
    let dind = Container::dind("selftest", &[]);
    let said = dind.sh("timeout --preserve-status --signal TERM 3 dindctl selftest cpu");
    assert_eq!(said.code, 143, "{said:?}");
    assert!(said.err.contains("what was started is removed"), "{said:?}");
    nothing_is_left(&dind);
    Ok(())
}

fn usage_errors_are_told_at_once() -> Result<(), Failed> {
    let dind = Container::dind("selftest", &[]);
    for (arguments, words) in [
        (&["cpux"][..], "did you mean cpu?"),
        (&["-o", "xml"], "choose text, json or junit"),
        (&["--checks"], "--checks"),
    ] {
        let said = dind.exec(&[&["dindctl", "selftest"], arguments].concat());
        assert_eq!(said.code, 125, "{said:?}");
        assert!(said.err.contains(words) && said.out.is_empty(), "{said:?}");
    }
    Ok(())
}
