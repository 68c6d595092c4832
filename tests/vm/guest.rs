/*!
The side of the machine: init, and the processes of a cell.

A cell's "container" is a chain of this same program: `guest-enter` joins the cell's group, makes the namespaces and
starts `guest-inside` as pid 1 of them, which mounts what a runtime would mount and runs the cell's body.
*/
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use nix::mount::{MntFlags, MsFlags};
use nix::sched::{CloneFlags, unshare};

use crate::cells::{self, Cell, Machine, Namespace};
use crate::v1;

pub const CGROUP: &str = "/sys/fs/cgroup";
pub const INIT: &str = "/init";

/// Pid 1 of the machine. Never returns to a caller that could go on: the machine is switched off.
pub fn init() -> ExitCode {
    let none = None::<&str>;
    let mount = |kind: &str, target: &str, data: Option<&str>| {
        nix::mount::mount(Some(kind), target, Some(kind), MsFlags::empty(), data)
            .unwrap_or_else(|errno| panic!("mount {kind} on {target}: {errno}"));
    };
    mount("proc", "/proc", none);
    mount("sysfs", "/sys", none);
    mount("devtmpfs", "/dev", none);
    mount("tmpfs", "/run", none);
    let name = std::env::var("machine").expect("the kernel passes machine=… on as a variable");
    let machine = Machine::ALL.into_iter().find(|it| it.name() == name).expect("a machine of that name");
    match machine {
        // As systemd mounts it.
        Machine::V2 => mount("cgroup2", CGROUP, Some("nsdelegate,memory_recursiveprot")),
        Machine::V1 => v1::mount_machine(),
    }
    let report = std::env::var("report").expect("the kernel passes report=/dev/… on as a variable");
    let mut report = fs::OpenOptions::new().write(true).open(&report).expect("the second serial port");
    for cell in cells::all().filter(|cell| cell.machine == machine) {
        let line = match run(cell) {
            Ok(()) => format!("{} pass\n", cell.name),
            Err(text) => format!("{} fail {}\n", cell.name, text.trim_end().replace('\n', "\\n").replace('\r', "")),
        };
        report.write_all(line.as_bytes()).expect("the second serial port takes a line");
    }
    report.flush().expect("flush");
    drop(report);
    // The disk is a snapshot: nothing to sync, and `-no-reboot` turns this into the end of the machine.
    fs::write("/proc/sysrq-trigger", "b").expect("reboot");
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

fn run(cell: &Cell) -> Result<(), String> {
    let role = match cell.namespace {
        Namespace::Machine => "guest-inside",
        Namespace::Private | Namespace::Host => "guest-enter",
    };
    let mut child = Command::new(INIT)
        .args([role, cell.name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start the cell: {error}"))?;
    if cell.namespace != Namespace::Machine {
        place(cell, &mut child)?;
    }
    drop(child.stdin.take());
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let status =
        output.status.code().map_or(format!("signal {:?}", output.status.signal()), |code| format!("exit {code}"));
    Err(format!("{status}\n{}", String::from_utf8_lossy(&text)))
}

/// Puts the processes of the cell where they belong; they could not go there themselves, because with `nsdelegate` no
/// process leaves its cgroup namespace.
fn place(cell: &Cell, child: &mut Child) -> Result<(), String> {
    let mut inside = String::new();
    let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
    output.read_line(&mut inside).map_err(|error| error.to_string())?;
    child.stdout = Some(output.into_inner());
    let put = |pid: &str, group: &str| {
        let folder = Path::new(CGROUP).join(group);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join("cgroup.procs"), pid))
            .map_err(|error| format!("cannot move {pid} to {group:?}: {error}"))
    };
    if cell.machine == Machine::V2 && !cell.foreign {
        // `guest-enter` has no number in the container's pid namespace and must not stay in its group.
        put(&child.id().to_string(), "")?;
    }
    if cell.elsewhere {
        put(inside.trim(), "elsewhere")?;
    }
    Ok(())
}

pub fn role(role: &str, arguments: &[String]) -> ExitCode {
    match (role, arguments) {
        ("guest-enter", [name]) => enter(cells::find(name)),
        ("guest-inside", [name]) => inside(cells::find(name)),
        ("guest-sleep", []) => loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        },
        ("guest-show", []) => {
            println!("container={}", std::env::var("container").unwrap_or_default());
            print!("{}", fs::read_to_string("/proc/self/cgroup").expect("/proc/self/cgroup"));
            ExitCode::SUCCESS
        }
        ("guest-visit", [group, millis]) => {
            visit(group, millis.parse().expect("milliseconds"));
            ExitCode::SUCCESS
        }
        ("guest-storm", [group]) => storm(group),
        ("guest-hold", [megabytes]) => {
            let size = megabytes.parse::<usize>().expect("megabytes") << 20;
            let _held = std::hint::black_box(vec![1_u8; size]);
            loop {
                std::thread::sleep(std::time::Duration::from_secs(3600));
            }
        }
        ("guest-join", [group, program, arguments @ ..]) => {
            fs::write(Path::new(group).join("cgroup.procs"), "0").expect("join the group");
            panic!("{program}: {}", Command::new(program).args(arguments).exec());
        }
        _ => panic!("unknown role {role} {arguments:?}"),
    }
}

