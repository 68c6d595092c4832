/*!
The hidden `dindctl leavings`: ends what containerd still runs of containers that killed daemons forgot while they made them, and
removes their empty control groups. PID 1 runs it as a process of its own each time dockerd has come back from a death that nobody
asked for, some time after a shim was killed, and at the end of `dindctl missed`; `dindctl clean` does the same by hand.

Exit code 0: nothing of that kind is left; 125: it could not be found out, or something could not be removed.
*/
use std::path::Path;

use super::Environment;
use super::failure::Failure;
use super::say::{Level, Voice};
use crate::clean::forsaken::{self, Forsaken};
use crate::clean::groups::{self, Group};
use crate::clean::look;
use crate::exec::chain::chain;
use crate::exec::daemon::Daemon;
use crate::exec::{daemon, endpoint, locality};
use crate::probe::Roots;

/// How PID 1 calls it.
pub const COMMAND: &str = "leavings";

/// Removes them, and says what there was.
pub fn run(voice: Voice) -> u8 {
    match tidy(&Roots::system(), voice) {
        Ok(true) => 0,
        Ok(false) => super::FAILED,
        Err(failure) => failure.report(voice),
    }
}

/// Whether all of them went. Tasks first, as containerd removes the groups of these.
fn tidy(roots: &Roots, voice: Voice) -> Result<bool, Failure> {
    let env = Environment::of_process().texts();
    let endpoint = endpoint::from_env(&env)?;
    let runtime = daemon::runtime()?;
    runtime.block_on(async {
        let daemon = daemon::connect(endpoint, &env, &voice.waits()).await?;
        if !locality::shares_container(daemon.peer, &roots.proc) {
            return Err(Failure::new(
                format!("cannot tell: the Docker daemon at {} is not of this container", daemon.endpoint),
                "ask beside the daemon: docker exec NAME dindctl clean",
            ));
        }
        let ended = end(&daemon, roots, &forsaken::look(&daemon, roots).await?, voice).await;
        let removed = remove(&look::deserted(&daemon, roots).await??, voice);
        Ok(ended && removed)
    })
}

async fn end(daemon: &Daemon, roots: &Roots, found: &[Forsaken], voice: Voice) -> bool {
    let mut all = true;
    for forsaken in found {
        let name = forsaken.name();
        match forsaken::end(&daemon.docker, roots, &forsaken.task).await {
            Ok(true) => voice.say(Level::Warn, &format!("the task {name} was ended: {}", forsaken.reason())),
            // One that somebody wants by now is nobody's no more.
            Ok(false) => {}
            Err(error) => {
                all = false;
                voice.say(Level::Warn, &format!("the task {name} stays: {}: {}", forsaken.reason(), chain(&error)));
            }
        }
    }
    all
}

fn remove(found: &[Group], voice: Voice) -> bool {
    let mut removed = 0_usize;
    let mut all = true;
    for group in found {
        match groups::remove(Path::new(&group.path)) {
            // One that somebody has come to life in is nobody's no more.
            Ok(gone) => removed += usize::from(gone),
            Err(error) => {
                all = false;
                voice.say(Level::Warn, &format!("the empty control group {} stays: {error}", group.path.display()));
            }
        }
    }
    if removed > 0 {
        let groups = if removed == 1 { "control group" } else { "control groups" };
        voice.say(
            Level::Info,
            &format!("{removed} empty {groups} of containers that dockerd does not know any more removed"),
        );
    }
    all
}
