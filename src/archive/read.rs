/*!
Reading an archive: everything is checked, nothing is believed, and only a [`Sink`] does something with it.

Memory stays flat but for some 70 bytes for each file: its digest is compared with the manifest at the end, and a hard link may
only name what came before.
*/
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};

use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;

use super::entry::{Entry, Kind, shown};
use super::error::ArchiveError;
use super::manifest::{FileLine, Header, LONGEST_HEADER, SCHEMA, Summary, hex};
use super::order::{self, Order, Place};
use super::pax::{self, BLOCK, Item};
use super::seal::{Sealed, Unsealing};
use super::stop::{Stop, unwrapped};
use super::stream::{Compressed, Lines, Stopped, Stream, bad, stopped};
use super::swap;

/// Piece in which content is handed on: a multiple of [`UNIT`].
pub(super) const PIECE: usize = 128 * 1024;
/// Unit in which room on a disk is counted, and zeros become holes, bytes.
pub const UNIT: usize = 4096;
/// Largest window that is given to an archive, as a power of two: 8 MiB, four times what our own archives need.
const WINDOW: u32 = 23;
/// Longest text of a symbolic link, bytes.
const LONGEST_LINK: usize = 4095;
/// How every zstd frame begins.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Does something with what is read.
pub trait Sink {
    /// An entry. With [`Place::Again`] the file before it does not count.
    fn entry(&mut self, entry: &Entry, place: Place) -> Result<(), ArchiveError>;
    /// The next content of the file that came last; every piece but the last has a multiple of [`UNIT`] bytes.
    fn content(&mut self, piece: &[u8]) -> Result<(), ArchiveError>;
    /// The content of that file is complete.
    fn complete(&mut self) -> Result<(), ArchiveError>;
}

/// Does nothing with it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn entry(&mut self, _: &Entry, _: Place) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn content(&mut self, _: &[u8]) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn complete(&mut self) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// What unpacking takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes on the disk, holes not counted.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// Bounds of what is read.
#[derive(Debug, Clone, Default)]
pub struct Limit {
    /// Longest unpacked stream, bytes.
    pub stream: Option<u64>,
    /// Most that may be needed on the disk, with the name of the folder it belongs to.
    pub disk: Option<(u64, String)>,
}

/// A good archive.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Its description.
    pub header: Header,
    /// Its summary.
    pub summary: Summary,
    /// What unpacking takes.
    pub need: Need,
    /// Length of the archive, bytes.
    pub bytes: u64,
    /// Its digest, hexadecimal.
    pub sha256: String,
}

/// A file whose digest waits for the manifest.
struct Seen {
    sha256: [u8; 32],
    size: u64,
    superseded: bool,
}

/// What has been read so far.
struct Reading<'a> {
    sink: &'a mut dyn Sink,
    stop: &'a Stop,
    limit: &'a Limit,
    order: Order,
    need: Need,
    last: Option<Vec<u8>>,
    entries: u64,
    bytes: u64,
    files: Vec<Seen>,
    paths: Sha256,
    /// Shortened digests of the paths that a hard link may name.
    linkable: HashSet<[u8; 16]>,
}

/// Reads an archive to its end. `name` is for messages.
pub fn read<R: Read>(
    from: R,
    name: &str,
    limit: &Limit,
    sink: &mut dyn Sink,
    stop: &Stop,
) -> Result<Verified, ArchiveError> {
    let mut compressed: Compressed<R> = BufReader::with_capacity(PIECE, Unsealing::new(from));
    let start = compressed.fill_buf().map_err(unwrapped("read", name))?;
    if !start.starts_with(&ZSTD) {
        // Less than a seal is all that there is.
        let sealed = compressed.into_inner().finish().map_err(unwrapped("read", name))?;
        let why = if sealed.bytes == 0 { "it is empty" } else { "it is not compressed with zstd" };
        return Err(ArchiveError::Foreign { name: name.to_owned(), why: why.to_owned() });
    }
    let mut decoder = Decoder::with_buffer(compressed).map_err(unwrapped("decompress", name))?.single_frame();
    decoder.window_log_max(WINDOW).map_err(unwrapped("decompress", name))?;
    let mut stream = Stream { from: decoder, digest: Sha256::new(), bytes: 0, limit: limit.stream.unwrap_or(u64::MAX) };
    let mut reading = Reading {
        sink,
        stop,
        limit,
        order: Order::default(),
        need: Need::default(),
        last: None,
        entries: 0,
        bytes: 0,
        files: Vec::new(),
        paths: Sha256::new(),
        linkable: HashSet::new(),
    };
    let outcome = reading.all(&mut stream);
    let at = stream.bytes;
    let place = reading.last.as_ref().map_or_else(
        || "before its first entry".to_owned(),
        |path| format!("at or behind {}, {at} bytes into the tar stream", shown(path)),
    );
    let mut compressed = stream.from.finish();
    let behind = match &outcome {
        Ok(_) => !compressed.fill_buf().map_err(unwrapped("read", name))?.is_empty(),
        Err(Stopped::Other(_)) => false,
        // What follows only matters for the seal.
        Err(_) => {
            while !compressed.fill_buf().map_err(unwrapped("read", name))?.is_empty() {
                stop.check()?;
                let count = compressed.buffer().len();
                compressed.consume(count);
            }
            false
        }
    };
    let outcome = match outcome {
        Err(Stopped::Other(error)) => return Err(error),
        Ok(_) if behind => bad("something follows its end"),
        other => other,
    };
    let sealed = compressed.into_inner().finish().map_err(unwrapped("read", name))?;
    verdict(outcome, &sealed, at, name, place, reading.need)
}

