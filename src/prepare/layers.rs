/*!
How the engine will keep the layers of images, and at what cost. Where overlay does not work it takes something slower, and
says so in its log only; which one is told here, and chosen where its own choice would not work.
*/
use caps::Capability;

use super::facts::Facts;
use super::image_store::{self, Asked, Choice, Store};
use super::plan::{Action, Step};
use super::wants::{LayerWishes, Wants};
use crate::probe::layers::{Fuse, GONE, Layers};
use crate::probe::overlay::Problem;
use crate::probe::storage::Storage;

/// Whether it has to be known what the engine chooses by itself.
pub fn asks_for_engine(found: &Layers, wishes: &LayerWishes, wants: &Wants) -> bool {
    let fails = found.data_root.is_err() || found.containerd_root.is_err();
    let named = wishes.driver.is_some() || wants.told.sets("storage-driver");
    let depends = image_store::depends_on_engine(&wants.told, wishes.driver.as_deref(), !earlier(found).is_empty());
    (fails || named) && depends
}

/// The steps.
pub fn steps(facts: &Facts, wants: &Wants) -> Vec<Step> {
    let (Some(found), Some(wishes)) = (&facts.layers, &wants.layers) else { return Vec::new() };
    let known = found.containerds_store;
    let counts = earlier(found);
    let choice = match image_store::choose(&wants.told, wishes.driver.as_deref(), known, !counts.is_empty()) {
        Ok(choice) => choice,
        Err(wrong) => {
            let step =
                Step::nothing("data-root.driver", "storage driver", wrong.cause.clone(), "dockerd would not start");
            return vec![step.fails(wrong.cause).hint(wrong.hint)];
        }
    };
    if !facts.capabilities.has(Capability::CAP_SYS_ADMIN) {
        let reason = "the engine keeps the layers of images on overlay";
        return vec![Step::nothing(
            "data-root.overlay",
            "data root",
            "overlay cannot be tried without CAP_SYS_ADMIN",
            reason,
        )];
    }
    // What cannot be written is refused elsewhere.
    let writable = |storage: &Storage| storage.unwritable.is_none();
    match choice.store {
        Store::Dockerd if writable(&facts.data_root) => dockerd(&facts.data_root, found, choice, wants),
        Store::Containerd if writable(&facts.containerd_root) => {
            containerd(&facts.containerd_root, found, choice).into_iter().collect()
        }
        Store::Dockerd | Store::Containerd => Vec::new(),
    }
}

/// Drivers whose data dockerd goes by; it passes over that of vfs (tried with 26.1), and over what drivers left that it no longer has.
fn earlier(found: &Layers) -> Vec<&'static str> {
    found.earlier.iter().copied().filter(|name| *name != "vfs" && !GONE.contains(name)).collect()
}

fn dockerd(storage: &Storage, found: &Layers, choice: Choice<'_>, wants: &Wants) -> Vec<Step> {
    let step = trial("data-root.overlay", "data root", storage, found.data_root);
    let driver = choice.asked.map(|asked| asked.name);
    let before = earlier(found);
    let mut steps = match (found.data_root, choice.asked, before.first()) {
        // What somebody asked for instead is his own business.
        (Err(_), Some(Asked { name, .. }), _) if name != "overlay2" => vec![step],
        (Err(problem), Some(Asked { place, .. }), _) => {
            let cause = lies(storage, "data root", problem);
            vec![
                step.warns(format!("{cause}: dockerd will not start with overlay2, which {place} asks for")).required(),
            ]
        }
        (Err(problem), None, Some(&"overlay2")) => {
            let cause = lies(storage, "data root", problem);
            vec![step.warns(format!(
                "{cause}: dockerd will not start, because its data there is of overlay2, and it takes no other driver by itself"
            )).required()]
        }
        (Ok(()), _, _) | (Err(_), None, Some(_)) => vec![step],
        (Err(problem), None, None) => fallback(step, storage, problem, found, wants),
    };
    steps.extend(left_over(storage, found, driver));
    steps
}

