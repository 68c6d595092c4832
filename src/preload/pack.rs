//! The way to the daemon: what `docker save` wrote goes as it is, but for its compression; a layout goes with a `manifest.json`, which
//! every engine understands (layouts alone are taken by 25 and later, and only where containerd keeps the images).

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::source::Source;
use super::survey::{Format, Image, Survey};
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
    let mut raw = |piece: &[u8]| tell(piece.len() as u64);
    match format {
        Format::DockerArchive => {
            io::copy(&mut source.unpacked(&mut raw)?, out)?;
        }
        Format::OciLayout => layout(source, survey, images, out, &mut raw)?,
    }
    Ok(out.flush()?)
}

fn layout(
    source: &Source,
    survey: &Survey,
    images: &[Image],
    out: &mut dyn Write,
    raw: &mut dyn FnMut(&[u8]),
) -> Result<(), Broken> {
    let mut archive = tar::Builder::new(out);
    let manifest = manifest(images);
    append(&mut archive, docker::MANIFEST, manifest.len() as u64, &mut manifest.as_bytes())?;
    let mut wanted: BTreeSet<&str> =
        images.iter().flat_map(|image| image.layers.iter().chain([&image.config])).map(String::as_str).collect();
    source.each(raw, &mut |piece, content| {
        // A name that comes twice is taken once.
        if !wanted.remove(piece.name.as_str()) {
            return Ok(());
        }
        if survey.files.get(&piece.name).is_none_or(|seen| seen.size != piece.size) {
            return Err(Broken::Changed);
        }
        append(&mut archive, &piece.name, piece.size, content)
    })?;
    if !wanted.is_empty() {
        return Err(Broken::Changed);
    }
    Ok(archive.finish()?)
}

fn manifest(images: &[Image]) -> String {
    let entry =
        |image: &Image| serde_json::json!({"Config": image.config, "RepoTags": image.names, "Layers": image.layers});
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
