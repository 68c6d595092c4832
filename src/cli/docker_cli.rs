/*!
What `docker-entrypoint.sh` of the official CLI image does: a word that docker knows becomes a docker command, the
daemon's address is found, and the result replaces this process.
*/
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ProcessStdio};
use std::time::Duration;

use super::failure::Failure;
use super::say::{Level, Voice};
use super::{Environment, places};
use crate::engine::socket;
use crate::sys::inheritance::Inheritance;
use crate::sys::spawn::{Spawn, exec, look_up};

/// What the machine tells about it.
// Four independent facts; any combination occurs.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    /// `docker help WORD` succeeds.
    docker_knows: bool,
    /// `/var/run/docker.sock` is a socket.
    system_socket: bool,
    /// The user's own socket is one.
    user_socket: bool,
    /// `client/{ca,cert,key}.pem` below `DOCKER_TLS_CERTDIR` are all there.
    client_certificates: bool,
}

/// Runs `arguments` as the CLI image would. Returns only when that failed.
pub fn run(arguments: Vec<OsString>, environment: &Environment, voice: Voice) -> u8 {
    let first = arguments.first().cloned().unwrap_or_default();
    if first == "dockerd" {
        voice.say(Level::Warn, "`dockerd` under docker-entrypoint.sh gets no preparation and no supervision");
        voice.say(Level::Info, "use dockerd-entrypoint.sh (dindctl entrypoint) for a daemon; going on in 3 s");
        std::thread::sleep(Duration::from_secs(3));
    }
    let user_socket = socket::of_user(&places::runtime_dir(environment));
    let found = Found {
        docker_knows: !is_flag(&first) && docker_knows(&first),
        system_socket: is_socket(Path::new("/var/run/docker.sock")),
        user_socket: is_socket(&user_socket),
        client_certificates: certificate_folder(environment).is_some_and(|folder| {
            ["ca.pem", "cert.pem", "key.pem"]
                .iter()
                .all(|file| std::fs::metadata(folder.join(file)).is_ok_and(|about| about.len() > 0))
        }),
    };
    let argv = command(arguments, found);
    let environment = variables(environment, found, &user_socket);
    let name = argv.first().map(OsString::as_os_str).unwrap_or_default();
    let program = match look_up(name, environment.get("PATH")) {
        Ok(program) => program,
        Err(error) => return Failure::from(error).report(voice),
    };
    let start = Spawn { program, argv, env: environment.into_pairs(), ..Spawn::default() };
    let error = exec(&start.with_signals_of(&Inheritance::of_process()));
    voice.fail(&error, None);
    error.exit_code()
}

fn is_flag(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

fn command(arguments: Vec<OsString>, found: Found) -> Vec<OsString> {
    match arguments.first() {
        None => vec!["sh".into()],
        Some(first) if is_flag(first) || found.docker_knows => {
            std::iter::once("docker".into()).chain(arguments).collect()
        }
        Some(_) => arguments,
    }
}

/// The environment of the command: `DOCKER_HOST` and the TLS variables where the user left them open.
fn variables(environment: &Environment, found: Found, user_socket: &Path) -> Environment {
    let mut environment = environment.clone();
    let filled = |environment: &Environment, name: &str| environment.get(name).is_some_and(|value| !value.is_empty());
    if !filled(&environment, "DOCKER_HOST") {
        // Said although it is where clients look: the context of a configuration that was mounted would win over that.
        let host = if found.system_socket {
            "unix:///var/run/docker.sock".into()
        } else if found.user_socket {
            format!("unix://{}", user_socket.display())
        } else if found.client_certificates || filled(&environment, "DOCKER_TLS_VERIFY") {
            "tcp://docker:2376".into()
        } else {
            "tcp://docker:2375".into()
        };
        environment.set("DOCKER_HOST", host);
    }
    let tcp = environment.get("DOCKER_HOST").is_some_and(|host| host.as_encoded_bytes().starts_with(b"tcp:"));
    let open = !filled(&environment, "DOCKER_TLS_VERIFY") && !filled(&environment, "DOCKER_CERT_PATH");
    if let (true, true, true, Some(folder)) = (tcp, open, found.client_certificates, certificate_folder(&environment)) {
        environment.set("DOCKER_TLS_VERIFY", "1");
        environment.set("DOCKER_CERT_PATH", folder);
    }
    environment
}

fn certificate_folder(environment: &Environment) -> Option<PathBuf> {
    let folder = environment.get("DOCKER_TLS_CERTDIR").filter(|folder| !folder.is_empty())?;
    Some(Path::new(folder).join("client"))
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|about| about.file_type().is_socket())
}

fn docker_knows(word: &OsStr) -> bool {
    !word.is_empty()
        && Command::new("docker")
            .arg("help")
            .arg(word)
            .stdout(ProcessStdio::null())
            .stderr(ProcessStdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Found =
        Found { docker_knows: false, system_socket: false, user_socket: false, client_certificates: false };

    fn host(pairs: &[(&str, &str)], found: Found) -> (String, bool) {
        let environment =
            Environment::from_pairs(pairs.iter().map(|(name, value)| (name.into(), value.into())).collect());
        let after = variables(&environment, found, Path::new("/run/user/5/docker.sock"));
        let host = after.get("DOCKER_HOST").map(|host| host.to_string_lossy().into_owned()).unwrap_or_default();
        (host, after.get("DOCKER_TLS_VERIFY").is_some())
    }

    #[test]
    fn words_that_docker_knows_become_its_commands() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(
            command(words(&["ps", "-a"]), Found { docker_knows: true, ..NOTHING }),
            words(&["docker", "ps", "-a"])
        );
        assert_eq!(command(words(&["--version"]), NOTHING), words(&["docker", "--version"]));
        assert_eq!(command(words(&["bash"]), NOTHING), words(&["bash"]));
        assert_eq!(command(vec![], NOTHING), words(&["sh"]));
    }

    #[test]
    fn the_daemon_is_looked_for_in_the_official_order() {
        assert_eq!(host(&[], NOTHING), ("tcp://docker:2375".into(), false));
        let both = Found { system_socket: true, user_socket: true, ..NOTHING };
        assert_eq!(host(&[], both), ("unix:///var/run/docker.sock".into(), false));
        assert_eq!(host(&[], Found { user_socket: true, ..NOTHING }).0, "unix:///run/user/5/docker.sock");
        let certificates = Found { client_certificates: true, ..NOTHING };
        assert_eq!(host(&[("DOCKER_TLS_CERTDIR", "/certs")], certificates), ("tcp://docker:2376".into(), true));
        assert_eq!(host(&[("DOCKER_TLS_VERIFY", "1")], NOTHING), ("tcp://docker:2376".into(), true));
        assert_eq!(host(&[("DOCKER_HOST", "tcp://x:1")], NOTHING), ("tcp://x:1".into(), false));
    }
}
