/*!
Emptying a cgroup v2 group and handing its controllers on, against a world that keeps starting processes.

`docker exec` and health checks put new processes into the group at any moment, so every part is tried again within
a bound: at most [`ROUNDS`] rounds and [`DEADLINE`]. Nothing spins and nothing is given up after the first EBUSY.

The order matters: this process itself has to be in the leaf before the first controller is handed on. With a
process in a child group the kernel answers EBUSY as long as one is left in the group, and afterwards lets none enter.
Were the leaf empty, it would take a threaded controller (cpu, cpuset, pids) beside a process and turn the group into
the root of a threaded subtree, whose leaf takes no process any more (`cgroup_vet_subtree_control_enable`,
`cgroup_can_be_thread_root` in kernel/cgroup/cgroup.c).
*/
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use super::apply::Notes;
use super::error::CallError;
use super::plan::processes;
use super::system::System;

/// Rounds of moving processes before giving up.
pub const ROUNDS: u32 = 50;
/// Time before giving up.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// The same when only processes are left that cannot be moved from here.
pub const FOREIGN_DEADLINE: Duration = Duration::from_millis(300);
/// What helps where the kernel makes no group; nested containers need groups as well.
const NO_MORE_GROUPS: &str = "raise cgroup.max.descendants and cgroup.max.depth of this container's group and those above it, on the host; until then no nested container can start";
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What is left of the bound.
struct Budget {
    rounds: u32,
    start: Duration,
    pause: Duration,
    /// Those that the last round moved, by the kernel's word.
    moved: BTreeSet<String>,
    /// One that the last whole round found ending.
    ending: Option<String>,
}

impl Budget {
    fn new(system: &mut dyn System) -> Self {
        Self { rounds: 0, start: system.now(), pause: FIRST_PAUSE, moved: BTreeSet::new(), ending: None }
    }

    /// When the bound is reached, as [`System::now`] counts.
    fn end(&self, deadline: Duration) -> Duration {
        self.start.saturating_add(deadline)
    }

    /// What to say when there was no refusal and the bound was reached all the same.
    fn exhausted(&self, last: &Round) -> String {
        if let Some(pid) = &self.ending {
            format!("process {pid} is ending, and has not left the group yet")
        } else if last.unfinished {
            format!("not all processes could be moved within {DEADLINE:?}")
        } else {
            format!("new processes kept coming for {} rounds", self.rounds)
        }
    }

    /// Waits a little before another round; false when there is none left, or `end` is reached.
    fn again(&mut self, system: &mut dyn System, end: Duration, pause: bool) -> bool {
        self.rounds += 1;
        if self.rounds >= ROUNDS || system.now() >= end {
            return false;
        }
        if pause {
            system.sleep(self.pause);
            self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
        true
    }
}

/// What one round of moving met.
#[derive(Default)]
struct Round {
    moved: usize,
    /// One that the round before had moved, and that is listed again. The kernel takes the number of a process that is ending, moves nothing
    /// (`cgroup_migrate_add_task`, `PF_EXITING`) and lists it until its memory is gone, which may take a second.
    ending: Option<String>,
    vanished: usize,
    foreign: usize,
    refused: Option<(String, Errno)>,
    /// The bound was reached before all of them had their turn.
    unfinished: bool,
}

impl Round {
    fn left_any(&self) -> bool {
        self.unfinished || self.progress() || self.ending.is_some() || self.refused.is_some()
    }

    /// Whether anything is another than before.
    fn progress(&self) -> bool {
        self.moved > 0 || self.vanished > 0
    }

