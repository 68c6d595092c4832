//! What `docker save` writes: `manifest.json` names a configuration, layers and references of each image.

use serde::Deserialize;

use super::Broken;
use super::survey::{BLOBS, Image, Survey};

/// The document that makes it one.
pub const MANIFEST: &str = "manifest.json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Its images; everything that they name is there.
pub fn images(survey: &Survey) -> Result<Vec<Image>, Broken> {
    let entries: Vec<Entry> = survey.document(MANIFEST)?;
    if entries.is_empty() {
        return Err(Broken::document(MANIFEST, "it names no image"));
    }
    entries.into_iter().map(|entry| image(survey, entry)).collect()
}

fn image(survey: &Survey, entry: Entry) -> Result<Image, Broken> {
    let Entry { config, repo_tags, layers } = entry;
    let layers = layers.unwrap_or_default();
    let seen = survey.files.get(&config).ok_or_else(|| Broken::Missing(config.clone()))?;
    let Some(sha256) = seen.sha256.clone().filter(|_| survey.documents.contains_key(&config)) else {
        return Err(Broken::document(&config, "it is no configuration of an image"));
    };
    // Both ways to name a configuration have its digest; the blobs were compared already.
    let stated = config.strip_suffix(".json").filter(|name| name.len() == 64 && !config.starts_with(BLOBS));
    if stated.is_some_and(|stated| stated != sha256) {
        return Err(Broken::Digest { name: config, found: sha256 });
    }
    let file = |layer: &String| file(survey, layer).ok_or_else(|| Broken::Missing(layer.clone()));
    let layers = layers.iter().map(file).collect::<Result<_, _>>()?;
    let id = format!("sha256:{sha256}");
    Ok(Image { id, manifest: None, names: repo_tags.unwrap_or_default(), config, layers })
}

/// The file of a layer that is there. Layers that images share were links to the first until 24.
fn file(survey: &Survey, name: &str) -> Option<String> {
    let file = match survey.links.get(name) {
        Some(link) => beside(name, link),
        None => name.to_owned(),
    };
    survey.files.contains_key(&file).then_some(file)
}

/// The file that a relative link at `name` leads to.
fn beside(name: &str, link: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preload::survey::Seen;

    const SHA: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn with(manifest: &str) -> Survey {
        let mut survey = Survey::default();
        for (name, text) in [(MANIFEST, manifest), (&*format!("{SHA}.json"), "{}"), ("wrong.json", "x")] {
            let sha256 = Some(SHA.to_owned());
            survey.files.insert(name.to_owned(), Seen { size: text.len() as u64, sha256, zstd: None });
            if text != "x" {
                survey.documents.insert(name.to_owned(), text.into());
            }
        }
        survey.files.insert("a/layer.tar".into(), Seen { size: 9, sha256: None, zstd: None });
        survey.links.insert("b/layer.tar".into(), "../a/layer.tar".into());
        survey.links.insert("c/layer.tar".into(), "../nosuch/layer.tar".into());
        survey
    }

    fn said(manifest: &str) -> Result<Vec<Image>, String> {
        images(&with(manifest)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_an_image_names_has_to_be_there() {
        let entry = |config: &str, layer: &str| {
            said(&format!(r#"[{{"Config":"{config}","RepoTags":["a:1"],"Layers":["a/layer.tar","{layer}"]}}]"#))
        };
        let config = format!("{SHA}.json");
        let found = entry(&config, "b/layer.tar").unwrap();
        assert_eq!((&*found[0].id, &*found[0].names), (&*format!("sha256:{SHA}"), &["a:1".to_owned()][..]));
        assert_eq!(found[0].layers, ["a/layer.tar", "a/layer.tar"]);
        for (config, layer, want) in [
            (&*config, "c/layer.tar", "c/layer.tar is missing"),
            (&config, "d", "d is missing"),
            ("nosuch.json", "a/layer.tar", "nosuch.json is missing"),
            ("wrong.json", "a/layer.tar", "wrong.json: it is no configuration of an image"),
        ] {
            assert_eq!(entry(config, layer).unwrap_err(), want);
        }
    }

    #[test]
    fn an_image_may_have_no_name_and_no_layer() {
        let found = said(&format!(r#"[{{"Config":"{SHA}.json","RepoTags":null,"Layers":null}}]"#)).unwrap();
        assert!(found[0].names.is_empty() && found[0].layers.is_empty());
    }

    #[test]
    fn what_is_no_manifest_is_named() {
        assert_eq!(said("[]").unwrap_err(), "manifest.json: it names no image");
        for wrong in ["{}", "[1]", r#"[{"RepoTags":[]}]"#, "["] {
            assert!(said(wrong).unwrap_err().starts_with("manifest.json: "), "{wrong}");
        }
    }
}
