//! Certificates that dindctl makes itself.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::certificates::addresses;
use super::docker::{Container, Said, Volume, docker, fresh_name, image};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("tls::certificates_are_made_and_kept", certificates_are_made_and_kept),
    ("tls::several_daemons_share_a_volume", several_daemons_share_a_volume),
    ("tls::a_step_that_takes_long_is_named", a_step_that_takes_long_is_named),
    ("tls::rsa_keys_are_made_on_request_and_kept", rsa_keys_are_made_on_request_and_kept),
    ("tls::certificates_are_renewed_while_nested_containers_run", certificates_are_renewed_while_running),
    ("tls::no_port_is_open_without_it_however_it_is_named", no_port_is_open_without_it),
    ("tls::keys_of_older_images_are_used", keys_of_older_images_are_used),
    ("tls::a_port_of_arguments_without_an_address_is_one_of_loopback", a_port_without_an_address),
    ("tls::bad_input_ends_before_anything_is_changed", bad_input_ends_before_anything_is_changed),
];

fn mount(volume: &Volume) -> String {
    format!("--volume={}:/certs", volume.0)
}

/// The docker CLI in a container of its own, with the client's certificates.
fn client(volume: &Volume, server: &Container, arguments: &[&str]) -> Said {
    let host = format!("--env=DOCKER_HOST=tcp://{}:2376", server.address());
    let mount = format!("--volume={}:/certs:ro", volume.0);
    let run =
        ["run", "--rm", "--env=DOCKER_TLS_VERIFY=1", "--env=DOCKER_CERT_PATH=/certs/client", "--entrypoint=docker"];
    docker(&[&run[..], &[&host, &mount, &image()], arguments].concat())
}

fn certificates_are_made_and_kept() -> Result<(), Failed> {
    let volume = Volume::new("certs");
    let san = "--env=DOCKER_TLS_SAN=DNS:build.example., 10.9.8.7";
    let dind = Container::start("tls", &["--privileged", &mount(&volume), san], &[]);
    dind.wait_healthy(Duration::from_secs(60));
    let version = client(&volume, &dind, &["version", "--format", "{{.Server.Os}}"]).ok();
    assert_eq!(version, "linux");
    // Both directions, judged by OpenSSL.
    let verify = "cd /certs && openssl verify -CAfile client/ca.pem -purpose sslserver server/cert.pem \
        && openssl verify -CAfile server/ca.pem -purpose sslclient client/cert.pem";
    assert_eq!(dind.sh(verify).ok(), "server/cert.pem: OK\nclient/cert.pem: OK");
    let with = "openssl s_client -connect build.example:2376 -verify_return_error -verify_hostname build.example \
        -CAfile /certs/client/ca.pem";
    dind.sh("echo 127.0.0.1 build.example >>/etc/hosts").ok();
    let request = "printf 'GET /_ping HTTP/1.0\\r\\n\\r\\n'";
    let said = dind.sh(&format!(
        "({request}; sleep 1) | {with} -quiet -cert /certs/client/cert.pem -key /certs/client/key.pem 2>/dev/null"
    ));
    assert!(said.out.contains("200 OK"), "{said:?}");
    let without = dind.sh(&format!("({request}; sleep 1) | {with} -quiet 2>&1"));
    assert!(!without.out.contains("200 OK") && without.out.contains("certificate required"), "{without:?}");
    let modes = dind.sh("cd /certs && stat -c '%a %n' ca/key.pem server/key.pem client/key.pem server/cert.pem").ok();
    assert_eq!(modes, "600 ca/key.pem\n600 server/key.pem\n644 client/key.pem\n644 server/cert.pem");

    let sums = "cd /certs && cat */*.pem | sha256sum";
    // While it is started anew another test may take its address, which is a reason for new certificates.
    for _ in 0..5 {
        let before = (dind.address(), dind.sh(sums).ok());
        docker(&["restart", &dind.name]).ok();
        dind.wait_healthy(Duration::from_secs(60));
        if dind.address() == before.0 {
            assert_eq!(dind.sh(sums).ok(), before.1, "nothing has changed, so nothing is to be made");
            return Ok(());
        }
    }
    Err("it came back under another address each time".into())
}