    /// Whether the next round would find the same if it came at once.
    fn needs_time(&self) -> bool {
        !self.progress() || self.ending.is_some()
    }
}

/// Moves every process once that `from` lists, until the bound is reached: one move can take milliseconds, and a group thousands of
/// processes.
fn round(system: &mut dyn System, from: &Path, to: &Path, budget: &mut Budget) -> Result<Round, CallError> {
    let end = budget.end(DEADLINE);
    let before = std::mem::take(&mut budget.moved);
    let list = from.join("cgroup.procs");
    let text = system.read(&list).map_err(|errno| explain(CallError::new("list the processes in", list, errno)))?;
    let target = to.join("cgroup.procs");
    let mut round = Round::default();
    for pid in text.lines().filter(|line| !line.is_empty()) {
        if pid == "0" {
            // A process of another pid namespace has no number here; writing 0 would move this process instead.
            round.foreign += 1;
            continue;
        }
        if system.now() >= end {
            round.unfinished = true;
            break;
        }
        match system.write(&target, pid) {
            Ok(()) => {
                if before.contains(pid) {
                    round.ending = Some(pid.to_owned());
                } else {
                    round.moved += 1;
                }
                budget.moved.insert(pid.to_owned());
            }
            Err(Errno::ESRCH) => round.vanished += 1,
            Err(errno) => round.refused = Some((pid.to_string(), errno)),
        }
    }
    if !round.unfinished {
        budget.ending.clone_from(&round.ending);
    }
    Ok(round)
}

/// Creates `to` and moves all processes of `from` there.
pub(super) fn evacuate_step(
    system: &mut dyn System,
    from: &Path,
    to: &Path,
    notes: &mut Notes,
) -> Result<(), CallError> {
    if let Err(errno) = system.create_dir(to, None) {
        if errno == Errno::EAGAIN {
            notes.hint = Some(NO_MORE_GROUPS);
        }
        return Err(explain(CallError::new("create the group", to, errno)));
    }
    let mut budget = Budget::new(system);
    let mut moved = 0;
    loop {
        let round = round(system, from, to, &mut budget)?;
        moved += round.moved;
        if !round.left_any() {
            notes.remarks.push(format!("moved {} in {} rounds", processes(moved), budget.rounds));
            return Ok(());
        }
        if let Some((pid, errno)) = &round.refused
            && !round.progress()
            && !transient(*errno)
        {
            return Err(refused(pid, to, *errno));
        }
        let end = budget.end(DEADLINE);
        if !budget.again(system, end, round.needs_time()) {
            return Err(match round.refused {
                Some((pid, errno)) => refused(&pid, to, errno),
                None => CallError::new("empty the group", from, Errno::EBUSY).because(budget.exhausted(&round)),
            });
        }
    }
}

fn refused(pid: &str, to: &Path, errno: Errno) -> CallError {
    explain(CallError::new(format!("write {pid:?} to"), to.join("cgroup.procs"), errno))
}

const fn transient(errno: Errno) -> bool {
    matches!(errno, Errno::EBUSY | Errno::EAGAIN | Errno::EINTR | Errno::ENOMEM)
}

/// Hands the controllers on one by one; what is refused becomes a warning that names controller, errno and meaning.
pub(super) fn delegate_step(
    system: &mut dyn System,
    group: &Path,
    leaf: Option<&Path>,
    controllers: &[String],
    notes: &mut Notes,
) {
    let mut budget = Budget::new(system);
    let mut done: Vec<&str> = Vec::new();
    let mut waiting = controllers.iter();
    while let Some(name) = waiting.next() {
        match hand_on(system, group, leaf, name, &mut budget) {
            Ok(()) => done.push(name),
            Err(error) => {
                let busy = error.errno == Errno::EBUSY;
                notes.warnings.push(error.to_string());
                if busy {
                    // The bound is used up: the others would meet the same processes.
                    let rest: Vec<&str> = waiting.map(String::as_str).collect();
                    if !rest.is_empty() {
                        notes.warnings.push(format!("{} not handed on for the same reason", rest.join(", ")));
                    }
                    break;
                }
            }
        }
    }
    if !done.is_empty() {
        notes.remarks.push(format!("handed on {} after {} retries", done.join(" "), budget.rounds));
    }
}

fn hand_on(
    system: &mut dyn System,
    group: &Path,
    leaf: Option<&Path>,
    name: &str,
    budget: &mut Budget,
) -> Result<(), CallError> {
    let control = group.join("cgroup.subtree_control");
    // Since when nothing else has been in the way. The first steps of a `docker exec` are foreign as well, for a moment.
    let mut foreign_since = None;
    loop {
        let Err(errno) = system.write(&control, &format!("+{name}")) else { return Ok(()) };
        let failed = |reason: String| CallError::new(format!("write \"+{name}\" to"), &control, errno).because(reason);
        let (Some(leaf), Errno::EBUSY) = (leaf, errno) else {
            return Err(failed(meaning(errno, &control).to_string()));
        };
        let found = round(system, group, leaf, budget)?;
        let foreign_only = found.foreign > 0 && !found.left_any();
        let since = if foreign_only { Some(foreign_since.unwrap_or(system.now())) } else { None };
        foreign_since = since;
        let end = budget.end(DEADLINE);
        let end = since.map_or(end, |since| end.min(since.saturating_add(FOREIGN_DEADLINE)));
        // What was just moved is gone from the group: the next try needs no pause.
        if !budget.again(system, end, found.moved == 0 || found.ending.is_some()) {
            return Err(failed(if foreign_only {
                format!("{} of another pid namespace in the group", processes(found.foreign))
            } else if let Some((pid, errno)) = found.refused {
                format!("process {pid} cannot be moved out of the group: {errno}")
            } else {
                budget.exhausted(&found)
            }));
        }
    }
}

fn explain(error: CallError) -> CallError {
    let reason = meaning(error.errno, &error.path);
    if reason.is_empty() { error } else { error.because(reason) }
}

/// What the kernel means by it in a cgroup v2 file (kernel/cgroup/cgroup.c).
fn meaning(errno: Errno, path: &Path) -> &'static str {
    let control = path.ends_with("cgroup.subtree_control");
    match errno {
        Errno::EAGAIN => "cgroup.max.descendants or cgroup.max.depth of a group above is reached",
        Errno::EBUSY => "processes are in the group",
        Errno::ENOENT if control => "the group above does not offer it",
        Errno::ENOENT => "the group is outside of this cgroup namespace, or gone",
        Errno::EOPNOTSUPP => "the group is part of a threaded subtree",
        Errno::EINVAL if control => {
            "the kernel cannot enable it now; for cpu: real-time processes are outside of the root group"
        }
        Errno::EINVAL => "a kernel thread, or a real-time process without a budget in the new group",
        Errno::EROFS => "the mount is read-only",
        Errno::EACCES | Errno::EPERM => "not allowed from this container",
        _ => "",
    }
}
