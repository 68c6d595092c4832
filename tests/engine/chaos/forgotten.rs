//! Containers whose daemon is killed between having them made and writing down that they run.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::told;
use crate::docker::Container;

/// Functions for the shell inside; none waits for ever.
///
/// `start NAME` begins to start a container and waits until runc knows it; sets `id`, empty if it came to nothing. `forget NAME STATE` holds
/// dockerd still, which it does not notice, between having had a task made and starting it: what is left of that moment is tried out. Then
/// the task is started in its stead, if that is wanted, and dockerd killed. Gives the identifier.
const WORDS: &str = r#"
    runs=/run/docker/runtime-runc/moby
    start() {
        before=$(ls $runs 2>/dev/null)
        docker run --detach --network=none --name $1 tiny /dindctl health --wait 1h >/dev/null 2>&1 &
        id= turns=0
        while [ $turns -lt 300000 ]; do
            turns=$((turns + 1))
            for path in $runs/*/state.json; do
                id=${path%/state.json}; id=${id##*/}
                case $before in *$id*) ;; *) [ -e $path ] && return ;; esac
            done
        done
        id=
    }
    state() { ctr --namespace moby tasks ls | grep "$id"; }
    forget() {
        dockerd=$(cat /run/docker.pid)
        pauses="0.008 0.012 0.016 0.020 0.024 0.030 0.010 0.014 0.018 0.022 0.005 0.040 0.050 0.012 0.016"
        # The moment is a few milliseconds long, and a busy machine can be in another each time.
        for pause in $pauses $pauses $pauses $pauses; do
            start $1
            sleep $pause
            kill -STOP $dockerd
            if [ -n "$id" ] && sleep 0.3 && state | grep -q CREATED; then
                [ $2 = CREATED ] || ctr --namespace moby tasks start --detach $id
                kill -KILL $dockerd
                echo $id
                dindctl health --wait 30s >&2
                return
            fi
            kill -CONT $dockerd
            wait
            docker rm --force $1 >&2
        done
        return 1
    }
"#;

fn dind(what: &str) -> Container {
    let dind = Container::dind(what, &[]);
    dind.sh("tar -C /usr/local/bin -c dindctl | docker import - tiny").ok();
    dind
}

fn run(dind: &Container, script: &str) -> String {
    dind.sh(&format!("{WORDS}{script}")).ok()
}

/// Identifiers of the tasks that containerd has.
fn tasks(dind: &Container) -> Vec<String> {
    let said = dind.exec(&["ctr", "--namespace", "moby", "tasks", "ls", "--quiet"]).ok();
    let mut ids: Vec<String> = said.lines().map(str::to_owned).collect();
    ids.sort();
    ids
}

fn pid_of(dind: &Container, name: &str) -> String {
    dind.exec(&["docker", "inspect", "--format", "{{.State.Status}} {{.State.Pid}}", name]).ok()
}

/// Waits until containerd has just these tasks, and fails where another one of them went.
fn wait_for_tasks(dind: &Container, wanted: &[&str]) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let found = tasks(dind);
        assert!(wanted.iter().all(|id| found.iter().any(|one| one == id)), "{found:?} of {wanted:?}\n{}", told(dind));
        if found.len() == wanted.len() {
            return;
        }
        assert!(Instant::now() < end, "{found:?} and not just {wanted:?}\n{}", told(dind));
        std::thread::sleep(Duration::from_millis(250));
    }
}

