//! Ring 4: a real Docker engine. `scripts/test engine` starts one where there is none and builds the image.
// Every case has one signature, whether it uses `?` or not.
#![allow(clippy::unnecessary_wraps)]

#[path = "engine/backup.rs"]
mod backup;
#[path = "engine/certificates.rs"]
mod certificates;
#[path = "engine/cgroups.rs"]
mod cgroups;
#[path = "engine/chaos.rs"]
mod chaos;
#[path = "engine/clean.rs"]
mod clean;
#[path = "engine/codeserver.rs"]
mod codeserver;
#[path = "engine/compose.rs"]
mod compose;
#[path = "engine/daemon.rs"]
mod daemon;
#[path = "engine/detach.rs"]
mod detach;
#[path = "engine/diagnostics.rs"]
mod diagnostics;
#[path = "engine/docker.rs"]
mod docker;
#[path = "engine/doctor.rs"]
mod doctor;
#[path = "engine/egress.rs"]
mod egress;
#[path = "engine/exec.rs"]
mod exec;
#[path = "engine/firewall.rs"]
mod firewall;
#[path = "engine/kubernetes.rs"]
mod kubernetes;
#[path = "engine/load.rs"]
mod load;
#[path = "support/ports.rs"]
mod ports;
#[path = "engine/preload.rs"]
mod preload;
#[path = "engine/privileges.rs"]
mod privileges;
#[path = "engine/rootless.rs"]
mod rootless;
#[path = "engine/selftest.rs"]
mod selftest;
#[path = "engine/settings.rs"]
mod settings;
#[path = "engine/stats.rs"]
mod stats;
#[path = "engine/storage.rs"]
mod storage;
#[path = "engine/tls.rs"]
mod tls;
#[path = "engine/travel.rs"]
mod travel;
#[path = "engine/upgrade.rs"]
mod upgrade;
#[path = "engine/workspace_image.rs"]
mod workspace_image;

use libtest_mimic::{Arguments, Failed, Trial, run};

/// Why no case can run here, if so.
fn missing() -> Option<String> {
    if std::env::var_os("DINDCTL_TEST_ENGINE").is_none() {
        return Some("needs a Docker engine: run scripts/test engine".into());
    }
    missing_image(&docker::image())
}

fn missing_image(image: &str) -> Option<String> {
    let found = docker::docker(&["image", "inspect", image]);
    (found.code != 0).then(|| format!("needs the image {image}: run scripts/test engine"))
}

fn main() {
    let arguments = Arguments::from_args();
    let missing = missing();
    let rootless = missing.clone().or_else(|| missing_image(&docker::rootless_image()));
    let no_image = || Some("needs an image of code-server: run scripts/test editor".to_owned());
    let editor = missing.clone().or_else(|| codeserver::image().map_or_else(no_image, |image| missing_image(&image)));
    let no_previous =
        || Some("needs an image of the previous version: scripts/test --all, or DINDCTL_PREVIOUS".to_owned());
    let previous =
        missing.clone().or_else(|| upgrade::previous_image().map_or_else(no_previous, |image| missing_image(&image)));
    let no_image = || Some("needs an image of a workspace: run scripts/test engine".to_owned());
    let workspace =
        missing.clone().or_else(|| workspace_image::image().map_or_else(no_image, |image| missing_image(&image)));
    let trial = |(name, case): &(&'static str, fn() -> Result<(), Failed>), missing: &Option<String>| {
        if let Some(reason) = missing {
            println!("SKIP {name}: {reason}");
        }
        Trial::test(*name, *case).with_ignored_flag(missing.is_some())
    };
    let with_root = daemon::CASES
        .iter()
        .chain(backup::CASES)
        .chain(cgroups::CASES)
        .chain(tls::CASES)
        .chain(exec::CASES)
        .chain(travel::CASES)
        .chain(egress::CASES)
        .chain(firewall::CASES)
        .chain(doctor::CASES)
        .chain(privileges::CASES)
        .chain(selftest::CASES)
        .chain(storage::CASES)
        .chain(settings::CASES)
        .chain(detach::CASES)
        .chain(clean::CASES)
        .chain(preload::CASES)
        .chain(compose::CASES)
        .chain(kubernetes::CASES)
        .chain(diagnostics::CASES)
        .chain(stats::CASES)
        .chain(chaos::CASES)
        .map(|case| trial(case, &missing));
    let with_editor = codeserver::CASES.iter().chain(compose::WITH_EDITOR).map(|case| trial(case, &editor));
    let buildx = missing.clone().or_else(clean::no_buildx);
    let with_root =
        with_root.chain(clean::WITH_BUILDX.iter().chain(daemon::WITH_BUILDX).map(|case| trial(case, &buildx)));
    let wanted = missing.clone().or_else(backup::not_wanted);
    let with_root = with_root.chain(backup::BUSY.iter().map(|case| trial(case, &wanted)));
    let with_previous = upgrade::CASES.iter().map(|case| trial(case, &previous));
    let with_rootless = rootless::CASES.iter().map(|case| trial(case, &rootless));
    let with_workspace =
        workspace_image::CASES.iter().chain(compose::WITH_WORKSPACE).map(|case| trial(case, &workspace));
    let no_image =
        || Some("needs an image of Prometheus: DINDCTL_TEST_PROMETHEUS_IMAGE, or scripts/test --all".to_owned());
    let prometheus =
        missing.clone().or_else(|| compose::prometheus().map_or_else(no_image, |image| missing_image(&image)));
    let with_prometheus = compose::WITH_PROMETHEUS.iter().map(|case| trial(case, &prometheus));
    let everything = prometheus.clone().or_else(|| editor.clone()).or_else(|| workspace.clone());
    let with_all = compose::WITH_ALL.iter().map(|case| trial(case, &everything));
    let trials = with_root
        .chain(with_rootless)
        .chain(with_editor)
        .chain(with_previous)
        .chain(with_workspace)
        .chain(with_prometheus)
        .chain(with_all);
    run(&arguments, trials.collect()).exit();
}
