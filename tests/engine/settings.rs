//! Settings of nested networks and registries, as nested containers and clients see them.

use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::Value;

use super::docker::{Container, Network, docker, fresh_name, image};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("settings::registries_and_name_servers_reach_the_daemon", registries_and_name_servers_reach_the_daemon),
    ("settings::nested_networks_fit_the_way_out", nested_networks_fit_the_way_out),
    ("settings::nested_networks_avoid_those_around", nested_networks_avoid_those_around),
    ("settings::authorities_are_trusted_by_the_daemon", authorities_are_trusted_by_the_daemon),
    ("settings::authorities_are_trusted_in_sandboxes", authorities_are_trusted_in_sandboxes),
    ("settings::contradictions_end_before_anything_is_changed", contradictions_end_before_anything_is_changed),
    ("settings::what_cannot_be_started_ends_before_anything_is_changed", what_cannot_be_started_ends),
];

const IMAGE: &str = "debian:trixie-slim";

fn registries_and_name_servers_reach_the_daemon() -> Result<(), Failed> {
    let dind = Container::dind(
        "settings",
        &[
            "--env=DINDCTL_REGISTRY_MIRRORS=https://mirror.example, http://10.9.8.7:5000",
            "--env=DINDCTL_INSECURE_REGISTRIES=registry.local:5000,10.9.0.0/16",
            "--env=DINDCTL_DNS=10.9.8.7",
            "--env=DINDCTL_DNS_SEARCH=corp.example",
            "--env=DINDCTL_BIP=10.77.0.1/24",
            "--env=DINDCTL_ADDRESS_POOLS=base=10.78.0.0/16,size=28",
        ],
    );
    let info: Value =
        serde_json::from_str(&dind.exec(&["docker", "info", "--format", "{{json .RegistryConfig}}"]).ok())?;
    assert_eq!(info["Mirrors"], serde_json::json!(["https://mirror.example/", "http://10.9.8.7:5000/"]), "{info}");
    assert!(info["IndexConfigs"]["registry.local:5000"]["Secure"] == false, "{info}");
    assert!(info["InsecureRegistryCIDRs"].to_string().contains("10.9.0.0/16"), "{info}");
    dind.load(IMAGE);
    let resolv = dind.exec(&["docker", "run", "--rm", IMAGE, "cat", "/etc/resolv.conf"]).ok();
    assert!(resolv.contains("nameserver 10.9.8.7") && resolv.contains("corp.example"), "{resolv}");
    let subnet = |name: &str| {
        dind.exec(&["docker", "network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", name]).ok()
    };
    assert_eq!(subnet("bridge"), "10.77.0.0/24");
    dind.exec(&["docker", "network", "create", "own"]).ok();
    assert!(subnet("own").starts_with("10.78.0.") && subnet("own").ends_with("/28"), "{}", subnet("own"));
    Ok(())
}

fn nested_networks_fit_the_way_out() -> Result<(), Failed> {
    let network = Network::new("net", &["--opt", "com.docker.network.driver.mtu=1400"]);
    let dind = Container::dind("settings", &["--network", &network.0]);
    dind.load(IMAGE);
    dind.exec(&["docker", "network", "create", "own"]).ok();
    for name in ["bridge", "own"] {
        let mtu = ["docker", "run", "--rm", "--network", name, IMAGE, "cat", "/sys/class/net/eth0/mtu"];
        assert_eq!(dind.exec(&mtu).ok(), "1400", "{name}");
    }
    Ok(())
}

/// The network that dockerd takes first is taken here, on purpose.
fn nested_networks_avoid_those_around() -> Result<(), Failed> {
    let dind = Container::start(
        "settings",
        &["--privileged", "--env=DOCKER_TLS_CERTDIR=", "--entrypoint=sh"],
        &[
            "-c",
            "ip link add vpn type veth peer name vpn1 && ip addr add 172.17.0.9/16 dev vpn && ip link set vpn up && exec dindctl entrypoint",
        ],
    );
    dind.wait_healthy(Duration::from_secs(60));
    let subnet = ["docker", "network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", "bridge"];
    assert!(!dind.exec(&subnet).ok().starts_with("172.17."), "{}", dind.exec(&subnet).ok());
    Ok(())
}

