/*!
Entries as blocks of a tar archive and back.

POSIX.1-2001 (pax): a ustar header, and before it an extended one for whatever does not fit: long names, names that are no
ASCII, nanoseconds, large numbers, extended attributes (`SCHILY.xattr.NAME`, as GNU tar, bsdtar and Go have them). The
same entry always becomes the same bytes, and the reader holds what it reads against that: an archive with anything
else in it was not written by dindctl.
*/
use std::collections::BTreeMap;

use tar::{EntryType, Header};

use super::entry::{Entry, Kind, MODE, Time};
use super::records::{self, Records, escaped, time_of, time_text, unescaped};

/// Unit of a tar archive, bytes.
pub const BLOCK: usize = 512;
/// Longest extended header, bytes: attributes of an entry together with its names.
pub const LONGEST_EXTENSION: u64 = 8 << 20;
/// First name of an archive.
pub const HEADER_NAME: &[u8] = b".dindctl.backup.json";
/// Last name of an archive.
pub const MANIFEST_NAME: &[u8] = b".dindctl.manifest.jsonl";

const XATTR: &str = "SCHILY.xattr.";
const EXTENSION_NAME: &[u8] = b"./PaxHeaders/entry";
/// Largest number in eleven octal digits.
const OCTAL_11: u64 = 0o777_7777_7777;
/// Largest number in seven octal digits.
const OCTAL_7: u32 = 0o777_7777;

/// What a header stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The description at the beginning, so many bytes.
    Header(u64),
    /// Something of the tree.
    Tree(Entry),
    /// The manifest at the end, so many bytes.
    Manifest(u64),
}

/// Why blocks are no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum PaxError {
    #[error("its header's checksum is wrong")]
    Checksum,
    #[error("its header has a field that is no number")]
    Number,
    #[error("its header is of a kind that dindctl does not write")]
    Type,
    #[error("its extended header cannot be read")]
    Record,
    #[error("its extended header is larger than {LONGEST_EXTENSION} bytes")]
    Extension,
    #[error("its header is not written as dindctl writes it")]
    Form,
}

/// Bytes up to the next block.
pub const fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

/// The header blocks of an item. Fails only when its names and attributes together are too large.
pub fn encode(item: &Item) -> Result<Vec<u8>, PaxError> {
    match item {
        Item::Header(size) => blocks(HEADER_NAME, &Entry::plain(Vec::new(), Kind::File { size: *size }, 0o600)),
        Item::Manifest(size) => blocks(MANIFEST_NAME, &Entry::plain(Vec::new(), Kind::File { size: *size }, 0o600)),
        Item::Tree(entry) => {
            let mut name = tree_name(&entry.path);
            if entry.kind == Kind::Folder && !entry.path.is_empty() {
                name.push(b'/');
            }
            blocks(&name, entry)
        }
    }
}

/// `./path`, so that no name of the tree can be taken for one of ours.
fn tree_name(path: &[u8]) -> Vec<u8> {
    [b"./", path].concat()
}