/// What dockerd takes by itself: the first of its drivers that can be initialised.
fn fallback(step: Step, storage: &Storage, problem: Problem, found: &Layers, wants: &Wants) -> Vec<Step> {
    const VFS: &str = "vfs, which copies every layer whole: slow, and large";
    let cause = lies(storage, "data root", problem);
    let own = match storage.fstype.as_str() {
        "btrfs" => Some("btrfs"),
        "zfs" if found.zfs => Some("zfs"),
        _ => None,
    };
    match (found.fuse, own) {
        (Some(Fuse::Works), _) if problem != Problem::Types => {
            vec![step.warns(format!("{cause}: dockerd takes fuse-overlayfs, which is slower"))]
        }
        // It looks for the program only, and would start no container.
        (Some(Fuse::NoDevice(errno)), _) if !wants.told.sets("storage-driver") => {
            let hint = format!("start this container with --device /dev/fuse, or {}", mend(storage, problem));
            let warned = Step {
                hint: Some(hint),
                id: "data-root.overlay.warning".into(),
                ..step.clone().warns(format!(
                    "{cause}, and fuse-overlayfs is of no use without /dev/fuse ({errno}): dockerd is told to take {VFS}"
                ))
            };
            let set = Action::SetDaemonOption { key: "storage-driver".into(), value: "vfs".into() };
            vec![step.does(set), warned]
        }
        (_, Some(own)) => vec![step.warns(format!("{cause}: dockerd takes its driver {own}"))],
        _ => vec![step.warns(format!("{cause}: dockerd takes {VFS}"))],
    }
}

/// containerd's own overlay. Without it the engine takes `native`, the same as vfs (29.1 and later; before, it did not start).
fn containerd(storage: &Storage, found: &Layers, choice: Choice<'_>) -> Vec<Step> {
    let step = trial("containerd-root.overlay", "containerd root", storage, found.containerd_root);
    let Err(problem) = found.containerd_root else { return vec![step] };
    let cause = lies(storage, "containerd root", problem);
    vec![match choice.asked {
        Some(Asked { name: "overlayfs", place }) => {
            step.warns(format!("{cause}: dockerd will not start with overlayfs, which {place} asks for")).required()
        }
        Some(_) => step,
        None => step.warns(format!(
            "{cause}: the engine takes the snapshotter native, which copies every layer whole, or does not start"
        )),
    }]
}

/// Images of another driver are there, and nobody will see them.
fn left_over(storage: &Storage, found: &Layers, driver: Option<&str>) -> Option<Step> {
    let path = storage.path.display();
    let step = |found: &[&str]| {
        Step::nothing(
            "data-root.driver",
            "earlier storage drivers",
            format!("{path} has data of {}", found.join(", ")),
            "each storage driver sees its own images and containers only",
        )
    };
    let before = earlier(found);
    let taken = driver.or(before.first().copied()).or(found.data_root.is_ok().then_some("overlay2"));
    if driver.is_none() && before.len() > 1 {
        let said =
            format!("{path} has data of several storage drivers ({}): dockerd will not choose", before.join(", "));
        let hint = "name one by DINDCTL_STORAGE_DRIVER, and remove the folders of the others";
        return Some(step(&before).warns(said).hint(hint));
    }
    let taken = taken?;
    let others: Vec<&str> = found.earlier.iter().copied().filter(|name| *name != taken).collect();
    if others.is_empty() {
        return None;
    }
    let said =
        format!("{path} has images of {}, which take their space and are not seen by {taken}", others.join(", "));
    let folders: Vec<String> = others.iter().map(|name| format!("{path}/{name}")).collect();
    let remove = format!("remove {}", folders.join(" "));
    let hint = match others.iter().find(|name| !GONE.contains(name)) {
        Some(usable) => format!("{remove}, or keep them in use with DINDCTL_STORAGE_DRIVER={usable}"),
        None => remove,
    };
    Some(step(&others).warns(said).hint(hint))
}

/// The trial as a step that has nothing to do; its hint is for what may be said of it.
fn trial(id: &str, what: &str, storage: &Storage, tried: Result<(), Problem>) -> Step {
    let path = storage.path.display();
    let fstype = fstype(storage);
    let (found, hint) = match tried {
        Ok(()) => (format!("overlay works below {path} ({fstype})"), None),
        Err(problem) => (lies(storage, what, problem), Some(mend(storage, problem))),
    };
    Step { hint, ..Step::nothing(id, what, found, "the engine keeps the layers of images on overlay") }
}