fn verdict(
    outcome: Result<(Header, Summary), Stopped>,
    sealed: &Sealed,
    stream_bytes: u64,
    name: &str,
    place: String,
    need: Need,
) -> Result<Verified, ArchiveError> {
    let name = name.to_owned();
    let damaged = |why: &str| ArchiveError::Damaged { name: name.clone(), place: place.clone(), why: why.to_owned() };
    match (outcome, sealed.seal) {
        (Err(Stopped::Other(error)), _) => Err(error),
        (Err(Stopped::Foreign(why)), _) => Err(ArchiveError::Foreign { name, why }),
        (Err(Stopped::Short | Stopped::Ended) | Ok(_), None) => {
            Err(ArchiveError::Truncated { name, bytes: sealed.bytes, place })
        }
        (Err(Stopped::Short | Stopped::Ended), Some(_)) => Err(damaged("the stream ends too early")),
        (Err(Stopped::Bad(why)), _) => Err(damaged(&why)),
        (Ok((header, summary)), Some(seal)) => {
            if !sealed.intact {
                return Err(damaged("its bytes are not those that its seal was made for"));
            }
            if seal.stream_bytes != stream_bytes {
                return Err(damaged("its length is not the one of its seal"));
            }
            Ok(Verified { header, summary, need, bytes: sealed.bytes, sha256: hex(&sealed.sha256) })
        }
    }
}

