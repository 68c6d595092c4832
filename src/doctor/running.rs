/*!
The daemon that runs here, if one does.
*/
use super::check::{Check, Verdict};
use super::sight::{Running, Sight};
use crate::init::state::Phase;

/// One check for the daemon, and one for each program that was started again.
pub fn checks(sight: &Sight) -> Vec<Check> {
    let check = |id: &str, finding: String| Check::ok(id, finding, "clients and nested containers depend on it");
    match &sight.running {
        Running::Nothing => vec![check("daemon", "none runs here under dindctl".into()).is(Verdict::Skipped)],
        Running::Unreadable(why) => vec![check("daemon", why.clone()).is(Verdict::Warn)],
        Running::Supervised { state, answer } => {
            let listens = state.listen.join(", ");
            let daemon = match answer {
                Ok(milliseconds) => check("daemon", format!("answers in {milliseconds:.1} ms on {listens}")),
                Err(why) => check("daemon", format!("does not answer: {why}"))
                    .is(Verdict::Fail)
                    .hint("the last lines of docker logs tell more; dindctl health -o json shows its parts"),
            };
            let restarted = state.services.iter().filter(|service| service.restarts > 0).map(|service| {
                let exit = service.last_exit.as_deref().unwrap_or("unknown");
                let verdict = if service.phase == Phase::Failed { Verdict::Fail } else { Verdict::Warn };
                let times = if service.restarts == 1 { "once" } else { "several times" };
                let finding = format!(
                    "{} was started again {times} ({}); it last ended with {exit}",
                    service.name, service.restarts
                );
                check(&format!("daemon:{}", service.name), finding).is(verdict).hint("docker logs has its last lines")
            });
            std::iter::once(daemon).chain(restarted).collect()
        }
    }
}
