/*!
The last bytes of an archive: a skippable frame (RFC 8878, section 3.1.2), which every zstd reader passes over.

It holds the digest of every byte before it, so that no change goes unnoticed, not even one in a bit that the decompressor
does not care about, and the length of what the archive unpacks to, which bounds the work of reading it.
*/
use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// Length of a seal, bytes.
pub const SEAL: usize = 56;
/// Magic number of the frame, length of its content, and our own mark.
const START: [u8; 16] = *b"\x5d\x2a\x4d\x18\x30\0\0\0dindctl1";
/// Bytes that are read at once.
const PIECE: usize = 128 * 1024;

/// What the seal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Bytes of the unpacked stream.
    pub stream_bytes: u64,
    /// SHA-256 of the archive before the seal.
    pub sha256: [u8; 32],
}

impl Seal {
    /// As bytes.
    pub fn encode(&self) -> [u8; SEAL] {
        let mut bytes = [0; SEAL];
        let parts =
            START.iter().chain(&self.stream_bytes.to_le_bytes()).chain(&self.sha256).copied().collect::<Vec<u8>>();
        for (place, byte) in bytes.iter_mut().zip(parts) {
            *place = byte;
        }
        bytes
    }

    /// From bytes; `None` when they are no seal.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&START)?;
        let (length, sha256) = rest.split_first_chunk::<8>()?;
        Some(Self { stream_bytes: u64::from_le_bytes(*length), sha256: sha256.try_into().ok()? })
    }
}

/// Passes bytes on, counts them, and knows their digest.
#[derive(Debug)]
pub struct Sealing<W> {
    to: W,
    digest: Sha256,
    bytes: u64,
}

impl<W: Write> Sealing<W> {
    /// Before anything was written.
    pub fn new(to: W) -> Self {
        Self { to, digest: Sha256::new(), bytes: 0 }
    }

    /// Ends the archive: gives back the writer, the archive's length and its digest.
    pub fn finish(mut self, stream_bytes: u64) -> io::Result<(W, u64, [u8; 32])> {
        let sha256 = self.digest.clone().finalize().into();
        self.write_all(&Seal { stream_bytes, sha256 }.encode())?;
        self.to.flush()?;
        Ok((self.to, self.bytes, self.digest.finalize().into()))
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let count = self.to.write(piece)?;
        self.digest.update(piece.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Gives everything but the last [`SEAL`] bytes.
#[derive(Debug)]
pub struct Unsealing<R> {
    from: R,
    digest: Sha256,
    bytes: u64,
    room: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
}

/// What an archive's bytes are, whatever they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Length, bytes.
    pub bytes: u64,
    /// Digest of all of them.
    pub sha256: [u8; 32],
    /// The seal, if there is one.
    pub seal: Option<Seal>,
    /// Whether it is the right one.
    pub intact: bool,
}

impl<R: Read> Unsealing<R> {
    /// Before anything was read.
    pub fn new(from: R) -> Self {
        Self { from, digest: Sha256::new(), bytes: 0, room: vec![0; PIECE], start: 0, end: 0, ended: false }
    }

    /// Fills the room until there is more than a seal in it, or nothing comes any more.
    fn fill(&mut self) -> io::Result<()> {
        while !self.ended && self.end - self.start <= SEAL {
            self.room.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            match self.from.read(self.room.get_mut(self.end..).unwrap_or_default()) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.end += count;
                    self.bytes += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads to the end and compares.
    pub fn finish(mut self) -> io::Result<Sealed> {
        let mut rest = vec![0; PIECE];
        while self.read(&mut rest)? > 0 {}
        let tail = self.room.get(self.start..self.end).unwrap_or_default();
        let seal = Seal::decode(tail);
        let before: [u8; 32] = self.digest.clone().finalize().into();
        self.digest.update(tail);
        let intact = seal.is_some_and(|seal| seal.sha256 == before);
        Ok(Sealed { bytes: self.bytes, sha256: self.digest.finalize().into(), seal, intact })
    }
}

impl<R: Read> Read for Unsealing<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let count = (self.end - self.start).saturating_sub(SEAL).min(out.len());
        let piece = self.room.get(self.start..self.start + count).unwrap_or_default();
        self.digest.update(piece);
        for (place, byte) in out.iter_mut().zip(piece) {
            *place = *byte;
        }
        self.start += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives its bytes in small pieces.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn unseal(bytes: &[u8], step: usize) -> (Vec<u8>, Sealed) {
        let mut reader = Unsealing::new(Trickle(bytes, step));
        let mut content = Vec::new();
        let mut piece = vec![0; step + 3];
        loop {
            match reader.read(&mut piece).unwrap() {
                0 => break,
                count => content.extend_from_slice(&piece[..count]),
            }
        }
        (content, reader.finish().unwrap())
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_found_intact_and_no_change_is(
            content in prop::collection::vec(any::<u8>(), 0..500),
            step in 1_usize..200,
            place in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let mut sealing = Sealing::new(Vec::new());
            sealing.write_all(&content).unwrap();
            let (mut bytes, length, digest) = sealing.finish(7).unwrap();
            prop_assert_eq!(length, bytes.len() as u64);
            let (read, sealed) = unseal(&bytes, step);
            prop_assert_eq!(&read, &content);
            prop_assert!(sealed.intact && sealed.sha256 == digest && sealed.bytes == length);
            prop_assert_eq!(sealed.seal.unwrap().stream_bytes, 7);
            let place = place.index(bytes.len());
            prop_assert!(!unseal(&bytes[..place], step).1.intact);
            bytes[place] ^= flip;
            let after = unseal(&bytes, step).1;
            // The length of the stream is compared by whoever reads the stream.
            let length_only = (content.len() + 16..content.len() + 24).contains(&place);
            prop_assert!(after.intact == length_only && (!length_only || after.seal.unwrap().stream_bytes != 7));
        }
    }

    #[test]
    fn zstd_readers_pass_over_a_seal() {
        let mut bytes = zstd::encode_all(b"text".as_slice(), 3).unwrap();
        bytes.extend_from_slice(&Seal { stream_bytes: 4, sha256: [9; 32] }.encode());
        assert_eq!(zstd::decode_all(bytes.as_slice()).unwrap(), b"text");
    }
}