impl Reading<'_> {
    fn all<R: Read>(&mut self, stream: &mut Stream<R>) -> Result<(Header, Summary), Stopped> {
        let header = Self::header(stream)?;
        loop {
            self.stop.check()?;
            let before = (stream.digest.clone(), stream.bytes);
            let blocks = stream.blocks()?;
            match pax::decode(&blocks).map_err(|error| Stopped::Bad(format!("behind it: {error}")))? {
                Item::Header(_) => return bad("it has two descriptions"),
                Item::Tree(entry) => self.entry(&entry, stream)?,
                Item::Manifest(size) => {
                    self.last = Some(pax::MANIFEST_NAME.to_vec());
                    let summary = self.manifest(size, stream)?;
                    if summary.stream_bytes != before.1 || summary.stream_sha256 != hex(&before.0.finalize()) {
                        return bad("the digest over everything before the manifest is another one");
                    }
                    let mut end = [0; 2 * BLOCK];
                    stream.exact(&mut end)?;
                    if end.iter().any(|byte| *byte != 0) {
                        return bad("something follows the manifest");
                    }
                    return match stream.from.read(&mut [0]) {
                        Ok(0) => Ok((header, summary)),
                        Ok(_) => bad("something follows the manifest"),
                        Err(error) => Err(stopped(error)),
                    };
                }
            }
        }
    }

    fn header<R: Read>(stream: &mut Stream<R>) -> Result<Header, Stopped> {
        let foreign = |why: &str| Stopped::Foreign(why.to_owned());
        let not_ours = "its first entry is no description of a backup";
        let blocks = stream.blocks().map_err(|stopped| match stopped {
            Stopped::Bad(_) | Stopped::Ended => foreign(not_ours),
            other => other,
        })?;
        let size = match pax::decode(&blocks) {
            Ok(Item::Header(size)) if size <= LONGEST_HEADER => size,
            _ => return Err(foreign(not_ours)),
        };
        let mut text = vec![0; usize::try_from(size).unwrap_or(0)];
        stream.exact(&mut text)?;
        stream.padding(size)?;
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|_| foreign(not_ours))?;
        match value.get("schema").and_then(serde_json::Value::as_str) {
            Some(SCHEMA) => {}
            Some(other) => {
                return Err(Stopped::Foreign(format!("its schema is {other:?}, and this dindctl reads {SCHEMA}")));
            }
            None => return Err(foreign(not_ours)),
        }
        serde_json::from_value(value).map_err(|error| Stopped::Bad(format!("its description cannot be read: {error}")))
    }

    fn entry<R: Read>(&mut self, entry: &Entry, stream: &mut Stream<R>) -> Result<(), Stopped> {
        let refuse = |why: String| Stopped::Bad(format!("{}: {why}", entry.shown()));
        let place = self.order.next(entry).map_err(|error| refuse(error.to_string()))?;
        if swap::is_own(&entry.path) {
            return Err(refuse("the name is one that restores use for themselves".to_owned()));
        }
        self.last = Some(entry.path.clone());
        match &entry.kind {
            Kind::HardLink { target } => {
                order::safe(target).map_err(|error| refuse(format!("its link: {error}")))?;
                if !self.linkable.contains(&short(target)) {
                    return Err(refuse(format!("it links to {}, which does not come before", shown(target))));
                }
            }
            Kind::Symlink { target } if target.is_empty() || target.contains(&0) || target.len() > LONGEST_LINK => {
                return Err(refuse("its link is none".to_owned()));
            }
            Kind::Folder => {}
            _ => {
                self.linkable.insert(short(&entry.path));
            }
        }
        if let (Place::Again, Some(file)) = (place, self.files.last_mut()) {
            file.superseded = true;
            self.bytes -= file.size;
        } else {
            self.entries += 1;
            self.need.inodes += u64::from(!matches!(entry.kind, Kind::HardLink { .. }));
            // A folder takes a block, and so does a link that is too long for its inode.
            self.need.bytes += u64::from(matches!(entry.kind, Kind::Folder | Kind::Symlink { .. })) * UNIT as u64;
        }
        self.sink.entry(entry, place)?;
        if let Kind::File { size } = entry.kind {
            self.file(entry, size, stream)?;
        }
        Ok(())
    }

    fn file<R: Read>(&mut self, entry: &Entry, size: u64, stream: &mut Stream<R>) -> Result<(), Stopped> {
        let mut digest = Sha256::new();
        let mut room = vec![0; usize::try_from(size).unwrap_or(PIECE).min(PIECE)];
        let mut left = size;
        while left > 0 {
            self.stop.check()?;
            let count = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let piece = room.get_mut(..count).unwrap_or_default();
            stream.exact(piece)?;
            digest.update(&*piece);
            self.need.bytes += piece.chunks(UNIT).filter(|unit| !is_zero(unit)).count() as u64 * UNIT as u64;
            if let Some((free, folder)) = &self.limit.disk
                && self.need.bytes > *free
            {
                let (folder, free, needed) = (folder.clone(), *free, self.need.bytes);
                return Err(ArchiveError::NoSpace { folder, free, needed }.into());
            }
            self.sink.content(piece)?;
            left -= count as u64;
        }
        stream.padding(size)?;
        self.sink.complete()?;
        self.bytes = self.bytes.checked_add(size).ok_or_else(|| Stopped::Bad("its sizes are impossible".to_owned()))?;
        self.paths.update(&entry.path);
        self.paths.update([0]);
        self.files.push(Seen { sha256: digest.finalize().into(), size, superseded: false });
        Ok(())
    }

    fn manifest<R: Read>(&mut self, size: u64, stream: &mut Stream<R>) -> Result<Summary, Stopped> {
        let mut lines = Lines { left: size, room: Vec::new(), used: 0 };
        let first = lines.next(stream)?.ok_or_else(|| Stopped::Bad("its manifest is empty".to_owned()))?;
        let unreadable = |error: serde_json::Error| Stopped::Bad(format!("its manifest cannot be read: {error}"));
        let summary: Summary = serde_json::from_slice(&first).map_err(unreadable)?;
        let files = std::mem::take(&mut self.files);
        let mut paths = Sha256::new();
        for seen in &files {
            let Some(line) = lines.next(stream)? else { return bad("its manifest names fewer files than it has") };
            let line: FileLine = serde_json::from_slice(&line).map_err(unreadable)?;
            if line.sha256 != hex(&seen.sha256) || line.size != seen.size || line.superseded != seen.superseded {
                return bad(format!("{} is not what the manifest says", line.path.shown()));
            }
            let path =
                line.path.bytes().ok_or_else(|| Stopped::Bad("its manifest has a path that is none".to_owned()))?;
            paths.update(&path);
            paths.update([0]);
        }
        if lines.next(stream)?.is_some() {
            return bad("its manifest names more files than it has");
        }
        stream.padding(size)?;
        let current = files.iter().filter(|seen| !seen.superseded).count() as u64;
        if summary.schema != SCHEMA
            || (summary.entries, summary.files, summary.bytes) != (self.entries, current, self.bytes)
            || paths.finalize() != std::mem::take(&mut self.paths).finalize()
        {
            return bad("its manifest describes something else");
        }
        Ok(summary)
    }
}

/// Whether there is nothing but zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

fn short(path: &[u8]) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(path).into();
    let mut short = [0; 16];
    for (place, byte) in short.iter_mut().zip(digest) {
        *place = byte;
    }
    short
}
