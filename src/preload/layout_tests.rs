use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;
use crate::preload::survey::{Seen, hex};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A layout that is put together in memory.
#[derive(Default)]
struct Layout(Survey);

impl Layout {
    fn put(&mut self, name: String, content: Vec<u8>) -> (String, usize) {
        let sha256 = hex(&Sha256::digest(&content));
        let name = if name.is_empty() { format!("{BLOBS}{sha256}") } else { name };
        let size = content.len();
        self.0.files.insert(name.clone(), Seen { size: size as u64, sha256: Some(sha256.clone()), zstd: None });
        self.0.documents.insert(name, content);
        (format!("sha256:{sha256}"), size)
    }

    fn blob(&mut self, content: &Value) -> Value {
        let (digest, size) = self.put(String::new(), content.to_string().into_bytes());
        json!({"digest": digest, "size": size})
    }

    fn image(&mut self, os: &str, architecture: &str) -> Value {
        let mut config = self.blob(&json!({"os": os, "architecture": architecture}));
        config["mediaType"] = CONFIG.into();
        let layer = self.blob(&json!({"layer of": architecture}));
        self.blob(&json!({"config": config, "layers": [layer]}))
    }

    fn index(mut self, manifests: &[Value]) -> Survey {
        self.put(MARK.into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        self.put(INDEX.into(), json!({"manifests": manifests}).to_string().into_bytes());
        self.0
    }
}

fn machine() -> Platform {
    Platform { os: "linux".into(), architecture: "amd64".into(), variant: None }
}

fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    descriptor
}

fn said(survey: &Survey) -> String {
    images(survey, &machine()).unwrap_err().to_string()
}

#[test]
fn one_image_is_found_with_its_name() {
    let mut layout = Layout::default();
    let image = layout.image("linux", "amd64");
    let survey = layout.index(&[named(image.clone(), "registry:5000/app"), named(image.clone(), "app:2")]);
    let found = images(&survey, &machine()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].names, ["registry:5000/app:latest", "app:2"]);
    assert_eq!(found[0].manifest.as_deref(), image["digest"].as_str());
    assert!(found[0].layers.len() == 1 && found[0].config.ends_with(&found[0].id["sha256:".len()..]));
}

#[test]
fn the_image_of_the_machine_is_chosen_and_attestations_are_none() {
    let mut layout = Layout::default();
    let platforms = [("unknown", "unknown"), ("linux", "arm64"), ("linux", "amd64")];
    let manifests: Vec<Value> = platforms
        .map(|(os, architecture)| {
            let mut image = layout.image(os, architecture);
            image["platform"] = json!({"os": os, "architecture": architecture});
            image
        })
        .into();
    let index = layout.blob(&json!({ "manifests": manifests }));
    let survey = layout.index(&[named(index, "app:1")]);
    let found = images(&survey, &machine()).unwrap();
    assert_eq!((found.len(), found[0].manifest.as_deref()), (1, manifests[2]["digest"].as_str()));
    assert_eq!(found[0].names, ["app:1"]);
    let riscv = Platform { architecture: "riscv64".into(), ..machine() };
    let error = images(&survey, &riscv).unwrap_err().to_string();
    assert_eq!(error, "it has no image for linux/riscv64, only for linux/amd64, linux/arm64");
}

#[test]
fn the_very_variant_goes_before_others() {
    let mut layout = Layout::default();
    let manifests: Vec<Value> = ["v6", "v7"]
        .map(|variant| {
            let mut config = layout.blob(&json!({"os": "linux", "architecture": "arm", "variant": variant}));
            config["mediaType"] = CONFIG.into();
            let mut image = layout.blob(&json!({"config": config, "layers": []}));
            image["platform"] = json!({"os": "linux", "architecture": "arm", "variant": variant});
            image
        })
        .into();
    let index = layout.blob(&json!({ "manifests": manifests }));
    let survey = layout.index(&[index]);
    let chosen = |variant: &str| {
        let machine = Platform { os: "linux".into(), architecture: "arm".into(), variant: Some(variant.into()) };
        images(&survey, &machine).map(|found| found[0].manifest.clone()).map_err(|error| error.to_string())
    };
    let digest = |at: usize| Ok(manifests[at]["digest"].as_str().map(str::to_owned));
    assert_eq!((chosen("v7"), chosen("v6")), (digest(1), digest(0)));
    // Nearest to it, and nothing that it cannot run.
    assert_eq!(chosen("v8"), digest(1));
    assert_eq!(chosen("v5"), Err("it has no image for linux/arm/v5, only for linux/arm/v6, linux/arm/v7".into()));
}

