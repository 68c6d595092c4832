//! Everything that is to be known of an archive, from one reading of it.

use std::collections::BTreeMap;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::source::{Piece, Source};
use super::{Broken, docker, layout};

/// Where a layout has its blobs.
pub const BLOBS: &str = "blobs/sha256/";
/// Largest JSON document, bytes. The engine's own limit for a manifest is 4 MiB.
pub const DOCUMENT: u64 = 4 << 20;
/// Most bytes of documents together.
const DOCUMENTS: u64 = 64 << 20;
/// How a blob begins that is compressed with zstd.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A file that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Bytes.
    pub size: u64,
    /// Of blobs and of documents.
    pub sha256: Option<String>,
    /// What is in it, if it is a blob that is compressed with zstd; or why that cannot be told.
    pub zstd: Option<Result<Plain, String>>,
}

/// A blob without its compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    /// Bytes.
    pub size: u64,
    /// Of them.
    pub sha256: String,
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
    let mut raw = |piece: &[u8], known_by: bool| {
        if known_by {
            identity.update(piece);
        }
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
    let mut seen = Seen { size: piece.size, sha256: None, zstd: None };
    if small || blob.is_some() {
        let Digested { size, sha256, kept, zstd } = digest(content, small, blob.is_some())?;
        if size != piece.size {
            return Err(Broken::Damaged(format!("{} has {size} bytes and not {}", piece.name, piece.size)));
        }
        seen.zstd = zstd;
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
    // Which of them counts would be a matter of taste.
    match found.files.insert(piece.name.clone(), seen.clone()) {
        Some(earlier) if earlier != seen => Err(Broken::document(&piece.name, "it comes twice, with another content")),
        _ => Ok(()),
    }
}

struct Digested {
    size: u64,
    sha256: String,
    kept: Vec<u8>,
    zstd: Option<Result<Plain, String>>,
}

/// Reads it to its end. `keep`: it itself is wanted; `unpack`: what is in it is, if it is compressed with zstd.
fn digest(content: &mut dyn Read, keep: bool, unpack: bool) -> Result<Digested, Broken> {
    let mut all = Hashed { from: content, size: 0, hash: Sha256::new(), kept: keep.then(Vec::new) };
    let mut start = Vec::with_capacity(ZSTD.len());
    (&mut all).take(ZSTD.len() as u64).read_to_end(&mut start)?;
    let zstd = (unpack && start == ZSTD).then(|| plain(start.as_slice().chain(&mut all)).map_err(|it| it.to_string()));
    // What a decoder leaves counts as well, and an archive that breaks off in a blob is said to.
    io::copy(&mut all, &mut io::sink())?;
    let Hashed { size, hash, kept, .. } = all;
    Ok(Digested { size, sha256: hex(&hash.finalize()), kept: kept.unwrap_or_default(), zstd })
}

fn plain(packed: impl Read) -> io::Result<Plain> {
    let mut unpacked = Hashed { from: zstd::Decoder::new(packed)?, size: 0, hash: Sha256::new(), kept: None };
    io::copy(&mut unpacked, &mut io::sink())?;
    Ok(Plain { size: unpacked.size, sha256: hex(&unpacked.hash.finalize()) })
}

/// Counts, hashes, and keeps, what is read through it.
struct Hashed<R> {
    from: R,
    size: u64,
    hash: Sha256,
    kept: Option<Vec<u8>>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        let piece = into.get(..count).unwrap_or_default();
        self.size += count as u64;
        self.hash.update(piece);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(piece);
        }
        Ok(count)
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
    if survey.files.contains_key(layout::INDEX) && survey.files.contains_key(layout::MARK) {
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
