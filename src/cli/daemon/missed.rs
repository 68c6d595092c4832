/*!
What dockerd misses while containerd is away: a nested container that ends then stays "Up" for it, and `docker wait` on it hangs,
until dockerd starts anew (26.1: its stream of events begins where containerd is back, and nothing asks for what was before).

So each time containerd has come back by itself somebody looks, and dockerd is started anew only where it does believe in such a
container. Nested containers live on by live-restore.
*/
use super::super::missed::{COMMAND, MISSED};
use super::Launch;
use super::services::{CONTAINERD, DOCKERD};
use crate::init::spec::{Occasion, Upkeep, Verdict};
use crate::sys::spawn::Spawn;
use crate::sys::wait::Exit;

/// The look; `None` where the API has no unix socket to ask at. `mends`: whether dockerd may be started anew.
pub fn upkeep(launch: &Launch<'_>, listen: &[String], mends: bool) -> Option<Upkeep> {
    let spawn = asking(launch, listen, COMMAND)?;
    let judge = move |exit| match exit {
        Exit::Code(MISSED) if mends => Verdict::StartAnew(DOCKERD.to_owned()),
        Exit::Code(0 | MISSED) => Verdict::Done,
        _ => Verdict::Failed,
    };
    let occasion = Occasion::Return(vec![CONTAINERD.to_owned()]);
    Some(Upkeep { name: "end of nested containers that it has missed", occasion, spawn, judge: Box::new(judge) })
}

/// The hidden command of ours that asks the daemon; `None` where the API has no unix socket to ask at.
pub fn asking(launch: &Launch<'_>, listen: &[String], command: &str) -> Option<Spawn> {
    let socket = listen.iter().find(|address| address.starts_with("unix://"))?;
    let mut environment = launch.environment.clone();
    environment.set("DOCKER_HOST", socket.as_str());
    Some(Spawn {
        program: "/proc/self/exe".into(),
        argv: vec!["dindctl".into(), command.into()],
        env: environment.into_pairs(),
        ..Spawn::default()
    })
}
