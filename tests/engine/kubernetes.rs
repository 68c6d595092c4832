//! What the manifests of compose/kubernetes count on, with containers as a kubelet makes them: the machine's cgroup namespace, a secret as
//! files behind links, a user without rights. There is no cluster here.

use std::time::Duration;

use libtest_mimic::Failed;

use super::docker::{Container, Network, Volume, docker, image};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("kubernetes::the_pool_takes_the_certificates_of_a_secret", the_pool_takes_the_certificates_of_a_secret),
    (
        "kubernetes::a_workspace_without_rights_has_the_socket_beside_it",
        a_workspace_without_rights_has_the_socket_beside_it,
    ),
];

/// The names of README.md, and the folders of its two secrets, laid out as a kubelet does: files behind `..data`.
const SECRETS: &str = r#"
    set -e
    export DOCKER_TLS_CERTDIR=/pki DOCKER_TLS_SAN='DNS:dind-any,DNS:dind-any.dindctl.svc,DNS:*.dind,DNS:*.dind.dindctl.svc,DNS:*.dind.dindctl.svc.cluster.local'
    dindctl certificates
    for side in server client; do
        mkdir -p "/secrets/$side/..2026"
        cp /pki/$side/*.pem "/secrets/$side/..2026"
        chmod 0400 "/secrets/$side/..2026/"*
        ln -s ..2026 "/secrets/$side/..data"
        for file in ca cert key; do ln -s "..data/$file.pem" "/secrets/$side/$file.pem"; done
    done"#;

fn the_pool_takes_the_certificates_of_a_secret() -> Result<(), Failed> {
    let network = Network::new("kubernetes", &[]);
    let volume = Volume::new("secrets");
    let mounted = format!("{}:/secrets", volume.0);
    docker(&["run", "--rm", "-v", &mounted, "--entrypoint", "sh", &image(), "-c", SECRETS]).ok();
    let place = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume.0]).ok();
    let server = format!("{place}/server:/certs/server:ro");
    let options = [
        "--privileged",
        "--cgroupns=host",
        "--network",
        &network.0,
        "--network-alias",
        "dind-0.dind.dindctl.svc",
        "--network-alias",
        "dind-any",
        "-e",
        "DOCKER_TLS_CERTDIR=/certs",
        "-e",
        "DINDCTL_LISTEN=unix:///var/run/docker.sock,tcp://0.0.0.0:2376",
        "-e",
        "DINDCTL_STOP_TIMEOUT=60s",
        "-e",
        "DINDCTL_OUTER_STOP_TIMEOUT=90s",
        "-v",
        &server,
    ];
    let dind = Container::start("pool", &options, &[]);
    dind.wait_healthy(Duration::from_secs(60));
    let client = format!("{place}/client:/certs/client:ro");
    let ask = |host: &str| {
        let host = format!("DOCKER_HOST=tcp://{host}:2376");
        docker(&[
            "run",
            "--rm",
            "--network",
            &network.0,
            "-v",
            &client,
            "-e",
            "DOCKER_TLS_VERIFY=1",
            "-e",
            "DOCKER_CERT_PATH=/certs/client",
            "-e",
            &host,
            "--entrypoint",
            "docker",
            &image(),
            "version",
            "-f",
            "{{.Server.Version}}",
        ])
    };
    for host in ["dind-0.dind.dindctl.svc", "dind-any"] {
        assert!(!ask(host).ok().is_empty(), "{host}");
    }
    let stranger = docker(&[
        "run",
        "--rm",
        "--network",
        &network.0,
        "--entrypoint",
        "docker",
        &image(),
        "--tls",
        "-H",
        "tcp://dind-any:2376",
        "version",
    ]);
    assert!(stranger.code != 0 && !stranger.out.contains("Server:"), "{stranger:?}");
    // The probes, and that nested containers are below the pod.
    dind.exec(&["dindctl", "health"]).ok();
    dind.exec(&["dindctl", "status"]).ok();
    let own = dind.sh("cat /proc/1/cgroup").ok();
    dind.sh("tar -C /usr/local/bin -c dindctl | docker import - tiny && docker run -d --name deep --network=none tiny /dindctl health --wait 1h").ok();
    let pid = dind.exec(&["docker", "inspect", "-f", "{{.State.Pid}}", "deep"]).ok();
    let deep = dind.sh(&format!("cat /proc/{pid}/cgroup")).ok();
    let group = |text: &str| {
        let line = text.lines().find(|line| line.contains(":memory:") || line.starts_with("0::"));
        line.and_then(|line| line.rsplit(':').next()).unwrap_or_default().trim_end_matches('/').to_owned()
    };
    assert!(
        group(&deep).starts_with(&group(&own)) && group(&deep).len() > group(&own).len(),
        "{deep}\nis not below\n{own}"
    );
    Ok(())
}

fn a_workspace_without_rights_has_the_socket_beside_it() -> Result<(), Failed> {
    let (socket, workspaces) = (Volume::new("socket"), Volume::new("workspaces"));
    let (socket, workspaces) = (format!("{}:/run/dind", socket.0), format!("{}:/workspaces", workspaces.0));
    let options = [
        "--privileged",
        "--cgroupns=host",
        "-e",
        "DINDCTL_LISTEN=unix:///var/run/docker.sock,unix:///run/dind/docker.sock",
        "-e",
        "DINDCTL_SOCKET_GROUP=1000",
        "-e",
        "DIND_WORKSPACE_PATH=/workspaces",
        "-v",
        &socket,
        "-v",
        &workspaces,
    ];
    let dind = Container::start("sidecar", &options, &[]);
    dind.wait_healthy(Duration::from_secs(60));
    dind.sh("chown :1000 /workspaces && chmod 2775 /workspaces").ok();
    let image = image();
    let line = [
        "run",
        "--rm",
        "--user",
        "1000:1000",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--network=none",
        "-v",
        &socket,
        "-v",
        &workspaces,
        "-e",
        "DOCKER_HOST=unix:///run/dind/docker.sock",
        "--entrypoint",
        "dindctl",
        &image,
        "init",
        "--",
        "sh",
        "-c",
        "docker version -f '{{.Server.Os}}' && echo shared >/workspaces/file && id -u",
    ];
    let said = docker(&line).ok();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["linux", "1000"]);
    assert_eq!(dind.sh("cat /workspaces/file").ok(), "shared");
    let other: Vec<&str> = line.iter().map(|word| if *word == "1000:1000" { "1001:1001" } else { *word }).collect();
    assert!(docker(&other).err.contains("permission denied"), "somebody else's group has the socket");
    Ok(())
}
