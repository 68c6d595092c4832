//! The image as people run it: entrypoint, supervision, stop, and the ways in which a start can fail.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::docker::{Container, docker, fresh_name, image};
use super::load::Load;

type Case = fn() -> Result<(), Failed>;

/// Those that build.
pub const WITH_BUILDX: &[(&str, Case)] =
    &[("daemon::steps_of_builds_have_a_score_of_their_own", steps_of_builds_have_a_score_of_their_own)];

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    (
        "daemon::health_does_not_take_an_earlier_end_for_the_present",
        health_does_not_take_an_earlier_end_for_the_present,
    ),
    ("daemon::is_healthy_and_tells_how_it_came_up", is_healthy_and_tells_how_it_came_up),
    ("daemon::killed_daemons_refuse_no_connection", killed_daemons_refuse_no_connection),
    ("daemon::nested_containers_outlive_dockerd_and_containerd", nested_containers_outlive_the_daemons),
    ("daemon::stop_gives_nested_containers_their_signal", stop_gives_nested_containers_their_signal),
    ("daemon::a_thousand_orphans_leave_no_zombie", a_thousand_orphans_leave_no_zombie),
    ("daemon::nested_limits_are_what_was_asked", nested_limits_are_what_was_asked),
    ("daemon::a_full_disk_is_named", a_full_disk_is_named),
    ("daemon::a_missing_privilege_is_named", a_missing_privilege_is_named),
    ("daemon::a_taken_port_is_named", a_taken_port_is_named),
    ("daemon::a_second_daemon_on_the_same_data_is_refused", a_second_daemon_on_the_same_data_is_refused),
    ("daemon::an_argument_dockerd_does_not_know_ends_at_once", an_argument_dockerd_does_not_know_ends_at_once),
    ("daemon::a_crash_loop_ends_with_the_last_lines", a_crash_loop_ends_with_the_last_lines),
    ("daemon::the_argument_rules_are_the_official_ones", the_argument_rules_are_the_official_ones),
    ("daemon::an_explicit_dockerd_is_supervised_as_it_is", an_explicit_dockerd_is_supervised_as_it_is),
    ("daemon::an_explicit_dockerd_is_found_where_it_listens", an_explicit_dockerd_is_found_where_it_listens),
    ("daemon::a_containerd_that_runs_already_is_used", a_containerd_that_runs_already_is_used),
    ("daemon::a_swarm_is_made_where_live_restore_is_off", a_swarm_is_made_where_live_restore_is_off),
    ("daemon::the_unix_socket_belongs_to_its_group", the_unix_socket_belongs_to_its_group),
    ("daemon::up_lives_as_long_as_its_command", up_lives_as_long_as_its_command),
    ("daemon::lines_are_json_where_that_is_wanted", lines_are_json_where_that_is_wanted),
    ("daemon::certificates_are_used_where_they_are_given", certificates_are_used_where_they_are_given),
    ("daemon::a_restarted_container_comes_up_again", a_restarted_container_comes_up_again),
    ("daemon::nested_containers_get_an_init_when_they_ask", nested_containers_get_an_init_when_they_ask),
];

/// Process id of a service inside, as the supervisor's state has it.
fn pid_of(container: &Container, service: &str) -> String {
    let state = container.exec(&["cat", "/run/dindctl/state.json"]).ok();
    let state: serde_json::Value = serde_json::from_str(&state).expect("state.json");
    let services = state["services"].as_array().expect("services");
    let found = services.iter().find(|known| known["name"] == service).expect("service");
    found["pid"].as_i64().unwrap_or_else(|| panic!("{service} has no pid: {state}")).to_string()
}

fn kill(container: &Container, services: &[&str]) {
    let pids: Vec<String> = services.iter().map(|service| pid_of(container, service)).collect();
    container.sh(&format!("kill -9 {}", pids.join(" "))).ok();
}