/// What `docker exec` does to a container: a process appears in its group, works a little and ends.
fn visit(group: &str, millis: u64) {
    // Refused (EBUSY) once controllers are handed on; the engine then uses the group of the container's init.
    let _ = fs::write(Path::new(group).join("cgroup.procs"), "0");
    std::thread::sleep(std::time::Duration::from_millis(millis));
}

/// Visits without end.
fn storm(group: &str) -> ExitCode {
    loop {
        let visitor = Command::new(INIT).args(["guest-visit", group, "3"]).spawn();
        visitor.expect("a visitor").wait().expect("its end");
    }
}

/// Joins the cell's group and starts the container in it.
fn enter(cell: &Cell) -> ExitCode {
    match cell.machine {
        Machine::V2 => {
            let group = Path::new(CGROUP).join(cell.group());
            fs::create_dir_all(&group).expect("the cell's group");
            (cell.outside)(&group);
            fs::write(group.join("cgroup.procs"), "0").expect("join the cell's group");
        }
        Machine::V1 => v1::enter(cell),
    }
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    if cell.namespace == Namespace::Private {
        flags |= CloneFlags::CLONE_NEWCGROUP;
    }
    unshare(flags).expect("unshare");
    let mut child =
        Command::new(INIT).args(["guest-inside", cell.name]).stdin(Stdio::piped()).spawn().expect("the container");
    println!("{}", child.id());
    await_word();
    // Closing its input is the word to begin.
    drop(child.stdin.take());
    let status = child.wait().expect("the container's end");
    ExitCode::from(u8::try_from(status.code().unwrap_or(99)).unwrap_or(98))
}

/// Waits until the input is closed.
fn await_word() {
    let mut word = Vec::new();
    std::io::stdin().read_to_end(&mut word).expect("the word to begin");
}

/// Pid 1 of the container: mounts as a runtime does, then the cell's body.
fn inside(cell: &Cell) -> ExitCode {
    await_word();
    if cell.namespace != Namespace::Machine {
        let none = None::<&str>;
        nix::mount::mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).expect("private mounts");
        nix::mount::mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).expect("procfs");
    }
    if cell.machine == Machine::V1 {
        v1::mount_container(cell);
    } else if cell.namespace == Namespace::Private && cell.mounts {
        nix::mount::umount2(CGROUP, MntFlags::MNT_DETACH).expect("the machine's cgroup mount");
        nix::mount::mount(Some("cgroup"), CGROUP, Some("cgroup2"), cell.mount_flags, None::<&str>).expect("cgroup2");
    }
    (cell.body)();
    ExitCode::SUCCESS
}

/// Starts another process of the container.
pub fn start(arguments: &[&str]) -> Child {
    Command::new(INIT).args(arguments).stdin(Stdio::null()).spawn().expect("a process of the container")
}