fn lies(storage: &Storage, what: &str, problem: Problem) -> String {
    format!("the {what} {} lies on {}, and {problem}", storage.path.display(), fstype(storage))
}

fn fstype(storage: &Storage) -> &str {
    if storage.fstype.is_empty() { "an unknown file system" } else { &storage.fstype }
}

fn mend(storage: &Storage, problem: Problem) -> String {
    use nix::errno::Errno;
    let volume = format!("mount a volume there: -v NAME:{}", storage.path.display());
    match problem {
        Problem::Mount(Errno::ENODEV) => "load the module on the machine: modprobe overlay".into(),
        Problem::Mount(Errno::EPERM) => "start this container with --privileged".into(),
        Problem::Types => format!("{volume}, on a file system with d_type (XFS: mkfs.xfs -n ftype=1)"),
        // The kernel stacks no overlay on another (ovl_mount_dir_check in fs/overlayfs).
        Problem::Mount(_) | Problem::ReadOnly | Problem::Folder(_) => volume,
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use rstest::rstest;

    use super::*;
    use crate::prepare::Told;

    const STACKED: Problem = Problem::Mount(Errno::EINVAL);

    fn storage(path: &str, fstype: &str) -> Storage {
        let unwritable = None;
        Storage { path: path.into(), exists: true, unwritable, mount_point: true, fstype: fstype.into(), free: None }
    }

    fn found(tried: Result<(), Problem>, earlier: &[&'static str], fuse: Fuse) -> Layers {
        Layers {
            data_root: tried,
            containerd_root: tried,
            earlier: earlier.to_vec(),
            fuse: tried.is_err().then_some(fuse),
            zfs: false,
            containerds_store: None,
        }
    }

    fn steps_of(found: &Layers, driver: Option<&'static str>) -> Vec<Step> {
        let asked = driver.map(|name| Asked { name, place: "storage-driver" });
        let told = Told::new(driver.map(|name| ("storage-driver".to_owned(), name.into())));
        let wants = Wants { told, ..Wants::default() };
        dockerd(&storage("/data", "overlay"), found, Choice { store: Store::Dockerd, asked }, &wants)
    }

    fn words(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| format!("{}: {}", step.id, step.action.describe())).collect()
    }

    #[test]
    fn what_works_needs_nothing() {
        assert_eq!(words(&steps_of(&found(Ok(()), &[], Fuse::Missing), None)), ["data-root.overlay: nothing"]);
        assert_eq!(words(&steps_of(&found(Ok(()), &["overlay2"], Fuse::Missing), None)).len(), 1);
    }

    #[rstest]
    #[case::slow(STACKED, Fuse::Missing, "dockerd takes vfs, which copies every layer whole")]
    #[case::fuse(STACKED, Fuse::Works, "dockerd takes fuse-overlayfs")]
    #[case::fuse_needs_types_as_well(Problem::Types, Fuse::Works, "dockerd takes vfs")]
    fn what_the_engine_falls_back_to_is_told(#[case] problem: Problem, #[case] fuse: Fuse, #[case] words: &str) {
        let steps = steps_of(&found(Err(problem), &[], fuse), None);
        let Action::Warn { message } = &steps[0].action else { panic!("{steps:?}") };
        assert!(
            message.starts_with("the data root /data lies on overlay, and ") && message.contains(words),
            "{message}"
        );
        assert!(steps[0].hint.as_ref().unwrap().contains("-v NAME:/data"), "{steps:?}");
        assert_eq!(steps.len(), 1);
    }

    #[test]
    fn a_choice_that_could_start_no_container_is_not_left_to_the_engine() {
        let without_device = found(Err(STACKED), &[], Fuse::NoDevice(Errno::ENOENT));
        let steps = steps_of(&without_device, None);
        let set = Action::SetDaemonOption { key: "storage-driver".into(), value: "vfs".into() };
        assert_eq!(steps[0].action, set);
        assert!(matches!(&steps[1].action, Action::Warn { message } if message.contains("/dev/fuse")), "{steps:?}");
        // Somebody has chosen, or has data already.
        assert_eq!(words(&steps_of(&without_device, Some("fuse-overlayfs"))), ["data-root.overlay: nothing"]);
        let used = found(Err(STACKED), &["fuse-overlayfs"], Fuse::NoDevice(Errno::ENOENT));
        assert_eq!(words(&steps_of(&used, None)), ["data-root.overlay: nothing"]);
    }

    #[test]
    fn what_will_not_start_is_said_before() {
        let said = words(&steps_of(&found(Err(STACKED), &[], Fuse::Missing), Some("overlay2")));
        assert!(said[0].contains("will not start with overlay2, which storage-driver asks for"), "{said:?}");
        let said = words(&steps_of(&found(Err(STACKED), &["overlay2"], Fuse::Missing), None));
        assert!(said[0].contains("its data there is of overlay2"), "{said:?}");
        let said = words(&steps_of(&found(Ok(()), &["overlay2", "btrfs"], Fuse::Missing), None));
        assert!(said[1].contains("several storage drivers (overlay2, btrfs): dockerd will not choose"), "{said:?}");
    }

    #[test]
    fn images_that_nobody_will_see_are_named() {
        let said = words(&steps_of(&found(Ok(()), &["vfs"], Fuse::Missing), None));
        assert!(said[1].contains("/data has images of vfs") && said[1].contains("not seen by overlay2"), "{said:?}");
        let said = words(&steps_of(&found(Ok(()), &["overlay2", "vfs"], Fuse::Missing), Some("vfs")));
        assert!(said[1].contains("images of overlay2") && said[1].contains("not seen by vfs"), "{said:?}");
        assert_eq!(steps_of(&found(Ok(()), &["vfs"], Fuse::Missing), Some("vfs")).len(), 1);
    }

    /// Folders of drivers that went with engines 24 and 25 were taken for ones that dockerd has to choose between.
    #[test]
    fn what_older_engines_left_decides_nothing() {
        let steps = steps_of(&found(Ok(()), &["overlay2", "aufs", "devicemapper"], Fuse::Missing), None);
        let said = words(&steps);
        assert!(said[1].contains("/data has images of aufs, devicemapper, which take their space"), "{said:?}");
        assert_eq!(steps[1].hint.as_deref(), Some("remove /data/aufs /data/devicemapper"));
        let steps = steps_of(&found(Ok(()), &["overlay2", "aufs", "vfs"], Fuse::Missing), None);
        assert!(steps[1].hint.as_ref().unwrap().ends_with("DINDCTL_STORAGE_DRIVER=vfs"), "{steps:?}");
        let stacked = words(&steps_of(&found(Err(STACKED), &["aufs"], Fuse::Works), None));
        assert!(stacked[0].contains("dockerd takes fuse-overlayfs"), "{stacked:?}");
    }

    #[test]
    fn without_the_module_it_is_to_be_loaded() {
        let steps = steps_of(&found(Err(Problem::Mount(Errno::ENODEV)), &[], Fuse::Missing), None);
        assert!(steps[0].hint.as_ref().unwrap().contains("modprobe overlay"), "{steps:?}");
    }

    #[test]
    fn containerds_store_lies_below_containerds_root() {
        let found = Layers { data_root: Ok(()), ..found(Err(STACKED), &[], Fuse::Missing) };
        let steps = |asked| containerd(&storage("/c", "overlay"), &found, Choice { store: Store::Containerd, asked });
        let said = words(&steps(None));
        assert!(
            said[0].starts_with("containerd-root.overlay: warn: the containerd root /c lies on overlay"),
            "{said:?}"
        );
        assert!(said[0].contains("the snapshotter native"), "{said:?}");
        let native = Asked { name: "native", place: "DOCKER_DRIVER" };
        assert_eq!(words(&steps(Some(native))), ["containerd-root.overlay: nothing"]);
        let said = words(&steps(Some(Asked { name: "overlayfs", ..native })));
        assert!(said[0].contains("will not start with overlayfs, which DOCKER_DRIVER asks for"), "{said:?}");
    }
}
