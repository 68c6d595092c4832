//! The image of code-server, as far as no browser is needed: account, home, hooks, secrets, and what is done without a daemon.

use std::time::Duration;

use libtest_mimic::Failed;

use super::docker::{Container, Said, Volume, docker};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("codeserver::account_and_home_are_as_asked", account_and_home_are_as_asked),
    ("codeserver::a_renamed_user_survives_a_restart", a_renamed_user_survives_a_restart),
    ("codeserver::hooks_run_as_the_user_and_stop_nothing", hooks_run_as_the_user_and_stop_nothing),
    ("codeserver::a_secret_is_the_editors_alone", a_secret_is_the_editors_alone),
    ("codeserver::volumes_of_any_owner_open_the_editor", volumes_of_any_owner_open_the_editor),
    ("codeserver::without_rights_the_editor_opens_and_says_why", without_rights_the_editor_opens_and_says_why),
    ("codeserver::a_user_from_outside_has_an_editor", a_user_from_outside_has_an_editor),
    ("codeserver::what_cannot_be_had_is_refused", what_cannot_be_had_is_refused),
];

/// The image, where it was built.
pub fn image() -> Option<String> {
    std::env::var("DINDCTL_TEST_CODE_SERVER_IMAGE").ok().filter(|name| !name.is_empty())
}

/// No daemon of its own: nobody is at this address.
const CLIENT: &str = "--env=DOCKER_HOST=tcp://127.0.0.1:1";

fn start(what: &str, options: &[&str]) -> Container {
    let image = image().expect("the cases are skipped without it");
    let container = Container::of(&image, what, options, &["--auth=none", "."]);
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while container.exec(&["curl", "-fsS", "http://127.0.0.1:8080/healthz"]).code != 0 {
        assert!(std::time::Instant::now() < end, "the editor does not open\n{}", container.logs());
        std::thread::sleep(Duration::from_millis(200));
    }
    container
}

/// The editor's process: what `script` says of its folder in procfs, `$P`.
fn of_editor(container: &Container, script: &str) -> Said {
    let find = "for P in /proc/[0-9]*; do tr '\\0' ' ' <$P/cmdline | grep -q '^/opt/code-server/bin/node .*--bind-addr' && break; done";
    container.sh(&format!("{find}; {script}"))
}

fn ids_of_editor(container: &Container) -> String {
    of_editor(container, "stat -c %u:%g $P").ok()
}

fn account_and_home_are_as_asked() -> Result<(), Failed> {
    // Rights, to read another one's environment.
    let options = ["--privileged", "--env=PUID=1234", "--env=PGID=2345", "--env=DOCKER_USER=ada", CLIENT];
    let container = start("cs-ids", &options);
    assert_eq!(ids_of_editor(&container), "1234:2345", "{}", container.logs());
    let text = container.sh("getent passwd ada; id -nG ada; cat /etc/sudoers.d/nopasswd").ok();
    assert_eq!(text, "ada:x:1234:2345::/home/coder:/bin/bash\nada docker\nada ALL=(ALL) NOPASSWD:ALL");
    let owners = "cd /home/coder && stat -c '%u:%g' . .bashrc .config .local/share .local/state/bash .local/share/code-server/User/settings.json | sort -u";
    assert_eq!(container.sh(owners).ok(), "1234:2345");
    let variables =
        of_editor(&container, "tr '\\0' '\\n' <$P/environ | grep -E '^(USER|HOME|XDG_RUNTIME_DIR)=' | sort").ok();
    assert_eq!(variables, "HOME=/home/coder\nUSER=ada\nXDG_RUNTIME_DIR=/run/user/1234");
    Ok(())
}

