//! The unpacked stream of an archive: blocks, content and lines, each judged as it comes.

use std::io::{self, BufReader, Read};

use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;

use super::error::ArchiveError;
use super::manifest::LONGEST_LINE;
use super::pax::{self, BLOCK};
use super::read::PIECE;
use super::seal::Unsealing;

/// Why reading stopped.
pub(super) enum Stopped {
    /// The compressed stream breaks off.
    Short,
    /// The stream has come to its end too early.
    Ended,
    /// It is something else.
    Foreign(String),
    /// It is ours and wrong.
    Bad(String),
    /// Not the archive's fault.
    Other(ArchiveError),
}

impl From<ArchiveError> for Stopped {
    fn from(error: ArchiveError) -> Self {
        Self::Other(error)
    }
}

pub(super) fn bad<T>(why: impl Into<String>) -> Result<T, Stopped> {
    Err(Stopped::Bad(why.into()))
}

pub(super) fn stopped(error: io::Error) -> Stopped {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Stopped::Short;
    }
    match error.downcast::<ArchiveError>() {
        Ok(ours) => Stopped::Other(ours),
        Err(error) if error.raw_os_error().is_some() => Stopped::Other(ArchiveError::io("read", "the archive")(error)),
        Err(error) => Stopped::Bad(format!("it cannot be decompressed: {error}")),
    }
}

pub(super) type Compressed<R> = BufReader<Unsealing<R>>;

/// The unpacked stream.
pub(super) struct Stream<R: Read> {
    pub(super) from: Decoder<'static, Compressed<R>>,
    pub(super) digest: Sha256,
    pub(super) bytes: u64,
    pub(super) limit: u64,
}

impl<R: Read> Stream<R> {
    pub(super) fn exact(&mut self, out: &mut [u8]) -> Result<(), Stopped> {
        if self.limit - self.bytes < out.len() as u64 {
            return bad(format!("it unpacks to more than the {} bytes that it declares", self.limit));
        }
        let mut done = 0;
        while done < out.len() {
            match self.from.read(out.get_mut(done..).unwrap_or_default()) {
                Ok(0) => return Err(Stopped::Ended),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(stopped(error)),
            }
        }
        self.digest.update(&*out);
        self.bytes += out.len() as u64;
        Ok(())
    }

    pub(super) fn padding(&mut self, size: u64) -> Result<(), Stopped> {
        let mut block = [0; BLOCK];
        let count = usize::try_from(pax::padding(size)).unwrap_or(0);
        let place = block.get_mut(..count).unwrap_or_default();
        self.exact(place)?;
        if place.iter().any(|byte| *byte != 0) { bad("what fills up a block is not empty") } else { Ok(()) }
    }

    /// The blocks of the next header.
    pub(super) fn blocks(&mut self) -> Result<Vec<u8>, Stopped> {
        let mut first = [0; BLOCK];
        self.exact(&mut first)?;
        if first.iter().all(|byte| *byte == 0) {
            return bad("it has no manifest");
        }
        let mut blocks = first.to_vec();
        if let Some(size) = pax::extension_size(&first).map_err(|error| Stopped::Bad(error.to_string()))? {
            let body = usize::try_from(size + pax::padding(size)).unwrap_or(usize::MAX);
            blocks.resize(BLOCK + body + BLOCK, 0);
            self.exact(blocks.get_mut(BLOCK..).unwrap_or_default())?;
        }
        Ok(blocks)
    }
}

/// The lines of a manifest.
pub(super) struct Lines {
    pub(super) left: u64,
    pub(super) room: Vec<u8>,
    pub(super) used: usize,
}

impl Lines {
    pub(super) fn next<R: Read>(&mut self, stream: &mut Stream<R>) -> Result<Option<Vec<u8>>, Stopped> {
        let mut searched = self.used;
        loop {
            let rest = self.room.get(searched..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', rest) {
                let line = self.room.get(self.used..searched + at).unwrap_or_default().to_vec();
                self.used = searched + at + 1;
                return Ok(Some(line));
            }
            self.room.drain(..self.used);
            self.used = 0;
            searched = self.room.len();
            if self.left == 0 {
                return if self.room.is_empty() { Ok(None) } else { bad("its manifest ends inside a line") };
            }
            if self.room.len() > LONGEST_LINE {
                return bad("its manifest has a line without end");
            }
            let count = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
            self.room.resize(searched + count, 0);
            stream.exact(self.room.get_mut(searched..).unwrap_or_default())?;
            self.left -= count as u64;
        }
    }
}
