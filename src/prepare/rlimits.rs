/*!
Open files. Daemon and containers inherit the limit of PID 1; a soft limit of 1024 breaks busy ones, and an
unlimited one slows down every program that closes all its descriptors (moby issue 38814). Core files are left alone.
*/
use caps::Capability;

use super::facts::Facts;
use super::plan::{Action, Step};
use super::wants::Wants;
use crate::probe::limits::{Limit, UNLIMITED};

/// First the soft limit up to the hard one, which is always allowed; then the hard one, which needs `CAP_SYS_RESOURCE`.
pub fn steps(facts: &Facts, wants: &Wants) -> Vec<Step> {
    let Limit { soft, hard } = facts.open_files;
    let want = facts.open_files_ceiling.map_or(wants.open_files, |ceiling| wants.open_files.min(ceiling));
    let found = format!("{} allowed, {} at most", show(soft), show(hard));
    let reason = "daemons and containers inherit the limit, and 1024 is too few for them";
    let first = Step::nothing("limit.open_files", "open files", found.clone(), reason);
    let reachable = want.min(hard);
    let first = if soft < reachable { first.does(Action::SetOpenFiles { soft: reachable, hard }) } else { first };
    if hard >= want {
        return vec![first];
    }
    let second = Step::nothing("limit.open_files.hard", "open files, hard limit", found, reason)
        .hint(format!("start the container with --ulimit nofile={want}:{want}"));
    if wants.rootless || facts.user_namespace {
        // The capability counts in the first user namespace only.
        let note = format!("{} at most, which a user namespace cannot raise to {want}", show(hard));
        return vec![first, Step { found: note, ..second }];
    }
    if facts.capabilities.has(Capability::CAP_SYS_RESOURCE) {
        return vec![first, second.does(Action::SetOpenFiles { soft: want, hard: want })];
    }
    let note = format!("{} at most; CAP_SYS_RESOURCE, which could raise it to {want}, is missing", show(hard));
    vec![first, Step { found: note, ..second }]
}

fn show(limit: u64) -> String {
    if limit == UNLIMITED { "unlimited".into() } else { limit.to_string() }
}
