//! Writing an archive: entries and content go in, a sealed stream comes out.

use std::io::{Read, Seek, Write};

use sha2::{Digest, Sha256};
use tempfile::SpooledTempFile;
use zstd::stream::write::Encoder;

use super::entry::{Entry, Kind};
use super::error::ArchiveError;
use super::manifest::{FileLine, Header, PathText, SCHEMA, Skipped, Summary, hex};
use super::order::{Order, Place};
use super::pax::{self, BLOCK, Item};
use super::seal::Sealing;
use super::stop::unwrapped;

/// How hard it is compressed: zstd's own default, some 300 MB/s.
const LEVEL: i32 = 3;
/// Manifest that is kept in memory; a longer one goes to a file without a name.
const MANIFEST_IN_MEMORY: usize = 16 << 20;

/// A finished archive.
#[derive(Debug)]
pub struct Written<W> {
    /// Where it was written.
    pub to: W,
    /// Its length, bytes.
    pub bytes: u64,
    /// Its digest, hexadecimal.
    pub sha256: String,
    /// What the manifest says.
    pub summary: Summary,
}

/// An archive that is being written.
pub struct Writer<W: Write> {
    out: Encoder<'static, Sealing<W>>,
    stream: Sha256,
    stream_bytes: u64,
    order: Order,
    manifest: SpooledTempFile,
    pending: Option<FileLine>,
    file: Option<Open>,
    entries: u64,
    files: u64,
    bytes: u64,
}

/// The file whose content is being written.
struct Open {
    line: FileLine,
    digest: Sha256,
    left: u64,
}

impl<W: Write> Writer<W> {
    /// Begins an archive with its description.
    pub fn begin(to: W, header: &Header) -> Result<Self, ArchiveError> {
        let mut out = Encoder::new(Sealing::new(to), LEVEL).map_err(unwrapped("compress", "the archive"))?;
        out.include_checksum(true).map_err(unwrapped("compress", "the archive"))?;
        let mut writer = Self {
            out,
            stream: Sha256::new(),
            stream_bytes: 0,
            order: Order::default(),
            manifest: SpooledTempFile::new(MANIFEST_IN_MEMORY),
            pending: None,
            file: None,
            entries: 0,
            files: 0,
            bytes: 0,
        };
        let text = serde_json::to_vec(header).map_err(|error| unwrapped("describe", "the archive")(error.into()))?;
        writer.item(&Item::Header(text.len() as u64), "its description")?;
        writer.padded(&text)?;
        Ok(writer)
    }

    fn item(&mut self, item: &Item, shown: &str) -> Result<(), ArchiveError> {
        let blocks = pax::encode(item).map_err(|error| {
            let hint = "leave it out with --exclude";
            ArchiveError::refused(format!("{shown} cannot be kept: {error}"), hint)
        })?;
        self.put(&blocks)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.stream.update(bytes);
        self.stream_bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(unwrapped("write", "the archive"))
    }

    fn padded(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.put(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn pad(&mut self, size: u64) -> Result<(), ArchiveError> {
        let count = usize::try_from(pax::padding(size)).unwrap_or(0);
        self.put([0; BLOCK].get(..count).unwrap_or_default())
    }

    /// Adds an entry. The content of a regular file follows with [`Self::content`]; the same file may be added once more right
    /// after it, and then counts as it is there.
    pub fn entry(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let place = self.order.next(entry).map_err(|error| {
            ArchiveError::refused(format!("{} cannot be kept: {error}", entry.shown()), "leave it out with --exclude")
        })?;
        // Whether a line stays as it is turns out with the next entry.
        if let (Place::Again, Some(line)) = (place, &mut self.pending) {
            line.superseded = true;
            self.entries -= 1;
            self.files -= 1;
            self.bytes -= line.size;
        }
        self.flush_line()?;
        self.item(&Item::Tree(entry.clone()), &entry.shown())?;
        self.entries += 1;
        if let Kind::File { size } = entry.kind {
            self.files += 1;
            self.bytes += size;
            let line = FileLine { path: PathText::new(&entry.path), size, sha256: String::new(), superseded: false };
            self.file = Some(Open { line, digest: Sha256::new(), left: size });
            self.close_when_full()?;
        }
        Ok(())
    }

    /// Adds content to the file that was added last; what is beyond its size is dropped.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let Some(open) = &mut self.file else { return Ok(()) };
        let count = usize::try_from(open.left).unwrap_or(usize::MAX).min(bytes.len());
        let piece = bytes.get(..count).unwrap_or_default();
        open.digest.update(piece);
        open.left -= count as u64;
        self.put(piece)?;
        self.close_when_full()
    }

    /// Fills the file up with zeros: it became shorter while it was read.
    pub fn fill_up(&mut self) -> Result<(), ArchiveError> {
        let zeros = vec![0; 64 * 1024];
        while self.file.is_some() {
            self.content(&zeros)?;
        }
        Ok(())
    }

    fn close_when_full(&mut self) -> Result<(), ArchiveError> {
        if let Some(Open { mut line, digest, .. }) = self.file.take_if(|open| open.left == 0) {
            line.sha256 = hex(&digest.finalize());
            self.pad(line.size)?;
            self.pending = Some(line);
        }
        Ok(())
    }

    fn flush_line(&mut self) -> Result<(), ArchiveError> {
        let Some(line) = self.pending.take() else { return Ok(()) };
        let failed = || unwrapped("keep", "the manifest (TMPDIR)");
        let mut text = serde_json::to_vec(&line).map_err(|error| failed()(error.into()))?;
        text.push(b'\n');
        self.manifest.write_all(&text).map_err(failed())
    }

    /// Names so far, bytes of content so far.
    pub const fn so_far(&self) -> (u64, u64) {
        (self.entries, self.bytes)
    }

    /// Ends the archive with manifest and seal.
    pub fn finish(mut self, changed: Vec<PathText>, skipped: Skipped) -> Result<Written<W>, ArchiveError> {
        let failed = || unwrapped("read", "the manifest (TMPDIR)");
        self.flush_line()?;
        let summary = Summary {
            schema: SCHEMA.to_owned(),
            entries: self.entries,
            files: self.files,
            bytes: self.bytes,
            changed,
            skipped,
            stream_bytes: self.stream_bytes,
            stream_sha256: hex(&self.stream.clone().finalize()),
        };
        let mut first = serde_json::to_vec(&summary).map_err(|error| failed()(error.into()))?;
        first.push(b'\n');
        let lines = self.manifest.stream_position().map_err(failed())?;
        self.manifest.rewind().map_err(failed())?;
        let size = lines + first.len() as u64;
        self.item(&Item::Manifest(size), "the manifest")?;
        self.put(&first)?;
        let mut piece = vec![0; 64 * 1024];
        let mut left = lines;
        while left > 0 {
            let count = self.manifest.read(&mut piece).map_err(failed())?;
            if count == 0 {
                return Err(failed()(std::io::ErrorKind::UnexpectedEof.into()));
            }
            left -= count as u64;
            self.put(piece.get(..count).unwrap_or_default())?;
        }
        self.pad(size)?;
        self.put(&[0; 2 * BLOCK])?;
        let sealing = self.out.finish().map_err(unwrapped("write", "the archive"))?;
        let (to, bytes, sha256) = sealing.finish(self.stream_bytes).map_err(unwrapped("write", "the archive"))?;
        Ok(Written { to, bytes, sha256: hex(&sha256), summary })
    }
}
