//! The ring of tests that need namespaces of their own, and with them root. Where they cannot run they count as
//! ignored.

#[path = "namespaces/agent.rs"]
mod agent;

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = agent::trials();
    libtest_mimic::run(&arguments, trials).exit();
}
