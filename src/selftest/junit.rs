/*!
The report as `JUnit` XML, which CI systems show beside their own tests.
*/
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report as Document, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::judge::Verdict;
use super::report::{Report, Row};

/// Writes it.
pub fn write(report: &Report) -> Result<String, SerializeError> {
    let mut suite = TestSuite::new("limits");
    let engine = &report.engine;
    for (name, value) in [
        ("dindctl", report.dindctl),
        ("host", &report.host.name),
        ("kernel", &engine.kernel),
        ("engine", &engine.version),
        ("cgroup", &format!("v{} ({})", engine.cgroup_version, engine.cgroup_driver)),
    ] {
        suite.add_property(Property::new(name, value));
    }
    suite.set_time(Duration::from_millis(report.duration_ms));
    suite.add_test_cases(report.checks.iter().map(case));
    let mut document = Document::new("dindctl selftest");
    document.set_time(Duration::from_millis(report.duration_ms));
    document.add_test_suite(suite);
    document.to_string()
}

fn case(row: &Row) -> TestCase {
    let reason = row.reason.clone().unwrap_or_default();
    let status = match row.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(reason);
            status
        }
        Verdict::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason);
            status
        }
    };
    let mut case = TestCase::new(format!("{} {}", row.name, row.limit), status);
    case.set_classname("dindctl.selftest").set_time(Duration::from_millis(row.duration_ms));
    if let Some(measured) = row.measured {
        case.set_system_out(format!("measured {measured}, limit {} ±{:.0} %", row.limit, row.tolerance_percent));
    }
    case
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::example;
    use super::*;

    #[test]
    fn a_failure_is_a_failure_for_ci() {
        insta::assert_snapshot!(write(&example()).unwrap());
    }
}