/// A folder with an authority, and with what a server needs that it vouches for.
fn authority() -> Result<tempfile::TempDir, Failed> {
    let key = rcgen::KeyPair::generate()?;
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    // Newer TLS libraries want to be told what a key is for.
    authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority of our own");
    let ca = authority.self_signed(&key)?.pem();
    let issuer = rcgen::Issuer::new(authority, key);
    let server_key = rcgen::KeyPair::generate()?;
    let mut server = rcgen::CertificateParams::new(vec!["203.0.113.20".to_owned()])?;
    server.use_authority_key_identifier_extension = true;
    let server = server.signed_by(&server_key, &issuer)?.pem();
    let folder = tempfile::tempdir()?;
    for (name, text) in [("ca.pem", ca), ("cert.pem", server), ("key.pem", server_key.serialize_pem())] {
        std::fs::write(folder.path().join(name), text)?;
    }
    Ok(folder)
}

/// A dind with a server at 203.0.113.20:5443 that the authority in `folder` vouches for. It is no registry, but what it says
/// comes only after its certificate has been accepted.
fn with_server(folder: &std::path::Path, options: &[&str]) -> Container {
    let serve = "ip addr add 203.0.113.20/32 dev lo && \
        exec openssl s_server -accept 5443 -cert /x/cert.pem -key /x/key.pem -www";
    let dind = Container { name: fresh_name("trust") };
    let create = ["create", "--label=dindctl.test=1", "--privileged", "--env=DOCKER_TLS_CERTDIR="];
    docker(&[&create[..], options, &["--name", &dind.name, &image()]].concat()).ok();
    docker(&["cp", &folder.display().to_string(), &format!("{}:/x", dind.name)]).ok();
    docker(&["start", &dind.name]).ok();
    dind.wait_healthy(Duration::from_secs(60));
    docker(&["exec", "--detach", &dind.name, "sh", "-c", serve]).ok();
    dind.sh("for i in $(seq 100); do openssl s_client -connect 203.0.113.20:5443 </dev/null >/dev/null 2>&1 && exit; sleep 0.05; done; exit 1").ok();
    dind
}

const TRUST: &str = "--env=DINDCTL_CA_FILE=/x/ca.pem";

fn authorities_are_trusted_by_the_daemon() -> Result<(), Failed> {
    let folder = authority()?;
    let refused = |options: &[&str]| {
        let dind = with_server(folder.path(), options);
        let pull = dind.sh("timeout 10 docker pull 203.0.113.20:5443/x:y").err;
        let add = "printf 'FROM scratch\\nADD https://203.0.113.20:5443/ /x\\n' | timeout 30 docker build - 2>&1";
        let add = dind.sh(add).out;
        let unknown = "certificate signed by unknown authority";
        ([pull.contains(unknown), add.contains(unknown)], dind.logs() + &pull + &add)
    };
    let (without, said) = refused(&[]);
    assert_eq!(without, [true, true], "{said}");
    let (with, said) = refused(&[TRUST]);
    assert_eq!(with, [false, false], "{said}");
    Ok(())
}

/// Python by its ssl module, and another program by another variable of its own.
fn authorities_are_trusted_in_sandboxes() -> Result<(), Failed> {
    const PYTHON: &str = "python:3.13-slim";
    let folder = authority()?;
    let dind = with_server(folder.path(), &[TRUST]);
    dind.load(PYTHON);
    let code = "import os, urllib.request\nprint(urllib.request.urlopen('https://203.0.113.20:5443/').status, \
        len(open(os.environ['REQUESTS_CA_BUNDLE']).read()) > 100000, os.access('/run/dindctl', os.W_OK))";
    let run = ["dindctl", "exec", "--network", "bridge", "python", "-c", code];
    assert_eq!(dind.exec(&run).ok(), "200 True False");
    // A file of one's own for those who do not want ours; and none where nobody is told of any.
    let own = [&run[..4], &["-e", "SSL_CERT_FILE=/dev/null"], &run[4..]].concat();
    assert!(dind.exec(&own).err.contains("CERTIFICATE_VERIFY_FAILED"));
    let line = [&["exec", "-e", "DINDCTL_CA_FILE=", dind.name.as_str()], &run[..]].concat();
    assert!(docker(&line).err.contains("CERTIFICATE_VERIFY_FAILED"));
    let line = [&["exec", "-e", "DINDCTL_CA_FILE=/x/key.pem", dind.name.as_str()], &run[..]].concat();
    let said = docker(&line);
    assert_eq!((said.code, said.out.as_str()), (125, ""), "{}", said.err);
    assert!(
        said.err.contains("DINDCTL_CA_FILE (trust.ca_file) \"/x/key.pem\": part 1 is a private key"),
        "{}",
        said.err
    );
    Ok(())
}

