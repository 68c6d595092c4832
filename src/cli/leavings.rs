/*!
The hidden `dindctl leavings`: removes the empty control groups of containers that killed daemons forgot while they made them.
PID 1 runs it as a process of its own each time dockerd has come back from a death that nobody asked for, some time after a
shim was killed, and at the end of `dindctl missed`; `dindctl clean` does the same by hand.

Exit code 0: nothing of that kind is left; 125: it could not be found out, or a group could not be removed.
*/
use std::path::Path;

use super::Environment;
use super::failure::Failure;
use super::say::{Level, Voice};
use crate::clean::groups::{self, Group};
use crate::clean::look;
use crate::exec::{daemon, endpoint, locality};
use crate::probe::Roots;

/// How PID 1 calls it.
pub const COMMAND: &str = "leavings";

/// Removes them, and says how many there were.
pub fn run(voice: Voice) -> u8 {
    let roots = Roots::system();
    match look(&roots) {
        Ok(found) => remove(&found, voice),
        Err(failure) => failure.report(voice),
    }
}

fn look(roots: &Roots) -> Result<Vec<Group>, Failure> {
    let env = Environment::of_process().texts();
    let endpoint = endpoint::from_env(&env)?;
    let runtime = daemon::runtime()?;
    runtime.block_on(async {
        let daemon = daemon::connect(endpoint, &env).await?;
        if !locality::shares_container(daemon.peer, &roots.proc) {
            return Err(Failure::new(
                format!("cannot tell: the Docker daemon at {} is not of this container", daemon.endpoint),
                "ask beside the daemon: docker exec NAME dindctl clean",
            ));
        }
        Ok(look::deserted(&daemon, roots).await??)
    })
}

fn remove(found: &[Group], voice: Voice) -> u8 {
    let mut removed = 0_usize;
    let mut failed = false;
    for group in found {
        match groups::remove(Path::new(&group.path)) {
            // One that somebody has come to life in is nobody's no more.
            Ok(gone) => removed += usize::from(gone),
            Err(error) => {
                failed = true;
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
    if failed { super::FAILED } else { 0 }
}
