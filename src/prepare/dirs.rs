/*!
The folders that the daemons need, and whether they can be written and have space.
*/
use super::facts::Facts;
use super::plan::{Action, Step};
use super::wants::Wants;
use crate::probe::storage::Storage;

const RUN_MODE: u32 = 0o755;
/// What dockerd and containerd give their data folders themselves.
const DATA_MODE: u32 = 0o711;

/// One step for each folder, and one for another daemon on the same data.
pub fn steps(facts: &Facts, wants: &Wants) -> Vec<Step> {
    if !wants.daemon {
        // A command that is only prepared for needs none of them, and may run on a read-only root.
        return Vec::new();
    }
    let mut steps = vec![run_dir(&facts.run_dir)];
    steps.push(data(&facts.data_root, wants, "data-root", "data root"));
    if wants.own_containerd {
        steps.push(data(&facts.containerd_root, wants, "containerd-root", "containerd root"));
    }
    // The daemon that runs under this very dindctl holds the same locks.
    steps.extend(wants.supervised.is_empty().then(|| other_daemon(facts)).flatten());
    steps
}

fn run_dir(storage: &Storage) -> Step {
    let path = storage.path.display();
    let step = Step::nothing(
        "run-dir",
        "state folder",
        if storage.exists { format!("{path} exists") } else { format!("{path} does not exist") },
        "dindctl keeps its state and private sockets there",
    )
    .hint(format!(
        "make it writable, for example with --tmpfs {}",
        storage.path.parent().unwrap_or(&storage.path).display()
    ));
    if let Some(errno) = storage.unwritable {
        return step.fails(format!("the state folder {path} cannot be written: {errno}"));
    }
    if storage.exists {
        return Step { hint: None, ..step };
    }
    step.does(Action::CreateDir { path: storage.path.clone(), mode: RUN_MODE }).required()
}

fn data(storage: &Storage, wants: &Wants, id: &str, what: &str) -> Step {
    let path = storage.path.display();
    let free = match storage.free {
        Some(free) => {
            let inodes = free.inodes.map_or(String::new(), |inodes| format!(", {inodes} inodes"));
            format!("{} MiB{inodes} free", free.bytes >> 20)
        }
        None => "free space unknown".into(),
    };
    let exists = if storage.exists { "" } else { " does not exist," };
    let fstype = if storage.fstype.is_empty() { "an unknown file system" } else { &storage.fstype };
    let step = Step::nothing(
        id,
        what,
        format!("{path}{exists} on {fstype}, {free}"),
        "images, layers and volumes of the inner engine live there",
    );
    if let Some(errno) = storage.unwritable {
        return step
            .fails(format!("the {what} {path} cannot be written: {errno}"))
            .hint(format!("mount a volume there: -v NAME:{path}"));
    }
    let full = storage.free.and_then(|free| {
        if free.bytes < wants.free_bytes {
            Some(format!("{} KiB are free, at least {} are needed", free.bytes >> 10, wants.free_bytes >> 10))
        } else {
            (free.inodes == Some(0)).then(|| "no inode is free".to_string())
        }
    });
    if let Some(why) = full {
        return step
            .fails(format!("the {what} {path} is full: {why}"))
            .hint("free space in its volume (docker system prune from a running engine), or mount a larger one");
    }
    if !storage.exists {
        return step.does(Action::CreateDir { path: storage.path.clone(), mode: DATA_MODE }).required();
    }
    step
}

/// A daemon in this pid namespace is found by its pid file; one in another container that uses the same volume only
/// by its locks.
fn other_daemon(facts: &Facts) -> Option<Step> {
    let locked = facts.locked.first()?;
    let step = Step::nothing(
        "data-root.lock",
        "another daemon",
        format!("{} is locked by a running program", locked.display()),
        "two daemons on one data folder destroy each other's state",
    );
    let folder =
        if locked.starts_with(&facts.data_root.path) { &facts.data_root.path } else { &facts.containerd_root.path };
    Some(
        step.fails(format!("another daemon uses {}: it holds the lock on {}", folder.display(), locked.display()))
            .hint("stop the other container, or give each its own volume"),
    )
}
