//! Standard input and output: all of it, within bounds, whoever does not read.

use std::time::{Duration, Instant};

use dindctl::exec::outcome::Status;
use dindctl::exec::protocol::Kind;
use serde_json::json;

use super::harness::{Agent, command, own_memory, run, shell};

pub fn ten_megabytes() -> Vec<u8> {
    (0_u32..2_621_440).flat_map(u32::to_le_bytes).collect()
}

pub fn stdin_10_mb_echo() {
    let bytes = ten_megabytes();
    let mut agent = Agent::start();
    agent.job(&command(&["cat"], json!({"stdin": true})));
    agent.feed(bytes.clone(), true);
    let outcome = agent.finish();
    assert!(outcome.stdout == bytes, "{} bytes came back", outcome.stdout.len());
    assert_eq!(outcome.status(), Status::Ok);
}

pub fn stdin_10_mb_echo_without_window() {
    let bytes = ten_megabytes();
    let mut agent = Agent::start();
    agent.job(&command(&["cat"], json!({"stdin": true})));
    agent.feed(bytes.clone(), false);
    let outcome = agent.finish();
    assert!(outcome.stdout == bytes, "{} bytes came back", outcome.stdout.len());
}

pub fn stdin_empty_and_absent() {
    // moby#37870: an empty input must still end.
    let mut agent = Agent::start();
    agent.job(&shell("cat; echo done", json!({"stdin": true})));
    agent.feed(Vec::new(), true);
    assert_eq!(agent.finish().text(), "done\n");
    assert_eq!(run(&shell("cat; readlink /proc/self/fd/0", json!({}))).text(), "/dev/null\n");
}

pub fn stdin_never_read_and_cancel() {
    let mut agent = Agent::start();
    agent.job(&command(&["sleep", "60"], json!({"stdin": true})));
    agent.feed(vec![b'x'; 8 << 20], true);
    agent.await_start();
    std::thread::sleep(Duration::from_millis(200));
    agent.send(Kind::Cancel, &[]);
    let outcome = agent.finish();
    assert_eq!(outcome.status(), Status::Killed);
    assert!(outcome.took < Duration::from_secs(2), "{:?}", outcome.took);
}

/// A caller that sends input to a job without input, and ignores the window, can still cancel.
pub fn stdin_not_wanted() {
    let mut agent = Agent::start();
    agent.job(&command(&["sleep", "60"], json!({})));
    agent.await_start();
    agent.feed(vec![b'x'; 8 << 20], false);
    std::thread::sleep(Duration::from_millis(200));
    agent.send(Kind::Cancel, &[]);
    assert_eq!(agent.finish().status(), Status::Killed);
}

pub fn stdin_never_read_and_program_ends() {
    let mut agent = Agent::start();
    agent.job(&shell("exec <&-; sleep 0.3; echo over", json!({"stdin": true})));
    agent.feed(vec![b'x'; 8 << 20], true);
    let outcome = agent.finish();
    assert_eq!((outcome.text(), outcome.status()), ("over\n", Status::Ok));
}

pub fn output_head_and_tail() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo err >&2";
    let outcome = run(&shell(script, json!({"max_output": 1000})));
    let whole: String =
        (0..20000).flat_map(|number| ["line ".to_owned(), number.to_string(), "\n".to_owned()]).collect();
    let dropped = whole.len() as u64 - 1000;
    assert_eq!(outcome.gaps, [(Kind::StdoutGap, dropped, 500)]);
    assert_eq!(outcome.stdout, [&whole.as_bytes()[..500], &whole.as_bytes()[whole.len() - 500..]].concat());
    assert_eq!(outcome.stderr, b"err\n");
    let report = outcome.report();
    assert_eq!((report.status, report.truncated.stdout, report.truncated.stderr), (Status::Ok, dropped, 0));

    let outcome = run(&shell("yes | head -c 300000000", json!({"max_output": 65536})));
    assert_eq!((outcome.stdout.len(), outcome.report().truncated.stdout), (65536, 300_000_000 - 65536));
}

pub fn output_limit_kills() {
    let outcome = run(&command(&["yes"], json!({"max_output": 5000, "on_output_limit": "kill"})));
    assert_eq!((outcome.status(), outcome.stdout.len()), (Status::OutputLimit, 5000));
    assert_eq!(outcome.report().signal, Some(libc::SIGKILL));
    assert!(outcome.report().truncated.stdout > 0);
    // Up to the cap nothing happens.
    let script = "head -c 5000 /dev/zero";
    let outcome = run(&shell(script, json!({"max_output": 5000, "on_output_limit": "kill"})));
    assert_eq!((outcome.status(), outcome.stdout.len()), (Status::Ok, 5000));
}

pub fn streaming_needs_no_memory() {
    let mut agent = Agent::start();
    agent.job(&command(&["head", "-c", "200000000", "/dev/zero"], json!({})));
    agent.await_start();
    let pid = agent.pid();
    // Flat means: it does not grow with what has passed through. Before the first bytes the buffers are not there yet.
    let (mut count, mut first, mut most) = (0_u64, 0_u64, 0_u64);
    let start = Instant::now();
    let mut next_look = 10_000_000;
    let outcome = agent.finish_streaming(|piece| {
        count += piece.len() as u64;
        if count >= next_look {
            next_look += 40_000_000;
            most = most.max(own_memory(pid));
            first = if first == 0 { most } else { first };
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("agent: {first} bytes of its own after 10 MB, {most} at most, 200 MB in {seconds:.3} s");
    assert_eq!((count, outcome.status()), (200_000_000, Status::Ok));
    assert!(first > 0 && most < first + 512 * 1024, "{first} grew to {most}");
}

pub fn both_streams_at_once() {
    let script = "head -c 3000000 /dev/zero & head -c 3000000 /dev/zero >&2; wait";
    let outcome = run(&shell(script, json!({})));
    assert_eq!((outcome.stdout.len(), outcome.stderr.len()), (3_000_000, 3_000_000));
}

pub fn binary_output_survives() {
    let outcome = run(&shell(r"printf '\000\377\001\376'; head -c 5 /dev/zero", json!({})));
    assert_eq!(outcome.stdout, [0, 255, 1, 254, 0, 0, 0, 0, 0]);
}

/// A caller that stops reading slows the program down, but not the deadline.
pub fn caller_that_does_not_read() {
    let mut agent = Agent::start();
    agent.job(&command(&["yes"], json!({"timeout_ms": 500})));
    agent.await_start();
    std::thread::sleep(Duration::from_secs(1));
    let ours = agent.pid();
    let children = std::fs::read_to_string(format!("/proc/{ours}/task/{ours}/children")).unwrap();
    assert_eq!(children, "", "the program is dead although nobody reads");
    let outcome = agent.finish();
    assert_eq!(outcome.status(), Status::Timeout);
    assert!(outcome.stdout.len() > 65536);

    // Nobody ever reads: the agent does not wait for ever.
    let mut agent = Agent::start();
    agent.job(&command(&["yes"], json!({"timeout_ms": 100})));
    assert_eq!(agent.exit_code(), 3);
}
