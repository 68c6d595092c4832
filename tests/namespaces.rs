//! The ring of tests that need namespaces of their own. Each module holds one subject; what this machine does not
//! allow is shown as ignored, with a line `SKIP <name>: <reason>`.

#[path = "namespaces/agent.rs"]
mod agent;
#[path = "namespaces/archive.rs"]
mod archive;
#[path = "namespaces/control.rs"]
mod control;
#[path = "namespaces/dialects.rs"]
mod dialects;
#[path = "namespaces/driver.rs"]
mod driver;
#[path = "namespaces/firewall.rs"]
mod firewall;
#[path = "namespaces/identity.rs"]
mod identity;
#[path = "namespaces/image_diff.rs"]
mod image_diff;
#[path = "namespaces/images.rs"]
mod images;
#[path = "namespaces/lab.rs"]
mod lab;
#[path = "namespaces/plain.rs"]
mod plain;
#[path = "namespaces/preparation.rs"]
mod preparation;
#[path = "namespaces/supervision.rs"]
mod supervision;
mod support;
#[path = "support/trees.rs"]
mod trees;
#[path = "namespaces/upkeep.rs"]
mod upkeep;

fn main() {
    // The tests start this very program again as the process under test.
    if let Some(code) = driver::run_if_asked() {
        std::process::exit(code);
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = [
        agent::trials(),
        archive::trials(),
        control::trials(),
        dialects::trials(),
        firewall::trials(),
        identity::trials(),
        image_diff::trials(),
        images::trials(),
        supervision::trials(),
        plain::trials(),
        preparation::trials(),
        upkeep::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
