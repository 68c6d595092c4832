/*!
What the measurement says about the limit.
*/
use serde::Serialize;

use super::amount::Amount;
use super::catalog::{Check, Subject};

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The limit holds.
    Pass,
    /// It does not.
    Fail,
    /// It cannot be told here.
    Skipped,
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Observed {
    /// In the unit of the limit.
    pub measured: f64,
    /// Whether the kernel says that the limit itself was hit, where it counts that.
    pub hit: Option<bool>,
    /// Share of the machine's CPU time that nobody used, where it can be seen.
    pub idle: Option<f64>,
    /// Whether it is what was seen now and then, as nobody keeps the most there ever was.
    pub seen_now_and_then: bool,
}

/// What is missed between two looks is less than the rest of this share.
const NEAR: f64 = 0.75;

/// From this share on, a machine could have given more CPU time.
const IDLE: f64 = 0.15;

/// Judges. Words come with everything but a pass.
pub fn judge(check: &Check, observed: &Observed) -> (Verdict, Option<String>) {
    let Observed { measured, hit, idle, seen_now_and_then } = *observed;
    let (lower, upper) = (check.limit.value * (1.0 - check.tolerance), check.limit.value * (1.0 + check.tolerance));
    let got = Amount { value: measured, unit: check.limit.unit };
    if measured > upper {
        return (Verdict::Fail, Some(format!("the container got {got}, more than its limit")));
    }
    if measured >= lower && hit != Some(false) {
        return (Verdict::Pass, None);
    }
    let around = "a group around it has a lower limit";
    let (verdict, why) = match check.subject {
        Subject::Cpu => match idle {
            Some(idle) if idle >= IDLE => (
                Verdict::Fail,
                format!(
                    "the container got {got} while {:.0} % of the machine's CPU time was idle: {around}",
                    idle * 100.0
                ),
            ),
            Some(_) => (Verdict::Skipped, format!("the machine was too busy to give more than {got}")),
            None => (Verdict::Skipped, format!("the container got {got}; whether the machine was busy cannot be seen")),
        },
        Subject::Memory | Subject::Swap if hit == Some(true) && seen_now_and_then && measured >= lower * NEAR => (
            Verdict::Skipped,
            format!(
                "the container was stopped, and had {got} when it was looked at last: nobody keeps the most it had here"
            ),
        ),
        Subject::Memory | Subject::Swap if hit == Some(true) => {
            (Verdict::Fail, format!("the container was stopped at {got}: {around}"))
        }
        Subject::Memory | Subject::Swap => {
            (Verdict::Fail, format!("the load ended at {got} without hitting the limit"))
        }
        Subject::Pids => (Verdict::Fail, format!("the container was stopped at {got}: {around}")),
        Subject::Io => (Verdict::Skipped, format!("the disk wrote no more than {got}, so the limit was not needed")),
    };
    (verdict, Some(why))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::super::catalog::{Machine, checks};
    use super::*;

    fn check(subject: Subject) -> Check {
        checks(&[subject], &Machine { cpus: 1, disk: Some("/dev/vda".into()) }).remove(0)
    }

    /// The measurement as a multiple of the limit.
    fn verdict(subject: Subject, multiple: f64, hit: Option<bool>, idle: Option<f64>) -> Verdict {
        let check = check(subject);
        judge(&check, &Observed { measured: check.limit.value * multiple, hit, idle, ..Observed::default() }).0
    }

    #[rstest]
    #[case::exact(1.0, Some(true), Some(0.5), Verdict::Pass)]
    #[case::nobody_counts(1.0, None, None, Verdict::Pass)]
    #[case::a_little_more(1.09, Some(true), None, Verdict::Pass)]
    #[case::too_much(1.2, Some(true), Some(0.0), Verdict::Fail)]
    #[case::no_limit(2.0, Some(false), Some(0.0), Verdict::Fail)]
    #[case::held_back_by_others(0.5, Some(true), Some(0.7), Verdict::Fail)]
    #[case::busy(0.5, Some(false), Some(0.01), Verdict::Skipped)]
    #[case::busy_or_not(0.5, None, None, Verdict::Skipped)]
    #[case::by_chance(1.0, Some(false), Some(0.0), Verdict::Skipped)]
    fn cpu(#[case] multiple: f64, #[case] hit: Option<bool>, #[case] idle: Option<f64>, #[case] want: Verdict) {
        assert_eq!(verdict(Subject::Cpu, multiple, hit, idle), want);
    }

    #[rstest]
    #[case::memory_at_its_limit(Subject::Memory, 1.0, Some(true), Verdict::Pass)]
    #[case::memory_beyond(Subject::Memory, 2.0, Some(false), Verdict::Fail)]
    #[case::memory_of_an_outer_group(Subject::Memory, 0.5, Some(true), Verdict::Fail)]
    #[case::a_load_that_died(Subject::Swap, 0.5, Some(false), Verdict::Fail)]
    #[case::tasks_at_their_limit(Subject::Pids, 1.0, None, Verdict::Pass)]
    #[case::one_task_more(Subject::Pids, 33.0 / 32.0, Some(true), Verdict::Fail)]
    #[case::one_task_less(Subject::Pids, 31.0 / 32.0, Some(true), Verdict::Fail)]
    #[case::writes_at_their_limit(Subject::Io, 1.1, None, Verdict::Pass)]
    #[case::writes_beyond(Subject::Io, 1.5, None, Verdict::Fail)]
    #[case::a_slow_disk(Subject::Io, 0.3, None, Verdict::Skipped)]
    fn others(#[case] subject: Subject, #[case] multiple: f64, #[case] hit: Option<bool>, #[case] want: Verdict) {
        assert_eq!(verdict(subject, multiple, hit, None), want);
    }

    /// Without a peak the last look came before the last mebibytes, and the limit was said not to hold.
    #[test]
    fn what_was_missed_between_two_looks_is_no_failure() {
        let check = check(Subject::Memory);
        let at = |multiple: f64, hit| {
            let measured = check.limit.value * multiple;
            judge(&check, &Observed { measured, hit, idle: None, seen_now_and_then: true }).0
        };
        assert_eq!(at(1.0, Some(true)), Verdict::Pass);
        assert_eq!(at(0.8, Some(true)), Verdict::Skipped);
        assert_eq!(at(0.5, Some(true)), Verdict::Fail, "so much is not missed between two looks");
        assert_eq!(at(0.8, Some(false)), Verdict::Fail);
        assert_eq!(at(1.2, Some(true)), Verdict::Fail);
    }

    proptest! {
        #[test]
        fn more_than_the_limit_never_passes(multiple in 1.26_f64..100.0, hit: Option<bool>, idle: Option<f64>) {
            for subject in Subject::ALL {
                prop_assert_eq!(verdict(subject, multiple, hit, idle), Verdict::Fail);
            }
        }

        #[test]
        fn everything_but_a_pass_has_words(multiple in 0.0_f64..3.0, hit: Option<bool>, idle in proptest::option::of(0.0..1.0)) {
            for subject in Subject::ALL {
                let check = check(subject);
                let (verdict, words) = judge(&check, &Observed { measured: check.limit.value * multiple, hit, idle, ..Observed::default() });
                prop_assert_eq!(words.is_none(), verdict == Verdict::Pass);
            }
        }
    }
}