pub fn what_killed_daemons_forgot_is_ended_and_nothing_else() -> Result<(), Failed> {
    let dind = dind("forgotten");
    let kept = run(&dind, "docker run --detach --network=none --name kept tiny /dindctl health --wait 1h");
    let unread = run(&dind, "docker run --detach --network=none --name unread tiny /dindctl health --wait 1h");
    let life = pid_of(&dind, "kept");
    // Of one that it cannot read dockerd knows nothing, but has files: it is the user's.
    dind.sh(&format!("echo '{{' >/var/lib/docker/containers/{unread}/config.v2.json")).ok();

    let created = run(&dind, "forget made CREATED");
    assert_eq!(pid_of(&dind, "made"), "created 0");
    let running = run(&dind, "forget begun RUNNING && docker rm begun >/dev/null");
    assert!(dind.exec(&["docker", "inspect", &unread]).code != 0, "dockerd read {unread}");
    wait_for_tasks(&dind, &[&kept, &unread]);

    // What became of the last is said when containerd is seen to have deleted it.
    let told_of = |id: &String| {
        dind.logs().matches(&format!("the task {} was ended: containerd ran it, and dockerd", &id[..12])).count()
    };
    let end = Instant::now() + Duration::from_secs(30);
    while [&created, &running].map(told_of) != [1, 1] {
        assert!(Instant::now() < end, "{created} and {running}\n{}", told(&dind));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!([&kept, &unread].map(told_of), [0, 0], "{}", told(&dind));
    for id in [&created, &running] {
        let find = format!("find /sys/fs/cgroup /run/docker/runtime-runc /run/containerd -name '*{id}*'");
        assert_eq!(dind.sh(&find).ok(), "", "{}", told(&dind));
    }
    assert_eq!(pid_of(&dind, "kept"), life, "{}", told(&dind));
    // What is known can be started after all.
    dind.exec(&["docker", "start", "made"]).ok();
    assert!(pid_of(&dind, "made").starts_with("running "));
    dind.exec(&["dindctl", "leavings"]).ok();
    wait_for_tasks(&dind, &[&kept, &unread, &created]);
    Ok(())
}

/// It is not taken for one that was forgotten, though the daemon's list has it as never started.
pub fn a_start_that_takes_long_is_left_alone() -> Result<(), Failed> {
    let dind = dind("slow");
    // containerd does not hear that its shim has made the task, so dockerd goes on waiting for it. On a busy machine it may hear it.
    let script = r#"
        of() { for one in /proc/[0-9]*; do read -r name <$one/comm && [ "$name" = $1 ] && echo ${one#/proc/}; done 2>/dev/null; }
        containerd=$(of containerd)
        for attempt in 1 2 3 4 5 6 7 8; do
            start slow
            kill -STOP $containerd
            sleep 0.5
            for shim in $(of containerd-shim); do
                case $(cat /proc/$shim/cmdline) in *$id*) child=$(cat /proc/$shim/task/*/children) ;; esac
            done
            [ -n "$id" ] && read -r name <"/proc/${child% }/comm" && [ "$name" = 'runc:[2:INIT]' ] && break
            kill -CONT $containerd
            wait
            docker rm --force slow >&2
        done
        echo "$name"
        dindctl leavings >&2; echo leavings $?
        kill -CONT $containerd
        wait
        echo $id"#;
    let said = run(&dind, script);
    let lines: Vec<&str> = said.lines().collect();
    let &["runc:[2:INIT]", "leavings 0", id] = lines.as_slice() else { panic!("{said}\n{}", told(&dind)) };
    assert!(pid_of(&dind, "slow").starts_with("running "), "{}", told(&dind));
    assert_eq!(tasks(&dind), [id], "{}", told(&dind));
    Ok(())
}

/// Programs that look like shims of tasks that dockerd does not know. The first is told apart by nothing, and goes.
pub fn shims_of_others_stay() -> Result<(), Failed> {
    let dind = dind("shims");
    let script = r#"
        cp /bin/sh /tmp/containerd-shim-fake && mkfifo /tmp/never
        id() { printf "$1%.0s" $(seq 64); }
        # A digit for the identifier, a root file system, and what the program is run by.
        fake() {
            bundle=/run/fake/$(id $1) root=$2
            mkdir -p $bundle
            echo '{"ociVersion": "1.1.0", "root": {"path": "'$root'"}}' >$bundle/config.json
            shift 2
            cd $bundle && exec "$@" /tmp/containerd-shim-fake -c 'read x </tmp/never' -namespace moby -id ${bundle#/run/fake/}
        }
        layer=/var/lib/docker/overlay2/x/merged
        fake a $layer env & nobodys=$!
        fake b $layer unshare --mount & nested=$!
        fake c /srv/docker/overlay2/x/merged env & second=$!
        mkdir /var/lib/docker/containers/$(id d)
        fake d $layer env & unread=$!
        sleep 0.5
        dindctl clean --dry-run --output json
        dindctl clean >&2 & clean=$!
        wait $nobodys; echo ended $?
        # What containerd does after its own.
        rm -r /run/fake/$(id a)
        wait $clean; echo clean $?
        for pid in $nested $second $unread; do kill $pid && wait $pid; echo killed $?; done"#;
    let said = dind.sh(script);
    let (report, rest) = said.out.split_once('\n').ok_or("no report")?;
    let report: serde_json::Value = serde_json::from_str(report).map_err(|error| format!("{error}: {report}"))?;
    let items = report["removed"].as_array().ok_or("no list")?.iter();
    let tasks: Vec<&str> = items.filter(|item| item["kind"] == "task").filter_map(|item| item["id"].as_str()).collect();
    assert_eq!(tasks, ["a".repeat(64)], "{report}");
    // 128 + SIGKILL, and 128 + SIGTERM: these lived until then.
    assert_eq!(rest.trim(), "ended 137\nclean 0\nkilled 143\nkilled 143\nkilled 143", "{}", said.err);
    let told =
        "removed task of containerd aaaaaaaaaaaa: containerd ran it, and dockerd does not know its container any more";
    assert_eq!(said.err.matches("removed task of containerd").count(), 1, "{}", said.err);
    assert!(said.err.contains(told), "{}", said.err);
    Ok(())
}
