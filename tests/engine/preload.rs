//! `dindctl preload`, as PID 1 starts it and by hand.

use std::io::Write;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::docker::{Container, Said, Volume, docker};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("preload::every_kind_is_loaded_once_beside_the_daemon", every_kind_is_loaded_once_beside_the_daemon),
    ("preload::a_load_that_was_killed_is_done_again", a_load_that_was_killed_is_done_again),
    ("preload::neither_the_command_nor_a_stop_waits_for_it", neither_the_command_nor_a_stop_waits_for_it),
];

/// Archives of images of a few bytes, made by the engine itself. Layouts are what it saves without the document that only Docker knows.
const ARCHIVES: &str = r#"
    set -e
    cd /tmp
    for kind in plain gzip zstd oci folder half; do
        echo "$kind" >file
        tar -c file | docker import - "tiny-$kind:1" >/dev/null
        docker save -o "$kind.tar" "tiny-$kind:1"
    done
    gzip gzip.tar
    for kind in oci folder; do
        mkdir "$kind"
        tar -x -C "$kind" -f "$kind.tar"
        rm -f "$kind/manifest.json" "$kind/repositories"
    done
    mv plain.tar /preload/1-plain
    mv gzip.tar.gz /preload/2-gzip.tar
    tar -c -C oci . | gzip >/preload/4-oci.tar.gz
    mv folder /preload/5-folder
    head -c 3000 half.tar >/preload/6-half.tar
    echo words >/preload/README
    cp /preload/1-plain /preload/.on-its-way
"#;

/// A volume of archives.
fn archives() -> Volume {
    let volume = Volume::new("preload");
    let maker =
        Container::dind("preload-maker", &["--volume", &format!("{}:/preload", volume.0), "--env", "DINDCTL_PRELOAD="]);
    maker.sh(ARCHIVES).ok();
    // The image has no zstd.
    let plain = std::process::Command::new("docker").args(["exec", &maker.name, "cat", "/tmp/zstd.tar"]).output();
    let packed = zstd(&plain.expect("docker CLI").stdout);
    let mut wrong = layers();
    let last = wrong.iter().rposition(|byte| *byte == b'}').expect("JSON");
    wrong[last] = b' ';
    for (name, bytes) in [("3-zstd", packed), ("7-layers", layers()), ("8-digest", wrong)] {
        let mut file = tempfile::NamedTempFile::new().expect("disk");
        file.write_all(&bytes).expect("disk");
        let source = file.path().to_str().expect("path").to_owned();
        docker(&["cp", &source, &format!("{}:/preload/{name}", maker.name)]).ok();
    }
    volume
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory")
}

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_slice()).expect("memory");
    }
    archive.into_inner().expect("memory")
}

/// A layout with an index of several platforms, and layers that are compressed with zstd, as buildx writes them when it is asked to.
fn layers() -> Vec<u8> {
    let sha = |bytes: &[u8]| dindctl::preload::survey::hex(&Sha256::digest(bytes));
    let mut files = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    let mut blob = |bytes: Vec<u8>, kind: &str| {
        let (digest, size) = (format!("sha256:{}", sha(&bytes)), bytes.len());
        files.push((format!("blobs/sha256/{}", &digest[7..]), bytes));
        json!({"digest": digest, "size": size, "mediaType": format!("application/vnd.oci.image.{kind}")})
    };
    let mut manifests = Vec::new();
    for architecture in ["riscv64", "amd64", "arm64"] {
        let plain = tar(&[("file".to_owned(), architecture.as_bytes().to_vec())]);
        let diff = format!("sha256:{}", sha(&plain));
        let layer = blob(zstd(&plain), "layer.v1.tar+zstd");
        let config =
            json!({"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": [diff]}});
        let config = blob(config.to_string().into_bytes(), "config.v1+json");
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let mut manifest = blob(manifest.to_string().into_bytes(), "manifest.v1+json");
        manifest["platform"] = json!({"os": "linux", "architecture": architecture});
        manifests.push(manifest);
    }
    let mut index = blob(json!({"schemaVersion": 2, "manifests": manifests}).to_string().into_bytes(), "index.v1+json");
    index["annotations"] = json!({"io.containerd.image.name": "docker.io/library/tiny-layers:1"});
    let index = json!({"schemaVersion": 2, "manifests": [index]}).to_string();
    // The blob of the index is the last file.
    files.insert(0, ("index.json".to_owned(), index.into_bytes()));
    tar(&files)
}

