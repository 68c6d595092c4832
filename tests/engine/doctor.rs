//! `dindctl doctor` and `plan` in containers that are well and in those that are not.

use libtest_mimic::Failed;
use serde_json::Value;

use super::docker::{Container, docker, image, rootless_image};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("doctor::a_running_daemon_is_well", a_running_daemon_is_well),
    ("doctor::without_privileges_it_says_what_is_missing", without_privileges_it_says_what_is_missing),
    ("doctor::a_data_root_on_overlay_is_told", a_data_root_on_overlay_is_told),
    ("doctor::a_killed_daemon_is_remembered", a_killed_daemon_is_remembered),
    ("doctor::a_user_gets_the_plan_of_a_user", a_user_gets_the_plan_of_a_user),
];

/// `dindctl ARGUMENTS` in a container of its own.
fn alone(options: &[&str], arguments: &[&str]) -> super::docker::Said {
    let run = ["run", "--rm", "--label=dindctl.test=1", "--env=DOCKER_TLS_CERTDIR=", "--entrypoint=dindctl"];
    docker(&[&run[..], options, &[&image()], arguments].concat())
}

fn checks(report: &Value) -> Vec<(String, String)> {
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    report["checks"].as_array().unwrap().iter().map(|check| (text(check, "id"), text(check, "verdict"))).collect()
}

fn a_running_daemon_is_well() -> Result<(), Failed> {
    let dind = Container::dind("doctor", &["--env=DOCKER_TLS_CERTDIR=/certs"]);
    let before = dind.sh("cat /proc/self/mountinfo; ls -A /run /tmp /var/lib/docker").ok();
    let report: Value = serde_json::from_str(&dind.exec(&["dindctl", "doctor", "-o", "json"]).ok())?;
    let after = dind.sh("cat /proc/self/mountinfo; ls -A /run /tmp /var/lib/docker").ok();
    assert_eq!(before, after, "it only looks");
    assert_eq!(report["schema"], "dindctl.doctor/v1");
    let found = checks(&report);
    for id in ["daemon", "privilege", "firewall", "data-root"] {
        assert!(found.contains(&(id.to_owned(), "ok".to_owned())), "{id}: {report}");
    }
    assert!(found.iter().all(|(_, verdict)| verdict != "fail"), "{report}");
    let check = |id: &str| report["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).unwrap().clone();
    // Debian's dockerd has this number, and it is open to the holes of 2026 as far as anybody can tell from it.
    let dockerd = check("engine.dockerd");
    let finding = dockerd["finding"].as_str().unwrap_or_default();
    assert!(finding.contains("CVE-2026-34040") && finding.contains("may have mended"), "{dockerd}");
    assert_eq!(dockerd["verdict"], "warn");
    // The same of its runc, and the holes of 2025.
    let runc = check("engine.runc");
    assert!(runc["finding"].as_str().is_some_and(|finding| finding.contains("runc version")), "{runc}");
    assert!(runc["docs"].as_str().is_some_and(|link| link.ends_with("docs/checks.md#enginerunc")), "{runc}");
    let text = dind.exec(&["dindctl", "doctor", "--all"]).ok();
    assert!(!text.contains("entrypoint would make"), "{text}");
    assert!(text.contains("\nok    daemon: answers in ") && text.contains("the daemon can work: 0 failed"), "{text}");
    Ok(())
}

fn without_privileges_it_says_what_is_missing() -> Result<(), Failed> {
    let said = alone(&[], &["doctor"]);
    assert_eq!(said.code, 1, "{said:?}");
    let sentence = "FAIL  privilege: this container lacks CAP_SYS_ADMIN and CAP_NET_ADMIN, which the engine needs";
    assert!(said.out.contains(sentence) && said.out.contains("the daemon could not work"), "{said:?}");
    assert!(said.out.contains("do:   start this container with --privileged"), "{said:?}");
    Ok(())
}

fn a_data_root_on_overlay_is_told() -> Result<(), Failed> {
    let said = alone(&["--privileged"], &["doctor", "--data-root=/inner"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("warn  data-root.overlay: ") && said.out.contains("-v NAME:/inner"), "{said:?}");
    let plan = alone(&["--privileged"], &["plan", "-o", "json", "--data-root=/inner"]);
    let plan: Value = serde_json::from_str(&plan.ok())?;
    let step = plan["steps"].as_array().unwrap().iter().find(|step| step["id"] == "data-root").unwrap();
    assert_eq!(step["action"]["path"], "/inner", "{step}");
    // What is no daemon has no plan.
    let said = alone(&["--privileged"], &["plan", "sh"]);
    assert!(said.code == 125 && said.err.contains("entrypoint would only run sh"), "{said:?}");
    Ok(())
}

fn a_killed_daemon_is_remembered() -> Result<(), Failed> {
    let dind = Container::dind("doctor", &[]);
    dind.sh("read -r pid </run/docker.pid || read -r pid </var/run/docker.pid; kill -9 $pid").ok();
    dind.sh("sleep 1; dindctl health --wait 30s").ok();
    let said = dind.exec(&["dindctl", "doctor"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("warn  daemon:dockerd: dockerd was started again once"), "{said:?}");
    Ok(())
}

fn a_user_gets_the_plan_of_a_user() -> Result<(), Failed> {
    let run = ["run", "--rm", "--label=dindctl.test=1", "--privileged", "--entrypoint=dindctl", &rootless_image()];
    let plan: Value = serde_json::from_str(&docker(&[&run[..], &["plan", "-o", "json"]].concat()).ok())?;
    let ids: Vec<&str> = plan["steps"].as_array().unwrap().iter().filter_map(|step| step["id"].as_str()).collect();
    assert!(ids.contains(&"rootless.ids") && !ids.contains(&"cgroup.v1"), "{ids:?}");
    Ok(())
}