fn blocks(name: &[u8], entry: &Entry) -> Result<Vec<u8>, PaxError> {
    let mut records = Records::new();
    let mut header = Header::new_ustar();
    header.set_mode(entry.mode & MODE);
    // Every extended value leaves the plain field at zero, or at a likeness that is no value.
    let mut number = |name: &str, value: u64, fits: bool| {
        if fits {
            return value;
        }
        records.insert(name.as_bytes().to_vec(), value.to_string().into_bytes());
        0
    };
    header.set_uid(number("uid", entry.uid.into(), entry.uid <= OCTAL_7));
    header.set_gid(number("gid", entry.gid.into(), entry.gid <= OCTAL_7));
    let size = entry.size();
    header.set_size(number("size", size, size <= OCTAL_11));
    let mtime = u64::try_from(entry.mtime.sec).ok().filter(|sec| *sec <= OCTAL_11 && entry.mtime.nsec == 0);
    if mtime.is_none() {
        records.insert(b"mtime".to_vec(), time_text(entry.mtime).into_bytes());
    }
    header.set_mtime(mtime.unwrap_or(0));
    let (kind, link) = match &entry.kind {
        Kind::Folder => (EntryType::Directory, None),
        Kind::File { .. } => (EntryType::Regular, None),
        Kind::HardLink { target } => (EntryType::Link, Some(tree_name(target))),
        Kind::Symlink { target } => (EntryType::Symlink, Some(target.clone())),
        Kind::Fifo => (EntryType::Fifo, None),
        Kind::Char { .. } => (EntryType::Char, None),
        Kind::Block { .. } => (EntryType::Block, None),
    };
    header.set_entry_type(kind);
    if let Kind::Char { major, minor } | Kind::Block { major, minor } = entry.kind {
        header.set_device_major(major).and_then(|()| header.set_device_minor(minor)).map_err(|_| PaxError::Number)?;
    } else {
        header.set_device_major(0).and_then(|()| header.set_device_minor(0)).map_err(|_| PaxError::Number)?;
    }
    let fields = header.as_ustar_mut().ok_or(PaxError::Form)?;
    text(&mut fields.name, name, "path", &mut records);
    if let Some(link) = &link {
        text(&mut fields.linkname, link, "linkpath", &mut records);
    }
    for (name, value) in &entry.xattrs {
        records.insert([XATTR.as_bytes(), &escaped(name)].concat(), value.clone());
    }
    header.set_cksum();
    let mut bytes = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        extension(&records, &mut bytes)?;
    }
    bytes.extend_from_slice(header.as_bytes());
    Ok(bytes)
}

/// Short ASCII stands in the field itself, everything else in a record with a likeness in the field.
fn text(field: &mut [u8; 100], value: &[u8], record: &str, records: &mut Records) {
    let fits = value.len() <= field.len() && value.is_ascii();
    for (place, byte) in field.iter_mut().zip(value) {
        *place = if byte.is_ascii() { *byte } else { b'_' };
    }
    if !fits {
        records.insert(record.as_bytes().to_vec(), value.to_vec());
    }
}

fn extension(records: &Records, bytes: &mut Vec<u8>) -> Result<(), PaxError> {
    let body = records::write(records);
    let size = body.len() as u64;
    if size > LONGEST_EXTENSION {
        return Err(PaxError::Extension);
    }
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    let fields = header.as_ustar_mut().ok_or(PaxError::Form)?;
    for (place, byte) in fields.name.iter_mut().zip(EXTENSION_NAME) {
        *place = *byte;
    }
    header.set_cksum();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&body);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    Ok(())
}

/// How many bytes of extended header follow this block; `None` when it is an entry's own header.
pub fn extension_size(block: &[u8; BLOCK]) -> Result<Option<u64>, PaxError> {
    let header = checked(block)?;
    if header.entry_type() != EntryType::XHeader {
        return Ok(None);
    }
    let size = header.entry_size().map_err(|_| PaxError::Number)?;
    if size > LONGEST_EXTENSION { Err(PaxError::Extension) } else { Ok(Some(size)) }
}

fn checked(block: &[u8; BLOCK]) -> Result<&Header, PaxError> {
    let header = Header::from_byte_slice(block);
    // The checksum counts its own field as blanks.
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { *byte })
        .map(u32::from)
        .sum();
    match header.cksum() {
        Ok(said) if said == sum => Ok(header),
        _ => Err(PaxError::Checksum),
    }
}

/// Reads what [`encode`] made: `blocks` are the header with everything that belongs to it, extension first.
pub fn decode(blocks: &[u8]) -> Result<Item, PaxError> {
    let (before, last) = blocks.split_last_chunk::<BLOCK>().ok_or(PaxError::Form)?;
    let records = match before.split_first_chunk::<BLOCK>() {
        None => Records::new(),
        Some((first, body)) => {
            let size = extension_size(first)?.ok_or(PaxError::Form)?;
            let size = usize::try_from(size).map_err(|_| PaxError::Extension)?;
            records::read(body.get(..size).ok_or(PaxError::Form)?).ok_or(PaxError::Record)?
        }
    };
    let item = item(checked(last)?, records)?;
    if encode(&item)? == blocks { Ok(item) } else { Err(PaxError::Form) }
}

