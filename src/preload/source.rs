/*!
The files of an archive one after the other, whatever it is packed with: a tar file, plain or compressed with gzip or zstd, which its
content tells and not its name; or the folder of an OCI layout.
*/
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use serde::Serialize;
use tar::EntryType;
use zstd::stream::read::Decoder;

use super::Broken;
use super::layout::{INDEX, MARK};
use super::survey::BLOBS;

/// A tar file's header block, bytes.
const BLOCK: usize = 512;
/// Bytes that are read at once.
const AT_ONCE: usize = 1 << 17;
/// Most bytes between two files: headers, and the extensions that hold long names.
const BETWEEN: u64 = 1 << 20;
/// Most files in an archive. An image has at most 127 layers with some three files each.
const FILES: usize = 100_000;

/// What an archive is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// One that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A tar file.
    Tar(PathBuf, Compression),
    /// The folder of an OCI layout.
    Folder(PathBuf),
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its name, without `./`.
    pub name: String,
    /// Bytes; 0 for a link.
    pub size: u64,
    /// Where it leads if it is a link, as `docker save` made them until 24.
    pub link: Option<String>,
}

/// Hears of bytes as they are on the disk, and whether they are what the archive is known by.
pub type Raw<'a> = dyn FnMut(&[u8], bool) + 'a;

/// Hears of a file and may read it.
pub type Visit<'a> = dyn FnMut(&Piece, &mut dyn Read) -> Result<(), Broken> + 'a;

impl Source {
    /// Looks at the first bytes.
    pub fn recognise(path: &Path) -> Result<Self, Broken> {
        if fs::metadata(path).map_err(Broken::Read)?.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let mut start = Vec::with_capacity(BLOCK);
        open(path)?.take(BLOCK as u64).read_to_end(&mut start).map_err(Broken::Read)?;
        Ok(Self::Tar(path.to_owned(), compression(&start)?))
    }

    /// Its file or folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Tar(path, _) | Self::Folder(path) => path,
        }
    }

    /// Bytes on the disk; of a folder those of its index and blobs.
    pub fn bytes(&self) -> io::Result<u64> {
        let Self::Folder(path) = self else { return Ok(fs::metadata(self.path())?.len()) };
        let mut sum = fs::metadata(path.join(INDEX))?.len();
        for entry in fs::read_dir(path.join(BLOBS))?.take(FILES) {
            sum = sum.saturating_add(fs::metadata(entry?.path())?.len());
        }
        Ok(sum)
    }

    /// Visits every file in the order of the archive. `raw` gets the bytes as they are on the disk: of a tar file all of them after success, of a
    /// folder those that are read. A folder is known by its index, which pins everything else by digest.
    pub fn each(&self, raw: &mut Raw<'_>, visit: &mut Visit<'_>) -> Result<(), Broken> {
        match self {
            Self::Folder(path) => folder(path, raw, visit),
            Self::Tar(..) => {
                let mut unpacked = self.unpacked(raw)?;
                // Words may be compressed as well.
                let mut start = Vec::with_capacity(BLOCK);
                (&mut unpacked).take(BLOCK as u64).read_to_end(&mut start)?;
                if !is_header(&start) {
                    return Err(Broken::Foreign);
                }
                tar(&mut start.as_slice().chain(&mut unpacked), visit)?;
                // A checksum at the end is looked at, and `raw` gets the rest.
                io::copy(&mut unpacked, &mut io::sink())?;
                Ok(())
            }
        }
    }

    /// The tar file without its compression.
    pub fn unpacked<'a>(&self, raw: &'a mut Raw<'_>) -> Result<Box<dyn Read + 'a>, Broken> {
        let Self::Tar(path, compression) = self else { return Err(Broken::Foreign) };
        let told = BufReader::with_capacity(AT_ONCE, Told { from: open(path)?, raw, known_by: true });
        Ok(match compression {
            Compression::None => Box::new(told),
            Compression::Gzip => Box::new(MultiGzDecoder::new(told)),
            Compression::Zstd => Box::new(Decoder::with_buffer(told).map_err(Broken::from)?),
        })
    }
}

/// Opens a file that is one: nothing waits for somebody at the other end of a pipe.
fn open(path: &Path) -> Result<File, Broken> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    let file = file.map_err(Broken::Read)?;
    if file.metadata().map_err(Broken::Read)?.is_file() { Ok(file) } else { Err(Broken::Foreign) }
}

