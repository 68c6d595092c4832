//! What the layers of images are kept with, as the daemon really does it and as it was said before.

use std::time::Duration;

use libtest_mimic::Failed;

use super::docker::{Container, docker, image};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("storage::the_driver_is_the_one_that_was_foretold", the_driver_is_the_one_that_was_foretold),
    ("storage::images_of_an_earlier_driver_are_named", images_of_an_earlier_driver_are_named),
    ("storage::a_driver_beside_containerds_store_is_refused", a_driver_beside_containerds_store_is_refused),
    ("storage::containerd_keeps_its_data_in_the_volume", containerd_keeps_its_data_in_the_volume),
];

fn driver(dind: &Container) -> String {
    dind.exec(&["docker", "info", "--format", "{{.Driver}}"]).ok()
}

fn the_driver_is_the_one_that_was_foretold() -> Result<(), Failed> {
    let dind = Container::dind("storage", &[]);
    assert_eq!(driver(&dind), "overlay2");
    assert!(!dind.logs().contains("lies on"), "{}", dind.logs());
    assert_eq!(dind.sh("ls -A /var/lib/docker /var/lib/containerd | grep -c dindctl").out.trim(), "0");
    let options = ["--privileged", "--env=DOCKER_TLS_CERTDIR="];
    let dind = Container::start("storage", &options, &["--data-root=/inner"]);
    dind.wait_healthy(Duration::from_secs(60));
    let said = "the data root /inner lies on overlay, and overlay cannot be mounted: EINVAL: Invalid argument: dockerd takes vfs";
    assert!(dind.logs().contains(said), "{}", dind.logs());
    assert_eq!(driver(&dind), "vfs");
    // A fuse-overlayfs that is installed is what dockerd takes, whether it has its device or not.
    let install = "ln -s /bin/true /usr/local/bin/fuse-overlayfs && rm -f /dev/fuse && exec dindctl entrypoint --data-root=/inner";
    let dind = Container::start("storage", &[&options[..], &["--entrypoint=sh"]].concat(), &["-c", install]);
    dind.wait_healthy(Duration::from_secs(60));
    assert!(dind.logs().contains("fuse-overlayfs is of no use without /dev/fuse (ENOENT"), "{}", dind.logs());
    assert_eq!(driver(&dind), "vfs");
    Ok(())
}

fn images_of_an_earlier_driver_are_named() -> Result<(), Failed> {
    let earlier = "mkdir -p /var/lib/docker/vfs/dir && exec dindctl entrypoint";
    let options = ["--privileged", "--env=DOCKER_TLS_CERTDIR=", "--entrypoint=sh"];
    let dind = Container::start("storage", &options, &["-c", earlier]);
    dind.wait_healthy(Duration::from_secs(60));
    let said = "/var/lib/docker has images of vfs, which take their space and are not seen by overlay2";
    assert!(dind.logs().contains(said), "{}", dind.logs());
    assert_eq!(driver(&dind), "overlay2");
    Ok(())
}

fn a_driver_beside_containerds_store_is_refused() -> Result<(), Failed> {
    let run = ["run", "--rm", "--label=dindctl.test=1", "--privileged", "--entrypoint=sh"];
    let file = r#"mkdir -p /etc/docker && echo '{"features": {"containerd-snapshotter": true}}' >/etc/docker/daemon.json && exec dindctl entrypoint"#;
    let said = docker(&[&run[..], &["--env=DOCKER_DRIVER=overlay2", &image(), "-c", file]].concat());
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.err.contains("DOCKER_DRIVER asks for the storage driver overlay2, and the feature"), "{said:?}");
    assert!(said.err.contains("dindctl: hint: leave DOCKER_DRIVER out"), "{said:?}");
    let two = docker(
        &[&run[..], &["--env=DOCKER_DRIVER=overlay2", &image(), "-c", "exec dindctl entrypoint -s vfs"]].concat(),
    );
    assert!(
        two.code == 125 && two.err.contains("DOCKER_DRIVER (overlay2) and dockerd's storage-driver (vfs)"),
        "{two:?}"
    );
    // The same feature with the engine's own choice works, below containerd's root.
    let file = file.to_owned();
    let options = ["--privileged", "--env=DOCKER_TLS_CERTDIR=", "--entrypoint=sh"];
    let dind = Container::start("storage", &options, &["-c", &file]);
    dind.wait_healthy(Duration::from_secs(60));
    assert_eq!(driver(&dind), "overlayfs");
    Ok(())
}

/// As in the official image, where `/var/lib/containerd` is no volume.
fn containerd_keeps_its_data_in_the_volume() -> Result<(), Failed> {
    let unmount = "umount /var/lib/containerd && exec dindctl entrypoint";
    let options = ["--privileged", "--env=DOCKER_TLS_CERTDIR=", "--entrypoint=sh"];
    let dind = Container::start("storage", &options, &["-c", unmount]);
    dind.wait_healthy(Duration::from_secs(60));
    dind.sh("test -e /var/lib/docker/containerd/daemon/io.containerd.metadata.v1.bolt/meta.db").ok();
    dind.sh("test ! -e /var/lib/containerd/io.containerd.metadata.v1.bolt").ok();
    Ok(())
}