fn health_does_not_take_an_earlier_end_for_the_present() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("dindctl");
    std::fs::create_dir(&run)?;
    let state = r#"{"schema":"dindctl.state/v1","pid":1,"version":"0","stopping":true,"prepare_ms":1,"ready_ms":null,"listen":[],"services":[]}"#;
    std::fs::write(run.join("state.json"), state)?;
    let dind = Container { name: fresh_name("stale") };
    // Keys that take a while, so that there is time to ask too early.
    let create =
        ["create", "--label=dindctl.test=1", "--privileged", "--env=DINDCTL_TLS_KEY=rsa", "--name", &dind.name];
    docker(&[&create[..], &[&image()]].concat()).ok();
    docker(&["cp", &run.display().to_string(), &format!("{}:/run", dind.name)]).ok();
    docker(&["start", &dind.name]).ok();
    dind.wait_healthy(Duration::from_secs(600));
    Ok(())
}

fn is_healthy_and_tells_how_it_came_up() -> Result<(), Failed> {
    let dind = Container::dind("healthy", &["--env", "DINDCTL_OUTER_STOP_TIMEOUT=10s"]);
    let health = dind.exec(&["dindctl", "health", "-o", "json"]).ok();
    let health: serde_json::Value = serde_json::from_str(&health)?;
    assert_eq!(health["healthy"], true);
    assert_eq!(health["supervisor"]["pid"], 1);
    assert!(health["supervisor"]["ready_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{health}");
    assert_eq!(health["supervisor"]["listen"][0], "unix:///var/run/docker.sock");
    let status: serde_json::Value = serde_json::from_str(&dind.exec(&["dindctl", "status", "-o", "json"]).ok())?;
    let dockerd = &status["supervisor"]["services"][1];
    assert_eq!((&dockerd["name"], &dockerd["phase"]), (&"dockerd".into(), &"ready".into()), "{status}");
    assert!(dockerd["lives"][0]["ready_ms"].as_u64() >= dockerd["lives"][0]["started_ms"].as_u64(), "{status}");
    let text = dind.exec(&["dindctl", "status"]).ok();
    assert!(text.contains("listens on unix:///var/run/docker.sock") && text.contains("\ncontainerd  ready"), "{text}");
    let nobody = docker(&["exec", "--user", "65534", &dind.name, "dindctl", "status"]);
    assert!(nobody.ok().contains("\ncontainerd  ready"), "everyone may ask");
    let beside = docker(&["run", "--rm", "--entrypoint", "dindctl", &image(), "status"]);
    assert!(beside.code == 1 && beside.err.contains("no dindctl supervises here"), "{beside:?}");
    let logs = dind.logs();
    assert!(logs.contains("without TLS"), "the warning about the open port is missing:\n{logs}");
    assert_eq!(logs.matches("DINDCTL_OUTER_STOP_TIMEOUT says").count(), 1, "{logs}");
    let plan: serde_json::Value = serde_json::from_str(&dind.exec(&["dindctl", "plan", "-o", "json"]).ok())?;
    let steps = plan["steps"].as_array().ok_or("no steps")?;
    assert!(!steps.is_empty() && steps.iter().all(|step| step["found"].is_string() && step["reason"].is_string()));
    Ok(())
}

fn killed_daemons_refuse_no_connection() -> Result<(), Failed> {
    let dind = Container::dind("kills", &[]);
    let load = Load::start(&format!("{}:2375", dind.address()), 20);
    for services in [&["dockerd"][..], &["containerd"], &["dockerd", "containerd"]] {
        // A second of readiness makes the next life a good one, which is restarted without delay.
        std::thread::sleep(Duration::from_millis(1500));
        kill(&dind, services);
        std::thread::sleep(Duration::from_millis(500));
        dind.wait_healthy(Duration::from_secs(60));
    }
    std::thread::sleep(Duration::from_millis(500));
    let seen = load.stop();
    assert_eq!(seen.refused, 0, "{seen:?}\n{}", dind.logs());
    assert!(seen.answered >= 60, "{seen:?}");
    // A request that dockerd had taken when it died is lost; there is hardly ever more than one at a time.
    assert!(seen.broken <= 6, "{seen:?}");
    Ok(())
}

fn nested_containers_outlive_the_daemons() -> Result<(), Failed> {
    let dind = Container::dind("outlive", &[]);
    dind.load("debian:trixie-slim");
    dind.exec(&["docker", "run", "-d", "--network=none", "--name=kept", "debian:trixie-slim", "sleep", "600"]).ok();
    let pid = || dind.exec(&["docker", "inspect", "-f", "{{.State.Running}} {{.State.Pid}}", "kept"]).ok();
    let before = pid();
    assert!(before.starts_with("true "), "{before}");
    for services in [&["dockerd"][..], &["dockerd", "containerd"]] {
        std::thread::sleep(Duration::from_millis(1500));
        kill(&dind, services);
        std::thread::sleep(Duration::from_millis(300));
        dind.wait_healthy(Duration::from_secs(60));
        assert_eq!(pid(), before, "{}", dind.logs());
    }
    Ok(())
}

fn stop_gives_nested_containers_their_signal() -> Result<(), Failed> {
    let dind = Container::dind("stop", &["--volume", "/shared"]);
    dind.load("debian:trixie-slim");
    let script = "trap 'echo ended > /shared/word; exit 0' TERM; echo up > /shared/word; while :; do sleep 0.1; done";
    let run =
        ["docker", "run", "-d", "--network=none", "-v", "/shared:/shared", "debian:trixie-slim", "sh", "-c", script];
    dind.exec(&run).ok();
    let started = Instant::now();
    while dind.sh("cat /shared/word").out.trim() != "up" {
        assert!(started.elapsed() < Duration::from_secs(20), "the nested container did not start");
        std::thread::sleep(Duration::from_millis(100));
    }
    docker(&["stop", "--time", "60", &dind.name]).ok();
    assert_eq!(dind.wait(Duration::from_secs(5)), 0, "{}", dind.logs());
    let helper = Container { name: fresh_name("peek") };
    let image = image();
    let run =
        ["run", "--name", &helper.name, "--volumes-from", &dind.name, "--entrypoint", "cat", &image, "/shared/word"];
    assert_eq!(docker(&run).ok(), "ended", "{}", dind.logs());
    assert!(dind.logs().contains("Daemon shutdown complete"), "{}", dind.logs());
    Ok(())
}

fn a_thousand_orphans_leave_no_zombie() -> Result<(), Failed> {
    let dind = Container::dind("orphans", &[]);
    dind.sh("i=0; while [ $i -lt 1000 ]; do (sleep 0.05 &); i=$((i+1)); done").ok();
    let started = Instant::now();
    let zombies = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
    loop {
        let seen = dind.sh(zombies).out;
        if seen.trim() == "0" && started.elapsed() > Duration::from_secs(1) {
            return Ok(());
        }
        assert!(started.elapsed() < Duration::from_secs(20), "zombies are left: {seen}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn nested_limits_are_what_was_asked() -> Result<(), Failed> {
    let dind = Container::dind("limits", &[]);
    dind.load("debian:trixie-slim");
    let run = "docker run -d --network=none --name limited --memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 32 \
               debian:trixie-slim sleep 600";
    let id = dind.sh(run).ok();
    // Read from the control group that the kernel enforces, from outside of the nested container.
    let files = if dind.sh("test -e /sys/fs/cgroup/cgroup.controllers").code == 0 {
        format!("cd /sys/fs/cgroup/docker/{id} && cat memory.max cpu.max pids.max")
    } else {
        format!(
            "cd /sys/fs/cgroup && cat memory/docker/{id}/memory.limit_in_bytes && echo \
             $(cat cpu/docker/{id}/cpu.cfs_quota_us cpu/docker/{id}/cpu.cfs_period_us) && cat pids/docker/{id}/pids.max"
        )
    };
    assert_eq!(dind.sh(&files).ok(), "67108864\n50000 100000\n32");
    let eat = "docker run --rm --network=none --memory 64m --memory-swap 64m debian:trixie-slim sh -c 'tail /dev/zero'";
    assert_eq!(dind.sh(eat).code, 137, "more memory than asked for was given");
    Ok(())
}

/// A container that must fail to start: its exit code and what it said.
fn fails(what: &str, options: &[&str], arguments: &[&str]) -> (i32, String) {
    let container = Container::start(what, &[&["--env", "DOCKER_TLS_CERTDIR="], options].concat(), arguments);
    (container.wait(Duration::from_secs(60)), container.logs())
}

#[track_caller]
fn assert_named(seen: &(i32, String), code: i32, words: &[&str]) {
    assert_eq!(seen.0, code, "{}", seen.1);
    for word in words.iter().chain(&["dindctl: error: ", "dindctl: hint: "]) {
        assert!(seen.1.contains(word), "`{word}` is missing in:\n{}", seen.1);
    }
}

fn a_full_disk_is_named() -> Result<(), Failed> {
    let seen = fails("full", &["--privileged", "--tmpfs", "/var/lib/docker:size=1m"], &[]);
    assert_named(&seen, 125, &["/var/lib/docker", "full"]);
    Ok(())
}

fn a_missing_privilege_is_named() -> Result<(), Failed> {
    let seen = fails("privilege", &[], &[]);
    assert_named(&seen, 125, &["CAP_SYS_ADMIN", "--privileged"]);
    Ok(())
}

fn a_taken_port_is_named() -> Result<(), Failed> {
    let first = Container::dind("port", &[]);
    let network = format!("container:{}", first.name);
    let seen = fails("port", &["--privileged", "--network", &network], &[]);
    assert_named(&seen, 125, &["port 2375", "taken", "DINDCTL_LISTEN"]);
    Ok(())
}

fn a_second_daemon_on_the_same_data_is_refused() -> Result<(), Failed> {
    let first = Container::dind("data", &[]);
    let seen = fails("data", &["--privileged", "--volumes-from", &first.name], &[]);
    assert_named(&seen, 125, &["another", "/var/lib/"]);
    first.wait_healthy(Duration::from_secs(1));
    Ok(())
}

fn an_argument_dockerd_does_not_know_ends_at_once() -> Result<(), Failed> {
    let seen = fails("flag", &["--privileged"], &["--no-such-flag"]);
    assert_named(&seen, 120, &["unknown flag: --no-such-flag", "does not know an argument"]);
    assert_eq!(seen.1.matches("unknown flag: --no-such-flag").count(), 2, "once from dockerd, once told:\n{}", seen.1);
    Ok(())
}

fn a_crash_loop_ends_with_the_last_lines() -> Result<(), Failed> {
    // A file where dockerd wants a folder: no known cause, so it is tried again and then given up.
    let seen = fails("loop", &["--privileged"], &["--exec-root=/etc/hostname/x"]);
    assert_eq!(seen.0, 120, "{}", seen.1);
    assert!(seen.1.contains("not a directory"), "{}", seen.1);
    Ok(())
}

fn the_argument_rules_are_the_official_ones() -> Result<(), Failed> {
    let image = image();
    let run = |arguments: &[&str]| docker(&[&["run", "--rm", "--label", "dindctl.test=1", &image], arguments].concat());
    assert!(run(&["--version"]).ok().starts_with("Docker version"));
    assert!(run(&["dockerd", "--version"]).ok().starts_with("Docker version"));
    assert_eq!(run(&["sh", "-c", "echo $container; exit 7"]).code, 7);
    assert_eq!(run(&["no-such-program"]).code, 127);
    // A word that docker knows becomes a docker command; there is no daemon, so it asks the default address.
    let said = run(&["ps"]);
    assert_ne!(said.code, 0);
    assert!(said.err.contains("docker:2375"), "{}", said.err);
    let init =
        docker(&["run", "--rm", "--label", "dindctl.test=1", "--entrypoint", "docker-init", &image, "--version"]).ok();
    assert!(init.starts_with("tini version "), "dockerd reads this line: {init}");
    Ok(())
}

fn an_explicit_dockerd_is_supervised_as_it_is() -> Result<(), Failed> {
    let options = ["--privileged", "--env=DINDCTL_DNS=10.0.0.9", "--env=DINDCTL_DNS_SEARCH=example"];
    let dind = Container::start("explicit", &options, &["dockerd", "--debug=false", "--dns-search=example"]);
    dind.wait_healthy(Duration::from_secs(60));
    let line = dind.sh(&format!("tr '\\0' ' ' < /proc/{}/cmdline", pid_of(&dind, "dockerd"))).ok();
    assert_eq!(line, "dockerd --debug=false --dns-search=example");
    let logs = dind.logs();
    let ignored = "gets nothing added, not even dns=[\"10.0.0.9\"], which environment DINDCTL_DNS asks for";
    assert!(logs.contains(ignored) && !logs.contains("not even dns-search"), "{logs}");
    assert_eq!(dind.sh("docker version --format '{{.Server.Os}}'").ok(), "linux");
    Ok(())
}

/// Health asked a socket that was not there.
fn an_explicit_dockerd_is_found_where_it_listens() -> Result<(), Failed> {
    for words in [&["-H", "unix:///run/own.sock"][..], &["-H", ":2375"], &["-H", "tcp://127.0.0.1:2375"]] {
        let line = [&["dockerd"], words].concat();
        let dind = Container::start("explicit-hosts", &["--privileged", "--env=DOCKER_TLS_CERTDIR="], &line);
        dind.wait_healthy(Duration::from_secs(60));
    }
    let file = r#"{"hosts": ["unix:///run/file.sock"]}"#;
    let script =
        format!("mkdir -p /etc/docker && echo '{file}' >/etc/docker/daemon.json && exec dindctl entrypoint dockerd");
    let dind = Container::start("explicit-hosts", &["--privileged", "--entrypoint=sh"], &["-c", &script]);
    dind.wait_healthy(Duration::from_secs(60));
    Ok(())
}

/// It was taken for one of another container that uses the same volume.
fn a_containerd_that_runs_already_is_used() -> Result<(), Failed> {
    let own = "containerd >/dev/null 2>&1 & while ! ctr version >/dev/null 2>&1; do sleep 0.1; done";
    for words in
        ["", "--containerd=/run/containerd/containerd.sock", "dockerd --containerd=/run/containerd/containerd.sock"]
    {
        let script = format!("{own}; exec dindctl entrypoint {words}");
        let dind = Container::start("containerd", &["--privileged", "--entrypoint=sh"], &["-c", &script]);
        dind.wait_healthy(Duration::from_secs(60));
        let daemons = dind
            .sh("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null; echo; done | grep -c '^containerd '")
            .ok();
        assert_eq!(daemons, "1", "{words}: {}", dind.logs());
    }
    Ok(())
}

/// This machine lets nobody lower a score, so that the steps get a higher one here than the daemons.
fn steps_of_builds_have_a_score_of_their_own() -> Result<(), Failed> {
    let options = [
        "--privileged",
        "--entrypoint=sh",
        "--env=DOCKER_TLS_CERTDIR=",
        "--oom-score-adj=300",
        "--env=DOCKER_BUILDKIT_RUNC_COMMAND=/run/buildkit-runc",
        "--env=_DINDCTL_STEPS_OOM_SCORE_ADJ=500",
    ];
    let script = "ln -s /usr/local/bin/dindctl /run/buildkit-runc && exec dindctl entrypoint";
    let dind = Container::start("build-score", &options, &["-c", script]);
    dind.wait_healthy(Duration::from_secs(60));
    dind.load("debian:trixie-slim");
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("Dockerfile"),
        "FROM debian:trixie-slim\nRUN echo score $(cat /proc/self/oom_score_adj)\n",
    )?;
    let host = format!("tcp://{}:2375", dind.address());
    let build =
        ["--host", &host, "buildx", "build", "--progress=plain", "--no-cache", &folder.path().display().to_string()];
    let said = docker(&build);
    assert!(said.code == 0 && said.err.contains("score 500"), "{said:?}\n{}", dind.logs());
    Ok(())
}

/// dockerd refuses one beside live-restore, which dindctl has on.
fn a_swarm_is_made_where_live_restore_is_off() -> Result<(), Failed> {
    let init = "docker swarm init --advertise-addr 127.0.0.1";
    let dind = Container::dind("swarm", &[]);
    let said = dind.sh(init);
    assert!(said.code != 0 && said.err.contains("--live-restore daemon configuration is incompatible"), "{said:?}");
    drop(dind);
    let dind = Container::dind("swarm", &["--env=DINDCTL_LIVE_RESTORE=off"]);
    dind.sh(init).ok();
    assert_eq!(dind.sh("docker node ls --format '{{.Status}} {{.ManagerStatus}}'").ok(), "Ready Leader");
    Ok(())
}

fn the_unix_socket_belongs_to_its_group() -> Result<(), Failed> {
    let dind = Container::start("socket", &["--privileged", "--env", "DOCKER_TLS_CERTDIR="], &["--log-level=warn"]);
    dind.wait_healthy(Duration::from_secs(60));
    let line = dind.sh(&format!("tr '\\0' ' ' < /proc/{}/cmdline", pid_of(&dind, "dockerd"))).ok();
    assert!(line.ends_with("--log-level=warn"), "dockerd's own flag went elsewhere: {line}");
    assert_eq!(dind.sh("stat -c '%U:%G %a' /var/run/docker.sock").ok(), "root:docker 660");
    let open = Container::dind(
        "socket",
        &["--env", "DINDCTL_SOCKET_MODE=0666", "--env", "DINDCTL_LISTEN=unix:///run/own.sock"],
    );
    assert_eq!(open.sh("stat -c '%a' /run/own.sock").ok(), "666");
    let listens = open.sh("cat /proc/net/tcp /proc/net/tcp6 | grep -ci ':0947 .* 0A ' || true").ok();
    assert_eq!(listens, "0", "port 2375 must stay closed");
    Ok(())
}

fn up_lives_as_long_as_its_command() -> Result<(), Failed> {
    let script = "docker version --format 'server {{.Server.Os}}'; id -un; \
        echo $HOME $SHELL ${XDG_RUNTIME_DIR-none}; exit 5";
    let options =
        ["--privileged", "--env", "DOCKER_TLS_CERTDIR=", "--env=XDG_RUNTIME_DIR=/root/run", "--entrypoint=dindctl"];
    let container = Container::start("up", &options, &["up", "--user", "nobody", "--", "sh", "-c", script]);
    assert_eq!(container.wait(Duration::from_secs(60)), 5, "{}", container.logs());
    let logs = container.logs();
    assert!(logs.contains("server linux\nnobody\n/nonexistent /usr/sbin/nologin none\n"), "{logs}");
    let what = docker(&["run", "--rm", "--entrypoint=dindctl", &image(), "up", "--restart=often", "--", "true"]);
    assert!(what.code == 125 && what.err.contains("one of always, on-failure, never is expected"), "{what:?}");
    Ok(())
}

/// Its own and those of the daemons, each with its name.
fn lines_are_json_where_that_is_wanted() -> Result<(), Failed> {
    let dind = Container::dind("json", &["--env=DINDCTL_LOG_FORMAT=json"]);
    let said = docker(&["logs", &dind.name]).err;
    let lines: Vec<serde_json::Value> =
        said.lines().map(serde_json::from_str).collect::<Result<_, _>>().map_err(|error| format!("{error}: {said}"))?;
    let of = |service: &str| lines.iter().filter(|line| line["service"] == service).count();
    assert!(of("dockerd") > 0 && lines.iter().any(|line| line["service"].is_null()), "{said}");
    assert!(lines.iter().any(|line| line["service"] == "dockerd" && line["level"] == "info"), "{said}");
    Ok(())
}

fn a_restarted_container_comes_up_again() -> Result<(), Failed> {
    let dind = Container::dind("again", &[]);
    for signal in ["KILL", "TERM"] {
        docker(&["kill", "--signal", signal, &dind.name]).ok();
        dind.wait(Duration::from_secs(60));
        docker(&["start", &dind.name]).ok();
        dind.wait_healthy(Duration::from_secs(60));
    }
    Ok(())
}

fn nested_containers_get_an_init_when_they_ask() -> Result<(), Failed> {
    let dind = Container::dind("init", &[]);
    dind.load("debian:trixie-slim");
    let run =
        "docker run --rm --init --network=none debian:trixie-slim sh -c 'tr \"\\0\" \" \" < /proc/1/cmdline; exit 9'";
    let said = dind.sh(run);
    assert_eq!((said.code, said.out.split(' ').next()), (9, Some("/sbin/docker-init")), "{}{}", said.out, said.err);
    assert!(!dind.logs().contains("docker-init version"), "dockerd does not understand the version:\n{}", dind.logs());
    assert_eq!(dind.sh("docker info --format '{{.InitBinary}}'").ok(), "docker-init");
    let sum = |command: &str| dind.sh(&format!("{command} | cut -d ' ' -f 1")).ok();
    let inside = sum("docker run --rm --init --network=none debian:trixie-slim sha256sum /sbin/docker-init");
    assert_eq!(inside, sum("sha256sum /usr/local/bin/dindctl"), "it is another program");
    // Orphans are collected, and a signal comes through.
    let orphans = "i=0; while [ $i -lt 50 ]; do sh -c \"sleep 0.05 & exit 0\"; i=$((i+1)); done; sleep 0.5; \
                   cat /proc/[0-9]*/stat | grep -c \") Z \"; kill -TERM 1; sleep 5";
    let said = dind.sh(&format!("docker run --rm --init --network=none debian:trixie-slim sh -c '{orphans}'"));
    assert_eq!((said.code, said.out.trim()), (143, "0"), "{}", said.err);
    // An image with one file in it, and that is not the init.
    let bare = "mkdir bare && cp /usr/local/bin/dindctl bare/program && tar -C bare -c program | docker import - bare:1 && \
                docker run --rm --init --network=none bare:1 /program --version";
    let said = dind.sh(bare);
    assert!(said.code == 0 && said.out.contains("dindctl "), "{}{}", said.out, said.err);
    let missing = dind.sh("docker run --rm --init --network=none bare:1 /no-such-program");
    assert_eq!(missing.code, 127, "{}", missing.err);
    assert!(missing.err.contains("exec /no-such-program failed: No such file or directory"), "{}", missing.err);
    Ok(())
}

fn certificates_are_used_where_they_are_given() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    super::certificates::write(folder.path())?;
    let dind = Container { name: fresh_name("tls") };
    let image = image();
    let create = ["create", "--privileged", "--label", "dindctl.test=1", "--name", &dind.name, &image];
    docker(&create).ok();
    docker(&["cp", &format!("{}/.", folder.path().display()), &format!("{}:/certs", dind.name)]).ok();
    docker(&["start", &dind.name]).ok();
    dind.wait_healthy(Duration::from_secs(60));
    let host = format!("tcp://{}:2376", dind.address());
    let client = folder.path().join("client");
    let ask = |folder: &std::path::Path| {
        let mut command = std::process::Command::new("docker");
        command.args(["--host", &host, "--tlsverify", "version", "--format", "{{.Server.Os}}"]);
        super::docker::Said::from(command.env("DOCKER_CERT_PATH", folder).output().expect("docker CLI"))
    };
    assert_eq!(ask(&client).ok(), "linux");
    let stranger = tempfile::tempdir()?;
    super::certificates::write(stranger.path())?;
    let refused = ask(&stranger.path().join("client"));
    assert_ne!(refused.code, 0, "a client of another authority was let in");

    dind.load("debian:trixie-slim");
    let run = |folder: &std::path::Path| {
        let mut command = super::exec::exec_command(&["sh", "-c", "echo over TLS"]);
        command.env("DOCKER_HOST", &host).env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", folder);
        super::docker::Said::from(command.output().expect("dindctl"))
    };
    assert_eq!(run(&client).ok(), "over TLS");
    let refused = run(&stranger.path().join("client"));
    assert_eq!(refused.code, 125, "{}", refused.err);
    assert!(refused.err.contains("TLS") && refused.err.contains("DOCKER_CERT_PATH"), "{}", refused.err);
    Ok(())
}
