//! The `docker run` that comes nearest to a request, for people who want to know what would happen.

use super::container;
use super::image::ImageFacts;
use super::job::{self, Scene};
use super::network::{self, Network};
use super::program::Loaded;
use super::protocol::RunAs;
use super::rejection::Rejection;
use super::request::{Program, Pull, Request, WorkspaceMode};
use super::workspace::Workspace;

/// One command line, quoted for a shell. What only the agent does (output cap, cause of death, a deadline that holds
/// without the caller) has no equivalent; the image's own USER, VOLUMEs and ENTRYPOINT are not looked at.
pub fn command(request: &Request, workspace: Option<&Workspace>, loaded: Option<&Loaded>) -> Result<String, Rejection> {
    let image = ImageFacts { reference: request.image.clone(), ..ImageFacts::default() };
    let scene = Scene { request, image: &image, workspace, loaded, terminal: None, egress: None, authorities: None };
    let mut words: Vec<String> = Vec::new();
    let seconds = request.limits.timeout.as_secs_f64().to_string();
    words.extend(["timeout", "-s", "KILL", &seconds, "docker", "run", "--rm"].map(str::to_owned));
    flags(&scene, &mut words)?;
    words.push(request.image.clone());
    match (&request.program, loaded.and_then(|loaded| loaded.file.as_ref())) {
        (Program::Image { command }, _) => words.extend(command.iter().cloned()),
        (Program::Language { .. }, None) => words.extend(job::argv(&scene)?),
        (Program::Language { .. }, Some(file)) => {
            let script = "mkdir -p \"${1%/*}\" && printf %s \"$2\" >\"$1\" && shift 2 && exec \"$@\"";
            words.extend(["sh", "-c", script, "sh", &file.path, &file.content].map(str::to_owned));
            words.extend(job::argv(&scene)?);
        }
    }
    Ok(words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "))
}

fn flags(scene: &Scene<'_>, words: &mut Vec<String>) -> Result<(), Rejection> {
    let Scene { request, workspace, .. } = scene;
    let limits = &request.limits;
    let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
    flag("--name", request.name.clone());
    for (name, value) in &request.labels {
        flag("--label", format!("{name}={value}"));
    }
    flag(
        "--network",
        match &request.network {
            Network::Named(name) => name.clone(),
            Network::Egress(_) => network::EGRESS.to_owned(),
        },
    );
    flag("--cap-drop", "ALL".to_owned());
    flag("--security-opt", "no-new-privileges".to_owned());
    flag("--ipc", "private".to_owned());
    flag("--log-driver", "none".to_owned());
    flag("--memory", limits.memory.to_string());
    flag("--memory-swap", limits.memory.to_string());
    #[allow(clippy::cast_precision_loss)] // At most 4096 × 10⁹.
    flag("--cpus", (limits.nano_cpus as f64 / 1e9).to_string());
    flag("--pids-limit", limits.pids.to_string());
    flag("--shm-size", limits.tmpfs.to_string());
    flag("--tmpfs", format!("/tmp:{}", container::tmpfs_options(limits.tmpfs)));
    for limit in &limits.ulimits {
        flag("--ulimit", format!("{}={}:{}", limit.name, limit.soft, limit.hard));
    }
    let workdir = job::workdir(scene)?;
    for (name, value) in job::environment(scene, &workdir) {
        flag("--env", format!("{name}={value}"));
    }
    flag("--workdir", workdir);
    flag(
        "--user",
        match job::run_as(scene) {
            RunAs::Ids { uid, gid } => format!("{uid}:{gid}"),
            RunAs::Spec(text) => text,
        },
    );
    if let Some(workspace) = workspace {
        let mode = if workspace.mode == WorkspaceMode::ReadWrite { "" } else { ",readonly" };
        flag("--mount", format!("type=bind,source={0},target={0}{mode}", workspace.path));
    }
    if let Some(runtime) = &request.runtime {
        flag("--runtime", runtime.clone());
    }
    flag(
        "--pull",
        match request.pull {
            Pull::Missing => "missing".to_owned(),
            Pull::Always => "always".to_owned(),
            Pull::Never => "never".to_owned(),
        },
    );
    let switches = [("--read-only", request.read_only), ("--interactive", request.stdin), ("--tty", request.tty)];
    words.extend(switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned()));
    words.extend(["--no-healthcheck".to_owned(), "--init".to_owned()]);
    if let (Program::Language { .. }, Some(_)) = (&request.program, scene.loaded) {
        words.extend(["--entrypoint".to_owned(), String::new()]);
    }
    Ok(())
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::super::job::tests::{image_request, request};
    use super::*;

    #[test]
    fn the_command_line_carries_every_limit() {
        let request = request(|typed| {
            typed.code = Some("print('a b')".into());
            typed.env = vec!["A=1 2".into()];
            typed.args = vec!["x".into()];
        });
        let loaded = super::super::program::load(&request, None, &mut std::io::empty()).unwrap();
        insta::assert_snapshot!(command(&request, None, loaded.as_ref()).unwrap());
    }

    #[test]
    fn an_image_keeps_its_entrypoint() {
        let line = command(&image_request(&["ls", "-la"]), None, None).unwrap();
        assert!(line.ends_with(" app ls -la") && !line.contains("--entrypoint"), "{line}");
    }

    #[test]
    fn quoting_survives_a_shell() {
        for word in ["", "a", "it's", "$HOME `x` \"y\"", "a\nb", "*"] {
            let echoed =
                std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quote(word))]).output().unwrap();
            assert_eq!(String::from_utf8(echoed.stdout).unwrap(), word);
        }
    }
}
