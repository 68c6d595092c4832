/*!
The supervisor's messages that take more than a format string.
*/
use std::time::Duration;

use super::policy::Reason;
use super::say::{Level, printable};
use super::spec::Diagnosis;

/// Last lines that are printed when a service is given up.
const SHOWN: usize = 20;

/// What to say when a service died, or could not be started, and is started again.
pub fn restart(name: &str, how: &str, after: Duration, diagnosis: Option<&Diagnosis>) -> String {
    let cause = diagnosis.map(|diagnosis| format!(" ({})", diagnosis.cause)).unwrap_or_default();
    let when = match after.as_millis() {
        0 => "at once".to_owned(),
        millis => format!("in {millis} ms"),
    };
    format!("{name} ended: {how}{cause}; starting it again {when}")
}

/// What to say when a service is given up, one message for each line: the fact, its last words, cause and hint.
pub fn given_up(
    name: &str,
    reason: Reason,
    how: &str,
    lines: &[String],
    diagnosis: Option<&Diagnosis>,
) -> Vec<(Level, String)> {
    let mut said = vec![(Level::Error, format!("{name} {reason} (last: {how}); giving up"))];
    let hidden = lines.len().saturating_sub(SHOWN);
    if !lines.is_empty() {
        said.push((Level::Error, format!("last lines of {name}:")));
        said.extend(lines.iter().skip(hidden).map(|line| (Level::Error, format!("  | {}", printable(line)))));
    }
    match diagnosis {
        Some(diagnosis) => {
            said.push((Level::Error, format!("cause: {}", diagnosis.cause)));
            said.push((Level::Hint, diagnosis.hint.clone()));
        }
        None => said.push((Level::Hint, format!("run {name} by hand in this container to see what it lacks here"))),
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_a_crash_has_the_last_lines_cause_and_hint() {
        let lines: Vec<String> = (0..30).map(|number| format!("line {number}")).collect();
        let diagnosis = Diagnosis { cause: "disk full".into(), hint: "make room".into(), permanent: false };
        let said = given_up("dockerd", Reason::CrashLoop { deaths: 5 }, "exit code 1", &lines, Some(&diagnosis));
        assert_eq!(
            said.first().unwrap().1,
            "dockerd died 5 times in a row without getting to work (last: exit code 1); giving up"
        );
        assert_eq!(said.get(2).unwrap().1, "  | line 10");
        assert_eq!(said.len(), 2 + SHOWN + 2);
        assert!(
            said.ends_with(&[(Level::Error, "cause: disk full".to_owned()), (Level::Hint, "make room".to_owned())])
        );
    }

    #[test]
    fn a_restart_says_when_and_why() {
        assert_eq!(
            restart("dockerd", "signal 9 (SIGKILL)", Duration::ZERO, None),
            "dockerd ended: signal 9 (SIGKILL); starting it again at once"
        );
        let diagnosis = Diagnosis { cause: "port taken".into(), hint: String::new(), permanent: false };
        let said = restart("dockerd", "exit code 1", Duration::from_millis(200), Some(&diagnosis));
        assert_eq!(said, "dockerd ended: exit code 1 (port taken); starting it again in 200 ms");
    }
}
