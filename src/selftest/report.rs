/*!
What came of it, for people and for programs.
*/
use std::fmt::Write;

use serde::Serialize;

use super::amount::Amount;
use super::catalog::Check;
use super::judge::Verdict;
use super::meter::Source;
use super::place::Engine;
use crate::probe::host::Host;

/// Name and version of the JSON form.
pub const SCHEMA: &str = "dindctl.selftest/v1";

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What is limited.
    pub name: &'static str,
    /// To how much.
    pub limit: Amount,
    /// What the container got.
    pub measured: Option<Amount>,
    /// How far that may be off, percent of the limit.
    pub tolerance_percent: f64,
    /// Whether the limit holds.
    pub verdict: Verdict,
    /// Why it does not, or why that cannot be told.
    pub reason: Option<String>,
    /// Who read the counters.
    pub source: Option<Source>,
    /// How long the check took, milliseconds.
    pub duration_ms: u64,
}

impl Row {
    /// Of a check that has not been done.
    pub fn new(check: &Check) -> Self {
        Self {
            name: check.subject.name(),
            limit: check.limit,
            measured: None,
            tolerance_percent: check.tolerance * 100.0,
            verdict: Verdict::Skipped,
            reason: None,
            source: None,
            duration_ms: 0,
        }
    }

    /// Of a check that makes no sense here.
    pub fn skipped(check: &Check, why: impl Into<String>) -> Self {
        Self { reason: Some(why.into()), ..Self::new(check) }
    }

    /// Of a check whose answer is known before it is done.
    pub fn failed(check: &Check, why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::skipped(check, why) }
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Version of dindctl.
    pub dindctl: &'static str,
    /// Whether every limit holds that could be tried.
    pub verdict: Verdict,
    /// Where this process runs.
    pub host: HostName,
    /// The engine.
    pub engine: Engine,
    /// The checks.
    pub checks: Vec<Row>,
    /// How long all of it took, milliseconds.
    pub duration_ms: u64,
}

/// The place of this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostName {
    /// In words.
    pub name: String,
    /// With evidence.
    #[serde(flatten)]
    pub host: Host,
}

impl From<Host> for HostName {
    fn from(host: Host) -> Self {
        Self { name: host.name(), host }
    }
}

/// The verdict of several.
pub fn verdict(rows: &[Row]) -> Verdict {
    let any = |verdict| rows.iter().any(|row| row.verdict == verdict);
    if any(Verdict::Fail) {
        Verdict::Fail
    } else if any(Verdict::Pass) {
        Verdict::Pass
    } else {
        Verdict::Skipped
    }
}

impl Report {
    /// As text that can be pasted into an issue.
    pub fn text(&self) -> String {
        let Engine { version, runtime, storage_driver, cgroup_version, cgroup_driver, .. } = &self.engine;
        let parts: String =
            self.engine.parts.iter().fold(String::new(), |all, (name, version)| format!("{all}, {name} {version}"));
        let rootless = if self.engine.rootless { ", rootless" } else { "" };
        let memory = bytesize::ByteSize(self.engine.memory_bytes).display().iec();
        let mut text = format!(
            "dindctl  {}\nhost     {}\nmachine  Linux {} {}, {} {}, {memory}\nengine   Docker {version}{parts}, runtime {runtime}\n\
             setup    cgroup v{cgroup_version} ({cgroup_driver}), {storage_driver}{rootless}\n\n",
            self.dindctl,
            self.host.name,
            self.engine.kernel,
            self.engine.architecture,
            self.engine.cpus,
            if self.engine.cpus == 1 { "CPU" } else { "CPUs" },
        );
        let head = ["check", "limit", "measured", "tolerance", "verdict"].map(str::to_owned);
        let rows: Vec<[String; 5]> = std::iter::once(head).chain(self.checks.iter().map(cells)).collect();
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..5).map(|column| width(column).unwrap_or(0)).collect();
        let reasons = std::iter::once(None).chain(self.checks.iter().map(|row| row.reason.as_deref()));
        for (row, reason) in rows.iter().zip(reasons) {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            let line = [cells.join("  "), reason.unwrap_or_default().to_owned()].join("  ");
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let count = |verdict| self.checks.iter().filter(|row| row.verdict == verdict).count();
        let _ = write!(
            text,
            "\n{} passed, {} failed, {} skipped in {:.1} s",
            count(Verdict::Pass),
            count(Verdict::Fail),
            count(Verdict::Skipped),
            std::time::Duration::from_millis(self.duration_ms).as_secs_f64(),
        );
        text
    }
}

fn cells(row: &Row) -> [String; 5] {
    let verdict = match row.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Skipped => "skipped",
    };
    let measured = row.measured.map_or_else(|| "-".to_owned(), |amount| amount.to_string());
    let tolerance = format!("±{:.0} %", row.tolerance_percent);
    [row.name.to_owned(), row.limit.to_string(), measured, tolerance, verdict.to_owned()]
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::amount::Unit;
    use super::super::catalog::{Machine, Subject, checks};
    use super::*;
    use crate::probe::host::{Kind, Layer};

    /// A report with one row of each verdict.
    pub fn example() -> Report {
        let machine = Machine { cpus: 1, disk: None };
        let rows: Vec<Row> =
            checks(&[Subject::Cpu, Subject::Memory, Subject::Swap], &machine).iter().map(Row::new).collect();
        let [cpu, memory, swap] = rows.try_into().unwrap();
        let half = Amount { value: 0.498, unit: Unit::Cpus };
        let twice = Amount { value: 134_217_728.0, unit: Unit::Bytes };
        let files = Some(Source::ControlGroup);
        let checks = vec![
            Row { measured: Some(half), verdict: Verdict::Pass, source: files, duration_ms: 1700, ..cpu },
            Row {
                measured: Some(twice),
                verdict: Verdict::Fail,
                reason: Some("the container got 128.0 MiB, more than its limit".into()),
                source: files,
                duration_ms: 300,
                ..memory
            },
            Row { reason: Some("the machine has no swap".into()), ..swap },
        ];
        let layer = Layer { kind: Kind::Docker, evidence: "/.dockerenv is there".into() };
        Report {
            schema: SCHEMA,
            dindctl: "0.1.0",
            verdict: verdict(&checks),
            host: Host { layers: vec![layer], kernel: "6.12.0".into() }.into(),
            engine: Engine {
                version: "26.1.5".into(),
                parts: [("runc".to_owned(), "1.1.15".to_owned())].into(),
                runtime: "runc".into(),
                storage_driver: "overlay2".into(),
                cgroup_version: "2".into(),
                cgroup_driver: "cgroupfs".into(),
                architecture: "x86_64".into(),
                kernel: "6.12.0".into(),
                cpus: 1,
                memory_bytes: 8 << 30,
                ..Engine::default()
            },
            checks,
            duration_ms: 2345,
        }
    }

    #[test]
    fn text_for_an_issue() {
        insta::assert_snapshot!(example().text());
    }

    #[test]
    fn json_is_a_contract() {
        insta::assert_json_snapshot!(example());
    }

    #[test]
    fn one_failure_fails_all_and_nothing_done_proves_nothing() {
        let mut rows = example().checks;
        assert_eq!(verdict(&rows), Verdict::Fail);
        rows.remove(1);
        assert_eq!(verdict(&rows), Verdict::Pass);
        rows.remove(0);
        assert_eq!(verdict(&rows), Verdict::Skipped);
    }
}