fn item(header: &Header, mut records: Records) -> Result<Item, PaxError> {
    let mut number = |name: &str, field: std::io::Result<u64>| match records.remove(name.as_bytes()) {
        Some(value) => std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok()).ok_or(PaxError::Record),
        None => field.map_err(|_| PaxError::Number),
    };
    let id = |value: u64| u32::try_from(value).map_err(|_| PaxError::Number);
    let size = number("size", header.entry_size())?;
    let (uid, gid) = (id(number("uid", header.uid())?)?, id(number("gid", header.gid())?)?);
    let mtime = if let Some(value) = records.remove(b"mtime".as_slice()) {
        std::str::from_utf8(&value).ok().and_then(time_of).ok_or(PaxError::Record)?
    } else {
        let sec = header.mtime().map_err(|_| PaxError::Number)?;
        Time { sec: i64::try_from(sec).map_err(|_| PaxError::Number)?, nsec: 0 }
    };
    let fields = header.as_ustar().ok_or(PaxError::Type)?;
    let mut name = records.remove(b"path".as_slice()).unwrap_or_else(|| field_text(&fields.name).to_vec());
    let link = records.remove(b"linkpath".as_slice()).unwrap_or_else(|| field_text(&fields.linkname).to_vec());
    let device = || -> Result<(u32, u32), PaxError> {
        let part = |value: std::io::Result<Option<u32>>| value.ok().flatten().ok_or(PaxError::Number);
        Ok((part(header.device_major())?, part(header.device_minor())?))
    };
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Folder,
        EntryType::Regular => Kind::File { size },
        EntryType::Link => Kind::HardLink { target: link.strip_prefix(b"./").ok_or(PaxError::Form)?.to_vec() },
        EntryType::Symlink => Kind::Symlink { target: link },
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => device().map(|(major, minor)| Kind::Char { major, minor })?,
        EntryType::Block => device().map(|(major, minor)| Kind::Block { major, minor })?,
        _ => return Err(PaxError::Type),
    };
    match name.as_slice() {
        HEADER_NAME => return Ok(Item::Header(size)),
        MANIFEST_NAME => return Ok(Item::Manifest(size)),
        _ => {}
    }
    if kind == Kind::Folder && name != b"./" {
        name.pop_if(|byte| *byte == b'/').ok_or(PaxError::Form)?;
    }
    let path = name.strip_prefix(b"./").ok_or(PaxError::Form)?.to_vec();
    let mut xattrs = BTreeMap::new();
    for (name, value) in records {
        let name = name.strip_prefix(XATTR.as_bytes()).and_then(unescaped).ok_or(PaxError::Record)?;
        xattrs.insert(name, value);
    }
    let mode = header.mode().map_err(|_| PaxError::Number)?;
    Ok(Item::Tree(Entry { path, kind, mode, uid, gid, mtime, xattrs }))
}

