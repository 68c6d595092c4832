//! The compose files with real images: every combination is read, and every overlay is started once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::docker::{Said, docker, fresh_name, image};
use super::ports::free_port;
use super::{codeserver, workspace_image};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("compose::every_combination_is_read_without_a_word", every_combination_is_read_without_a_word),
    ("compose::the_daemon_alone_is_healthy_and_scripts_find_it", the_daemon_alone_is_healthy_and_scripts_find_it),
    ("compose::the_first_command_of_the_readme_runs_code", the_first_command_of_the_readme_runs_code),
    ("compose::a_rebuild_replaces_what_has_another_image", a_rebuild_replaces_what_has_another_image),
];

/// Those with the image of code-server.
pub const WITH_EDITOR: &[(&str, Case)] = &[
    ("compose::the_editor_of_production_is_a_client_with_tls", the_editor_of_production_is_a_client_with_tls),
    ("compose::the_editor_alone_has_a_daemon_and_scripts_find_it", the_editor_alone_has_a_daemon_and_scripts_find_it),
];

/// Those with the image of a workspace.
pub const WITH_WORKSPACE: &[(&str, Case)] =
    &[("compose::dev_has_a_workspace_and_a_port", dev_has_a_workspace_and_a_port)];

/// Those with an image of Prometheus.
pub const WITH_PROMETHEUS: &[(&str, Case)] =
    &[("compose::prometheus_asks_whom_it_is_told_to", prometheus_asks_whom_it_is_told_to)];

/// Those with all of them.
pub const WITH_ALL: &[(&str, Case)] = &[("compose::every_combination_starts", every_combination_starts)];

/// An image with `prometheus` as entry point and `promtool` in it.
pub fn prometheus() -> Option<String> {
    std::env::var("DINDCTL_TEST_PROMETHEUS_IMAGE").ok().filter(|image| !image.is_empty())
}

fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A stack with names, networks and ports of its own, which goes with the test.
pub struct Stack {
    overlays: Vec<String>,
    /// A compose file of the test's own, behind all others.
    pub further: Option<PathBuf>,
    pub environment: Vec<(&'static str, String)>,
    /// Where its secrets are: in the checkout, which the engine sees.
    pub folder: PathBuf,
}

impl Stack {
    pub fn new(overlays: &[&str]) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let project = fresh_name("compose").replace('.', "-");
        let folder = repo().join("target").join(&project);
        std::fs::create_dir_all(&folder).expect("disk");
        std::fs::write(folder.join("password"), "a-password\n").expect("disk");
        let network = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id() % 200 * 8;
        let password = folder.join("password").display().to_string();
        let mut environment = vec![
            ("DINDCTL_SUBNET", format!("10.{}.{}.0/24", 200 + network / 256, network % 256)),
            ("DINDCTL_NETWORK", project.clone()),
            ("COMPOSE_PROJECT_NAME", project),
            ("DINDCTL_IMAGE", image()),
            ("DINDCTL_PASSWORD_FILE", password.clone()),
            ("DINDCTL_GRAFANA_PASSWORD_FILE", password),
        ];
        for port in ["DINDCTL_EDITOR_PORT", "DINDCTL_DEV_PORT", "DINDCTL_PROMETHEUS_PORT", "DINDCTL_GRAFANA_PORT"] {
            environment.push((port, free_port().to_string()));
        }
        let images = [
            ("DINDCTL_CODE_SERVER_IMAGE", codeserver::image()),
            ("DINDCTL_WORKSPACE_IMAGE", workspace_image::image()),
            ("DINDCTL_PROMETHEUS_IMAGE", prometheus()),
        ];
        environment.extend(images.into_iter().filter_map(|(name, image)| Some((name, image?))));
        Self {
            overlays: overlays.iter().map(|overlay| (*overlay).to_owned()).collect(),
            further: None,
            environment,
            folder,
        }
    }

