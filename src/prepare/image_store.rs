/*!
Who keeps the images: a storage driver of dockerd, below its data root, or a snapshotter of containerd, below containerd's.

The rules are dockerd's own (`determineImageStoreChoice` in moby's `daemon/image_store_choice.go`; before engine 29 only the
feature `containerd-snapshotter` led to containerd). What cannot be meant is found before anything is started.
*/
use serde_json::Value;

use super::wants::Told;

/// Who keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A storage driver of dockerd.
    Dockerd,
    /// A snapshotter of containerd.
    Containerd,
}

/// A driver that somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where: `DOCKER_DRIVER`, or dockerd's option.
    pub place: &'static str,
}

/// The choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice<'a> {
    /// Who keeps the images.
    pub store: Store,
    /// With what, where somebody has said so.
    pub asked: Option<Asked<'a>>,
}

/// Two things that cannot be meant both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// Which.
    pub cause: String,
    /// What can be done.
    pub hint: String,
}

const FEATURE: &str = "containerd-snapshotter";
/// Names that mean a driver of dockerd and nothing else.
const DRIVERS: [&str; 5] = ["overlay2", "vfs", "overlay", "aufs", "devicemapper"];
/// Names that mean a snapshotter and nothing else.
const SNAPSHOTTERS: [&str; 2] = ["overlayfs", "native"];

/// Chooses as dockerd does. `variable` is `DOCKER_DRIVER`; `containerds` says whether the engine's own choice is
/// containerd, as far as it is known; `earlier` whether a driver of dockerd has data already.
pub fn choose<'a>(
    told: &'a Told,
    variable: Option<&'a str>,
    containerds: Option<bool>,
    earlier: bool,
) -> Result<Choice<'a>, Contradiction> {
    let asked = asked(told, variable)?;
    let name = asked.map(|asked| asked.name);
    let is = |names: &[&str]| name.is_some_and(|name| names.contains(&name));
    let place = asked.map_or("", |asked| asked.place);
    let shown = name.unwrap_or_default();
    let store = match feature(told) {
        Some(true) if is(&DRIVERS) => {
            return Err(Contradiction {
                cause: format!(
                    "{place} asks for the storage driver {shown}, and the feature {FEATURE} for containerd, which has none of that name"
                ),
                hint: format!("leave {place} out (containerd takes overlayfs), or turn the feature {FEATURE} off"),
            });
        }
        Some(true) => Store::Containerd,
        Some(false) if is(&SNAPSHOTTERS) => {
            return Err(Contradiction {
                cause: format!("{place} asks for {shown} of containerd, and the feature {FEATURE} is turned off"),
                hint: format!("leave {place} out (dockerd takes overlay2), or turn the feature {FEATURE} on"),
            });
        }
        None if containerds == Some(false) && is(&SNAPSHOTTERS) => {
            return Err(Contradiction {
                cause: format!(
                    "{place} asks for {shown} of containerd, which this engine uses only with the feature {FEATURE}"
                ),
                hint: format!(
                    r#"add "features": {{"{FEATURE}": true}} to daemon.json, or leave {place} out (dockerd takes overlay2)"#
                ),
            });
        }
        None if containerds == Some(true) && earlier && is(&SNAPSHOTTERS) => {
            return Err(Contradiction {
                cause: format!(
                    "{place} asks for {shown} of containerd, and the data root has images of dockerd's own drivers, with which this engine goes on"
                ),
                hint: format!(
                    "leave {place} out, use a fresh volume, or turn the feature {FEATURE} on (the images stay, unseen)"
                ),
            });
        }
        None if containerds == Some(true) => {
            let dockerds = earlier || is(&["overlay2", "fuse-overlayfs", "vfs", "btrfs", "zfs"]);
            if dockerds { Store::Dockerd } else { Store::Containerd }
        }
        Some(false) | None => Store::Dockerd,
    };
    Ok(Choice { store, asked })
}

/// Whether the answer depends on the engine's own choice.
pub fn depends_on_engine(told: &Told, variable: Option<&str>, earlier: bool) -> bool {
    match (feature(told), asked(told, variable)) {
        (Some(_), _) | (None, Err(_)) => false,
        (None, Ok(None)) => !earlier,
        (None, Ok(Some(asked))) => !DRIVERS.contains(&asked.name) && asked.name != "btrfs",
    }
}

/// dockerd lets the variable win without a word.
fn asked<'a>(told: &'a Told, variable: Option<&'a str>) -> Result<Option<Asked<'a>>, Contradiction> {
    let option = told.value("storage-driver").and_then(Value::as_str).filter(|name| !name.is_empty());
    match (variable.filter(|name| !name.is_empty()), option) {
        (Some(one), Some(other)) if one != other => Err(Contradiction {
            cause: format!("DOCKER_DRIVER ({one}) and dockerd's storage-driver ({other}) contradict each other"),
            hint: "leave one of them out; dockerd itself would take DOCKER_DRIVER".into(),
        }),
        (Some(name), _) => Ok(Some(Asked { name, place: "DOCKER_DRIVER" })),
        (None, Some(name)) => Ok(Some(Asked { name, place: "storage-driver" })),
        (None, None) => Ok(None),
    }
}

