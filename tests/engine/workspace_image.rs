//! The image of a workspace: who its init is, whose shell it gives, with which tools, and with how few rights it works.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::docker::{Container, Network, Volume, docker};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("workspace_image::dindctl_is_init_and_the_command_is_the_users", dindctl_is_init_and_the_command_is_the_users),
    ("workspace_image::every_tool_answers", every_tool_answers),
    ("workspace_image::few_rights_and_a_read_only_root_are_enough", few_rights_and_a_read_only_root_are_enough),
    ("workspace_image::home_and_history_outlive_the_container", home_and_history_outlive_the_container),
    ("workspace_image::a_stop_takes_no_time", a_stop_takes_no_time),
    ("workspace_image::a_user_from_outside_works", a_user_from_outside_works),
    ("workspace_image::the_client_reaches_a_dind_service", the_client_reaches_a_dind_service),
];

/// The image, where it was built.
pub fn image() -> Option<String> {
    std::env::var("DINDCTL_TEST_WORKSPACE_IMAGE").ok().filter(|name| !name.is_empty())
}

/// What a workspace of an IDE is given.
const FEW_RIGHTS: [&str; 5] =
    ["--cap-drop=ALL", "--cap-add=CHOWN", "--cap-add=SETUID", "--cap-add=SETGID", "--security-opt=no-new-privileges"];

fn start(what: &str, options: &[&str]) -> Container {
    let image = image().expect("the cases are skipped without it");
    let container = Container::of(&image, what, options, &[]);
    until_healthy(&container);
    container
}

