/*!
The hidden `dindctl missed`: whether the daemon believes in nested containers that are no more. PID 1 runs it as a process of its
own when containerd has come back, because to ask the daemon takes what PID 1 does without.

Where it does not, what killed daemons left is removed by the same process (`dindctl leavings`).

Exit code 0: it does not; [`MISSED`]: it does, and they were named; 125: it could not be found out, as where the daemon has other
processes around it than we have.
*/
use std::path::Path;
use std::time::Duration;

use super::failure::Failure;
use super::say::{Level, Voice};
use super::{Environment, leavings};
use crate::exec::endpoint::Endpoint;
use crate::exec::missed::{self, Believed};
use crate::exec::{daemon, endpoint, locality};

/// How PID 1 calls it.
pub const COMMAND: &str = "missed";

/// Exit code: there are such containers.
pub const MISSED: u8 = 3;

/// Time for dockerd to hear from containerd again, which it tries every second at most, and to write down what it hears.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks twice, as an end that dockerd has just been told of takes it a moment.
pub fn run(voice: Voice) -> u8 {
    let found = match look(voice) {
        Ok(found) => found,
        Err(failure) => return failure.report(voice),
    };
    if found.is_empty() {
        // Otherwise dockerd is started anew, and that is done when it is back.
        return leavings::run(voice);
    }
    let names: Vec<&str> = found.iter().map(|container| container.name.as_str()).collect();
    let said = format!(
        "{} ended while containerd was away, and dockerd did not hear of it",
        if names.len() > 10 { format!("{} nested containers", names.len()) } else { names.join(", ") }
    );
    voice.say(Level::Warn, &said);
    MISSED
}

/// The numbers of its processes would be those of others here, or of nobody.
fn cannot_tell(endpoint: &Endpoint) -> Failure {
    Failure::new(
        format!(
            "cannot tell: the Docker daemon at {endpoint} is of another pid namespace, or its process cannot be seen from here"
        ),
        "ask beside the daemon: docker exec NAME dindctl missed",
    )
}

fn look(voice: Voice) -> Result<Vec<Believed>, Failure> {
    let env = Environment::of_process().texts();
    let endpoint = endpoint::from_env(&env)?;
    let runtime = daemon::runtime()?;
    runtime.block_on(async {
        tokio::time::sleep(PATIENCE).await;
        let daemon = daemon::connect(endpoint, &env, &voice.waits()).await?;
        if !locality::shares_processes(daemon.peer, Path::new("/proc")) {
            return Err(cannot_tell(&daemon.endpoint));
        }
        let first = missed::ended(Path::new("/proc"), missed::believed(&daemon.docker).await?);
        if first.is_empty() {
            return Ok(first);
        }
        tokio::time::sleep(PATIENCE).await;
        let second = missed::ended(Path::new("/proc"), missed::believed(&daemon.docker).await?);
        Ok(second.into_iter().filter(|container| first.contains(container)).collect())
    })
}
