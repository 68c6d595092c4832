//! The certificates as a step of the plan.

use super::{Decision, TlsFacts, TlsWishes, decide};
use crate::prepare::plan::{Action, Step};

/// The step.
pub fn step(facts: &TlsFacts, wishes: &TlsWishes) -> Step {
    let path = wishes.directory.display();
    let step =
        |found: String| Step::nothing("tls", "certificates", found, "whoever can connect without one is root here");
    match decide(facts, wishes) {
        Decision::Keep { found } => step(format!("{path}: {found}")),
        Decision::Issue(work) => step(format!("{path} lacks some, or they will not do any longer"))
            .does(Action::IssueCertificates { directory: wishes.directory.clone(), parts: work.to_string() })
            .required()
            .hint("free space in the folder of DOCKER_TLS_CERTDIR and make it writable"),
        Decision::Postpone { work, why } => step(format!("{path}: they do for now"))
            .warns(format!("{why}; these certificates should be made: {work}"))
            .hint("mount the folder writable, or issue them again where they are managed"),
        Decision::Refuse { cause, hint } => {
            step(format!("{path} holds certificates that cannot be used")).fails(cause).hint(hint)
        }
    }
}
