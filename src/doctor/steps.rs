/*!
The steps of the plan as checks: what `entrypoint` sees to is no fault of the place, and what it has left undone is one.
*/
use super::check::{Check, Verdict};
use crate::prepare::{Action, Plan, Step};

/// One check for each step. `prepared` is whether the preparation is over, as beside a daemon that it was made for.
pub fn checks(plan: &Plan, prepared: bool) -> Vec<Check> {
    plan.steps.iter().map(|step| check(step, prepared)).collect()
}

fn check(step: &Step, prepared: bool) -> Check {
    let (verdict, finding) = match &step.action {
        Action::Fail { cause } => (Verdict::Fail, cause.clone()),
        // The start is tried all the same, because the trial may be wrong; beside a daemon that runs it was.
        Action::Warn { message } if step.required && !prepared => (Verdict::Fail, message.clone()),
        Action::Warn { message } => (Verdict::Warn, message.clone()),
        Action::Nothing => (Verdict::Ok, format!("{}: {}", step.title, step.found)),
        // Once done, this stays: if there is something to do now, it could not be done.
        action @ (Action::Evacuate { .. } | Action::Delegate { .. }) if prepared => {
            (Verdict::Warn, format!("{}: {}; entrypoint could not {}", step.title, step.found, action.describe()))
        }
        action => (Verdict::Ok, format!("{}: {}; entrypoint would {}", step.title, step.found, action.describe())),
    };
    let check = Check::ok(&step.id, finding, &step.reason).is(verdict);
    match &step.hint {
        Some(hint) if verdict > Verdict::Ok => check.hint(hint),
        _ => check,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(action: Action) -> Check {
        let step = Step {
            id: "tmp".into(),
            title: "temporary files".into(),
            found: "on disk".into(),
            action,
            reason: "because".into(),
            required: false,
            hint: Some("do".into()),
        };
        check(&step, false)
    }

    #[test]
    fn what_the_daemon_will_hardly_start_with_is_a_failure_unless_it_has_started() {
        let step = Step {
            id: "firewall".into(),
            title: "packet filter".into(),
            found: "none".into(),
            action: Action::Warn { message: "dockerd will hardly start".into() },
            reason: "because".into(),
            required: true,
            hint: Some("do".into()),
        };
        assert_eq!(check(&step, false).verdict, Verdict::Fail);
        assert_eq!(check(&step, true).verdict, Verdict::Warn);
    }

    #[test]
    fn controllers_that_a_running_daemon_lacks_are_not_well() {
        let step = Step {
            id: "cgroup.v2.delegate".into(),
            title: "controllers".into(),
            found: "handed on: none".into(),
            action: Action::Delegate { group: "/sys/fs/cgroup".into(), leaf: None, controllers: vec!["memory".into()] },
            reason: "because".into(),
            required: false,
            hint: Some("do".into()),
        };
        assert_eq!(check(&step, false).verdict, Verdict::Ok);
        let late = check(&step, true);
        assert_eq!((late.verdict, late.hint.as_deref()), (Verdict::Warn, Some("do")));
        assert_eq!(
            late.finding,
            "controllers: handed on: none; entrypoint could not hand memory on from /sys/fs/cgroup"
        );
    }

    #[test]
    fn what_entrypoint_does_is_no_fault() {
        let done = judged(Action::SetEnv { name: "container".into(), value: "docker".into() });
        assert_eq!((done.verdict, done.hint), (Verdict::Ok, None));
        assert_eq!(done.finding, "temporary files: on disk; entrypoint would export container=docker");
    }

    #[test]
    fn what_it_can_only_warn_of_is_one() {
        let warned = judged(Action::Warn { message: "slow".into() });
        assert_eq!(
            (warned.verdict, warned.finding.as_str(), warned.hint.as_deref()),
            (Verdict::Warn, "slow", Some("do"))
        );
        assert_eq!(judged(Action::Fail { cause: "full".into() }).verdict, Verdict::Fail);
    }
}