#[test]
fn what_is_not_there_or_another_size_is_named() {
    let mut layout = Layout::default();
    let mut image = layout.image("linux", "amd64");
    let survey = layout.index(std::slice::from_ref(&image));
    let name = format!("{BLOBS}{}", &image["digest"].as_str().unwrap()[7..]);
    let mut lost = survey.clone();
    lost.files.remove(&name);
    assert_eq!(said(&lost), format!("{name} is missing"));
    image["size"] = 5.into();
    let mut other = Layout(survey.clone());
    other.put(INDEX.into(), json!({"manifests": [image]}).to_string().into_bytes());
    assert!(said(&other.0).starts_with(&format!("{name} has ")), "{}", said(&other.0));
    let layer = survey.files.keys().filter(|file| file.starts_with(BLOBS)).cloned().collect::<Vec<_>>();
    for file in layer {
        let mut lost = survey.clone();
        lost.files.remove(&file);
        assert_eq!(said(&lost), format!("{file} is missing"));
    }
}

#[test]
fn digests_are_no_paths() {
    for digest in ["sha256:../../../etc/shadow", "sha512:00", "", &format!("sha256:{}", "A".repeat(64))] {
        let survey = Layout::default().index(&[json!({"digest": digest, "size": 1})]);
        assert!(said(&survey).ends_with("it is no digest of SHA-256"), "{digest}: {}", said(&survey));
    }
}

#[test]
fn what_is_no_image_is_none() {
    let mut layout = Layout::default();
    let mut config = layout.blob(&json!({}));
    config["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
    let chart = layout.blob(&json!({"config": config, "layers": []}));
    assert_eq!(said(&layout.index(&[chart])), "it has no image for linux/amd64, only for nothing that is an image");
    assert_eq!(said(&Layout::default().index(&[])), "index.json: it names no image");
    let mut layout = Layout::default();
    let neither = layout.blob(&json!({}));
    assert!(said(&layout.index(&[neither])).ends_with("it is neither an index nor a manifest"));
}

#[test]
fn other_versions_of_layouts_are_refused() {
    let mut layout = Layout::default();
    let image = layout.image("linux", "amd64");
    let mut layout = Layout(layout.index(&[image]));
    assert!(images(&layout.0, &machine()).is_ok());
    layout.put(MARK.into(), br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec());
    assert_eq!(said(&layout.0), "oci-layout: version \"2.0.0\" of layouts is not known, only 1");
    layout.put(MARK.into(), b"{}".to_vec());
    assert!(said(&layout.0).starts_with("oci-layout: missing field"), "{}", said(&layout.0));
}

#[test]
fn indexes_end_somewhere() {
    let mut layout = Layout::default();
    let mut inner = layout.image("linux", "amd64");
    for _ in 0..=DEPTH {
        inner = layout.blob(&json!({"manifests": [inner]}));
    }
    assert!(said(&layout.index(&[inner])).contains("more than 4 times"));
}

#[test]
fn references_are_whole_or_none() {
    let of = |key: &str, text: &str| reference(&[(key.to_owned(), text.to_owned())].into());
    let own = "org.opencontainers.image.ref.name";
    let cases =
        [("latest", None), ("app:1", Some("app:1")), ("host:5000/app", Some("host:5000/app:latest")), ("", None)];
    for (text, want) in cases {
        assert_eq!(of(own, text).as_deref(), want, "{text}");
    }
    assert_eq!(of("io.containerd.image.name", "docker.io/library/app:1").as_deref(), Some("docker.io/library/app:1"));
    assert_eq!(of("io.containerd.image.name", "app").as_deref(), Some("app:latest"));
    assert_eq!(of(own, "app@sha256:00"), None);
}