fn field_text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn name() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => "[a-z]{1,3}".prop_map(String::into_bytes),
            2 => prop::collection::vec(1_u8.., 1..40),
            1 => prop::collection::vec(prop::sample::select(b"ab\xff\n=% ".to_vec()), 90..255),
        ]
        .prop_map(|name| name.into_iter().map(|byte| if byte == b'/' { b'_' } else { byte }).collect::<Vec<u8>>())
        .prop_filter("no dots", |name| name != b"." && name != b"..")
    }

    pub fn attributes() -> impl Strategy<Value = (u32, u32, u32, Time, BTreeMap<Vec<u8>, Vec<u8>>)> {
        let time = (prop_oneof![Just(0_i64), any::<i32>().prop_map(i64::from), any::<i64>()], 0_u32..1_000_000_000)
            .prop_map(|(sec, nsec)| Time { sec, nsec: if sec == i64::MIN { 0 } else { nsec } });
        let xattrs = prop::collection::btree_map(prop::collection::vec(1_u8.., 1..30), any::<Vec<u8>>(), 0..4);
        let id = || prop_oneof![Just(0), 0_u32..70_000, any::<u32>()];
        (0..=MODE, id(), id(), time, xattrs)
    }

    pub fn entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![
            Just(Kind::Folder),
            any::<u64>().prop_map(|size| Kind::File { size }),
            name().prop_map(|target| Kind::HardLink { target }),
            prop::collection::vec(1_u8.., 1..200).prop_map(|target| Kind::Symlink { target }),
            Just(Kind::Fifo),
            (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Kind::Char { major, minor }),
            (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Kind::Block { major, minor }),
        ];
        (prop::collection::vec(name(), 1..4), kind, attributes()).prop_map(
            |(path, kind, (mode, uid, gid, mtime, xattrs))| Entry {
                path: path.join(&b'/'),
                kind,
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(entry in entry()) {
            let blocks = encode(&Item::Tree(entry.clone())).unwrap();
            prop_assert_eq!(blocks.len() % BLOCK, 0);
            prop_assert_eq!(decode(&blocks), Ok(Item::Tree(entry)));
        }

        /// The usual reader agrees, except about values with a line break, where it looks for the end of a record.
        #[test]
        fn the_tar_crate_reads_the_same(mut entry in entry()) {
            let target = match &entry.kind {
                Kind::Symlink { target } | Kind::HardLink { target } => target.clone(),
                _ => Vec::new(),
            };
            let values = entry.xattrs.iter().flat_map(|(name, value)| [name, value]);
            prop_assume!(!values.chain([&entry.path, &target]).any(|value| value.contains(&b'\n')));
            if let Kind::File { size } = &mut entry.kind {
                *size = 0;
            }
            let mut bytes = encode(&Item::Tree(entry.clone())).unwrap();
            bytes.resize(bytes.len() + 2 * BLOCK, 0);
            let mut archive = tar::Archive::new(bytes.as_slice());
            let read = archive.entries().unwrap().next().unwrap().unwrap();
            let mut want = tree_name(&entry.path);
            if entry.kind == Kind::Folder {
                want.push(b'/');
            }
            prop_assert_eq!(read.path_bytes().into_owned(), want);
            if let Kind::Symlink { target } = &entry.kind {
                prop_assert_eq!(read.link_name_bytes().unwrap().into_owned(), target.clone());
            }
        }

        #[test]
        fn no_flip_of_a_bit_goes_unnoticed_or_panics(entry in entry(), place in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut blocks = encode(&Item::Tree(entry.clone())).unwrap();
            let place = place.index(blocks.len());
            blocks[place] ^= 1_u8 << bit;
            // The body of an extension has no checksum of its own: a flip there is another entry, and the digest's to find.
            prop_assert_ne!(decode(&blocks), Ok(Item::Tree(entry)));
        }

        #[test]
        fn anything_is_refused_or_exactly_ours(bytes in prop::collection::vec(any::<u8>(), 0..3 * BLOCK)) {
            if let Ok(item) = decode(&bytes) {
                prop_assert_eq!(encode(&item).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn the_folder_itself_and_our_own_entries() {
        for item in [
            Item::Tree(Entry::plain(Vec::new(), Kind::Folder, 0o755)),
            Item::Header(17),
            Item::Manifest(u64::MAX),
            Item::Tree(Entry::plain(MANIFEST_NAME.to_vec(), Kind::File { size: 3 }, 0)),
        ] {
            assert_eq!(decode(&encode(&item).unwrap()), Ok(item));
        }
    }

    #[test]
    fn too_many_attributes_are_refused() {
        let mut entry = Entry::plain(b"x".to_vec(), Kind::Fifo, 0);
        entry.xattrs.insert(b"user.x".to_vec(), vec![0; 9 << 20]);
        assert_eq!(encode(&Item::Tree(entry)), Err(PaxError::Extension));
    }
}