fn contradictions_end_before_anything_is_changed() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let docker_folder = folder.path().join("docker");
    std::fs::create_dir(&docker_folder)?;
    let refused_with = |file: &str, options: &[&str], arguments: &[&str], words: &[&str]| {
        let dind = Container { name: fresh_name("contradiction") };
        let begin =
            ["create", "--label=dindctl.test=1", "--privileged", "--env=DOCKER_TLS_CERTDIR=", "--name", &dind.name];
        docker(&[&begin[..], options, &[&image()], arguments].concat()).ok();
        if !file.is_empty() {
            std::fs::write(docker_folder.join("daemon.json"), file).expect("a folder of our own");
            docker(&["cp", &docker_folder.display().to_string(), &format!("{}:/etc", dind.name)]).ok();
        }
        let said = docker(&["start", "--attach", &dind.name]);
        assert_eq!(said.code, 125, "{}{}", said.out, said.err);
        let first = said.err.lines().next().unwrap_or_default();
        assert!(first.starts_with("dindctl: error: ") && words.iter().all(|word| first.contains(word)), "{}", said.err);
        assert!(said.err.contains("dindctl: hint: "), "{}", said.err);
    };
    let refused = |options: &[&str], arguments: &[&str], words: &[&str]| refused_with("", options, arguments, words);
    refused(
        &["--env=DINDCTL_DNS=10.0.0.1"],
        &["--dns=10.0.0.2"],
        &["DINDCTL_DNS (10.0.0.1)", "flag for dns (10.0.0.2)"],
    );
    let file = r#"{"bip": "10.1.0.1/24", "debug": true}"#;
    let found = "/etc/docker/daemon.json (bip: \"10.1.0.1/24\")";
    refused_with(file, &["--env=DINDCTL_BIP=10.2.0.1/24"], &[], &["DINDCTL_BIP", found]);
    refused_with(file, &[], &["--debug"], &["flag for debug", "/etc/docker/daemon.json (debug: true)"]);
    refused(&["--env=DINDCTL_MTU=1"], &[], &["`1`", "DINDCTL_MTU", "68 to 65535"]);
    refused(&["--env=DINDCTL_DNS=127.0.0.11"], &[], &["DINDCTL_DNS", "nested container itself"]);
    refused(&["--env=DINDCTL_REGISTRY_MIRRORS=https://u:secret@m"], &[], &["DINDCTL_REGISTRY_MIRRORS", "without user"]);
    refused(&["--env=DINDCTL_CA_FILE=/nowhere.pem"], &[], &["/nowhere.pem", "DINDCTL_CA_FILE", "No such file"]);
    refused(&["--env=DINDCTL_CA_FILE=/etc/hostname"], &[], &["/etc/hostname", "holds no certificate"]);
    Ok(())
}

/// A command or a user that is not there: the socket's folder and our own would show that something was prepared.
fn what_cannot_be_started_ends() -> Result<(), Failed> {
    let refused = |words: &[&str], code: i32, message: &str| {
        let dind = Container { name: fresh_name("refused") };
        let options =
            ["create", "--label=dindctl.test=1", "--privileged", "--env=DOCKER_TLS_CERTDIR=", "--name", &dind.name];
        docker(&[&options[..], &["--entrypoint=dindctl", &image()], words].concat()).ok();
        let said = docker(&["start", "--attach", &dind.name]);
        assert_eq!((said.code, said.out.as_str()), (code, ""), "{}", said.err);
        assert!(
            said.err.starts_with(&format!("dindctl: error: {message}\ndindctl: hint: ")),
            "{words:?}: {}",
            said.err
        );
        let changed = docker(&["diff", &dind.name]).ok();
        assert!(!changed.contains("/run"), "{words:?}: {changed}");
    };
    let missing = "cannot start /no/such: ENOENT: No such file or directory";
    refused(&["prepare", "--", "/no/such"], 127, missing);
    refused(&["prepare", "--", "no-such"], 127, "cannot start no-such: not found in PATH");
    refused(&["prepare", "--", "/etc/passwd"], 126, "cannot start /etc/passwd: EACCES: Permission denied");
    refused(&["up", "--", "/no/such"], 127, missing);
    refused(&["up", "--", "no-such"], 127, "cannot start no-such: not found in PATH");
    refused(&["up", "--user", "nobody", "--", "/no/such"], 127, missing);
    refused(&["up", "--user", "no-such", "--", "true"], 125, "there is no user \"no-such\" in /etc/passwd");
    Ok(())
}
