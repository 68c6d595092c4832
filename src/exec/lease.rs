//! Who owns a container, and until when: written on it before it exists, so that whatever happens to us it can be
//! recognised as left over.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Label with the identifier of the run.
pub const RUN: &str = "io.dindctl.run";
/// Label with the owner's identity.
pub const OWNER: &str = "io.dindctl.owner";
/// Label with the time after which nobody needs the container, seconds since 1970.
pub const EXPIRES: &str = "io.dindctl.expires";

/// Added to the run's own limits: creation and start on a busy daemon, and clocks that differ between machines.
pub const MARGIN: Duration = Duration::from_secs(300);

/// One process, told apart from all others that ever had its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Identifier of this boot of the kernel.
    pub boot: String,
    /// Inode of the pid namespace.
    pub namespace: u64,
    /// Process number in that namespace.
    pub pid: u32,
    /// When it started, clock ticks since boot.
    pub started: u64,
}

impl Owner {
    /// This process. `proc` is `/proc`.
    pub fn ourselves(proc: &Path) -> io::Result<Self> {
        let pid = std::process::id();
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("cannot read {what}"));
        Ok(Self {
            boot: fs::read_to_string(proc.join("sys/kernel/random/boot_id"))?.trim().to_owned(),
            namespace: std::os::unix::fs::MetadataExt::ino(&fs::metadata(proc.join("self/ns/pid"))?),
            pid,
            started: start_time(proc, pid).ok_or_else(|| broken("our own start time"))?,
        })
    }

    /// As a label value.
    pub fn to_label(&self) -> String {
        format!("{}/{}/{}/{}", self.boot, self.namespace, self.pid, self.started)
    }

    /// Back from a label value.
    pub fn from_label(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let owner = Self {
            boot: parts.next()?.to_owned(),
            namespace: parts.next()?.parse().ok()?,
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(owner)
    }
}

/// When the process started, clock ticks since boot; `None` when there is none, or only its remains.
pub fn start_time(proc: &Path, pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
    // The name in parentheses may hold anything; fields are counted after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Labels of a new container.
pub fn labels(run: &str, owner: Option<&Owner>, expires: u64) -> HashMap<String, String> {
    let mut labels = HashMap::from([(RUN.to_owned(), run.to_owned()), (EXPIRES.to_owned(), expires.to_string())]);
    if let Some(owner) = owner {
        labels.insert(OWNER.to_owned(), owner.to_label());
    }
    labels
}

/// Why a container may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its owner no longer lives.
    OwnerDead,
    /// Its time is over, whoever owned it.
    Expired,
}

impl Reason {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::OwnerDead => "its owner is dead",
            Self::Expired => "its lease has expired",
        }
    }
}

/// Judges a container by its labels. `here` is any process of the place that judges; `started` tells when a process
/// of its namespace started. Only what is provably nobody's may go.
pub fn judge(
    labels: &BTreeMap<String, String>,
    here: Option<&Owner>,
    now: u64,
    started: impl Fn(u32) -> Option<u64>,
) -> Option<Reason> {
    labels.get(RUN)?;
    if labels.get(EXPIRES).and_then(|text| text.parse::<u64>().ok()).is_some_and(|expires| expires < now) {
        return Some(Reason::Expired);
    }
    let owner = labels.get(OWNER).and_then(|text| Owner::from_label(text))?;
    let here = here?;
    let visible = owner.boot == here.boot && owner.namespace == here.namespace;
    (visible && started(owner.pid) != Some(owner.started)).then_some(Reason::OwnerDead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn owner() -> Owner {
        Owner { boot: "b".into(), namespace: 4, pid: 10, started: 77 }
    }

    #[test]
    fn a_label_reads_back() {
        assert_eq!(Owner::from_label(&owner().to_label()), Some(owner()));
        assert_eq!(Owner::from_label("b/4/10"), None);
        assert_eq!(Owner::from_label("b/4/10/77/1"), None);
    }

    #[rstest]
    #[case::alive(owner(), 100, Some(77), None)]
    #[case::dead(owner(), 100, None, Some(Reason::OwnerDead))]
    #[case::number_taken_again(owner(), 100, Some(99), Some(Reason::OwnerDead))]
    #[case::alive_but_late(owner(), 201, Some(77), Some(Reason::Expired))]
    #[case::other_boot(Owner { boot: "c".into(), ..owner() }, 100, None, None)]
    #[case::other_namespace(Owner { namespace: 5, ..owner() }, 100, None, None)]
    fn verdicts(#[case] of: Owner, #[case] now: u64, #[case] started: Option<u64>, #[case] want: Option<Reason>) {
        let labels = labels("r", Some(&of), 200).into_iter().collect();
        assert_eq!(judge(&labels, Some(&owner()), now, |_| started), want);
    }

    #[test]
    fn containers_of_others_are_left_alone() {
        let foreign = BTreeMap::from([(EXPIRES.to_owned(), "1".to_owned())]);
        assert_eq!(judge(&foreign, Some(&owner()), 100, |_| None), None);
        let broken = BTreeMap::from([(RUN.to_owned(), "r".to_owned()), (OWNER.to_owned(), "?".to_owned())]);
        assert_eq!(judge(&broken, Some(&owner()), 100, |_| None), None);
    }

    #[test]
    fn we_are_alive_and_our_zombies_are_not() {
        let proc = Path::new("/proc");
        let ourselves = Owner::ourselves(proc).unwrap();
        assert_eq!(start_time(proc, ourselves.pid), Some(ourselves.started));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            std::thread::yield_now();
        }
        assert_eq!(start_time(proc, pid), None);
        child.wait().unwrap();
    }
}
