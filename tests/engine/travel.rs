//! How the agent comes to the daemon: once, as an image and a volume, where no path is shared; and what works without it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use super::docker::{Container, Said, docker};
use super::exec::{program, same};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("travel::the_first_use_may_be_concurrent", the_first_use_may_be_concurrent),
    ("travel::without_an_agent_the_program_still_runs", without_an_agent_the_program_still_runs),
    ("travel::next_to_the_daemon_nothing_travels", next_to_the_daemon_nothing_travels),
];

/// A copy with more bytes at its end is another agent to the daemon, so that it has to travel.
fn other_agent(folder: &Path, more: usize) -> Result<PathBuf, Failed> {
    let copy = folder.join("dindctl");
    let mut bytes = std::fs::read(program())?;
    bytes.extend(vec![b'.'; more]);
    std::fs::write(&copy, bytes)?;
    std::fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(copy)
}

fn the_first_use_may_be_concurrent() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let copy = other_agent(folder.path(), 1 + std::process::id() as usize % 4096)?;
    let before = docker(&["ps", "--all", "--quiet", "--filter", "label=io.dindctl.agent"]).ok();
    let run = || {
        let mut command = Command::new(&copy);
        command.env_remove("DINDCTL_BIN").args(["exec", "--cpus", "0.5", "sh", "-c", "echo fine"]).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("dindctl")
    };
    let children: Vec<_> = (0..10).map(|_| run()).collect();
    for child in children {
        same(&child.wait_with_output()?.into(), 0, "fine\n");
    }
    let after = docker(&["ps", "--all", "--quiet", "--filter", "label=io.dindctl.agent"]).ok();
    let new: Vec<&str> = after.lines().filter(|id| !before.contains(id)).collect();
    for id in &new {
        let volume = docker(&["inspect", "--format", "{{.Name}} {{.Config.Image}}", id]).ok();
        let (name, image) = volume.trim_start_matches('/').split_once(' ').ok_or("name")?;
        docker(&["rm", "--force", id]).ok();
        // Sandboxes of these runs may still be on their way out.
        let started = Instant::now();
        while docker(&["volume", "rm", name]).code != 0 && started.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(100));
        }
        docker(&["rmi", image]).ok();
    }
    assert!(new.len() <= 1, "{} holders for one agent", new.len());
    Ok(())
}

/// Passes API requests on to the engine at hand, one for each connection, and refuses to load images.
fn engine_without_images() -> Result<String, Failed> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let socket = host.strip_prefix("unix://").ok_or("needs an engine on a unix socket")?.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("tcp://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(engine)) = (client, UnixStream::connect(&socket)) else { return };
            std::thread::spawn(move || pass_on(client, engine));
        }
    });
    Ok(address)
}

fn pass_on(mut client: TcpStream, mut engine: UnixStream) -> std::io::Result<()> {
    let mut head = vec![0; 64 * 1024];
    let count = client.read(&mut head)?;
    let head = &head[..count];
    if head.windows(12).any(|window| window == b"/images/load") {
        // The answer is read only by a client that could send everything.
        let text = String::from_utf8_lossy(head).to_lowercase();
        let header = text.split("\r\n\r\n").next().unwrap_or_default();
        let length =
            header.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        let left = (length.unwrap_or(0) + header.len() + 4).saturating_sub(count);
        std::io::copy(&mut (&client).take(left as u64), &mut std::io::sink())?;
        let body = "{\"message\":\"images are not for you\"}";
        return write!(client, "HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    }
    engine.write_all(head)?;
    let (mut from_client, mut to_engine) = (client.try_clone()?, engine.try_clone()?);
    std::thread::spawn(move || {
        // Either side may go first; the other is then told.
        let _ = std::io::copy(&mut from_client, &mut to_engine);
        to_engine.shutdown(std::net::Shutdown::Write)
    });
    std::io::copy(&mut engine, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)
}

fn without_an_agent_the_program_still_runs() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let copy = other_agent(folder.path(), 5000)?;
    let address = engine_without_images()?;
    let run = |arguments: &[&str]| -> Said {
        let mut command = Command::new(&copy);
        command.env_remove("DINDCTL_BIN").env("DOCKER_HOST", &address).arg("exec").args(arguments);
        command.stdin(Stdio::null()).output().expect("dindctl").into()
    };
    let said = run(&["python", "-c", "import sys; print('hello'); sys.exit(3)"]);
    same(&said, 3, "hello\n");
    assert!(said.err.contains("plain attach") && said.err.contains("images are not for you"), "{}", said.err);
    assert_eq!(run(&["sh", "--timeout", "1s", "-c", "sleep 1000"]).code, 124);
    let oom = run(&["-o", "json", "-m", "32m", "python", "-c", "x = bytearray(256 << 20)"]);
    let value: Value = serde_json::from_str(&oom.out)?;
    assert_eq!((value["status"].as_str(), oom.code), (Some("oom"), 137), "{value}");
    assert_eq!(run(&["--image", "debian:trixie-slim", "--", "no-such-program"]).code, 127);
    assert_eq!(run(&["sh", "-c", "id -u; grep CapEff /proc/self/status"]).out, "65534\nCapEff:\t0000000000000000\n");
    Ok(())
}

fn next_to_the_daemon_nothing_travels() -> Result<(), Failed> {
    let dind = Container::dind("exec", &[]);
    dind.load("python:3.13-slim");
    dind.load("debian:trixie-slim");
    let hello = dind.exec(&["dindctl", "exec", "python", "-c", "print('Hello from DinD!')"]);
    same(&hello, 0, "Hello from DinD!\n");
    let holders = dind.exec(&["docker", "ps", "--all", "--quiet", "--filter", "label=io.dindctl.agent"]).ok();
    assert_eq!(holders, "", "the agent travelled although the daemon shares our files");
    let listed = "docker ps --all --quiet --filter label=io.dindctl.run";
    let gone = dind
        .sh(&format!("for i in $(seq 100); do test -z \"$({listed})\" && exit 0; sleep 0.1; done; {listed}; exit 1"));
    gone.ok();
    let write = "mkdir -p /workspaces/p && chown 1000:1000 /workspaces/p && cd /workspaces/p && dindctl exec sh \
        --workspace .:rw -c 'id -u; echo kept >file' && cat file && stat -c %u file";
    assert_eq!(dind.sh(write).ok(), "1000\nkept\n1000");
    // From another container over TCP the daemon is remote, and the agent travels once.
    let address = format!("DOCKER_HOST=tcp://{}:2375", dind.address());
    let other = Container::start("client", &["--entrypoint", "sleep"], &["1000"]);
    let remote = docker(&["exec", "--env", &address, &other.name, "dindctl", "exec", "python", "-c", "print(1)"]);
    same(&remote, 0, "1\n");
    assert_ne!(dind.exec(&["docker", "ps", "--all", "--quiet", "--filter", "label=io.dindctl.agent"]).ok(), "");
    Ok(())
}
