/*!
Tasks of containerd (a shim and what runs below it) that dockerd knows nothing of.

dockerd has containerd make a task, then starts it, then writes down that its container runs. Where it is killed in between, the next
one reads of a container that was never started: the program runs, or waits to be started, and whoever removes the container removes
the books only (moby's `cleanupContainer` kills what the books say is running).

A task is taken for nobody's only where nothing speaks for somebody: its shim is of this very container (namespaces and root), so not of
a daemon inside of a nested one; it has the root file system of the daemon that was asked, so it is not of a second daemon beside it;
nothing below the shim belongs to another container, as shims can be shared; and the daemon does not have the container, nor any file
of it (one that it could not read at its start it does not have either), or says that it does not run. It says that with the
container's lock held, which a start holds from its beginning to its end, so it is no start in progress.
*/
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::groups::container_id;
use crate::exec::{lease, locality};
use crate::probe::{Roots, process};
use crate::sys::family;

/// dockerd's namespace within containerd (`--containerd-namespace`).
const NAMESPACE: &str = "moby";

/// Beginning of the names of all shims.
const SHIM: &str = "containerd-shim";

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Identifier of its container.
    pub id: String,
    /// Process of its shim.
    pub shim: i32,
    /// When that started, clock ticks since boot.
    pub started: u64,
    /// Where containerd keeps what it needs of it, for as long as it knows it.
    pub bundle: PathBuf,
}

/// What the daemon says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    Unknown,
    /// It does not run, and is not being started.
    Idle,
    /// It runs, or may be about to.
    InUse,
}

/// Tasks of containers whose shims have no child of another container.
pub fn running(roots: &Roots) -> Vec<Task> {
    let processes = family::processes(&roots.proc);
    let shims = processes.iter().filter(|(pid, _)| is_shim(roots, *pid));
    let tasks = shims.filter_map(|(pid, _)| task(roots, *pid));
    let own = |task: &Task| {
        let mut children = processes.iter().filter(|(_, parent)| *parent == task.shim);
        children.all(|(child, _)| belongs(roots, *child, &task.id))
    };
    tasks.filter(own).collect()
}

fn is_shim(roots: &Roots, pid: i32) -> bool {
    let exe = fs::read_link(roots.proc.join(format!("{pid}/exe")));
    let named = exe.is_ok_and(|exe| exe.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SHIM)));
    named && locality::shares_container(Some(pid), &roots.proc)
}

fn task(roots: &Roots, pid: i32) -> Option<Task> {
    let folder = roots.proc.join(pid.to_string());
    let id = container_of(&fs::read(folder.join("cmdline")).ok()?)?;
    // A shim works in its bundle; one that was removed is shown as another name.
    let bundle = fs::read_link(folder.join("cwd")).ok()?;
    let started = lease::start_time(&roots.proc, u32::try_from(pid).ok()?)?;
    (bundle.file_name()? == id.as_str()).then_some(Task { id, shim: pid, started, bundle })
}

/// The container that a shim's command line names, if it is one of dockerd's.
fn container_of(cmdline: &[u8]) -> Option<String> {
    let words: Vec<&str> =
        cmdline.split(|byte| *byte == 0).map(|word| std::str::from_utf8(word).unwrap_or_default()).collect();
    let after = |option: &str| Some(*words.get(words.iter().position(|word| *word == option)? + 1)?);
    let id = after("-id").filter(|id| id.len() == 64).and_then(container_id)?;
    (after("-namespace")? == NAMESPACE).then(|| id.to_owned())
}

/// Whether a process is in a control group of that container; a dead one is nobody's.
fn belongs(roots: &Roots, pid: i32, id: &str) -> bool {
    if process::identify(roots, pid).is_none() {
        return true;
    }
    let groups = fs::read_to_string(roots.proc.join(format!("{pid}/cgroup"))).unwrap_or_default();
    groups.split(['/', '\n']).any(|part| container_id(part) == Some(id))
}

