//! The ring of tests that need namespaces of their own, and with them root. Where they cannot run they count as
//! ignored, with a line `SKIP <name>: <reason>`.

#[path = "namespaces/preparation.rs"]
mod preparation;

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = preparation::trials();
    libtest_mimic::run(&arguments, trials).exit();
}