fn images(dind: &Container) -> Vec<String> {
    let said = dind.exec(&["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    let mut all: Vec<String> = said.lines().map(str::to_owned).collect();
    all.sort();
    all
}

/// Waits until the log has the last line of a round.
fn wait_for_round(dind: &Container, round: usize) -> String {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let logs = dind.logs();
        if logs.matches(" archives of images: ").count() >= round {
            return logs;
        }
        assert!(Instant::now() < end, "{logs}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn preload(dind: &Container, options: &[&str]) -> (Said, Vec<(String, String)>) {
    let said = dind.exec(&[&["dindctl", "preload", "-o", "json"], options].concat());
    let report: Value = serde_json::from_str(&said.out).unwrap_or(Value::Null);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let archives = report["archives"].as_array().map(Vec::as_slice).unwrap_or_default();
    let all = archives.iter().map(|archive| (text(&archive["path"]), text(&archive["status"]))).collect();
    (said, all)
}

/// What comes of the archives in their order, where those that are whole are `status`.
fn all_are(status: &str) -> Vec<(String, String)> {
    [
        ("1-plain", status),
        ("2-gzip.tar", status),
        ("3-zstd", status),
        ("4-oci.tar.gz", status),
        ("5-folder", status),
        ("6-half.tar", "broken"),
        ("7-layers", status),
        ("8-digest", "broken"),
        ("README", "skipped"),
    ]
    .map(|(name, status)| (format!("/preload/{name}"), status.to_owned()))
    .into()
}

fn every_kind_is_loaded_once_beside_the_daemon() -> Result<(), Failed> {
    let volume = archives();
    let mounted = format!("{}:/preload:ro", volume.0);
    let dind = Container::dind("preload", &["--volume", &mounted]);
    let logs = wait_for_round(&dind, 1);
    let loaded = ["tiny-folder:1", "tiny-gzip:1", "tiny-layers:1", "tiny-oci:1", "tiny-plain:1", "tiny-zstd:1"];
    assert_eq!(images(&dind), loaded, "{logs}");
    for want in [
        "9 archives of images: 6 loaded, 1 passed over, 2 broken",
        "/preload/8-digest is not loaded: blobs/sha256/",
        "/preload/6-half.tar is not loaded: ",
        "/preload/README is passed over: it is no archive",
    ] {
        assert!(logs.contains(want), "{want}\n{logs}");
    }
    let place = |text: &str| logs.find(text).unwrap_or_else(|| panic!("no {text}:\n{logs}"));
    assert!(place("dockerd is ready") < place("loading /preload/1-plain"), "{logs}");
    let content = dind.sh("id=$(docker create tiny-oci:1 x) && docker cp $id:/file - | tar -xO").ok();
    assert_eq!(content, "oci");
    let content = dind.sh("id=$(docker create tiny-layers:1 x) && docker cp $id:/file - | tar -xO").ok();
    assert_eq!(content, docker(&["version", "--format", "{{.Server.Arch}}"]).ok());

    // What a user has removed stays away, after a restart and by hand.
    dind.sh("docker rm -f $(docker ps -aq) && docker rmi tiny-oci:1 tiny-plain:1").ok();
    docker(&["restart", &dind.name]).ok();
    dind.wait_healthy(Duration::from_secs(60));
    let logs = wait_for_round(&dind, 2);
    assert!(logs.contains("9 archives of images: 6 loaded before, 1 passed over, 2 broken"), "{logs}");
    let (said, all) = preload(&dind, &[]);
    assert_eq!((said.code, all), (1, all_are("known")), "{said:?}");
    assert_eq!(images(&dind), ["tiny-folder:1", "tiny-gzip:1", "tiny-layers:1", "tiny-zstd:1"]);

    // Unless they are asked for again; the copy of an archive is the same archive.
    let (said, all) = preload(&dind, &["--again"]);
    assert_eq!((said.code, all), (1, all_are("loaded")), "{said:?}");
    assert_eq!(images(&dind), loaded);
    dind.sh("mkdir /copies && cp /preload/1-plain /copies/another").ok();
    let (said, all) = preload(&dind, &["/copies"]);
    assert_eq!((said.code, all), (0, vec![("/copies/another".into(), "known".into())]), "{said:?}");
    // Images that came another way are there.
    dind.sh("rm /var/lib/docker/dindctl-preload.json").ok();
    let (said, all) = preload(&dind, &[]);
    assert_eq!((said.code, all), (1, all_are("present")), "{said:?}");

    for (typed, code, want) in [
        (&["/nosuch"][..], 125, "PATH \"/nosuch\": cannot be read"),
        (&["/preload/README"], 1, "/preload/README is not loaded: it is no archive"),
        (&["--parallel", "0"], 125, "--parallel"),
        (&["-H", "unix:///nosuch.sock", "/preload"], 125, "no Docker daemon at unix:///nosuch.sock"),
        (&["-H", "tcp://localhost:2375", "/preload/1-plain"], 0, "1 archive of images: "),
    ] {
        let said = dind.exec(&[&["dindctl", "preload"], typed].concat());
        assert!(said.code == code && said.err.contains(want), "{typed:?}: {said:?}");
    }
    Ok(())
}

/// An archive that takes its time.
const LARGE: &str = "set -e; cd /tmp; head -c 400M /dev/urandom >file; tar -c file | docker import - large:1 >/dev/null
    docker save -o large.tar large:1; docker rmi large:1 >/dev/null; rm file";

fn neither_the_command_nor_a_stop_waits_for_it() -> Result<(), Failed> {
    let volume = Volume::new("preload-large");
    let mounted = format!("{}:/preload", volume.0);
    let maker = Container::dind("preload-large-maker", &["--volume", &mounted]);
    maker.sh(LARGE).ok();
    maker.sh("mv /tmp/large.tar /preload/").ok();
    drop(maker);
    let options = ["--privileged", "--entrypoint=dindctl", "--env", "DOCKER_TLS_CERTDIR=", "--volume", &mounted];
    let script = "dindctl health && echo the command runs; sleep 300";
    let dind = Container::start("preload-up", &options, &["up", "--", "sh", "-c", script]);
    let wait_for = |text: &str, times: usize| {
        let end = Instant::now() + Duration::from_secs(60);
        while dind.logs().matches(text).count() < times {
            assert!(Instant::now() < end, "no {text}:\n{}", dind.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait_for("loading /preload/large.tar", 1);
    let begun = Instant::now();
    docker(&["stop", "--time", "30", &dind.name]).ok();
    let (took, logs) = (begun.elapsed(), dind.logs());
    assert!(!logs.contains("loaded large:1"), "it was not stopped in time:\n{logs}");
    assert!(took < Duration::from_secs(10), "{took:?}:\n{logs}");

    docker(&["start", &dind.name]).ok();
    wait_for("1 archive of images: 1 loaded", 1);
    // Output of the command goes to standard output, which has no order with standard error; the engine's time stamps have.
    let stamped = docker(&["logs", "--timestamps", &dind.name]);
    let last = |text: &str| {
        let line =
            [&stamped.out, &stamped.err].iter().flat_map(|all| all.lines()).filter(|line| line.contains(text)).max();
        line.unwrap_or_else(|| panic!("no {text}: {stamped:?}")).split(' ').next().expect("time").to_owned()
    };
    assert!(last("the command runs") < last("loaded large:1"), "{stamped:?}");
    assert_eq!(images(&dind), ["large:1"]);
    Ok(())
}

fn a_load_that_was_killed_is_done_again() -> Result<(), Failed> {
    let dind = Container::dind("preload-killed", &[]);
    assert!(!dind.logs().contains("archives of images"), "there is no folder, and nothing is said:\n{}", dind.logs());
    dind.sh(LARGE).ok();
    let killed = dind.sh("dindctl preload /tmp/large.tar & sleep 0.6; kill -9 $!; wait $!");
    assert_eq!(killed.code, 137, "{killed:?}");
    assert!(!dind.sh("cat /var/lib/docker/dindctl-preload.json").out.contains("large"), "it was not killed in time");
    let (said, all) = preload(&dind, &["/tmp/large.tar"]);
    assert_eq!((said.code, all), (0, vec![("/tmp/large.tar".into(), "loaded".into())]), "{said:?}");
    assert_eq!(images(&dind), ["large:1"]);
    Ok(())
}