/// What the first bytes of a file are of.
pub fn compression(start: &[u8]) -> Result<Compression, Broken> {
    match start {
        [] => Err(Broken::Empty),
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        // A frame, or one that is to be skipped, as tools put before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        _ if is_header(start) => Ok(Compression::None),
        _ => Err(Broken::Foreign),
    }
}

/// Whether it is the block before a file of a tar file, which its own sum tells.
fn is_header(block: &[u8]) -> bool {
    let (Some(block), Some(field)) = (block.get(..BLOCK), block.get(148..156)) else { return false };
    let digits: Vec<u8> = field.iter().copied().filter(u8::is_ascii_digit).collect();
    let stated = std::str::from_utf8(&digits).ok().and_then(|digits| u32::from_str_radix(digits, 8).ok());
    // The field counts as eight spaces.
    let sum = block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) });
    stated == Some(sum.sum())
}

/// Tells of every byte that is read.
struct Told<'a, 'b, R> {
    from: R,
    raw: &'a mut Raw<'b>,
    known_by: bool,
}

impl<R: Read> Read for Told<'_, '_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        (self.raw)(into.get(..count).unwrap_or_default(), self.known_by);
        Ok(count)
    }
}

/// Ends where more is read than there may be: the parser keeps extensions in memory.
struct Bounded<R> {
    from: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !into.is_empty() {
            return Err(io::Error::other(format!("more than {BETWEEN} bytes between two files")));
        }
        let most = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.from.read(into.get_mut(..most).unwrap_or_default())?;
        self.left.set(left.saturating_sub(count as u64));
        Ok(count)
    }
}

/// Visits the files of an unpacked tar file.
pub fn tar(from: &mut dyn Read, visit: &mut Visit<'_>) -> Result<(), Broken> {
    let left = Rc::new(Cell::new(BETWEEN));
    let mut archive = tar::Archive::new(Bounded { from, left: Rc::clone(&left) });
    for (count, entry) in archive.entries()?.enumerate() {
        if count >= FILES {
            return Err(Broken::TooMuch(format!("{FILES} files")));
        }
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let name = name(&entry.path_bytes())?;
        let size = entry.size();
        let link = match kind {
            EntryType::Symlink | EntryType::Link => Some(entry.link_name_bytes().unwrap_or_default().into_owned()),
            EntryType::Regular | EntryType::Continuous | EntryType::Directory | EntryType::XGlobalHeader => None,
            _ => return Err(Broken::Document { name, why: format!("it is no file ({kind:?})") }),
        };
        left.set(size.saturating_add(BETWEEN));
        if matches!(kind, EntryType::Regular | EntryType::Continuous) {
            visit(&Piece { name, size, link: None }, &mut entry)?;
        } else if let Some(link) = link {
            let link = Some(String::from_utf8_lossy(&link).into_owned());
            visit(&Piece { name, size: 0, link }, &mut io::empty())?;
        }
        io::copy(&mut entry, &mut io::sink())?;
        left.set(BETWEEN);
    }
    Ok(())
}

/// A name inside of the archive, without `./`; the folder of everything is empty.
fn name(bytes: &[u8]) -> Result<String, Broken> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let text = text.trim_start_matches("./").trim_end_matches('/');
    let text = if text == "." { "" } else { text };
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err(Broken::Name(text.to_owned()));
    }
    Ok(text.to_owned())
}

/// Visits the files of an OCI layout.
fn folder(path: &Path, raw: &mut Raw<'_>, visit: &mut Visit<'_>) -> Result<(), Broken> {
    let mut one = |name: &str| -> Result<(), Broken> {
        let mut file = open(&path.join(name))?;
        let size = file.metadata().map_err(Broken::Read)?.len();
        if name == INDEX {
            // Whatever of it is looked at below.
            let mut told = Told { from: &file, raw, known_by: true };
            io::copy(&mut told, &mut io::sink()).map_err(Broken::Read)?;
            file.rewind().map_err(Broken::Read)?;
            return visit(&Piece { name: name.to_owned(), size, link: None }, &mut file);
        }
        let told = Told { from: file, raw, known_by: false };
        visit(&Piece { name: name.to_owned(), size, link: None }, &mut BufReader::with_capacity(AT_ONCE, told))
    };
    one(INDEX)?;
    if path.join(MARK).exists() {
        one(MARK)?;
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(path.join(BLOBS)).map_err(Broken::Read)? {
        names.push(entry.map_err(Broken::Read)?.file_name());
        if names.len() > FILES {
            return Err(Broken::TooMuch(format!("{FILES} files")));
        }
    }
    names.sort();
    for name in names {
        one(&format!("{BLOBS}{}", name.to_string_lossy()))?;
    }
    Ok(())
}
