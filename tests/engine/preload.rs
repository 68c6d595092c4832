//! `dindctl preload`, as PID 1 starts it and by hand.

use std::io::Write;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use super::docker::{Container, Said, Volume, docker};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("preload::every_kind_is_loaded_once_beside_the_daemon", every_kind_is_loaded_once_beside_the_daemon),
    ("preload::a_load_that_was_killed_is_done_again", a_load_that_was_killed_is_done_again),
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
    let mut packed = tempfile::NamedTempFile::new().expect("disk");
    packed.write_all(&zstd::encode_all(&*plain.expect("docker CLI").stdout, 3).expect("memory")).expect("disk");
    let source = packed.path().to_str().expect("path").to_owned();
    docker(&["cp", &source, &format!("{}:/preload/3-zstd", maker.name)]).ok();
    volume
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

fn all_are(status: &str, others: [&str; 2]) -> Vec<(String, String)> {
    let names = ["1-plain", "2-gzip.tar", "3-zstd", "4-oci.tar.gz", "5-folder"];
    let mut all: Vec<(String, String)> = names.map(|name| (format!("/preload/{name}"), status.to_owned())).into();
    all.push(("/preload/6-half.tar".into(), others[0].into()));
    all.push(("/preload/README".into(), others[1].into()));
    all
}

fn every_kind_is_loaded_once_beside_the_daemon() -> Result<(), Failed> {
    let volume = archives();
    let mounted = format!("{}:/preload:ro", volume.0);
    let dind = Container::dind("preload", &["--volume", &mounted]);
    let logs = wait_for_round(&dind, 1);
    let loaded = ["tiny-folder:1", "tiny-gzip:1", "tiny-oci:1", "tiny-plain:1", "tiny-zstd:1"];
    assert_eq!(images(&dind), loaded, "{logs}");
    for want in [
        "7 archives of images: 5 loaded, 1 passed over, 1 broken",
        "/preload/6-half.tar is not loaded: ",
        "/preload/README is passed over: it is no archive",
    ] {
        assert!(logs.contains(want), "{want}\n{logs}");
    }
    let place = |text: &str| logs.find(text).unwrap_or_else(|| panic!("no {text}:\n{logs}"));
    assert!(place("dockerd is ready") < place("loading /preload/1-plain"), "{logs}");
    let content = dind.sh("id=$(docker create tiny-oci:1 x) && docker cp $id:/file - | tar -xO").ok();
    assert_eq!(content, "oci");

    // What a user has removed stays away, after a restart and by hand.
    dind.sh("docker rm -f $(docker ps -aq) && docker rmi tiny-oci:1 tiny-plain:1").ok();
    docker(&["restart", &dind.name]).ok();
    dind.wait_healthy(Duration::from_secs(60));
    let logs = wait_for_round(&dind, 2);
    assert!(logs.contains("7 archives of images: 5 loaded before, 1 passed over, 1 broken"), "{logs}");
    let (said, all) = preload(&dind, &[]);
    assert_eq!((said.code, all), (1, all_are("known", ["broken", "skipped"])), "{said:?}");
    assert_eq!(images(&dind), ["tiny-folder:1", "tiny-gzip:1", "tiny-zstd:1"]);

    // Unless they are asked for again; the copy of an archive is the same archive.
    let (said, all) = preload(&dind, &["--again"]);
    assert_eq!((said.code, all), (1, all_are("loaded", ["broken", "skipped"])), "{said:?}");
    assert_eq!(images(&dind), loaded);
    dind.sh("mkdir /copies && cp /preload/1-plain /copies/another").ok();
    let (said, all) = preload(&dind, &["/copies"]);
    assert_eq!((said.code, all), (0, vec![("/copies/another".into(), "known".into())]), "{said:?}");
    // Images that came another way are there.
    dind.sh("rm /var/lib/docker/dindctl-preload.json").ok();
    let (said, all) = preload(&dind, &[]);
    assert_eq!((said.code, all), (1, all_are("present", ["broken", "skipped"])), "{said:?}");

    for (typed, code, want) in [
        (&["/nosuch"][..], 125, "PATH \"/nosuch\": cannot be read"),
        (&["/preload/README"], 1, "/preload/README is not loaded: it is no archive"),
        (&["--parallel", "0"], 125, "--parallel"),
    ] {
        let said = dind.exec(&[&["dindctl", "preload"], typed].concat());
        assert!(said.code == code && said.err.contains(want), "{typed:?}: {said:?}");
    }
    Ok(())
}

fn a_load_that_was_killed_is_done_again() -> Result<(), Failed> {
    let dind = Container::dind("preload-killed", &[]);
    let large = "set -e; cd /tmp; head -c 200M /dev/urandom >file; tar -c file | docker import - large:1 >/dev/null
        docker save -o large.tar large:1; docker rmi large:1 >/dev/null";
    dind.sh(large).ok();
    let killed = dind.sh("dindctl preload /tmp/large.tar & sleep 0.6; kill -9 $!; wait $!");
    assert_eq!(killed.code, 137, "{killed:?}");
    assert!(!dind.sh("cat /var/lib/docker/dindctl-preload.json").out.contains("large"), "it was not killed in time");
    let (said, all) = preload(&dind, &["/tmp/large.tar"]);
    assert_eq!((said.code, all), (0, vec![("/tmp/large.tar".into(), "loaded".into())]), "{said:?}");
    assert_eq!(images(&dind), ["large:1"]);
    Ok(())
}
