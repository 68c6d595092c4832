/*!
Certificates that near their end while the container runs are made anew, and dockerd is started anew for them: it reads
them only when it starts (a reload does not, moby's `daemon/reload.go`). Nested containers live on by live-restore.
*/
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::Launch;
use super::services::DOCKERD;
use crate::init::spec::{Occasion, Upkeep, Verdict};
use crate::prepare::tls::{DAY, Decision, TlsFacts, TlsWishes, decide, renewal};
use crate::probe::certificates::{self, Certificate, Content};
use crate::sys::spawn::Spawn;

/// The longest time between two looks: a clock may be set, a machine may sleep, and files may be replaced by others.
const LOOK: Duration = Duration::from_secs(24 * 3600);

/// What dockerd has read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Used {
    files: [Option<Vec<u8>>; 2],
    /// The second from which on others are to take their place.
    until: i64,
}

impl Used {
    /// What is there now, below the folder of `DOCKER_TLS_CERTDIR`.
    fn read(directory: &Path) -> Self {
        let files = ["ca.pem", "cert.pem"].map(|name| std::fs::read(directory.join("server").join(name)).ok());
        let good = files.iter().flatten().filter_map(|text| Certificate::parse(text).ok());
        let until = good.map(|certificate| renewal(&certificate)).min().unwrap_or(i64::MAX);
        Self { files, until }
    }
}

/// The renewal. `kept` says why dockerd must not be started anew, which is then left to the operator.
pub fn upkeep(launch: &Launch<'_>, wishes: TlsWishes, kept: Option<&'static str>) -> Upkeep {
    let directory = wishes.directory.clone();
    // Unless somebody replaces it within the moment of the start.
    let used = Rc::new(RefCell::new(Used::read(&directory)));
    let known = Rc::clone(&used);
    let spawn = Spawn {
        program: "/proc/self/exe".into(),
        argv: ["dindctl", "certificates", "--near-end"].map(Into::into).into(),
        env: launch.environment.pairs().to_vec(),
        ..Spawn::default()
    };
    Upkeep {
        name: "renewal of certificates",
        occasion: Occasion::Due(Box::new(move || look(&known.borrow(), &wishes, now()))),
        spawn,
        judge: Box::new(move |exit| {
            if !exit.is_success() {
                return Verdict::Failed;
            }
            let fresh = Used::read(&directory);
            let changed = used.replace(fresh.clone()) != fresh;
            match kept {
                _ if !changed => Verdict::Done,
                None => Verdict::StartAnew(DOCKERD.to_owned()),
                Some(why) => Verdict::Told(format!("dockerd uses the new certificates from its next start on: {why}")),
            }
        }),
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// The time until the next look; `None` where something is to be done at `now`, if only to find out that another daemon on the same volume
/// has done it, and that ours still has what it replaced. By time only: networks of nested containers bring new addresses all the time, and
/// nobody calls the API by them.
fn look(used: &Used, wishes: &TlsWishes, now: i64) -> Option<Duration> {
    let facts = TlsFacts { folder: certificates::look(&wishes.directory), names: BTreeSet::new() };
    let replaced = now >= used.until && Used::read(&wishes.directory) != *used;
    if replaced || matches!(decide(&facts, &TlsWishes { now, ..wishes.clone() }), Decision::Issue(_)) {
        return None;
    }
    let folder = &facts.folder;
    let ends = [&folder.ca_cert, &folder.server.cert, &folder.client.cert];
    let next = ends.into_iter().filter_map(Content::good).map(renewal).chain([used.until]).min().unwrap_or(now + DAY);
    // A moment that is over, and still nothing to do: somebody else's certificates.
    let wait = u64::try_from(next.saturating_sub(now)).ok().filter(|wait| *wait > 0).map(Duration::from_secs);
    Some(wait.map_or(LOOK, |wait| wait.min(LOOK)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::tls::{KeyKind, issue};
    use crate::probe::names::Name;

    /// Of several daemons on one volume only the one that renewed the certificates was started anew.
    #[test]
    fn what_another_daemon_renewed_is_noticed_when_ours_nears_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().to_path_buf();
        let wishes = |day: i64| TlsWishes {
            directory: directory.clone(),
            names: BTreeSet::new(),
            key: KeyKind::Ecdsa,
            days: 90,
            now: 1_800_000_000 + day * DAY,
        };
        let at = |used: &Used, day: i64| look(used, &wishes(0), wishes(day).now);
        let none = BTreeSet::new();
        issue(&wishes(0), &none).unwrap().unwrap();
        let used = Used::read(&directory);
        assert_eq!(at(&used, 1), Some(LOOK));
        // A new name is no reason for a restart: what ours has is good for as long as before.
        issue(&wishes(2), &BTreeSet::from([Name::Dns("other".into())])).unwrap().unwrap();
        assert_ne!(Used::read(&directory), used);
        assert_eq!(at(&used, 2), Some(LOOK));
        let before = used.until - 60;
        assert_eq!(look(&used, &wishes(0), before), Some(Duration::from_secs(60)));
        // The other one was a moment faster.
        let moment = wishes(80);
        issue(&moment, &none).unwrap().unwrap();
        assert_eq!(look(&used, &wishes(0), moment.now), None);
        assert!(look(&Used::read(&directory), &wishes(0), moment.now).is_some());
    }
}
