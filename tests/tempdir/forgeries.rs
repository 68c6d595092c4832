//! Restore against archives as somebody might make them who knows the format.

use std::fs;

use dindctl::archive::entry::{Entry, Kind};
use dindctl::archive::error::ArchiveError;
use dindctl::archive::manifest::{FileLine, Header, PathText, SCHEMA, Summary, hex};
use dindctl::archive::pax::{self, BLOCK, Item};
use dindctl::archive::read::{Limit, Nowhere, read};
use dindctl::archive::seal::Sealing;
use dindctl::archive::stop::Stop;
use rstest::rstest;
use sha2::{Digest, Sha256};

use crate::archive::{Lab, judge, restore};
use crate::trees::{assert_same, facts};

/// An archive as somebody might make one who knows the format: everything in it fits together, whatever the entries are.
fn forge(entries: &[(Entry, &[u8])], spoil: impl FnOnce(&mut Summary)) -> Vec<u8> {
    let mut tar = Vec::new();
    let mut add = |item: &Item, content: &[u8]| {
        tar.extend(pax::encode(item).unwrap());
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
        tar.clone()
    };
    let header = Header {
        schema: SCHEMA.into(),
        created: String::new(),
        dindctl: String::new(),
        folder: PathText::new(b"/x"),
        host: String::new(),
        exclude: vec![],
        paused: vec![],
    };
    let header = serde_json::to_vec(&header).unwrap();
    let mut stream = add(&Item::Header(header.len() as u64), &header);
    let mut summary = Summary { schema: SCHEMA.into(), ..Summary::default() };
    let mut lines = Vec::new();
    for (entry, content) in entries {
        stream = add(&Item::Tree(entry.clone()), content);
        summary.entries += 1;
        if let Kind::File { size } = entry.kind {
            summary.files += 1;
            summary.bytes += size;
            let sha256 = hex(&Sha256::digest(content));
            let line = FileLine { path: PathText::new(&entry.path), size, sha256, superseded: false };
            lines.extend(serde_json::to_vec(&line).unwrap());
            lines.push(b'\n');
        }
    }
    summary.stream_bytes = stream.len() as u64;
    summary.stream_sha256 = hex(&Sha256::digest(&stream));
    spoil(&mut summary);
    let mut manifest = serde_json::to_vec(&summary).unwrap();
    manifest.push(b'\n');
    manifest.extend(lines);
    stream = add(&Item::Manifest(manifest.len() as u64), &manifest);
    stream.resize(stream.len() + 2 * BLOCK, 0);
    let mut sealing = Sealing::new(Vec::new());
    std::io::Write::write_all(&mut sealing, &zstd::encode_all(stream.as_slice(), 3).unwrap()).unwrap();
    sealing.finish(stream.len() as u64).unwrap().0
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry::plain(path.as_bytes().to_vec(), kind, 0o755)
}

fn root() -> Entry {
    entry("", Kind::Folder)
}

#[test]
fn a_forged_archive_that_is_right_is_accepted() {
    let file = entry("a", Kind::File { size: 4 });
    let link = entry("b", Kind::HardLink { target: b"a".to_vec() });
    judge(&forge(&[(root(), b""), (file, b"text"), (link, b"")], |_| {})).unwrap();
}

#[rstest]
#[case(vec![entry("/etc/evil", Kind::Fifo)], "absolute or leads out")]
#[case(vec![entry("../evil", Kind::Fifo)], "absolute or leads out")]
#[case(vec![entry("a", Kind::Folder), entry("a/../../evil", Kind::Fifo)], "absolute or leads out")]
#[case(vec![entry("a", Kind::Symlink { target: b"/etc".to_vec() }), entry("a/evil", Kind::Fifo)], "no folder of the archive")]
#[case(vec![entry("a", Kind::Fifo), entry("a", Kind::Fifo)], "twice")]
#[case(vec![entry("a", Kind::HardLink { target: b"../../etc/shadow".to_vec() })], "leads out")]
#[case(vec![entry("a", Kind::HardLink { target: b"b".to_vec() }), entry("b", Kind::Fifo)], "does not come before")]
#[case(vec![entry("d", Kind::Folder), entry("e", Kind::HardLink { target: b"d".to_vec() })], "does not come before")]
#[case(vec![entry("a", Kind::Symlink { target: vec![] })], "its link is none")]
#[case(vec![entry("a", Kind::Symlink { target: vec![b'x'; 5000] })], "its link is none")]
#[case(vec![entry(".dindctl-restore-0", Kind::Folder)], "restores use for themselves")]
#[case(vec![entry("", Kind::Folder)], "does not come first")]
fn a_forged_archive_that_leads_elsewhere_is_refused_and_changes_nothing(
    #[case] entries: Vec<Entry>,
    #[case] why: &str,
) {
    let lab = Lab::new();
    let all: Vec<(Entry, &[u8])> =
        std::iter::once(root()).chain(entries).map(|entry| (entry, b"".as_slice())).collect();
    fs::write(lab.archive(), forge(&all, |_| {})).unwrap();
    let before = facts(lab.aside.path());
    let error = restore(&lab.archive(), lab.target.path(), true).unwrap_err();
    assert!(error.is_verdict() && error.to_string().contains(why), "{error}");
    assert!(fs::read_dir(lab.target.path()).unwrap().next().is_none());
    assert_same(&before, &facts(lab.aside.path()), "beside it");
}

#[test]
fn a_manifest_that_says_something_else_is_refused() {
    let file = || (entry("a", Kind::File { size: 4 }), b"text".as_slice());
    for spoil in [
        (|summary| summary.bytes += 1) as fn(&mut Summary),
        |summary| summary.entries += 1,
        |summary| summary.stream_bytes += 512,
        |summary| summary.stream_sha256 = hex(&[0; 32]),
        |summary| summary.schema = "dindctl.backup/v2".into(),
    ] {
        let error = judge(&forge(&[(root(), b""), file()], spoil)).unwrap_err();
        assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}");
    }
}

/// A terabyte of nothing in a few bytes: what is declared bounds what is read, and what the disk has bounds what is unpacked.
#[test]
fn a_bomb_does_not_go_off() {
    let zeros = zstd::encode_all(std::io::Read::take(std::io::repeat(0), 64 << 20), 3).unwrap();
    let mut sealing = Sealing::new(Vec::new());
    std::io::Write::write_all(&mut sealing, &zeros).unwrap();
    let bytes = sealing.finish(64 << 20).unwrap().0;
    assert!(matches!(judge(&bytes), Err(ArchiveError::Foreign { .. })));
    let content = vec![7; 100_000];
    let forged = forge(&[(root(), b""), (entry("a", Kind::File { size: 100_000 }), &content)], |_| {});
    let limit = Limit { stream: Some(50_000), disk: None };
    let error = read(forged.as_slice(), "x", &limit, &mut Nowhere, &Stop::default()).unwrap_err();
    assert!(error.to_string().contains("more than the 50000 bytes that it declares"), "{error}");
    let limit = Limit { stream: None, disk: Some((50_000, "/there".into())) };
    let error = read(forged.as_slice(), "x", &limit, &mut Nowhere, &Stop::default()).unwrap_err();
    assert!(matches!(error, ArchiveError::NoSpace { free: 50_000, .. }), "{error}");
}