fn a_renamed_user_survives_a_restart() -> Result<(), Failed> {
    let container = start("cs-rename", &["--env=DOCKER_USER=mycoder2", CLIENT]);
    container.sh("echo theirs >/home/coder/.local/share/code-server/User/settings.json").ok();
    for _ in 0..2 {
        docker(&["restart", "--time=20", &container.name]).ok();
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while container.exec(&["curl", "-fsS", "http://127.0.0.1:8080/healthz"]).code != 0 {
            assert!(std::time::Instant::now() < end, "{}", container.logs());
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(container.sh("getent passwd 1000 | cut -d: -f1; ls -d /home/*").ok(), "mycoder2\n/home/coder");
        assert_eq!(container.sh("cat /home/coder/.local/share/code-server/User/settings.json").ok(), "theirs");
    }
    Ok(())
}

fn hooks_run_as_the_user_and_stop_nothing() -> Result<(), Failed> {
    let made = Volume::new("hooks");
    let volume = &made.0;
    let fill = "cd /hooks && mkdir deep && printf '#!/bin/sh\\nid -un >/tmp/first\\n' >10 && printf '#!/bin/sh\\nexit 7\\n' >20 && \
        printf '#!/bin/sh\\ncat /tmp/first >/tmp/second\\n' >deep/hook && chmod +x 10 20 deep/hook && echo no >readme";
    let image = image().expect("the image");
    docker(&["run", "--rm", "--volume", &format!("{volume}:/hooks"), "--entrypoint=sh", &image, "-c", fill]).ok();
    let options = ["--volume", &format!("{volume}:/entrypoint.d:ro"), CLIENT];
    let container = start("cs-hooks", &options);
    assert_eq!(container.sh("cat /tmp/second").ok(), "coder", "{}", container.logs());
    let logs = container.logs();
    assert!(logs.contains("the hook /entrypoint.d/20 ended with exit status: 7"), "{logs}");
    Ok(())
}

fn a_secret_is_the_editors_alone() -> Result<(), Failed> {
    let made = Volume::new("secret");
    let volume = &made.0;
    let image = image().expect("the image");
    let mount = format!("{volume}:/run/secrets");
    let fill = "umask 077; echo correct-horse >/run/secrets/editor";
    docker(&["run", "--rm", "--volume", &mount, "--entrypoint=sh", &image, "-c", fill]).ok();
    let options = ["--privileged", "--volume", &mount, "--env=PASSWORD_FILE=/run/secrets/editor"];
    let container = Container::of(&image, "cs-secret", &options, &[]);
    container.exec(&["dindctl", "health", "--wait", "60s"]).ok();
    assert_eq!(of_editor(&container, "tr '\\0' '\\n' <$P/environ | grep -c correct-horse").ok(), "1");
    let others = "for P in /proc/[0-9]*; do read n <$P/comm; case $n in dockerd|containerd|dindctl) \
        tr '\\0' '\\n' <$P/environ | grep -q correct-horse && echo $n;; esac; done; :";
    assert_eq!(container.sh(others).out, "");
    assert!(!container.logs().contains("correct-horse"), "{}", container.logs());
    Ok(())
}

fn volumes_of_any_owner_open_the_editor() -> Result<(), Failed> {
    let image = image().expect("the image");
    for (owner, mode, writable) in [("0:0", "rw", true), ("4321:4321", "rw", true), ("0:0", "ro", false)] {
        let made = Volume::new("home");
        let volume = &made.0;
        let fill = format!("mkdir -p /v/share && echo kept >/v/share/file && chown {owner} /v /v/share");
        docker(&["run", "--rm", "--volume", &format!("{volume}:/v"), "--entrypoint=sh", &image, "-c", &fill]).ok();
        let mount = format!("{volume}:/home/coder/.local:{mode}");
        let options = ["--volume", &mount, CLIENT];
        if !writable {
            // code-server itself cannot do without its folder, so it gets another; what is of interest is that we go on.
            let line = [&options[..], &["--env=XDG_DATA_HOME=/tmp/data", "--env=XDG_CONFIG_HOME=/tmp/config"]].concat();
            let container = start("cs-read-only", &line);
            // One line for the volume, not one for each folder on it.
            let logs = container.logs();
            let told: Vec<_> = logs.lines().filter(|line| line.contains("is not writable for coder")).collect();
            let words = "the volume at /home/coder/.local is not writable for coder: EROFS: Read-only file system: \
                bin, share, state, state/bash, state/zsh";
            assert!(matches!(told[..], [line] if line.contains(words)), "{logs}");
            continue;
        }
        let container = start("cs-volume", &options);
        let touch =
            "cd /home/coder/.local && touch share/new state/bash/history && cat share/file && stat -c %U . share";
        let said = docker(&["exec", "--user=coder", &container.name, "sh", "-c", touch]).ok();
        assert_eq!(said, "kept\ncoder\ncoder", "{owner}\n{}", container.logs());
    }
    Ok(())
}

fn without_rights_the_editor_opens_and_says_why() -> Result<(), Failed> {
    let container = start("cs-rights", &[]);
    let said = docker(&["exec", "--user=coder", &container.name, "dindctl", "status"]).ok();
    assert!(said.contains("no daemon: this container lacks CAP_SYS_ADMIN"), "{said}");
    let banner = docker(&["exec", "--tty", "--user=coder", &container.name, "bash", "-ic", "exit"]);
    assert!(banner.out.contains("There is no Docker here: this container lacks"), "{banner:?}");
    assert!(banner.out.contains("hint: start this container with --privileged"), "{banner:?}");
    Ok(())
}

fn a_user_from_outside_has_an_editor() -> Result<(), Failed> {
    let container = start("cs-outside", &["--user=4321:4321", "--env=HOME=/tmp"]);
    assert_eq!(ids_of_editor(&container), "4321:4321");
    let logs = container.logs();
    assert!(logs.contains("started as 4321:4321: no account is renamed"), "{logs}");
    let said = container.exec(&["dindctl", "status"]).ok();
    assert!(said.contains("no daemon: the container was started as an ordinary user"), "{said}");
    Ok(())
}

fn what_cannot_be_had_is_refused() -> Result<(), Failed> {
    for (variable, words) in [
        ("PUID=0", "PUID \"0\" is not a number from 1"),
        ("PUID=33", "PUID 33 is the id of the account \"www-data\""),
        ("DOCKER_USER=a:b", "DOCKER_USER \"a:b\" is no name for an account"),
        ("DOCKER_USER=games", "DOCKER_USER \"games\" is an account of its own in this image"),
        ("DIND_ENABLED=maybe", "DIND_ENABLED \"maybe\" is neither true nor false"),
        ("PASSWORD_FILE=/none", "PASSWORD_FILE: /none cannot be read"),
    ] {
        let image = image().expect("the image");
        let container = Container::of(&image, "cs-refused", &[&format!("--env={variable}")], &[]);
        assert_eq!(container.wait(Duration::from_secs(30)), 125, "{variable}: {}", container.logs());
        let logs = container.logs();
        assert!(logs.contains(words) && logs.contains("dindctl: hint: "), "{variable}: {logs}");
    }
    Ok(())
}
