/*!
An OCI image layout: `index.json` leads over indexes and manifests to the configuration and the layers of images, each by digest
(<https://github.com/opencontainers/image-spec>, `image-layout.md`).
*/
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::Broken;
use super::survey::{BLOBS, Image, Survey};

/// The document that makes it one.
pub const INDEX: &str = "index.json";
/// The file that tells its version.
pub const MARK: &str = "oci-layout";

/// Most images of a layout.
const IMAGES: usize = 1000;
/// Indexes within indexes.
const DEPTH: usize = 4;

/// What images are built for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Platform {
    /// As Go names it: `linux`.
    #[serde(default)]
    pub os: String,
    /// As Go names it: `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// `v7`.
    #[serde(default)]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(out, "/{variant}"))
    }
}

impl Platform {
    /// Whether it is no image at all: buildx puts attestations beside images that way.
    fn is_none(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }

    /// A 32-bit ARM runs what was built for earlier ones, too.
    fn runs_on(&self, machine: &Self) -> bool {
        let later = match (self.number(), machine.number()) {
            (Some(own), Some(machines)) => self.architecture == "arm" && own > machines,
            _ => false,
        };
        (&self.os, &self.architecture) == (&machine.os, &machine.architecture) && !later
    }

    /// How far from the machine's own its variant is; without one it is the first.
    fn distance(&self, machine: &Self) -> u32 {
        self.number().unwrap_or(1).abs_diff(machine.number().unwrap_or(1))
    }

    /// 7 of `v7`.
    fn number(&self) -> Option<u32> {
        self.variant.as_deref()?.strip_prefix('v')?.parse().ok()
    }
}

/// The content of [`MARK`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    image_layout_version: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    size: u64,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// An index has `manifests`, a manifest `config` and `layers`.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

/// The images for this machine, one of each that the index names. Everything that they name is there, with the size that is stated; the
/// digests were compared when the archive was read.
pub fn images(survey: &Survey, machine: &Platform) -> Result<Vec<Image>, Broken> {
    let Version { image_layout_version: version } = survey.document(MARK)?;
    if !version.starts_with("1.") {
        return Err(Broken::document(MARK, format!("version {version:?} of layouts is not known, only 1")));
    }
    let index: Document = survey.document(INDEX)?;
    let Some(manifests) = index.manifests.filter(|manifests| !manifests.is_empty()) else {
        return Err(Broken::document(INDEX, "it names no image"));
    };
    if manifests.len() > IMAGES {
        return Err(Broken::TooMuch(format!("{IMAGES} images")));
    }
    let mut found: Vec<Image> = Vec::new();
    let mut others = Vec::new();
    for descriptor in &manifests {
        let Some(image) = choose(survey, descriptor, machine, DEPTH, &mut others)? else { continue };
        let name = descriptor.annotations.as_ref().and_then(reference);
        // One image may be there under several names.
        match found.iter_mut().find(|known| known.manifest == image.manifest) {
            Some(known) => known.names.extend(name),
            None => found.push(Image { names: name.into_iter().collect(), ..image }),
        }
    }
    if found.is_empty() {
        others.sort();
        others.dedup();
        let found = if others.is_empty() { "nothing that is an image".to_owned() } else { others.join(", ") };
        return Err(Broken::Platform { wanted: machine.to_string(), found });
    }
    Ok(found)
}

/// The image that a descriptor leads to, if it is one for this machine. `others` gets what it is for otherwise.
fn choose(
    survey: &Survey,
    descriptor: &Descriptor,
    machine: &Platform,
    depth: usize,
    others: &mut Vec<String>,
) -> Result<Option<Image>, Broken> {
    if let Some(platform) = &descriptor.platform {
        if platform.is_none() {
            return Ok(None);
        }
        if !platform.runs_on(machine) {
            others.push(platform.to_string());
            return Ok(None);
        }
    }
    let name = blob(survey, descriptor)?;
    let document: Document = survey.document(&name)?;
    if let Some(mut manifests) = document.manifests {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Broken::document(&name, format!("indexes lie in each other more than {DEPTH} times")));
        };
        if manifests.len() > IMAGES {
            return Err(Broken::TooMuch(format!("{IMAGES} images")));
        }
        // The very variant goes before others, then the nearest, and then the order counts.
        let far = |one: &Descriptor| {
            one.platform.as_ref().map_or((true, 0), |it| (it.variant != machine.variant, it.distance(machine)))
        };
        manifests.sort_by_key(far);
        for inner in &manifests {
            if let Some(image) = choose(survey, inner, machine, depth, others)? {
                return Ok(Some(image));
            }
        }
        return Ok(None);
    }
    let (Some(config), Some(layers)) = (document.config, document.layers) else {
        return Err(Broken::document(&name, "it is neither an index nor a manifest"));
    };
    // Charts, signatures and the like are kept in layouts as well.
    if !config.media_type.ends_with(".image.config.v1+json") && !config.media_type.ends_with(".container.image.v1+json")
    {
        return Ok(None);
    }
    let config_name = blob(survey, &config)?;
    let platform: Platform = survey.document(&config_name)?;
    if !platform.runs_on(machine) {
        others.push(platform.to_string());
        return Ok(None);
    }
    let layers = layers.iter().map(|one| layer(survey, one)).collect::<Result<_, _>>()?;
    let manifest = Some(descriptor.digest.clone());
    Ok(Some(Image { id: config.digest, manifest, names: Vec::new(), config: config_name, layers }))
}

/// The file of a layer, which can be unpacked if it is to be.
fn layer(survey: &Survey, descriptor: &Descriptor) -> Result<String, Broken> {
    let name = blob(survey, descriptor)?;
    match survey.files.get(&name).and_then(|seen| seen.zstd.as_ref()) {
        Some(Err(why)) => Err(Broken::document(&name, format!("it cannot be unpacked: {why}"))),
        _ => Ok(name),
    }
}

/// The file of a blob, which is there and has its size.
fn blob(survey: &Survey, descriptor: &Descriptor) -> Result<String, Broken> {
    let Descriptor { digest, size, .. } = descriptor;
    let known = digest.strip_prefix("sha256:").filter(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    });
    let Some(hex) = known else {
        return Err(Broken::document(digest, "it is no digest of SHA-256"));
    };
    let name = format!("{BLOBS}{hex}");
    match survey.files.get(&name) {
        None => Err(Broken::Missing(name)),
        Some(seen) if seen.size != *size => Err(Broken::Size { name, found: seen.size, stated: *size }),
        Some(_) => Ok(name),
    }
}

/// The reference in the annotations: the whole one of containerd, or OCI's, which is the tag alone where nobody wrote more.
fn reference(annotations: &BTreeMap<String, String>) -> Option<String> {
    let whole = annotations.get("io.containerd.image.name");
    let own = annotations.get("org.opencontainers.image.ref.name");
    let text = whole.or_else(|| own.filter(|text| text.contains([':', '/'])))?;
    // Docker takes no name with a digest here, and none without a tag.
    let plain = !text.contains('@') && !text.is_empty();
    let tagged = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
    plain.then(|| if tagged { text.clone() } else { format!("{text}:latest") })
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