    fn value(&self, name: &str) -> &str {
        self.environment.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    fn run(&self, mut command: Command) -> Said {
        let command = command.envs(self.environment.iter().map(|(name, value)| (*name, value))).stdin(Stdio::null());
        command.output().expect("command").into()
    }

    pub fn compose(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new("docker");
        command.arg("compose");
        let alone = self.overlays == ["editor"];
        if !alone {
            command.arg("-f").arg(repo().join("compose/compose.yaml"));
        }
        for overlay in &self.overlays {
            command.arg("-f").arg(repo().join(format!("compose/compose.{overlay}.yaml")));
        }
        if let Some(further) = &self.further {
            command.arg("-f").arg(further);
        }
        command.args(arguments);
        self.run(command)
    }

    pub fn script(&self, name: &str, arguments: &[&str]) -> Said {
        let mut command = Command::new(repo().join("scripts").join(name));
        command.args(arguments);
        self.run(command)
    }

    /// Until all are healthy; of these services where some are named.
    #[track_caller]
    pub fn up(&self, services: &[&str]) {
        let begun = Instant::now();
        let said = self.compose(&[&["up", "-d", "--no-build", "--wait", "--wait-timeout", "120"], services].concat());
        let logs = || self.compose(&["logs", "--tail", "40"]).out;
        assert_eq!(said.code, 0, "{}{}\n{}", said.out, said.err, logs());
        println!("compose {}: all healthy after {:.1?}", self.overlays.join(" "), begun.elapsed());
    }

    /// In the shell of a service.
    pub fn sh(&self, service: &str, script: &str) -> Said {
        self.compose(&["exec", "-T", service, "sh", "-c", script])
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.compose(&["down", "--volumes", "--remove-orphans", "--timeout", "45"]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Every set of overlays that go together.
fn combinations() -> Vec<Vec<&'static str>> {
    let names = ["code-server", "dev", "production", "monitoring"];
    let mut all: Vec<Vec<&str>> = (0_u8..16)
        .map(|bits| names.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0).map(|(_, name)| *name).collect())
        .filter(|some: &Vec<&str>| !(some.contains(&"dev") && some.contains(&"production")))
        .collect();
    all.push(vec!["editor"]);
    all
}

/// One after the other; Grafana is not to be had here.
fn every_combination_starts() -> Result<(), Failed> {
    for overlays in combinations() {
        let stack = Stack::new(&overlays);
        let all = stack.compose(&["config", "--services"]).ok();
        let services: Vec<&str> = all.lines().filter(|name| *name != "grafana").collect();
        stack.up(&services);
        let main = if overlays == ["editor"] { "code-server" } else { "dind" };
        stack.sh(main, "dindctl health").ok();
        for client in services.iter().filter(|name| ["code-server", "workspace"].contains(name)) {
            stack.sh(client, "docker version").ok();
        }
    }
    Ok(())
}

fn every_combination_is_read_without_a_word() -> Result<(), Failed> {
    for overlays in &combinations() {
        let stack = Stack::new(overlays);
        for profile in ["low", "standard", "high"] {
            let file = repo().join(format!("compose/profiles/{profile}.env"));
            let mut command = Command::new("docker");
            command.args(["compose", "--env-file"]).arg(&file);
            if overlays != &["editor"] {
                command.arg("-f").arg(repo().join("compose/compose.yaml"));
            }
            for overlay in overlays {
                command.arg("-f").arg(repo().join(format!("compose/compose.{overlay}.yaml")));
            }
            command.args(["config", "--format", "json"]);
            let said = stack.run(command);
            assert_eq!((said.code, &*said.err), (0, ""), "{overlays:?} {profile}: {}", said.err);
            let config: serde_json::Value = serde_json::from_str(&said.out)?;
            let main = if overlays == &["editor"] { "code-server" } else { "dind" };
            let cpus = config["services"][main]["deploy"]["resources"]["limits"]["cpus"].to_string();
            let want = match profile {
                "low" => "2",
                "standard" => "4",
                _ => "8",
            };
            assert_eq!(cpus.trim_matches('"'), want, "{overlays:?} {profile}");
            let ports = config["services"]["dind"]["ports"].as_array().map_or(0, Vec::len);
            assert_eq!(ports, usize::from(overlays.contains(&"dev")), "{overlays:?}: ports of the daemon");
        }
    }
    Ok(())
}

fn the_daemon_alone_is_healthy_and_scripts_find_it() -> Result<(), Failed> {
    let stack = Stack::new(&[]);
    let nothing = stack.script("stats", &["--no-stream"]);
    assert!(nothing.code == 1 && nothing.err.contains("no stack") && nothing.err.contains("scripts/up"), "{nothing:?}");
    stack.up(&[]);
    stack.sh("dind", "docker -H tcp://dind:2375 version").ok();
    let stats = stack.script("stats", &["--no-stream"]).ok();
    assert!(stats.contains("this container"), "{stats}");
    let dry = stack.script("clean", &["--dry-run"]);
    assert!(dry.code == 0 && dry.err.contains("nothing to remove"), "{dry:?}");
    let logs = stack.script("logs", &["--tail", "50"]).ok();
    assert!(logs.contains("dockerd is ready") && !logs.contains('\u{1b}'), "{logs:?}");

    // The workspaces, there and back.
    stack.sh("dind", "echo before >$DIND_WORKSPACE_PATH/file").ok();
    let archive = stack.folder.join("backup.tar.zst");
    let archive = archive.to_str().ok_or("path")?;
    let said = stack.script("backup", &[archive]).ok();
    assert!(said.contains("whole") && said.contains("sha256 "), "{said}");
    stack.sh("dind", "echo after >$DIND_WORKSPACE_PATH/file").ok();
    let unasked = stack.script("restore", &[archive]);
    assert!(unasked.code == 1 && unasked.err.contains("nobody can be asked"), "{unasked:?}");
    assert_eq!(stack.sh("dind", "cat $DIND_WORKSPACE_PATH/file").ok(), "after");
    stack.script("restore", &["--yes", archive]).ok();
    assert_eq!(stack.sh("dind", "cat $DIND_WORKSPACE_PATH/file").ok(), "before");

    let container = || stack.compose(&["ps", "-q", "dind"]).ok();
    let before = container();
    let restarted = stack.script("restart", &[]);
    assert!(restarted.code == 0 && restarted.err.contains("restarted in"), "{restarted:?}");
    assert_eq!(container(), before);
    stack.sh("dind", "dindctl health").ok();
    let wrong = stack.script("restart", &["nosuch"]);
    assert!(wrong.code == 1 && wrong.err.contains("no service nosuch runs") && wrong.err.contains("dind"), "{wrong:?}");
    let down = stack.script("down", &["--volumes"]);
    assert_eq!(down.code, 0, "{down:?}");
    let filter = format!("label=com.docker.compose.project={}", stack.value("COMPOSE_PROJECT_NAME"));
    for what in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["network", "ls", "-q"]] {
        assert_eq!(docker(&[what, &["--filter", &filter]].concat()).ok(), "", "{what:?}");
    }
    Ok(())
}

/// A line of bash in the engine's own network, which need not be ours.
fn on_the_machine(options: &[&str], script: &str) -> Said {
    let run = ["run", "--rm", "--network=host", "--entrypoint=bash"];
    docker(&[&run[..], options, &[&image(), "-c", script]].concat())
}

/// `scripts/up` with everything that it builds; what is there already is not made again.
fn the_first_command_of_the_readme_runs_code() -> Result<(), Failed> {
    let stack = Stack::new(&[]);
    let said = stack.script("up", &[]);
    assert!(said.code == 0 && said.out.starts_with("Hello from DinD!\n"), "{said:?}");
    let again = stack.script("up", &["--no-build"]);
    assert!(again.code == 0 && again.out.contains("ran already"), "{again:?}");
    Ok(())
}

/// An image of ours that was made of something else than what is here now.
struct Outdated(String);

impl Outdated {
    fn new() -> Self {
        let name = format!("dindctl/dind:{}", fresh_name("outdated"));
        let file = format!("FROM {}\nLABEL org.dindctl.inputs=other\n", image());
        let mut command = Command::new("bash");
        command.args(["-c", "printf '%s' \"$1\" | docker build -q -t \"$2\" -", "bash", &file, &name]);
        Said::from(command.output().expect("bash")).ok();
        Self(name)
    }
}

impl Drop for Outdated {
    fn drop(&mut self) {
        let _ = docker(&["rmi", "--force", &self.0]);
    }
}

fn a_rebuild_replaces_what_has_another_image() -> Result<(), Failed> {
    let old = Outdated::new();
    let mut stack = Stack::new(&[]);
    stack.environment.retain(|(name, _)| *name != "DINDCTL_IMAGE");
    stack.environment.push(("DINDCTL_IMAGE", old.0.clone()));
    stack.up(&[]);
    stack.sh("dind", "echo kept >$DIND_WORKSPACE_PATH/file").ok();
    let container = || stack.compose(&["ps", "-q", "dind"]).ok();
    let first = container();
    let said = stack.script("rebuild", &[]);
    assert!(said.code == 0 && said.err.contains("replaced in "), "{said:?}");
    let second = container();
    assert_ne!(first, second, "{said:?}");
    assert_eq!(stack.sh("dind", "dindctl health >/dev/null && cat $DIND_WORKSPACE_PATH/file").ok(), "kept");
    let said = stack.script("rebuild", &["dind"]);
    assert!(said.code == 0 && said.err.contains("stayed as they are: dind"), "{said:?}");
    assert_eq!(container(), second);
    // Other settings are another script's to apply.
    stack.environment.push(("DINDCTL_MEMORY", "3g".into()));
    let said = stack.script("rebuild", &[]);
    assert!(said.code == 1 && said.err.contains("the settings of dind are not those it was started with"), "{said:?}");
    Ok(())
}

/// What a stranger of the network gets from the daemon without a certificate.
fn assert_mutual_tls(stack: &Stack, client: &str) {
    stack.sh(client, "docker info").ok();
    let bare = stack.sh(client, "env -u DOCKER_CERT_PATH -u DOCKER_TLS_VERIFY docker --tls -H tcp://dind:2376 version");
    assert!(bare.code != 0 && !bare.out.contains("Server:"), "{bare:?}");
    let plain = stack.sh(client, "env -u DOCKER_TLS_VERIFY docker -H tcp://dind:2375 version");
    assert!(plain.code != 0, "{plain:?}");
}

fn the_editor_of_production_is_a_client_with_tls() -> Result<(), Failed> {
    let stack = Stack::new(&["code-server", "production"]);
    stack.up(&[]);
    assert_mutual_tls(&stack, "code-server");
    let page = stack.sh("code-server", "curl -fsS http://127.0.0.1:8080/login").ok();
    assert!(page.contains("password"), "{page}");
    let port = stack.value("DINDCTL_EDITOR_PORT");
    on_the_machine(&[], &format!("exec 3<>/dev/tcp/127.0.0.1/{port}")).ok();
    Ok(())
}

fn the_editor_alone_has_a_daemon_and_scripts_find_it() -> Result<(), Failed> {
    let stack = Stack::new(&["editor"]);
    stack.up(&[]);
    stack.sh("code-server", "docker info && curl -fsS -o /dev/null http://127.0.0.1:8080/healthz").ok();
    let stats = stack.script("stats", &["--no-stream"]).ok();
    assert!(stats.contains("this container"), "{stats}");
    Ok(())
}

fn dev_has_a_workspace_and_a_port() -> Result<(), Failed> {
    let stack = Stack::new(&["dev"]);
    stack.up(&[]);
    assert_mutual_tls(&stack, "workspace");
    let owner = stack.sh("workspace", "stat -c %U $DIND_WORKSPACE_PATH").ok();
    assert_eq!(owner, "coder");
    let user = stack.compose(&[
        "exec",
        "-T",
        "-u",
        "coder",
        "workspace",
        "bash",
        "-lc",
        "docker version >/dev/null && id -un",
    ]);
    assert_eq!(user.ok(), "coder");
    // The port is for those who have the certificates.
    let certificates = stack.folder.join("certs");
    stack.compose(&["cp", "dind:/certs/client", certificates.to_str().ok_or("path")?]).ok();
    let host = format!("DOCKER_HOST=tcp://127.0.0.1:{}", stack.value("DINDCTL_DEV_PORT"));
    let mounted = format!("{}:/certs:ro", certificates.display());
    let options = ["-e", &host, "-e", "DOCKER_TLS_VERIFY=1", "-e", "DOCKER_CERT_PATH=/certs", "-v", &mounted];
    on_the_machine(&options, "docker info").ok();
    assert!(stack.compose(&["logs", "dind"]).out.contains("debug"), "dind says no debug lines");
    Ok(())
}

/// Grafana is not started here; its provisioning is looked at in the pure ring.
fn prometheus_asks_whom_it_is_told_to() -> Result<(), Failed> {
    let mut stack = Stack::new(&["monitoring"]);
    stack.up(&["prometheus"]);
    stack.sh("prometheus", "promtool check config /etc/prometheus/prometheus.yml").ok();
    assert_targets(&stack, &["127.0.0.1:9090"]);
    stack.environment.push(("DINDCTL_METRICS_TARGETS", "dind:8000,other:8000".into()));
    stack.up(&["prometheus"]);
    assert_targets(&stack, &["127.0.0.1:9090", "dind:8000", "other:8000"]);
    Ok(())
}

/// It finds them some seconds after its start.
fn assert_targets(stack: &Stack, want: &[&str]) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = stack.sh("prometheus", "curl -fsS 'http://127.0.0.1:9090/api/v1/targets?state=active'").ok();
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        let active = answer["data"]["activeTargets"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut found: Vec<&str> = active.iter().filter_map(|target| target["labels"]["instance"].as_str()).collect();
        found.sort_unstable();
        if found == want {
            return;
        }
        assert!(Instant::now() < end, "{found:?} and not {want:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}