/// A feature of the file is a value, one by flag a text: `containerd-snapshotter` or `containerd-snapshotter=false`.
fn feature(told: &Told) -> Option<bool> {
    match told.value("features")? {
        Value::Object(features) => features.get(FEATURE)?.as_bool(),
        Value::Array(flags) => flags.iter().filter_map(Value::as_str).find_map(|flag| match flag.split_once('=') {
            Some((FEATURE, value)) => value.parse().ok(),
            None if flag == FEATURE => Some(true),
            _ => None,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn told(driver: Option<&str>, features: &Value) -> Told {
        let driver = driver.map(|name| ("storage-driver".to_owned(), json!(name)));
        let features = (!features.is_null()).then(|| ("features".to_owned(), features.clone()));
        Told::new(driver.into_iter().chain(features))
    }

    fn chosen(
        driver: Option<&str>,
        variable: Option<&str>,
        features: &Value,
        new: Option<bool>,
        earlier: bool,
    ) -> Result<Store, String> {
        let told = told(driver, features);
        choose(&told, variable, new, earlier).map(|choice| choice.store).map_err(|wrong| wrong.cause)
    }

    #[rstest]
    #[case::old_engine(None, None, json!(null), Some(false), false, Store::Dockerd)]
    #[case::new_engine(None, None, json!(null), Some(true), false, Store::Containerd)]
    #[case::new_engine_on_an_old_volume(None, None, json!(null), Some(true), true, Store::Dockerd)]
    #[case::new_engine_with_the_old_variable(None, Some("overlay2"), json!(null), Some(true), false, Store::Dockerd)]
    #[case::new_engine_with_a_snapshotter(Some("native"), None, json!(null), Some(true), false, Store::Containerd)]
    #[case::new_engine_with_a_driver(Some("zfs"), None, json!(null), Some(true), false, Store::Dockerd)]
    #[case::turned_on(None, None, json!({"containerd-snapshotter": true}), Some(false), true, Store::Containerd)]
    #[case::turned_on_by_flag(None, None, json!(["containerd-snapshotter"]), None, false, Store::Containerd)]
    #[case::turned_off(None, None, json!({"containerd-snapshotter": false}), Some(true), false, Store::Dockerd)]
    #[case::turned_off_by_flag(None, None, json!(["cdi=true", "containerd-snapshotter=false"]), Some(true), false, Store::Dockerd)]
    #[case::other_features(None, None, json!({"cdi": true}), Some(false), false, Store::Dockerd)]
    #[case::twice_the_same(Some("vfs"), Some("vfs"), json!(null), Some(true), false, Store::Dockerd)]
    #[case::not_known(None, None, json!(null), None, false, Store::Dockerd)]
    fn the_store_is_dockerds_choice(
        #[case] driver: Option<&str>,
        #[case] variable: Option<&str>,
        #[case] features: Value,
        #[case] new: Option<bool>,
        #[case] earlier: bool,
        #[case] want: Store,
    ) {
        assert_eq!(chosen(driver, variable, &features, new, earlier), Ok(want));
    }

    #[rstest]
    #[case::variable_with_the_feature(None, Some("overlay2"), json!({"containerd-snapshotter": true}), None, "DOCKER_DRIVER asks for the storage driver overlay2")]
    #[case::option_with_the_feature(Some("vfs"), None, json!(["containerd-snapshotter=true"]), None, "storage-driver asks for the storage driver vfs")]
    #[case::snapshotter_without(Some("overlayfs"), None, json!({"containerd-snapshotter": false}), Some(true), "feature containerd-snapshotter is turned off")]
    #[case::snapshotter_of_an_old_engine(None, Some("native"), json!(null), Some(false), "only with the feature")]
    #[case::two_drivers(Some("vfs"), Some("overlay2"), json!(null), None, "DOCKER_DRIVER (overlay2) and dockerd's storage-driver (vfs)")]
    fn what_cannot_be_meant_is_named(
        #[case] driver: Option<&str>,
        #[case] variable: Option<&str>,
        #[case] features: Value,
        #[case] new: Option<bool>,
        #[case] words: &str,
    ) {
        let said = chosen(driver, variable, &features, new, false).unwrap_err();
        assert!(said.contains(words), "{said}");
    }

    /// Since 29.0.4 what is there counts more than the name, and dockerd ended with "driver not supported".
    #[test]
    fn a_snapshotter_beside_images_of_a_driver_is_named() {
        let said = chosen(Some("native"), None, &json!(null), Some(true), true).unwrap_err();
        assert!(said.contains("asks for native of containerd, and the data root has images"), "{said}");
    }

    #[rstest]
    #[case(None, None, json!(null), false, true)]
    #[case(None, None, json!(null), true, false)]
    #[case(None, Some("overlay2"), json!(null), false, false)]
    #[case(Some("native"), None, json!(null), true, true)]
    #[case(Some("native"), None, json!({"containerd-snapshotter": true}), false, false)]
    #[case(Some("vfs"), Some("overlay2"), json!(null), false, false)]
    fn the_engine_is_asked_where_it_decides(
        #[case] driver: Option<&str>,
        #[case] variable: Option<&str>,
        #[case] features: Value,
        #[case] earlier: bool,
        #[case] want: bool,
    ) {
        assert_eq!(depends_on_engine(&told(driver, &features), variable, earlier), want);
    }
}
