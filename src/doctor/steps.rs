/*!
The steps of the plan as checks: what `entrypoint` sees to is no fault of the place.
*/
use super::check::{Check, Verdict};
use crate::prepare::{Action, Plan, Step};

/// One check for each step.
pub fn checks(plan: &Plan) -> Vec<Check> {
    plan.steps.iter().map(check).collect()
}

fn check(step: &Step) -> Check {
    let (verdict, finding) = match &step.action {
        Action::Fail { cause } => (Verdict::Fail, cause.clone()),
        Action::Warn { message } => (Verdict::Warn, message.clone()),
        Action::Nothing => (Verdict::Ok, format!("{}: {}", step.title, step.found)),
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
        check(&step)
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