fn until_healthy(container: &Container) {
    let end = Instant::now() + Duration::from_secs(30);
    while docker(&["inspect", "--format", "{{.State.Health.Status}}", &container.name]).ok() != "healthy" {
        assert!(Instant::now() < end, "not healthy\n{}", container.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A shell of the user, as a terminal of the IDE starts it.
#[track_caller]
fn shell(container: &Container, script: &str) -> String {
    let said = docker(&["exec", "--user=coder", "--workdir=/home/coder", &container.name, "bash", "-ic", script]);
    assert_eq!(said.code, 0, "{said:?}\n{}", container.logs());
    said.out.trim().to_owned()
}

fn dindctl_is_init_and_the_command_is_the_users() -> Result<(), Failed> {
    let container = start("ws-init", &["--env=WORKSPACE_ID=a1", "--init=false"]);
    assert_eq!(
        container.sh("cat /proc/1/comm; tr '\\0' ' ' </proc/1/cmdline | cut -d ' ' -f 1,2").ok(),
        "dindctl\ndindctl up"
    );
    let command = container.sh("ps -o user=,args= --ppid 1").ok();
    assert!(command.lines().any(|line| line == "coder    sleep infinity"), "{command}");
    assert_eq!(
        shell(&container, "id -u; pwd; echo \"$PROJECT_PATH $USER $HOME\"; touch new && stat -c %U new"),
        "1000\n/workspace\n/workspace coder /home/coder\ncoder"
    );
    assert!(shell(&container, "eval \"$PROMPT_COMMAND\"; echo \"$PS1\"").starts_with("[a1] "));
    // No daemon is tried, though a root with every right would be asked for one elsewhere.
    assert_eq!(container.sh("pgrep -c dockerd; ls /var/run/docker.sock 2>&1 | grep -c 'No such file'").out, "0\n1\n");
    Ok(())
}

fn every_tool_answers() -> Result<(), Failed> {
    let container = start("ws-tools", &FEW_RIGHTS);
    for tool in [
        "gcc --version",
        "g++ --version",
        "make --version",
        "cmake --version",
        "pkg-config --version",
        "git --version",
        "python --version",
        "python3 -m pip --version",
        "node --version",
        "npm --version",
        "docker --version",
        "docker compose version",
        "docker buildx version",
        "curl --version",
        "jq --version",
        "rg --version",
        "less --version",
        "nano --version",
        "vi --version",
        "ssh -V",
        "zsh --version",
        "ps --version",
        "unzip -v",
        "rsync --version",
    ] {
        shell(&container, tool);
    }
    let build = "cd /tmp && printf 'int main(void) { return 7; }' >m.c && gcc -o m m.c && { ./m; echo $?; }";
    assert_eq!(shell(&container, build), "7");
    assert_eq!(shell(&container, "cd && python -m venv v && v/bin/python -c 'print(6 * 7)'"), "42");
    assert_eq!(shell(&container, "node -p '6 * 7'"), "42");
    Ok(())
}

fn few_rights_and_a_read_only_root_are_enough() -> Result<(), Failed> {
    let volume = Volume::new("project");
    let mount = format!("{}:/workspace", volume.0);
    // A home on memory belongs to root at first; one on a volume has the image's owner and mode.
    let foreign = "mkdir /v/theirs && cd /v/theirs && git init -q && chown -R 4321:4321 . && chown 1000:1000 /v";
    let image = image().expect("the image");
    docker(&["run", "--rm", "--volume", &format!("{}:/v", volume.0), "--entrypoint=sh", &image, "-c", foreign]).ok();
    let more = ["--read-only", "--tmpfs=/run", "--tmpfs=/tmp:exec", "--tmpfs=/home/coder", "--volume", &mount];
    let container = start("ws-rights", &[&FEW_RIGHTS[..], &more].concat());
    assert_eq!(container.logs(), "", "nothing to complain of");
    let status = "grep -E '^(CapEff|NoNewPrivs)' /proc/self/status | tr -d '\\t'";
    assert_eq!(shell(&container, status), "CapEff:0000000000000000\nNoNewPrivs:1");
    let write = "touch ~/.local/state/bash/history ~/.config/x /workspace/y /tmp/z && stat -c %U ~ ~/.local/bin /workspace/y | sort -u";
    assert_eq!(shell(&container, write), "coder");
    // A project that belongs to somebody else, as a mount from elsewhere may.
    assert_eq!(shell(&container, "git -C /workspace/theirs status --porcelain"), "");
    assert_ne!(container.sh("touch /usr/x").code, 0, "the root is not read-only");
    let rights = container.sh("grep CapEff /proc/1/status").ok();
    assert_eq!(rights, "CapEff:\t00000000000000c1", "CHOWN, SETGID and SETUID");
    Ok(())
}

fn home_and_history_outlive_the_container() -> Result<(), Failed> {
    let volume = Volume::new("ws-home");
    let mount = format!("{}:/home/coder", volume.0);
    let options = [&FEW_RIGHTS[..], &["--volume", &mount]].concat();
    let first = start("ws-home", &options);
    // What programs close to others stays usable for the next start, where root may not look into it.
    shell(&first, "chmod 700 ~ ~/.config ~/.local; set -o history; history -s 'make the-marker'; history -a");
    drop(first);
    let second = start("ws-home", &options);
    assert_eq!(shell(&second, "set -o history; history | grep -c 'make the-marker'"), "1");
    assert_eq!(second.logs(), "", "nothing to complain of");
    let zsh = docker(&["exec", "--user=coder", &second.name, "zsh", "-ic", "echo $HISTFILE"]).ok();
    assert_eq!(zsh, "/home/coder/.local/state/zsh/history");
    Ok(())
}

fn a_stop_takes_no_time() -> Result<(), Failed> {
    let container = start("ws-stop", &FEW_RIGHTS);
    let mut least = Duration::MAX;
    for _ in 0..3 {
        // Somebody's program, in a group of its own, is no reason to wait either.
        docker(&["exec", "--detach", "--user=coder", &container.name, "sleep", "1000"]).ok();
        let begin = Instant::now();
        docker(&["stop", "--time=20", &container.name]).ok();
        least = least.min(begin.elapsed());
        let code = docker(&["inspect", "--format", "{{.State.ExitCode}}", &container.name]).ok();
        assert_eq!(code, "0", "{}", container.logs());
        docker(&["start", &container.name]).ok();
        until_healthy(&container);
    }
    assert!(least < Duration::from_millis(700), "{least:?}\n{}", container.logs());
    Ok(())
}

fn a_user_from_outside_works() -> Result<(), Failed> {
    let container = start("ws-outside", &["--user=4321:4321", "--cap-drop=ALL", "--env=HOME=/tmp"]);
    assert_eq!(container.sh("id -u; cat /proc/1/comm; ps -o uid= -C sleep | tr -d ' '").ok(), "4321\ndindctl\n4321");
    assert!(container.logs().contains("started as 4321:4321"), "{}", container.logs());
    Ok(())
}

fn the_client_reaches_a_dind_service() -> Result<(), Failed> {
    let network = Network::new("ws-net", &[]);
    let on = format!("--network={}", network.0);
    let dind = Container::dind("ws-dind", &[&on, "--network-alias=dind"]);
    let options = [&FEW_RIGHTS[..], &[&on, "--env=DOCKER_HOST=tcp://dind:2375"]].concat();
    let container = start("ws-client", &options);
    let inner = dind.exec(&["docker", "version", "--format", "{{.Server.Version}}"]).ok();
    assert_eq!(shell(&container, "docker version --format '{{.Server.Version}}'"), inner);
    let build = "mkdir b && cd b && echo hello >file && printf 'FROM scratch\\nCOPY file /\\n' >Dockerfile && \
        docker build -q -t mine . >/dev/null && docker image inspect -f '{{len .RootFS.Layers}}' mine";
    assert_eq!(shell(&container, build), "1");
    let compose = "printf 'services: {one: {image: mine}}' >compose.yaml && docker compose config --images";
    assert_eq!(shell(&container, compose), "mine");
    assert_eq!(dind.exec(&["docker", "image", "ls", "-q", "mine"]).ok().lines().count(), 1, "it is the service's");
    Ok(())
}
