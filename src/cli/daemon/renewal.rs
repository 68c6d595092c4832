/*!
Certificates that near their end while the container runs are made anew, and dockerd is started anew for them: it reads
them only when it starts (a reload does not, moby's `daemon/reload.go`). Nested containers live on by live-restore.
*/
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::say::Level;
use super::Launch;
use super::services::DOCKERD;
use crate::init::spec::{Occasion, Upkeep, Verdict};
use crate::prepare::tls::{DAY, Decision, TlsFacts, TlsWishes, decide, renewal};
use crate::probe::certificates::{self, Content};
use crate::sys::spawn::Spawn;

/// The longest time between two looks: a clock may be set, a machine may sleep, and files may be replaced by others.
const LOOK: Duration = Duration::from_secs(24 * 3600);

/// The renewal. `kept` says why dockerd must not be started anew, which is then left to the operator.
pub fn upkeep(launch: &Launch<'_>, wishes: TlsWishes, kept: Option<&'static str>) -> Upkeep {
    let server = wishes.directory.join("server");
    let mut used = contents(&server);
    let voice = launch.voice;
    let spawn = Spawn {
        program: "/proc/self/exe".into(),
        argv: vec!["dindctl".into(), "certificates".into()],
        env: launch.environment.pairs().to_vec(),
        ..Spawn::default()
    };
    Upkeep {
        name: "renewal of certificates",
        occasion: Occasion::Due(Box::new(move || due(&wishes))),
        spawn,
        judge: Box::new(move |exit| {
            if !exit.is_success() {
                return Verdict::Failed;
            }
            let now = contents(&server);
            let changed = now != used;
            used = now;
            if let (true, Some(why)) = (changed, kept) {
                voice.say(Level::Warn, &format!("dockerd uses the new certificates from its next start on: {why}"));
            }
            if changed && kept.is_none() { Verdict::StartAnew(DOCKERD.to_owned()) } else { Verdict::Done }
        }),
    }
}

fn contents(server: &Path) -> [Option<Vec<u8>>; 2] {
    ["ca.pem", "cert.pem"].map(|name| std::fs::read(server.join(name)).ok())
}

/// By time only: networks of nested containers bring new addresses all the time, and nobody calls the API by them.
fn due(wishes: &TlsWishes) -> Option<Duration> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let facts = TlsFacts { folder: certificates::look(&wishes.directory), names: BTreeSet::new() };
    if let Decision::Issue(_) = decide(&facts, &TlsWishes { now, ..wishes.clone() }) {
        return None;
    }
    let folder = &facts.folder;
    let ends = [&folder.ca_cert, &folder.server.cert, &folder.client.cert];
    let next = ends.into_iter().filter_map(Content::good).map(renewal).min().unwrap_or(now + DAY);
    // A moment that is over, and still nothing to do: somebody else's certificates.
    let wait = u64::try_from(next - now).ok().filter(|wait| *wait > 0).map(Duration::from_secs);
    Some(wait.map_or(LOOK, |wait| wait.min(LOOK)))
}