fn several_daemons_share_a_volume() -> Result<(), Failed> {
    let volume = Volume::new("certs");
    let dinds: Vec<Container> =
        (0..3).map(|_| Container::start("tls-shared", &["--privileged", &mount(&volume)], &[])).collect();
    for dind in &dinds {
        dind.wait_healthy(Duration::from_secs(60));
    }
    for dind in &dinds {
        // The daemon may hold a certificate that another one has replaced since; both are the authority's.
        assert_eq!(client(&volume, dind, &["version", "--format", "{{.Server.Os}}"]).ok(), "linux");
    }
    let made = dinds[0].exec(&["dindctl", "plan", "-o", "json"]).ok();
    let plan: serde_json::Value = serde_json::from_str(&made)?;
    let step = plan["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["id"] == "tls"));
    assert!(step.is_some(), "{plan}");
    Ok(())
}

/// Somebody else holds the volume's lock for a while: the log tells what is waited for.
fn a_step_that_takes_long_is_named() -> Result<(), Failed> {
    let volume = Volume::new("certs");
    let script = "flock /certs sleep 4 & sleep 0.5; exec dindctl entrypoint";
    let options = ["--privileged", &mount(&volume), "--entrypoint", "sh"];
    let dind = Container::start("tls-locked", &options, &["-c", script]);
    dind.wait_healthy(Duration::from_secs(60));
    let logs = dind.logs();
    assert!(logs.contains("dindctl: still busy with "), "{logs}");
    let lines: Vec<&str> = logs.lines().filter(|line| line.contains("still busy with")).collect();
    assert!(lines.len() == 1 && lines[0].contains("certificates"), "{lines:?}");
    Ok(())
}

fn rsa_keys_are_made_on_request_and_kept() -> Result<(), Failed> {
    let volume = Volume::new("certs");
    let text = "openssl pkey -in /certs/ca/key.pem -noout -text | head -n 1";
    let dind = Container::start("tls-rsa", &["--privileged", &mount(&volume), "--env=DINDCTL_TLS_KEY=rsa"], &[]);
    dind.wait_healthy(Duration::from_secs(600));
    assert!(dind.sh(text).ok().contains("4096 bit"), "{}", dind.sh(text).ok());
    let sum = dind.sh("cat /certs/*/key.pem | sha256sum").ok();
    drop(dind);
    let dind = Container::start("tls-rsa", &["--privileged", &mount(&volume)], &[]);
    dind.wait_healthy(Duration::from_secs(60));
    assert_eq!(dind.sh("cat /certs/*/key.pem | sha256sum").ok(), sum, "keys are kept whatever is asked for");
    assert_eq!(client(&volume, &dind, &["version", "--format", "{{.Server.Os}}"]).ok(), "linux");
    Ok(())
}

/// An authority for years, and a certificate of the daemon that is due 12 s from now.
fn short_lived(hostname: &str) -> Result<Vec<(&'static str, String)>, Failed> {
    let now = time::OffsetDateTime::now_utc();
    let mut authority = CertificateParams::default();
    authority.distinguished_name = rcgen::DistinguishedName::new();
    authority.distinguished_name.push(DnType::CommonName, "docker:dind CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let ca_key = key.serialize_pem();
    let ca = authority.self_signed(&key)?.pem();
    let issuer = Issuer::new(authority, key);
    let mut files = vec![("ca/key.pem", ca_key), ("ca/cert.pem", ca.clone())];
    let names = ["docker", "localhost", hostname, "127.0.0.1", "::1"].map(str::to_owned);
    let names: Vec<String> = names.into_iter().chain(addresses()).collect();
    // A third of 90 s is the spare time.
    let limits = (now - Duration::from_secs(48), now + Duration::from_secs(42));
    for (usage, paths) in [
        (ExtendedKeyUsagePurpose::ServerAuth, ["server/key.pem", "server/cert.pem", "server/ca.pem"]),
        (ExtendedKeyUsagePurpose::ClientAuth, ["client/key.pem", "client/cert.pem", "client/ca.pem"]),
    ] {
        let mut params = CertificateParams::new(names.clone())?;
        (params.not_before, params.not_after) = limits;
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &issuer)?.pem();
        files.extend([(paths[0], key.serialize_pem()), (paths[1], cert), (paths[2], ca.clone())]);
    }
    Ok(files)
}

fn certificates_are_renewed_while_running() -> Result<(), Failed> {
    let volume = Volume::new("certs");
    let folder = tempfile::tempdir()?;
    for (name, text) in short_lived("tlsdind")? {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        std::fs::write(path, text)?;
    }
    let dind = Container { name: fresh_name("tls-renewed") };
    docker(&[
        "create",
        "--label=dindctl.test=1",
        "--privileged",
        "--hostname=tlsdind",
        &mount(&volume),
        "--name",
        &dind.name,
        &image(),
    ])
    .ok();
    docker(&["cp", &format!("{}/.", folder.path().display()), &format!("{}:/certs", dind.name)]).ok();
    docker(&["start", &dind.name]).ok();
    dind.wait_healthy(Duration::from_secs(60));
    assert!(!dind.logs().contains("certificates made"), "too early:\n{}", dind.logs());
    dind.load("debian:trixie-slim");
    dind.exec(&["docker", "run", "--detach", "--name", "nested", "debian:trixie-slim", "sleep", "600"]).ok();
    let started = "docker inspect --format '{{.State.Pid}}' nested";
    let nested = dind.sh(started).ok();

    let begun = Instant::now();
    while !dind.logs().contains("is ready again") {
        assert!(begun.elapsed() < Duration::from_secs(60), "not renewed:\n{}", dind.logs());
        std::thread::sleep(Duration::from_millis(500));
    }
    dind.wait_healthy(Duration::from_secs(30));
    // The old certificates would have ended by then.
    std::thread::sleep(Duration::from_secs(45).saturating_sub(begun.elapsed()));
    assert_eq!(client(&volume, &dind, &["version", "--format", "{{.Server.Os}}"]).ok(), "linux");
    assert_eq!(dind.sh(started).ok(), nested, "the nested container must live on");
    assert_eq!(dind.logs().matches("certificates made").count(), 1, "{}", dind.logs());
    Ok(())
}

/// A list with blanks, and a certificate without `--tlsverify`, were served in plaintext; an API with no unix socket was never healthy.
fn no_port_is_open_without_it() -> Result<(), Failed> {
    let own: &[&str] = &["--tlscert=/certs/server/cert.pem", "--tlskey", "/certs/server/key.pem"];
    for (listen, arguments) in [
        ("unix:///var/run/docker.sock tcp://0.0.0.0:2376", &[][..]),
        ("tcp://0.0.0.0:2376", &[]),
        ("", own),
        ("", &["--tls"]),
    ] {
        let volume = Volume::new("certs");
        let listen = format!("--env=DINDCTL_LISTEN={listen}");
        let dind = Container::start("tls-named", &["--privileged", &mount(&volume), &listen], arguments);
        dind.wait_healthy(Duration::from_secs(60));
        let port = format!("{}:2376", dind.address());
        assert!(!super::load::answers(&port), "{listen} {arguments:?}: {port} answers without TLS\n{}", dind.logs());
        let version = client(&volume, &dind, &["version", "--format", "{{.Server.Os}}"]);
        assert_eq!(version.out.trim(), "linux", "{listen} {arguments:?}: {version:?}\n{}", dind.logs());
        assert!(!dind.logs().contains("is open with"), "{}", dind.logs());
    }
    let dind = Container::start("tls-named", &["--privileged"], &["--tlsverify=false"]);
    dind.wait_healthy(Duration::from_secs(60));
    assert!(dind.logs().contains("2376 is open with TLS that asks nobody for a certificate"), "{}", dind.logs());
    assert!(!super::load::answers(&format!("{}:2376", dind.address())));
    Ok(())
}

/// OpenSSL before version 3, and the official image with it, wrote PKCS#1.
fn keys_of_older_images_are_used() -> Result<(), Failed> {
    let volume = Volume::new("certs");
    let keys = "cd /certs && for side in ca server client; do mkdir -p $side && openssl genrsa -traditional -out $side/key.pem 2048; done \
        && head -qn 1 */key.pem | sort -u && cat */key.pem | sha256sum";
    let before = docker(&["run", "--rm", &mount(&volume), "--entrypoint=sh", &image(), "-c", keys]).ok();
    assert!(before.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "{before}");
    let dind = Container::start("tls-older", &["--privileged", &mount(&volume)], &[]);
    dind.wait_healthy(Duration::from_secs(60));
    assert_eq!(client(&volume, &dind, &["version", "--format", "{{.Server.Os}}"]).ok(), "linux");
    let after = dind.sh("cat /certs/*/key.pem | sha256sum").ok();
    assert_eq!(Some(after.as_str()), before.lines().last(), "keys are kept");
    Ok(())
}

fn a_port_without_an_address() -> Result<(), Failed> {
    let options = ["--privileged", "--env=DOCKER_TLS_CERTDIR=", "--env=DINDCTL_LISTEN=unix:///var/run/docker.sock"];
    let dind = Container::start("tls-loopback", &options, &["--host=tcp://:2375", "-H", "unix:///run/docker.sock"]);
    dind.wait_healthy(Duration::from_secs(60));
    let inside = "docker -H tcp://127.0.0.1:2375 version --format '{{.Server.Os}}'";
    assert_eq!(dind.sh(inside).ok(), "linux");
    assert!(!super::load::answers(&format!("{}:2375", dind.address())), "{}", dind.logs());
    assert!(!dind.logs().contains("is open without TLS"), "{}", dind.logs());
    Ok(())
}

fn bad_input_ends_before_anything_is_changed() -> Result<(), Failed> {
    let refused = |options: &[&str], before: &str, words: &str| {
        let volume = Volume::new("certs");
        docker(&["run", "--rm", &mount(&volume), "--entrypoint=sh", &image(), "-c", before]).ok();
        let list = "cd /certs && find . -type f | sort | xargs -r sha256sum";
        let files = || docker(&["run", "--rm", &mount(&volume), "--entrypoint=sh", &image(), "-c", list]).ok();
        let found = files();
        let said = docker(&[&["run", "--rm", "--privileged", &mount(&volume)], options, &[&image()]].concat());
        assert_eq!(said.code, 125, "{words}: {}{}", said.out, said.err);
        let first = said.err.lines().next().unwrap_or_default();
        assert!(first.starts_with("dindctl: error: ") && first.contains(words), "{}", said.err);
        assert!(said.err.contains("dindctl: hint: "), "{}", said.err);
        assert_eq!(files(), found, "{words}");
    };
    refused(&["--env=DOCKER_TLS_SAN=DNS:ok,IP:host"], "true", "DOCKER_TLS_SAN: \"IP:host\"");
    refused(&["--env=DINDCTL_TLS_KEY=dsa"], "true", "DINDCTL_TLS_KEY");
    refused(&["--env=DINDCTL_TLS_DAYS=0"], "true", "DINDCTL_TLS_DAYS");
    refused(
        &[],
        "mkdir /certs/server && echo x >/certs/server/key.pem",
        "server/key.pem cannot be used: it is no PEM file",
    );
    let half = "mkdir /certs/server && openssl genpkey -algorithm ED25519 >/certs/server/key.pem";
    refused(&[], half, "/certs/server/ca.pem, /certs/server/cert.pem is missing or empty");
    refused(
        &[],
        "mkdir /certs/ca && openssl genpkey -algorithm ED25519 -aes256 -pass pass:x >/certs/ca/key.pem",
        "encrypted",
    );
    Ok(())
}
