/*!
A container of another architecture than the machine's. Programs run there by way of an emulator, which knows neither the packet filter's
sockets nor the calls that make namespaces, and dockerd fails in words that name none of it (issue 219 of
devcontainers/features).
*/
use super::facts::Facts;
use super::plan::Step;
use super::wants::Wants;
use crate::probe::machine::Emulator;

/// One step, where the architectures differ.
pub fn steps(facts: &Facts, wants: &Wants) -> Vec<Step> {
    let Some(foreign) = facts.foreign.as_ref().filter(|_| wants.daemon) else { return Vec::new() };
    let (own, kernel) = (foreign.own, &foreign.kernel);
    let step = Step::nothing(
        "host.machine",
        "architecture",
        format!("this program is made for {own}, and the kernel is one of {kernel}"),
        "an emulator stands between the engine and the kernel",
    )
    .hint(format!("use an image for {kernel}: docker run --platform, or build it for this machine"));
    vec![match foreign.emulator {
        // It passes most calls on.
        Emulator::Rosetta => {
            step.warns(format!("this image is for {own}, and runs by Rosetta on {kernel}: nested containers may fail"))
        }
        Emulator::Other => step.fails(format!(
            "this image is for {own}, and the machine is {kernel}: Docker cannot run in an emulated container"
        )),
    }]
}
