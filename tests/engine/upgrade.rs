//! Volumes that the previous image has written, under the new one: nothing is lost, nobody has to be told anew whom to trust.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::docker::{Container, Volume, docker};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[("upgrade::volumes_of_the_previous_image_go_on", volumes_go_on)];

/// The previous image, or any other that a user may come from.
pub fn previous_image() -> Option<String> {
    std::env::var("DINDCTL_TEST_PREVIOUS_IMAGE").ok().filter(|name| !name.is_empty())
}

/// What every generation gets.
struct Volumes(Vec<(Volume, &'static str)>);

impl Volumes {
    fn new() -> Self {
        let named = |(name, path)| (Volume::new(name), path);
        let all = [
            ("data", "/var/lib/docker"),
            ("containerd", "/var/lib/containerd"),
            ("certs", "/certs"),
            ("work", "/workspaces"),
        ];
        Self(all.map(named).into())
    }

    /// Started, and answering over the unix socket.
    fn start(&self, what: &str, image: &str) -> Container {
        let mounts: Vec<String> = self.0.iter().map(|(volume, path)| format!("--volume={}:{path}", volume.0)).collect();
        let mut options: Vec<&str> = mounts.iter().map(String::as_str).collect();
        // The name is part of the certificates, so it stays.
        options.extend(["--privileged", "--hostname", "dind"]);
        let container = Container::of(image, what, &options, &[]);
        let end = Instant::now() + Duration::from_secs(120);
        while container.exec(&["docker", "info"]).code != 0 {
            assert!(Instant::now() < end, "no daemon in {image}:\n{}", container.logs());
            std::thread::sleep(Duration::from_millis(200));
        }
        container
    }
}

/// What must be the same before and after, as text.
const STATE: &str = "docker images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}' | sort; \
    docker inspect --format '{{.Name}} {{.Id}} {{.State.ExitCode}} {{.HostConfig.RestartPolicy.Name}}' always ended; \
    docker network inspect --format '{{.Id}} {{(index .IPAM.Config 0).Subnet}}' team; \
    docker run --rm --volume kept:/v debian:trixie-slim cat /v/file; \
    cat /certs/ca/cert.pem; stat -c '%n %u:%g %a' /certs/*/*.pem /workspaces/project/file; cat /workspaces/project/file";

fn volumes_go_on() -> Result<(), Failed> {
    let previous = previous_image().expect("the case is skipped without it");
    let volumes = Volumes::new();
    let old = volumes.start("old", &previous);
    old.load("debian:trixie-slim");
    let write = "docker run --detach --name always --restart always debian:trixie-slim sleep 100000 && \
        { docker run --name ended debian:trixie-slim sh -c 'exit 42' || test $? = 42; } && \
        docker network create --subnet 10.77.0.0/24 team && \
        docker run --rm --volume kept:/v debian:trixie-slim sh -c 'echo kept >/v/file' && \
        mkdir -p /workspaces/project && echo theirs >/workspaces/project/file && chown 1000:1000 /workspaces/project/file";
    old.sh(write).ok();
    let before = old.sh(STATE).ok();
    docker(&["stop", "--time", "40", &old.name]).ok();
    docker(&["rm", &old.name]).ok();

    let new = volumes.start("new", &super::docker::image());
    new.wait_healthy(Duration::from_secs(60));
    assert_eq!(new.sh(STATE).ok(), before, "{}", new.logs());
    let running = |name: &str| new.exec(&["docker", "inspect", "--format", "{{.State.Running}}", name]).ok();
    assert_eq!((running("always").as_str(), running("ended").as_str()), ("true", "false"));
    assert_eq!(new.exec(&["dindctl", "exec", "sh", "-c", "echo runs"]).out, "runs\n");

    // A client that got its certificates from the previous image is still let in, and lets itself in.
    let client = "DOCKER_HOST=tcp://localhost:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/certs/client docker version -f '{{.Server.Os}}'";
    assert_eq!(new.sh(client).ok(), "linux");
    Ok(())
}
