/*!
Pid files that a killed container left behind. dockerd trusts any living process under the number, so a reused one
makes it refuse to start ("containerd is still running", issues 117 and 195 of docker-library/docker). Here the
program behind the number decides.
*/
use std::path::{Path, PathBuf};

use super::facts::{Facts, PidFile};
use super::plan::{Action, Step};
use super::wants::Wants;
use crate::probe::Roots;
use crate::probe::mountinfo::{Mount, at};
use crate::probe::process::{identify, parse_pid_file};

/// `/run/docker/containerd/containerd.pid` is three levels down.
const DEPTH: usize = 4;

/// Folders looked into before giving up: `/run` may hold anything.
const FOLDERS: usize = 4096;

/// Finds them below `dirs`, without following links or crossing into other mounts (network namespaces, volumes).
pub fn find(roots: &Roots, mounts: &[Mount], dirs: &[PathBuf]) -> Vec<PidFile> {
    let mut starts: Vec<PathBuf> = Vec::new();
    for dir in dirs {
        // /var/run is a link to /run in most images, and the same file must not be listed twice.
        let Ok(real) = std::fs::canonicalize(roots.resolve(dir)) else { continue };
        let root = std::fs::canonicalize(&roots.root).unwrap_or_else(|_| roots.root.clone());
        let Ok(inside) = real.strip_prefix(&root) else { continue };
        let logical = Path::new("/").join(inside);
        if !starts.contains(&logical) {
            starts.push(logical);
        }
    }
    let mut found = Vec::new();
    let mut waiting: Vec<(PathBuf, usize)> = starts.into_iter().map(|start| (start, DEPTH)).collect();
    let mut looked = 0;
    while let Some((folder, depth)) = waiting.pop() {
        looked += 1;
        if looked > FOLDERS {
            break;
        }
        let Ok(entries) = std::fs::read_dir(roots.resolve(&folder)) else { continue };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = folder.join(entry.file_name());
            if kind.is_dir() && depth > 1 && at(mounts, &path).is_none() {
                waiting.push((path, depth - 1));
            } else if kind.is_file() && is_ours(&entry.file_name().to_string_lossy()) {
                found.push(path);
            }
        }
    }
    found.sort();
    found.into_iter().map(|path| read(roots, path)).collect()
}

fn is_ours(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_pid = Path::new(&name).extension().is_some_and(|extension| extension == "pid");
    is_pid && (name.starts_with("docker") || name == "containerd.pid")
}

fn read(roots: &Roots, path: PathBuf) -> PidFile {
    let pid = std::fs::read_to_string(roots.resolve(&path)).ok().and_then(|text| parse_pid_file(&text));
    let process = pid.and_then(|pid| identify(roots, pid));
    PidFile { path, pid, process }
}

/// One step for each file, or one that says that there is none.
pub fn steps(facts: &Facts, wants: &Wants) -> Vec<Step> {
    if !wants.daemon {
        return Vec::new();
    }
    if facts.pid_files.is_empty() {
        return vec![Step::nothing("pidfiles", "pid files", "none of an earlier daemon", "nothing is in the way")];
    }
    facts.pid_files.iter().map(|file| step(file, &wants.supervised)).collect()
}

fn step(file: &PidFile, supervised: &[i32]) -> Step {
    let path = file.path.display();
    let daemon = if is_containerds(&file.path) { "containerd" } else { "dockerd" };
    let found = match (file.pid, &file.process) {
        (None, _) => format!("{path} holds no pid"),
        (Some(pid), None) => format!("{path} names pid {pid}, which does not run"),
        (Some(pid), Some(process)) => format!("{path} names pid {pid}, which is {}", process.name()),
    };
    let step = Step::nothing(
        format!("pidfile:{path}"),
        "pid file",
        found,
        "dockerd takes any process under that number for the earlier daemon and refuses to start",
    );
    let same =
        |process: &crate::probe::process::Identity| [daemon, "docker-containerd"].iter().any(|name| process.is(name));
    if file.process.as_ref().is_some_and(|process| same(process) && supervised.contains(&process.pid)) {
        return Step { reason: "it is the daemon that dindctl supervises here".into(), ..step };
    }
    match (&file.process, file.pid) {
        (Some(process), Some(pid)) if same(process) && daemon == "dockerd" => step
            .fails(format!("another dockerd (pid {pid}) already runs: {path} is its pid file"))
            .hint(format!("stop it (kill {pid}), or do not share its pid namespace and /run with this container")),
        (Some(process), Some(pid)) if same(process) => step
            .warns(format!("a containerd (pid {pid}) already runs: {path} is kept"))
            .hint("a containerd that was not started by dindctl is not supervised by it"),
        _ => step
            .does(Action::RemoveFile { path: file.path.clone() })
            .hint("remove it by hand, or mount a tmpfs on /run"),
    }
}

fn is_containerds(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().to_ascii_lowercase().contains("containerd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_official_script_and_containerds() {
        for name in ["docker.pid", "Docker-x.PID", "docker-containerd.pid", "containerd.pid"] {
            assert!(is_ours(name), "{name}");
        }
        for name in ["sshd.pid", "docker.pid.bak", "mycontainerd.pid", "docker", "pid"] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
