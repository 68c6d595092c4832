//! The control socket of the real supervisor, asked by the polite and by the others.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dindctl::init::state::{Phase, Status};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;

use crate::driver::Service;
use crate::lab::{Lab, Outcome};
use crate::support::{ensure, pid_namespaces, trial};

pub fn trials() -> Vec<Trial> {
    let namespaces = pid_namespaces();
    vec![
        trial("status_tells_lives_and_times", namespaces, status_tells_lives_and_times),
        trial("a_flood_of_clients_disturbs_nobody", namespaces, a_flood_of_clients_disturbs_nobody),
        trial("the_control_socket_goes_with_its_supervisor", namespaces, the_socket_goes),
    ]
}

fn ask(path: &Path, line: &[u8]) -> Result<String, Failed> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(line)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn status(lab: &Lab) -> Result<Status, Failed> {
    Ok(serde_json::from_str(&ask(&lab.path("control.sock"), b"status\n")?)?)
}

fn status_tells_lives_and_times() -> Outcome {
    let mut lab = Lab::services(vec![Service::daemon("a", "exec sleep 1000")])?;
    let first = lab.until_ready("a")?;
    std::thread::sleep(Duration::from_millis(1100));
    lab.signal_inner(first.pid.ok_or("no pid")?, Signal::SIGKILL)?;
    lab.until("a", |service| service.restarts == 1 && service.phase == Phase::Ready)?;
    let told = status(&lab)?;
    let [service] = told.supervisor.services.as_slice() else { return Err("one service".into()) };
    let [before, now] = service.lives.as_slice() else { return Err(format!("{service:?}").into()) };
    ensure(before.exit.as_deref() == Some("signal 9 (SIGKILL)") && now.ended_ms.is_none(), || format!("{service:?}"))?;
    let times = [
        before.started_ms,
        before.ready_ms.unwrap_or(0),
        before.ended_ms.unwrap_or(0),
        now.started_ms,
        service.since_ms,
    ];
    ensure(times.is_sorted() && told.uptime_ms >= service.since_ms, || format!("{told:?}"))?;
    ensure(before.ended_ms.is_some_and(|end| end >= before.started_ms + 1000), || format!("{before:?}"))?;
    let unknown = ask(&lab.path("control.sock"), b"stop\n")?;
    ensure(unknown.contains("unknown request \\\"stop\\\""), || unknown.clone())?;
    lab.stop()?;
    Ok(())
}

/// Clients that say nothing, say too much, leave at once or do not read, all at once and without pause. Meanwhile deaths are
/// noticed, the state is told, and a stop is heard.
fn a_flood_of_clients_disturbs_nobody() -> Outcome {
    let mut lab = Lab::services(vec![Service::daemon("a", "exec sleep 1000")])?;
    lab.until_ready("a")?;
    let path = lab.path("control.sock");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for way in 0..4_u8 {
            let (path, over) = (&path, &over);
            scope.spawn(move || {
                let mut held = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let Ok(mut stream) = UnixStream::connect(path) else { continue };
                    // What becomes of them is their own fault.
                    let _ = match way {
                        0 => Ok(()),
                        1 => stream.write_all(&[b'x'; 4096]),
                        _ => stream.write_all(b"status\n"),
                    };
                    if way != 2 && held.len() < 100 {
                        held.push(stream);
                    }
                    if held.len() == 100 {
                        held.clear();
                    }
                }
            });
        }
        let result = in_the_flood(&mut lab);
        over.store(true, Ordering::Relaxed);
        result
    })
}

fn in_the_flood(lab: &mut Lab) -> Outcome {
    std::thread::sleep(Duration::from_millis(500));
    for restarts in 1..=3 {
        let pid = lab.until_ready("a")?.pid.ok_or("no pid")?;
        let begun = Instant::now();
        lab.signal_inner(pid, Signal::SIGKILL)?;
        lab.until("a", |service| service.restarts == restarts && service.phase == Phase::Ready)?;
        ensure(begun.elapsed() < Duration::from_secs(3), || format!("noticed after {:?}", begun.elapsed()))?;
    }
    ensure(status(lab)?.supervisor.services.len() == 1, || "a status in the flood".to_owned())?;
    let (report, took) = lab.stop()?;
    ensure(report.code == 0 && took < Duration::from_secs(5), || format!("{report:?} after {took:?}"))
}

fn the_socket_goes() -> Outcome {
    let mut lab = Lab::services(vec![Service::daemon("a", "exec sleep 1000")])?;
    lab.until_ready("a")?;
    let path = lab.path("control.sock");
    ensure(path.exists(), || "no socket".to_owned())?;
    lab.stop()?;
    ensure(!path.exists(), || "the socket is still there".to_owned())
}
