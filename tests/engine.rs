//! Ring 4: a real Docker engine. `scripts/test engine` starts one where there is none and builds the image.
// Every case has one signature, whether it uses `?` or not.
#![allow(clippy::unnecessary_wraps)]

#[path = "engine/certificates.rs"]
mod certificates;
#[path = "engine/daemon.rs"]
mod daemon;
#[path = "engine/detach.rs"]
mod detach;
#[path = "engine/docker.rs"]
mod docker;
#[path = "engine/exec.rs"]
mod exec;
#[path = "engine/load.rs"]
mod load;

use libtest_mimic::{Arguments, Trial, run};

/// Why no case can run here, if so.
fn missing() -> Option<String> {
    if std::env::var_os("DINDCTL_TEST_ENGINE").is_none() {
        return Some("needs a Docker engine: run scripts/test engine".into());
    }
    let image = docker::image();
    let found = docker::docker(&["image", "inspect", &image]);
    (found.code != 0).then(|| format!("needs the image {image}: run scripts/test engine"))
}

fn main() {
    let arguments = Arguments::from_args();
    let missing = missing();
    let trials = daemon::CASES.iter().chain(exec::CASES).chain(detach::CASES).map(|(name, case)| {
        if let Some(reason) = &missing {
            println!("SKIP {name}: {reason}");
        }
        Trial::test(*name, case).with_ignored_flag(missing.is_some())
    });
    run(&arguments, trials.collect()).exit();
}
