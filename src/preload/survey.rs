//! Everything that is to be known of an archive, from one reading of it.

use std::collections::BTreeMap;
use std::io::Read;

use sha2::{Digest, Sha256};

use super::source::{Piece, Source};
use super::{Broken, docker, layout};

/// Where a layout has its blobs.
pub const BLOBS: &str = "blobs/sha256/";
/// Largest JSON document, bytes. The engine's own limit for a manifest is 4 MiB.
pub const DOCUMENT: u64 = 4 << 20;
/// Most bytes of documents together.
const DOCUMENTS: u64 = 64 << 20;

/// A file that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Bytes.
    pub size: u64,
    /// Of blobs and of documents.
    pub sha256: Option<String>,
}

/// The content of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Its files.
    pub files: BTreeMap<String, Seen>,
    /// Its links, and where they lead.
    pub links: BTreeMap<String, String>,
    /// What may be JSON.
    pub documents: BTreeMap<String, Vec<u8>>,
    /// SHA-256 of the archive as it is on the disk; of a folder, of its index.
    pub identity: String,
    /// Bytes that this was made of.
    pub bytes: u64,
}

/// The two kinds of archives of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// What `docker save` writes; since 25 it is a layout as well.
    DockerArchive,
    /// What buildx (`type=oci`) and skopeo (`oci:`) write.
    OciLayout,
}

/// An image in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of its configuration (`sha256:…`), which is its identifier.
    pub id: String,
    /// Digest of its manifest, which is its identifier where containerd keeps the images; known of a layout.
    pub manifest: Option<String>,
    /// References it is to have.
    pub names: Vec<String>,
    /// File of its configuration.
    pub config: String,
    /// Files of its layers, the lowest first.
    pub layers: Vec<String>,
}

/// Reads it all. `tell` hears of bytes of the disk.
pub fn survey(source: &Source, tell: &dyn Fn(u64)) -> Result<Survey, Broken> {
    let mut found = Survey::default();
    let (mut identity, mut bytes, mut documents) = (Sha256::new(), 0, 0);
    let mut raw = |piece: &[u8]| {
        identity.update(piece);
        bytes += piece.len() as u64;
        tell(piece.len() as u64);
    };
    source.each(&mut raw, &mut |piece, content| look(piece, content, &mut documents, &mut found))?;
    found.identity = hex(&identity.finalize());
    found.bytes = bytes;
    Ok(found)
}

fn look(piece: &Piece, content: &mut dyn Read, documents: &mut u64, found: &mut Survey) -> Result<(), Broken> {
    if let Some(link) = &piece.link {
        found.links.insert(piece.name.clone(), link.clone());
        return Ok(());
    }
    let small = piece.size <= DOCUMENT;
    let blob = piece.name.strip_prefix(BLOBS);
    let mut seen = Seen { size: piece.size, sha256: None };
    if small || blob.is_some() {
        let (sha256, kept) = digest(content, small)?;
        if blob.is_some_and(|stated| stated != sha256) {
            return Err(Broken::Digest { name: piece.name.clone(), found: sha256 });
        }
        seen.sha256 = Some(sha256);
        if kept.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"{[".contains(byte)) {
            *documents += kept.len() as u64;
            if *documents > DOCUMENTS {
                return Err(Broken::TooMuch(format!("{DOCUMENTS} bytes of JSON")));
            }
            found.documents.insert(piece.name.clone(), kept);
        }
    }
    found.files.insert(piece.name.clone(), seen);
    Ok(())
}

fn digest(content: &mut dyn Read, keep: bool) -> Result<(String, Vec<u8>), Broken> {
    let (mut hash, mut kept) = (Sha256::new(), Vec::new());
    let mut piece = vec![0; 1 << 16];
    loop {
        match content.read(&mut piece) {
            Ok(0) => return Ok((hex(&hash.finalize()), kept)),
            Ok(count) => {
                let piece = piece.get(..count).unwrap_or_default();
                hash.update(piece);
                if keep {
                    kept.extend_from_slice(piece);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |text, byte| text + &format!("{byte:02x}"))
}

/// What kind it is, and its images. What both kinds can be read as is read as the daemon reads it.
pub fn images(survey: &Survey, platform: &layout::Platform) -> Result<(Format, Vec<Image>), Broken> {
    if survey.files.contains_key(docker::MANIFEST) {
        return Ok((Format::DockerArchive, docker::images(survey)?));
    }
    if survey.files.contains_key(layout::INDEX) {
        return Ok((Format::OciLayout, layout::images(survey, platform)?));
    }
    Err(Broken::NoImages)
}

impl Survey {
    /// A document of the archive.
    pub fn document<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Broken> {
        let missing = || match self.files.get(name) {
            Some(seen) if seen.size > DOCUMENT => Broken::document(name, format!("it has more than {DOCUMENT} bytes")),
            Some(_) => Broken::document(name, "it is no JSON"),
            None => Broken::Missing(name.to_owned()),
        };
        let text = self.documents.get(name).ok_or_else(missing)?;
        serde_json::from_slice(text).map_err(|error| Broken::document(name, error.to_string()))
    }
}

#[cfg(test)]
#[path = "survey_tests.rs"]
mod tests;
