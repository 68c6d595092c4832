//! Work that PID 1 has done by a process of its own while services run.

use std::time::Duration;

use dindctl::init::state::Phase;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::driver::{Config, Service};
use crate::lab::{Lab, Outcome};
use crate::supervision::daemon_script;
use crate::support::{ensure, eventually, pid_namespaces, trial};

pub fn trials() -> Vec<Trial> {
    let namespaces = pid_namespaces();
    vec![trial("what_is_to_be_done_when_a_service_is_back_is_done", namespaces, what_is_to_be_done_on_return)]
}

/// With code 3 the other service is started anew, whatever its policy says of an end; otherwise it is not.
fn what_is_to_be_done_on_return() -> Outcome {
    let mut other = Service::daemon("b", &daemon_script("b")).notify();
    other.restart = "never".into();
    let script = "echo looked >> $DIR/events; read code < $DIR/code; exit $code";
    let services = vec![Service::daemon("a", "exec sleep 1000"), other];
    let on_return = Some(["a", script, "b"].map(str::to_owned));
    let mut lab = Lab::start(Config { on_return, ..Lab::config(services) }, |_| {})?;
    for (restarts, (code, renews)) in (0_u32..).zip([(0, 0), (3, 1), (1, 0), (3, 1)]) {
        let killed = lab.until("a", |service| service.restarts == restarts && service.phase == Phase::Ready)?;
        let before = lab.until_ready("b")?;
        std::fs::write(lab.path("code"), format!("{code}\n"))?;
        std::thread::sleep(Duration::from_millis(1100));
        lab.signal_inner(killed.pid.ok_or("no pid")?, Signal::SIGKILL)?;
        let looked = || lab.events().into_iter().filter(|line| line == "looked").zip(0_u32..).last();
        eventually("the work is done", || (looked()?.1 == restarts).then_some(()))?;
        lab.until("b", |service| service.restarts == before.restarts + renews && service.phase == Phase::Ready)?;
    }
    let said = lab.text("stderr");
    let times = |text: &str| said.matches(text).count();
    ensure(times("b is started anew because of the test of the work") == 2, || said.clone())?;
    ensure(times("the test of the work failed (exit code 1)") == 1, || said.clone())?;
    let (report, _) = lab.stop()?;
    ensure(report.code == 0, || format!("{report:?}"))
}
