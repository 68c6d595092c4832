/*!
What a cell brought against what it states.
*/
use serde_json::Value;

use crate::run::Results;
use crate::table::{Cell, End};

/// The group that the machine made for the container.
const OWN: &str = "/docker/cell";

/// What came of a cell.
pub struct Judged {
    /// In one line.
    pub line: String,
    /// As a row of the table in README.md.
    pub row: String,
    /// What is not as stated.
    pub faults: Vec<String>,
}

/// Judges.
pub fn judge(cell: &Cell, results: &Results) -> Judged {
    let mut faults = Vec::new();
    let mut fault = |found: Result<(), String>| faults.extend(found.err());
    fault(plan(cell, results));
    fault(doctor(cell, results));
    fault(said_all(cell.log, results.text("log")));
    for (file, words) in cell.files {
        fault(said_all(&[words], results.text(file)).map_err(|why| format!("{file}: {why}")));
    }
    let (end, measured) = match cell.end {
        End::Healthy { driver, passed, failed } => {
            fault(ended(results, "healthy", "0"));
            fault(selftest(results, driver, passed, failed));
            if !passed.is_empty() {
                fault(groups(results));
            }
            (format!("healthy after {}", seconds(results)), rows(results))
        }
        End::Refused { code } => {
            fault(ended(results, "ended", code));
            (format!("refused with {} after {}", results.text("exit"), seconds(results)), "-".into())
        }
    };
    let engine = results.json("selftest").ok();
    let engine = engine.as_ref().and_then(|it| it["engine"]["version"].as_str());
    let engine = engine.map_or_else(|| cell.suite.engine().to_owned(), |version| format!("Docker {version}"));
    let kernel = cell.kernel.name();
    let place = cell.groups.name();
    Judged {
        line: format!("{kernel}, cgroup {place}, {engine}, {end}; {}; selftest: {measured}", cell.told),
        row: format!("| {} | {kernel} | {place} | {engine} | {} | {measured} |", cell.name, cell.told),
        faults,
    }
}

fn seconds(results: &Results) -> String {
    let millis = results.text("state").split_once(' ').and_then(|(_, millis)| millis.parse::<f64>().ok());
    millis.map_or_else(|| "unknown time".into(), |millis| format!("{:.1} s", millis / 1000.0))
}

/// Each step that the cell names says what the cell says.
fn plan(cell: &Cell, results: &Results) -> Result<(), String> {
    let plan = results.json("plan")?;
    let steps = plan["steps"].as_array().ok_or("the plan has no steps")?;
    for (id, words) in cell.plan {
        let step = steps.iter().find(|step| step["id"] == *id).ok_or_else(|| format!("the plan has no step {id}"))?;
        if !step.to_string().contains(words) {
            return Err(format!("the step {id} does not say {words:?}: {step}"));
        }
    }
    Ok(())
}

/// The checks that the cell names have the verdicts it names, and no other one fails.
fn doctor(cell: &Cell, results: &Results) -> Result<(), String> {
    let report = results.json("doctor")?;
    let checks = report["checks"].as_array().ok_or("doctor has no checks")?;
    for (id, verdict) in cell.doctor {
        let check =
            checks.iter().find(|check| check["id"] == *id).ok_or_else(|| format!("doctor has no check {id}"))?;
        if check["verdict"] != *verdict {
            return Err(format!("doctor's {id} is not {verdict}: {check}"));
        }
        if ["warn", "fail"].contains(verdict) && check["hint"].is_null() {
            return Err(format!("doctor's {id} has no hint: {check}"));
        }
    }
    let expected = |check: &Value| cell.doctor.iter().any(|(id, _)| check["id"] == *id);
    match checks.iter().find(|check| check["verdict"] == "fail" && !expected(check)) {
        Some(check) => Err(format!("doctor fails: {check}")),
        None => Ok(()),
    }
}

fn said_all(words: &[&str], text: &str) -> Result<(), String> {
    match words.iter().find(|words| !text.contains(**words)) {
        Some(words) => Err(format!("nothing is said of {words:?}:\n{}", said(text))),
        None => Ok(()),
    }
}

fn ended(results: &Results, state: &str, code: &str) -> Result<(), String> {
    let (found, exit) = (results.text("state"), results.text("exit"));
    if found.starts_with(state) && exit == code {
        return Ok(());
    }
    Err(format!(
        "not {state} with exit code {code} in the end, but {found:?} with {exit:?}:\n{}\n{}",
        results.text("health"),
        said(results.text("log"))
    ))
}

/// The lines of dindctl, and the last ones of whoever else spoke.
fn said(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let late = lines.len().saturating_sub(5);
    let ours = |(number, line): (usize, &&str)| number >= late || line.starts_with("dindctl:");
    lines.iter().enumerate().filter(|it| ours(*it)).map(|(_, line)| *line).collect::<Vec<_>>().join("\n")
}

/// The checks by name and verdict.
fn verdicts(report: &Value) -> Vec<(String, String)> {
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    report["checks"].as_array().into_iter().flatten().map(|it| (text(it, "name"), text(it, "verdict"))).collect()
}

/// `passed` do pass, `failed` do fail, and whatever else there is does not fail: a busy machine leaves some open.
fn selftest(results: &Results, driver: &str, passed: &[&str], failed: &[&str]) -> Result<(), String> {
    let report = results.json("selftest")?;
    if report["engine"]["storage_driver"] != driver {
        return Err(format!("the storage driver is not {driver}: {}", report["engine"]));
    }
    let verdicts = verdicts(&report);
    for (names, expected) in [(passed, "pass"), (failed, "fail")] {
        for name in names {
            let found: Vec<&str> = verdicts.iter().filter(|it| it.0 == *name).map(|it| it.1.as_str()).collect();
            if found.is_empty() || found.iter().any(|verdict| *verdict != expected) {
                return Err(format!("selftest's {name} is not {expected} but {found:?}: {report}"));
            }
        }
    }
    match verdicts.iter().find(|(name, verdict)| verdict == "fail" && !failed.contains(&name.as_str())) {
        Some((name, _)) => Err(format!("selftest's {name} fails: {report}")),
        None => Ok(()),
    }
}

/// Nested containers never leave the group that the machine made for the container, in any hierarchy.
fn groups(results: &Results) -> Result<(), String> {
    let seen = results.text("groups");
    let within = |line: &str| line.contains(&format!("{OWN}/")) || line.ends_with(OWN);
    match seen.lines().find(|line| !within(line)) {
        Some(line) => Err(format!("a nested container was in {line}, outside of {OWN}")),
        None if seen.is_empty() => Err("no group of a nested container was seen".into()),
        None => Ok(()),
    }
}

/// `memory pass, swap pass`.
fn rows(results: &Results) -> String {
    let report = results.json("selftest").unwrap_or_default();
    let words: Vec<String> = verdicts(&report).into_iter().map(|(name, verdict)| format!("{name} {verdict}")).collect();
    words.join(", ")
}