/// What of a bundle's `config.json` counts here (OCI runtime specification).
#[derive(Deserialize)]
struct Spec {
    root: Root,
}

#[derive(Deserialize)]
struct Root {
    path: PathBuf,
}

/// Whether nobody wants it. `data_root` is that of the daemon that was asked.
pub fn is_nobodys(roots: &Roots, task: &Task, standing: Standing, data_root: &Path) -> bool {
    let has_nothing_of_it = || {
        let files = roots.resolve(data_root).join("containers").join(&task.id);
        files.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    let unwanted = match standing {
        Standing::Unknown => has_nothing_of_it(),
        Standing::Idle => true,
        Standing::InUse => false,
    };
    let is_below = |path: PathBuf| path != data_root && path.starts_with(data_root);
    // Everything is below an empty path.
    unwanted && data_root.is_absolute() && root_of(roots, task).is_some_and(is_below)
}

fn root_of(roots: &Roots, task: &Task) -> Option<PathBuf> {
    let text = fs::read(roots.resolve(&task.bundle).join("config.json")).ok()?;
    Some(serde_json::from_slice::<Spec>(&text).ok()?.root.path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const SHIM_PATH: &str = "/usr/bin/containerd-shim-runc-v2";

    /// A machine of which only `/proc` counts.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            machine.process("self", 0, "/usr/bin/dindctl", "/", "", "");
            machine
        }

        fn roots(&self) -> Roots {
            Roots::below(self.0.path())
        }

        fn process(&self, pid: &str, parent: i32, exe: &str, cwd: &str, cmdline: &str, cgroup: &str) {
            let folder = self.0.path().join("proc").join(pid);
            fs::create_dir_all(folder.join("ns")).unwrap();
            for (link, target) in
                [("exe", exe), ("cwd", cwd), ("root", "/"), ("ns/pid", "pid:[1]"), ("ns/mnt", "mnt:[1]")]
            {
                symlink(target, folder.join(link)).unwrap();
            }
            let fields = "0 ".repeat(17);
            fs::write(folder.join("stat"), format!("{pid} (some) one) S {parent} {fields}77 0 0")).unwrap();
            fs::write(folder.join("cmdline"), cmdline.replace(' ', "\0")).unwrap();
            fs::write(folder.join("cgroup"), cgroup).unwrap();
        }

        fn shim(&self, pid: &str, id: &str) {
            let line = format!("{SHIM_PATH} -namespace moby -id {id} -address /run/containerd/containerd.sock");
            self.process(pid, 1, SHIM_PATH, &format!("/run/containerd/moby/{id}"), &line, "0::/\n");
        }

        fn child(&self, pid: &str, shim: i32, id: &str) {
            self.process(pid, shim, "/init", "/", "init", &format!("12:pids:/docker/{id}/below\n0::/\n"));
        }

        fn found(&self) -> Vec<i32> {
            running(&self.roots()).iter().map(|task| task.shim).collect()
        }

        fn relink(&self, path: &str, target: &str) {
            let path = self.0.path().join("proc").join(path);
            fs::remove_file(&path).unwrap();
            symlink(target, path).unwrap();
        }

        /// The task of a shim without a child, with a bundle.
        fn task(&self, root: &str) -> Task {
            let bundle = PathBuf::from(format!("/run/containerd/moby/{ID}"));
            let folder = self.roots().resolve(&bundle);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("config.json"), format!(r#"{{"ociVersion":"1.1.0","root":{{"path":"{root}"}}}}"#))
                .unwrap();
            Task { id: ID.into(), shim: 7, started: 77, bundle }
        }
    }

    #[test]
    fn a_task_is_a_shim_with_children_of_its_container_alone() {
        let machine = Machine::new();
        machine.shim("7", ID);
        machine.child("8", 7, ID);
        let want = Task { id: ID.into(), shim: 7, started: 77, bundle: format!("/run/containerd/moby/{ID}").into() };
        assert_eq!(running(&machine.roots()), [want]);
        machine.child("9", 7, OTHER);
        assert_eq!(machine.found(), [0; 0], "a shim that another container shares");
    }

    #[test]
    fn a_child_in_no_containers_group_is_not_of_the_container() {
        let machine = Machine::new();
        machine.shim("7", ID);
        machine.process("8", 7, "/usr/sbin/runc", "/", "runc", "0::/\n");
        assert_eq!(machine.found(), [0; 0], "runc at work");
        // It ends, and is not waited for.
        fs::write(machine.0.path().join("proc/8/stat"), "8 (runc) Z 7 0").unwrap();
        assert_eq!(machine.found(), [7]);
    }

    #[test]
    fn a_nested_daemons_shims_are_not_ours() {
        for (link, target) in
            [("ns/mnt", "mnt:[2]"), ("ns/pid", "pid:[2]"), ("root", "/proc"), ("exe", "/usr/bin/program")]
        {
            let machine = Machine::new();
            machine.shim("7", ID);
            assert_eq!(machine.found(), [7]);
            machine.relink(&format!("7/{link}"), target);
            assert_eq!(machine.found(), [0; 0], "{link}");
        }
    }

    #[test]
    fn other_programs_namespaces_and_bundles_are_left_alone() {
        let machine = Machine::new();
        machine.shim("7", ID);
        machine.relink("7/cwd", &format!("/run/containerd/moby/{ID} (deleted)"));
        assert_eq!(machine.found(), [0; 0], "no bundle, nothing to know it by");
        let words = |words: &[&str]| container_of(words.join("\0").as_bytes());
        assert_eq!(words(&["shim", "-namespace", "moby", "-id", ID]), Some(ID.to_owned()));
        assert_eq!(words(&["shim", "-id", ID, "-namespace", "moby", ""]), Some(ID.to_owned()));
        for wrong in [
            &["shim", "-namespace", "k8s.io", "-id", ID][..],
            &["shim", "-namespace", "moby", "-id", &ID[1..]],
            &["shim", "-namespace", "moby", "-id"],
            &["shim", "-namespace", "moby", "-id", "-namespace"],
            &["shim", "-id", ID],
            &["shim"],
        ] {
            assert_eq!(words(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn nobodys_is_what_the_daemon_has_no_trace_of_or_holds_for_stopped() {
        let machine = Machine::new();
        let (roots, data) = (machine.roots(), Path::new("/var/lib/docker"));
        let task = machine.task("/var/lib/docker/overlay2/1/merged");
        let judged = |standing| is_nobodys(&roots, &task, standing, data);
        assert_eq!([Standing::Unknown, Standing::Idle, Standing::InUse].map(judged), [true, true, false]);
        // One that the daemon could not read at its start.
        fs::create_dir_all(roots.resolve(data).join("containers").join(ID)).unwrap();
        assert_eq!([Standing::Unknown, Standing::Idle, Standing::InUse].map(judged), [false, true, false]);
    }

    #[test]
    fn another_daemons_task_stays() {
        let machine = Machine::new();
        for root in ["/srv/docker/overlay2/1/merged", "/var/lib/docker2/overlay2/1/merged", "/var/lib/docker", "rootfs"]
        {
            let task = machine.task(root);
            for standing in [Standing::Unknown, Standing::Idle] {
                assert!(!is_nobodys(&machine.roots(), &task, standing, Path::new("/var/lib/docker")), "{root}");
            }
        }
        let task = machine.task("/var/lib/docker/overlay2/1/merged");
        assert!(!is_nobodys(&machine.roots(), &task, Standing::Idle, Path::new("")), "a daemon that names no root");
        fs::write(machine.roots().resolve(&task.bundle).join("config.json"), "{").unwrap();
        assert!(!is_nobodys(&machine.roots(), &task, Standing::Idle, Path::new("/var/lib/docker")));
    }

    proptest::proptest! {
        #[test]
        fn any_command_line_is_read(line: Vec<u8>) {
            let _ = container_of(&line);
        }
    }
}
