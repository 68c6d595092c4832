//! What a program and an archive cannot do, and the workspace that they may use.

use std::os::unix::fs::MetadataExt;

use dindctl::exec::outcome::Status;
use dindctl::exec::protocol::Kind;
use serde_json::json;

use super::harness::{Agent, NOBODY, run, shell};

pub fn root_without_power() {
    let script = "id -u; grep -E '^Cap(Prm|Eff)' /proc/self/status; cat /proc/1/fd/64; readlink /proc/1/fd/64; \
                  cat /proc/1/environ; kill -9 1; kill -STOP 1; echo x > /proc/1/mem; chown 5 /tmp && echo owned";
    let outcome = run(&shell(script, json!({"run_as": {"spec": "root"}})));
    let lines: Vec<&str> = outcome.text().lines().collect();
    assert_eq!(lines.len(), 3, "{outcome:?}");
    assert!(lines[1].ends_with("0000000000000000") && lines[2].ends_with("0000000000000000"), "{lines:?}");
    assert!(matches!(outcome.status(), Status::Nonzero), "{outcome:?}");
}

pub fn workspace_mismatch() {
    let root = tempfile::tempdir_in("/tmp").unwrap();
    let found = root.path().metadata().unwrap();
    for (ino, expected) in [(found.ino(), Status::Ok), (found.ino() + 1, Status::Rejected)] {
        let identity = json!({"ino": ino, "ctime": found.ctime(), "ctime_nsec": found.ctime_nsec()});
        let job = json!({"workspace": {"bound": {"path": root.path(), "identity": identity}}});
        let outcome = run(&shell("true", job));
        assert_eq!(outcome.status(), expected);
        assert_eq!(outcome.problem() == "workspace_mismatch", expected == Status::Rejected);
    }
}

pub fn workspace_copy() {
    let root = tempfile::tempdir_in("/tmp").unwrap();
    std::os::unix::fs::chown(root.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let big = super::streams::ten_megabytes();
    for (name, content) in [("dir/hello.txt", b"hello".as_slice()), ("big", &big)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        builder.append_data(&mut header, name, content).unwrap();
    }
    let archive = builder.into_inner().unwrap();
    let mut agent = Agent::start();
    agent.job(&shell(
        "cat dir/hello.txt; stat -c ' %u %a %s' dir/hello.txt big; cat",
        json!({"workspace": {"copy": {"path": root.path()}}, "workdir": root.path(), "stdin": true}),
    ));
    for piece in archive.chunks(32 * 1024) {
        agent.send(Kind::Archive, piece);
    }
    agent.send(Kind::ArchiveEof, &[]);
    agent.feed(b"and input".to_vec(), true);
    let outcome = agent.finish();
    assert_eq!(
        outcome.text(),
        "hello 65534 640 5
 65534 640 10485760
and input"
    );
}

pub fn workspace_copy_cancelled() {
    let mut agent = Agent::start();
    agent.job(&shell("true", json!({"workspace": {"copy": {"path": "/tmp"}}})));
    agent.send(Kind::Archive, &[0; 100]);
    agent.send(Kind::Cancel, &[]);
    let outcome = agent.finish();
    assert_eq!((outcome.status(), outcome.started), (Status::Killed, false));
}

pub fn workspace_copy_hostile() {
    let root = tempfile::tempdir_in("/tmp").unwrap();
    std::os::unix::fs::chown(root.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    let name = b"../dindctl-escaped";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, b"x".as_slice()).unwrap();
    let mut agent = Agent::start();
    agent.job(&shell("echo ran", json!({"workspace": {"copy": {"path": root.path()}}})));
    agent.send(Kind::Archive, &builder.into_inner().unwrap());
    agent.send(Kind::ArchiveEof, &[]);
    let outcome = agent.finish();
    assert_eq!((outcome.status(), outcome.problem(), outcome.text()), (Status::Rejected, "archive_unsafe", ""));
    assert!(!std::path::Path::new("/tmp/dindctl-escaped").exists());
}

pub fn agent_cannot_be_reached() {
    let script = r"
        for fd in 0 1 2 64 65 66 67 68 69 70; do echo x > /proc/1/fd/$fd && echo opened $fd; done
        ls /proc/1/fd/ && echo listed
        cat /proc/1/environ && echo environ
        head -c 1 /proc/1/mem && echo mem
        cat /proc/1/maps | grep . && echo maps
        kill -9 1 && echo killed; kill -STOP 1 && echo stopped; kill -TERM 1 && echo asked
        echo -1000 > /proc/self/oom_score_adj && echo immortal
        printf 'D\0\0\0\002{}'
    ";
    let outcome = run(&shell(script, json!({})));
    // A frame that the program prints is output like any other.
    assert_eq!(outcome.stdout, b"D\0\0\0\x02{}", "{outcome:?}");
    assert_eq!(outcome.status(), Status::Ok);
}
