/*!
Who runs under a pid. A number in a pid file says little after a restart: another program may have got it.
*/
use std::path::Path;

use super::Roots;

/// What `/proc/PID` tells about a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The process.
    pub pid: i32,
    /// File name of the executable; `None` when it may not be read (another user's process) or is a kernel thread's.
    pub exe: Option<String>,
    /// The kernel's short name: at most 15 bytes, and the process can change it.
    pub comm: String,
    /// First word of the command line.
    pub argv0: String,
}

impl Identity {
    /// Whether this is the program `name`: the executable decides where it can be read, else the kernel's short name.
    pub fn is(&self, name: &str) -> bool {
        let short: String = name.chars().take(15).collect();
        match &self.exe {
            Some(exe) => exe == name,
            None => self.comm == short,
        }
    }

    /// The name to print.
    pub fn name(&self) -> &str {
        self.exe.as_deref().unwrap_or(&self.comm)
    }
}

/// The process `pid` of the own pid namespace; `None` when there is none, or only its zombie.
pub fn identify(roots: &Roots, pid: i32) -> Option<Identity> {
    if pid <= 0 {
        return None;
    }
    let folder = roots.proc.join(pid.to_string());
    let stat = std::fs::read(folder.join("stat")).ok()?;
    // `PID (comm) STATE …`: comm may hold anything, so the last parenthesis counts.
    let stat = String::from_utf8_lossy(&stat);
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    if matches!(state, Some('Z' | 'X')) {
        return None;
    }
    let comm = std::fs::read_to_string(folder.join("comm")).unwrap_or_default().trim_end().to_string();
    let exe = std::fs::read_link(folder.join("exe")).ok().and_then(|path| file_name(&path));
    let cmdline = std::fs::read(folder.join("cmdline")).unwrap_or_default();
    let argv0 = cmdline.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Identity { pid, exe, comm, argv0: String::from_utf8_lossy(argv0).into_owned() })
}

/// The kernel appends ` (deleted)` when the file was replaced under the process.
fn file_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    Some(name.strip_suffix(" (deleted)").unwrap_or(&name).to_string())
}

/// The pid in a pid file; `None` when it holds no positive number.
pub fn parse_pid_file(text: &str) -> Option<i32> {
    text.trim().parse().ok().filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_itself() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = identify(&Roots::system(), pid).unwrap();
        let exe = std::env::current_exe().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(me.exe.as_deref(), Some(exe.as_str()));
        assert!(me.is(&exe) && !me.is("dockerd"));
    }

    #[test]
    fn a_zombie_and_a_dead_process_are_nobody() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while identify(&Roots::system(), pid).is_some() {
            assert!(std::time::Instant::now() < deadline, "the child never became a zombie");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "not reaped yet, so this saw a zombie");
        child.wait().unwrap();
        assert_eq!(identify(&Roots::system(), pid), None);
        assert_eq!(identify(&Roots::system(), 0), None);
    }

    #[test]
    fn without_a_readable_executable_the_short_name_decides() {
        let mut who = Identity { pid: 7, exe: None, comm: "containerd-shim".into(), argv0: String::new() };
        assert!(who.is("containerd-shim-runc-v2") && !who.is("containerd"));
        who.exe = Some("sleep".into());
        assert!(!who.is("containerd-shim-runc-v2") && who.is("sleep"));
    }

    #[test]
    fn a_replaced_executable_keeps_its_name() {
        assert_eq!(file_name(Path::new("/usr/bin/dockerd (deleted)")).unwrap(), "dockerd");
    }

    #[test]
    fn only_a_positive_number_is_a_pid() {
        assert_eq!(parse_pid_file("42\n"), Some(42));
        for text in ["", "0", "-1", "x", "4 2", "99999999999"] {
            assert_eq!(parse_pid_file(text), None, "{text:?}");
        }
    }
}
