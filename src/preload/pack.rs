//! The way to the daemon: what `docker save` wrote goes as it is, but for its compression; a layout goes with a `manifest.json`, which
//! every engine understands (layouts alone are taken by 25 and later, and only where containerd keeps the images). Layers that are
//! compressed with zstd, which 20.10 cannot read, go without.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::source::{Raw, Source};
use super::survey::{BLOBS, Format, Image, Plain, Survey};
use super::{Broken, docker};

/// Writes the archive. `tell` hears of bytes of the disk.
pub fn pack(
    source: &Source,
    format: Format,
    survey: &Survey,
    images: &[Image],
    out: &mut dyn Write,
    tell: &dyn Fn(u64),
) -> Result<(), Broken> {
    let mut raw = |piece: &[u8], _| tell(piece.len() as u64);
    // Buildx (type=docker) compresses layers in what the daemon takes as well.
    let is_packed = |layer: &String| unpacked(survey, layer).is_some();
    let any_packed = images.iter().flat_map(|image| &image.layers).any(is_packed);
    if format == Format::DockerArchive && !any_packed {
        io::copy(&mut source.unpacked(&mut raw)?, out)?;
    } else {
        anew(source, survey, images, out, &mut raw)?;
    }
    Ok(out.flush()?)
}

/// Puts together what the images consist of.
fn anew(
    source: &Source,
    survey: &Survey,
    images: &[Image],
    out: &mut dyn Write,
    raw: &mut Raw<'_>,
) -> Result<(), Broken> {
    let mut archive = tar::Builder::new(out);
    let manifest = manifest(survey, images);
    append(&mut archive, docker::MANIFEST, manifest.len() as u64, &mut manifest.as_bytes())?;
    let mut wanted: BTreeSet<&str> =
        images.iter().flat_map(|image| image.layers.iter().chain([&image.config])).map(String::as_str).collect();
    source.each(raw, &mut |piece, content| {
        // A name that comes twice is taken once.
        if piece.link.is_some() || !wanted.remove(piece.name.as_str()) {
            return Ok(());
        }
        if survey.files.get(&piece.name).is_none_or(|seen| seen.size != piece.size) {
            return Err(Broken::Changed);
        }
        let Some(plain) = unpacked(survey, &piece.name) else {
            return append(&mut archive, &piece.name, piece.size, content);
        };
        // More than was seen must not get into what follows, and less not be filled up.
        let mut content = io::Read::take(zstd::Decoder::new(content)?, plain.size);
        append(&mut archive, &name(survey, &piece.name), plain.size, &mut content)?;
        if content.limit() == 0 { Ok(()) } else { Err(Broken::Changed) }
    })?;
    if !wanted.is_empty() {
        return Err(Broken::Changed);
    }
    Ok(archive.finish()?)
}

/// What a file becomes if it is sent without its compression.
fn unpacked<'a>(survey: &'a Survey, file: &str) -> Option<&'a Plain> {
    survey.files.get(file)?.zstd.as_ref()?.as_ref().ok()
}

/// The name that a file goes under: blobs are named for what is in them.
fn name(survey: &Survey, file: &str) -> String {
    unpacked(survey, file).map_or_else(|| file.to_owned(), |plain| format!("{BLOBS}{}", plain.sha256))
}

fn manifest(survey: &Survey, images: &[Image]) -> String {
    let entry = |image: &Image| {
        let layers: Vec<String> = image.layers.iter().map(|layer| name(survey, layer)).collect();
        serde_json::json!({"Config": image.config, "RepoTags": image.names, "Layers": layers})
    };
    serde_json::Value::Array(images.iter().map(entry).collect()).to_string()
}

fn append(
    archive: &mut tar::Builder<&mut dyn Write>,
    name: &str,
    size: u64,
    content: &mut dyn io::Read,
) -> Result<(), Broken> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    Ok(archive.append_data(&mut header, name, content)?)
}
