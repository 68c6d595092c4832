//! Backup and restore as people do it: through `docker exec`, of a volume that goes away in between.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::docker::{Container, Said, Volume};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[("backup::a_volume_comes_back_as_it_was", a_volume_comes_back_as_it_was)];

/// Those whose containers write without a pause, which leaves little for the cases beside them, and the other way round.
pub const BUSY: &[(&str, Case)] =
    &[("backup::a_nested_writer_is_held_still_and_goes_on", a_nested_writer_is_held_still_and_goes_on)];

/// Why the busy ones do not run, if so.
pub fn not_wanted() -> Option<String> {
    let reason = || "keeps every processor busy: DINDCTL_TEST_ALL=1, or scripts/test --all".to_owned();
    std::env::var_os("DINDCTL_TEST_ALL").is_none().then(reason)
}

/// A tree with everything: ids, devices, links, a sparse file, odd names, capabilities and access lists where there are tools.
const TREE: &str = r"
    cd /workspaces && umask 022
    mkdir -p a/b empty && echo text >a/b/file && ln a/b/file a/second && ln -s /etc/shadow link && mkfifo pipe
    mknod null c 1 3 && mknod disk b 7 0 && chown 1234:4321 a/b/file && chmod 6751 a/b/file && chmod 1777 empty
    truncate -s 20M sparse && printf 'odd' >$(printf 'n\377ame\n') && touch -d '1965-03-04 05:06:07.123456789' empty
    ln -s nowhere a/dangling && chown -h 77:88 a/dangling && chown 55:66 . && chmod 2770 .";

/// What `stat`, `readlink` and the content say about every name.
const FACTS: &str = r"
    cd /workspaces && find . -printf '%y %m %U:%G %T@ %n %s %l %p\n' | sort
    find . -type f -print0 | sort -z | xargs -0 sha256sum
    find . -type c -o -type b | sort | xargs stat -c '%n %t:%T'";

/// Streams a file into or out of a command in the container.
fn stream(container: &Container, words: &[&str], input: Option<File>, output: Option<File>) -> Said {
    let mut command = Command::new("docker");
    command.args(["exec", "-i", &container.name]).args(words);
    command.stdin(input.map_or_else(Stdio::null, Stdio::from));
    command.stdout(output.map_or_else(Stdio::piped, Stdio::from)).stderr(Stdio::piped());
    command.spawn().and_then(std::process::Child::wait_with_output).expect("docker exec").into()
}

fn a_volume_comes_back_as_it_was() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("w.tar.zst");
    let volume = Volume::new("workspaces");
    let dind = Container::dind("backup", &["--volume", &format!("{}:/workspaces", volume.0)]);
    dind.sh(TREE).ok();
    let before = dind.sh(FACTS).ok();
    stream(&dind, &["dindctl", "backup", "-"], None, Some(File::create(&archive)?)).ok();
    drop(dind);
    drop(volume);

    let volume = Volume::new("workspaces");
    let dind = Container::dind("restore", &["--volume", &format!("{}:/workspaces", volume.0)]);
    let restore = ["dindctl", "restore", "-", "-o", "json"];
    let answer = stream(&dind, &restore, Some(File::open(&archive)?), None).ok();
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    assert_eq!(answer["restored"], true, "{answer}");
    assert_eq!(dind.sh(FACTS).ok(), before);
    // What is there is not touched without a word, and replaced as a whole with one.
    dind.sh("echo more >/workspaces/more").ok();
    let refused = stream(&dind, &restore, Some(File::open(&archive)?), None);
    assert!(refused.code == 125 && refused.err.contains("is not empty"), "{refused:?}");
    let replace = [&restore[..], &["--replace"]].concat();
    stream(&dind, &replace, Some(File::open(&archive)?), None).ok();
    assert_eq!(dind.sh(FACTS).ok(), before);
    // The end of a stream that was cut off is missing.
    File::options().write(true).open(&archive)?.set_len(std::fs::metadata(&archive)?.len() - 1000)?;
    let cut = stream(&dind, &replace, Some(File::open(&archive)?), None);
    assert!(cut.code == 1 && cut.err.contains("is truncated"), "{cut:?}");
    assert_eq!(dind.sh(FACTS).ok(), before);
    Ok(())
}

fn paused(dind: &Container, name: &str) -> bool {
    dind.exec(&["docker", "inspect", "--format", "{{.State.Paused}}", name]).ok() == "true"
}

fn a_nested_writer_is_held_still_and_goes_on() -> Result<(), Failed> {
    let volume = Volume::new("workspaces");
    let dind = Container::dind("pause", &["--volume", &format!("{}:/workspaces", volume.0)]);
    dind.load("debian:trixie-slim");
    let writer = "i=0; while :; do i=$((i+1)); echo $i >/w/counter; done";
    let run = ["docker", "run", "--detach", "--init", "--name"];
    dind.sh("mkdir /workspaces/project").ok();
    let shell = ["debian:trixie-slim", "sh", "-c"];
    dind.exec(&[&run[..], &["writer", "--volume=/workspaces/project:/w"], &shell, &[writer]].concat()).ok();
    dind.exec(&[&run[..], &["beside", "--volume=/var/tmp:/w"], &shell, &[writer]].concat()).ok();
    // Enough to read for a look at what is paused meanwhile.
    dind.sh("head -c 300M /dev/urandom >/workspaces/large").ok();

    // Without holding it still it is named, and nothing is kept.
    let moving = dind.exec(&["dindctl", "backup", "-f", "/root/moving.tar.zst", "--exclude", "large"]);
    assert!(moving.code == 1 && moving.err.contains("project/counter"), "{moving:?}");
    assert!(dind.sh("ls /root/moving.tar.zst").code != 0);

    let still = dind.exec(&["dindctl", "backup", "--pause", "-f", "/root/still.tar.zst", "-o", "json"]).ok();
    let answer: serde_json::Value = serde_json::from_str(&still)?;
    assert_eq!(answer["paused"], serde_json::json!(["writer"]), "{answer}");
    assert!(!paused(&dind, "writer") && !paused(&dind, "beside"));

    // A signal while it reads: everything goes on, and no half file is left.
    let signalled = "dindctl backup --pause -f /root/half.tar.zst & pid=$!
        for i in $(seq 200); do
            if [ \"$(docker inspect --format '{{.State.Paused}}' writer)\" = true ]; then break; fi; sleep 0.02
        done
        docker inspect --format '{{.State.Paused}}' writer beside
        kill -TERM $pid; wait $pid; echo $?; ls -A /root | grep -c half";
    let said = dind.sh(signalled);
    assert_eq!(said.out.split_whitespace().collect::<Vec<_>>(), ["true", "false", "143", "0"], "{said:?}");
    assert!(!paused(&dind, "writer"));

    // A reader that goes away ends it as well.
    let mut client = Command::new("docker")
        .args(["exec", &dind.name, "dindctl", "backup", "--pause", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut first = [0; 1000];
    std::io::Read::read_exact(client.stdout.as_mut().ok_or("no pipe")?, &mut first)?;
    client.kill()?;
    client.wait()?;
    let begun = Instant::now();
    while paused(&dind, "writer") {
        assert!(begun.elapsed() < Duration::from_secs(180), "still paused");
        std::thread::sleep(Duration::from_millis(200));
    }
    let counter = || dind.sh("stat -c %.9Y /workspaces/project/counter").ok();
    let one = counter();
    std::thread::sleep(Duration::from_millis(200));
    assert_ne!(one, counter());
    Ok(())
}
