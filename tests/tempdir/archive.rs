//! Backup and restore against real folders.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dindctl::archive::backup::{Backup, Destination, Request, Source, backup};
use dindctl::archive::error::ArchiveError;
use dindctl::archive::manifest::{PathText, Skipped};
use dindctl::archive::names::Patterns;
use dindctl::archive::read::{Limit, Nowhere, Verified, read};
use dindctl::archive::restore::{Origin, Restored, Target, Wish, verify};
use dindctl::archive::stop::Stop;
use dindctl::archive::unpack::Rights;
use proptest::prelude::*;
use rstest::rstest;
use sha2::{Digest, Sha256};

use crate::trees::{assert_same, facts, grow};

fn request(folder: &Path, to: Destination) -> Request {
    let stamp = ("2026-01-01T00:00:00Z".into(), "test".into(), "here".into());
    Request { folder: folder.into(), to, exclude: (Patterns::default(), vec![]), keep_changed: false, stamp }
}

fn make(request: Request) -> Result<Backup, ArchiveError> {
    let source = Source::open(&request.folder)?;
    backup(request, &source, None, &Stop::default(), &mut |_, _| {})
}

fn to_file(folder: &Path, archive: &Path) -> Backup {
    make(request(folder, Destination::File(archive.into()))).unwrap()
}

pub fn judge(bytes: &[u8]) -> Result<Verified, ArchiveError> {
    let limit = Limit { stream: Some(1 << 30), disk: None };
    read(bytes, "x", &limit, &mut Nowhere, &Stop::default())
}

pub fn wish(replace: bool, stop: &Stop) -> Wish<'_> {
    Wish { replace, mounts: &[], rights: Rights { lenient: !nix::unistd::geteuid().is_root() }, stop }
}

pub fn restore(archive: &Path, to: &Path, replace: bool) -> Result<Restored, ArchiveError> {
    let target = Target::open(to)?;
    let origin = Origin::File(archive.into());
    target.restore(&origin, &wish(replace, &Stop::default()), &mut |_, _| {}, &mut |_| Ok(()))
}

/// Three folders: a tree, a place for archives, a target.
pub struct Lab {
    pub tree: tempfile::TempDir,
    pub aside: tempfile::TempDir,
    pub target: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let folder = || tempfile::tempdir().unwrap();
        Self { tree: folder(), aside: folder(), target: folder() }
    }

    pub fn archive(&self) -> PathBuf {
        self.aside.path().join("a.tar.zst")
    }
}

#[rstest]
#[case(1)]
#[case(2)]
#[case(3)]
fn a_hostile_tree_comes_back_as_it_was(#[case] seed: u64) {
    let lab = Lab::new();
    grow(lab.tree.path(), seed, 300, false);
    let before = facts(lab.tree.path());
    let made = to_file(lab.tree.path(), &lab.archive());
    assert!(made.changed.is_empty());
    let summary = made.archive.unwrap().summary;
    assert_eq!(summary.entries, before.keys().filter(|name| !name.starts_with(b"links of ")).count() as u64);
    assert_eq!(fs::metadata(lab.archive()).unwrap().mode() & 0o777, 0o600);
    let restored = restore(&lab.archive(), lab.target.path(), false).unwrap();
    assert!(restored.losses.is_empty(), "{:?}", restored.losses);
    assert_same(&before, &facts(lab.target.path()), "restored");
    // And once more over it, from a stream.
    fs::write(lab.target.path().join("other"), "x").unwrap();
    let stream = fs::File::open(lab.archive()).unwrap();
    let target = Target::open(lab.target.path()).unwrap();
    let origin = Origin::Stream(stream.into());
    target.restore(&origin, &wish(true, &Stop::default()), &mut |_, _| {}, &mut |_| Ok(())).unwrap();
    assert_same(&before, &facts(lab.target.path()), "replaced");
}

#[test]
fn the_usual_tar_lists_and_unpacks_it() {
    let lab = Lab::new();
    grow(lab.tree.path(), 7, 100, false);
    fs::write(lab.tree.path().join("plain"), "text").unwrap();
    to_file(lab.tree.path(), &lab.archive());
    let stream = zstd::decode_all(fs::File::open(lab.archive()).unwrap()).unwrap();
    let tar = lab.aside.path().join("a.tar");
    fs::write(&tar, stream).unwrap();
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new("tar").args(arguments).arg("-f").arg(&tar).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && errors.is_empty(), "{errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let list = run(&["-t"]);
    assert!(list.starts_with(".dindctl.backup.json\n./\n") && list.ends_with("\n.dindctl.manifest.jsonl\n"), "{list}");
    run(&[
        "-x",
        "--warning=no-timestamp",
        "--xattrs",
        "--xattrs-include=*",
        "-p",
        "-C",
        lab.target.path().to_str().unwrap(),
    ]);
    for name in [".dindctl.backup.json", ".dindctl.manifest.jsonl"] {
        fs::remove_file(lab.target.path().join(name)).unwrap();
    }
    let (mut one, mut other) = (facts(lab.tree.path()), facts(lab.target.path()));
    // Removing ours was a change of the folder.
    one.remove(b"".as_slice());
    other.remove(b"".as_slice());
    assert_same(&one, &other, "unpacked by tar");
}

fn small() -> Vec<u8> {
    static ARCHIVE: LazyLock<Vec<u8>> = LazyLock::new(made_small);
    ARCHIVE.clone()
}

fn made_small() -> Vec<u8> {
    let lab = Lab::new();
    fs::create_dir(lab.tree.path().join("d")).unwrap();
    fs::write(lab.tree.path().join("d/file"), "some text, some text, some text").unwrap();
    fs::hard_link(lab.tree.path().join("d/file"), lab.tree.path().join("e")).unwrap();
    to_file(lab.tree.path(), &lab.archive());
    fs::read(lab.archive()).unwrap()
}

#[test]
fn every_changed_bit_and_every_missing_or_added_byte_is_noticed() {
    let archive = small();
    judge(&archive).unwrap();
    for place in 0..archive.len() {
        let mut bytes = archive.clone();
        bytes[place] ^= 1 << (place % 8);
        let error = judge(&bytes).expect_err("a flip");
        assert!(error.is_verdict(), "{place}: {error}");
        let error = judge(&archive[..place]).expect_err("a truncation");
        assert!(matches!(error, ArchiveError::Truncated { .. } | ArchiveError::Foreign { .. }), "{place}: {error}");
    }
    for tail in [&b"\0"[..], &[0; 56], &archive] {
        assert!(judge(&[&archive, tail].concat()).unwrap_err().is_verdict());
    }
    assert!(judge(&archive[1..]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_in_another_order_are_noticed(one in any::<prop::sample::Index>(), two in any::<prop::sample::Index>(), length in 1_usize..64) {
        let archive = small();
        let last = archive.len() - length;
        let (one, two) = (one.index(last), two.index(last));
        let mut bytes = archive.clone();
        let piece = archive[one..one + length].to_vec();
        bytes[two..two + length].copy_from_slice(&piece);
        prop_assert!(bytes == archive || judge(&bytes).unwrap_err().is_verdict());
    }

    #[test]
    fn anything_else_is_foreign(bytes in prop::collection::vec(any::<u8>(), 0..2000), compressed in any::<bool>()) {
        let bytes = if compressed { zstd::encode_all(bytes.as_slice(), 1).unwrap() } else { bytes };
        let error = judge(&bytes).unwrap_err();
        prop_assert!(matches!(error, ArchiveError::Foreign { .. } | ArchiveError::Truncated { .. }), "{}", error);
    }
}

#[test]
fn a_damaged_archive_is_told_with_the_file_that_is_wrong() {
    let lab = Lab::new();
    for name in ["a", "b", "c"] {
        // Nothing that compresses, so that a flipped byte is a flipped byte of the file.
        let bytes: Vec<u8> = (0..40_u32).flat_map(|round| Sha256::digest(format!("{name}{round}")).to_vec()).collect();
        fs::write(lab.tree.path().join(name), bytes.repeat(300)).unwrap();
    }
    to_file(lab.tree.path(), &lab.archive());
    let mut bytes = fs::read(lab.archive()).unwrap();
    let half = bytes.len() / 2;
    bytes[half] ^= 0xff;
    fs::write(lab.archive(), &bytes).unwrap();
    fs::write(lab.target.path().join("mine"), "precious").unwrap();
    let before = facts(lab.target.path());
    let error = restore(&lab.archive(), lab.target.path(), true).unwrap_err();
    assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}");
    assert_same(&before, &facts(lab.target.path()), "the target");
    bytes.truncate(half);
    fs::write(lab.archive(), &bytes).unwrap();
    let error = verify(&Origin::File(lab.archive()), &Stop::default(), &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, ArchiveError::Truncated { .. }), "{error}");
}

#[test]
fn what_is_there_is_only_replaced_when_that_is_wanted() {
    let lab = Lab::new();
    fs::write(lab.tree.path().join("new"), "new").unwrap();
    to_file(lab.tree.path(), &lab.archive());
    fs::write(lab.target.path().join("old"), "old").unwrap();
    let error = restore(&lab.archive(), lab.target.path(), false).unwrap_err();
    assert!(error.to_string().contains("is not empty: old") && error.hint().unwrap().contains("--replace"), "{error}");
    assert_eq!(restore(&lab.archive(), lab.target.path(), true).unwrap().replaced, 1);
    assert_same(&facts(lab.tree.path()), &facts(lab.target.path()), "replaced");
    let inside = lab.target.path().join("a.tar.zst");
    fs::copy(lab.archive(), &inside).unwrap();
    let error = restore(&inside, lab.target.path(), true).unwrap_err();
    assert!(error.to_string().contains("lies in the folder"), "{error}");
    assert!(restore(&lab.archive(), &lab.aside.path().join("nowhere"), false).is_err());
}

#[test]
fn a_failure_at_any_step_leaves_the_old_tree() {
    let lab = Lab::new();
    grow(lab.tree.path(), 5, 14, false);
    to_file(lab.tree.path(), &lab.archive());
    grow(lab.target.path(), 6, 14, false);
    let before = facts(lab.target.path());
    for number in 1.. {
        let target = Target::open(lab.target.path()).unwrap();
        let mut count = 0;
        let mut steps = |_: &'static str| {
            count += 1;
            if count == number { Err(ArchiveError::Interrupted(2)) } else { Ok(()) }
        };
        let origin = Origin::File(lab.archive());
        match target.restore(&origin, &wish(true, &Stop::default()), &mut |_, _| {}, &mut steps) {
            Err(ArchiveError::Interrupted(2)) => {
                assert_same(&before, &facts(lab.target.path()), &format!("step {number}"));
            }
            Ok(_) => {
                assert!(number > 10, "only {number} steps");
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_same(&facts(lab.tree.path()), &facts(lab.target.path()), "the new tree");
}

/// While it is unpacked, too.
#[test]
fn a_signal_at_any_moment_leaves_the_old_tree() {
    let lab = Lab::new();
    grow(lab.tree.path(), 5, 40, false);
    to_file(lab.tree.path(), &lab.archive());
    fs::write(lab.target.path().join("old"), "old").unwrap();
    let before = facts(lab.target.path());
    for moment in (1..80).step_by(7) {
        let stop = Stop::default();
        let mut count = 0;
        let target = Target::open(lab.target.path()).unwrap();
        let mut progress = |_: &[u8], _| {
            count += 1;
            if count == moment {
                stop.ask(15);
            }
        };
        let mut steps = |_: &'static str| stop.check();
        let origin = Origin::File(lab.archive());
        let error = target.restore(&origin, &wish(true, &stop), &mut progress, &mut steps).unwrap_err();
        assert!(matches!(error, ArchiveError::Interrupted(15)), "{error}");
        assert_same(&before, &facts(lab.target.path()), "the old tree");
    }
}

#[test]
fn the_archive_never_lies_in_what_it_holds() {
    let lab = Lab::new();
    fs::create_dir(lab.tree.path().join("d")).unwrap();
    let inside = lab.tree.path().join("d/a.tar.zst");
    let error = make(request(lab.tree.path(), Destination::File(inside.clone()))).unwrap_err();
    assert!(error.to_string().contains("lies in the folder"), "{error}");
    // A shell's redirection cannot be refused, but what it writes is not read.
    let stream = fs::File::create(&inside).unwrap();
    let made = make(request(lab.tree.path(), Destination::Stream(stream.into(), None))).unwrap();
    assert_eq!(made.skipped.own, 1);
    assert_eq!(judge(&fs::read(&inside).unwrap()).unwrap().summary.entries, 2);
    // Anything that is no file is not replaced by one.
    let pipe = lab.aside.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(make(request(lab.tree.path(), Destination::File(pipe))).is_err());
}

#[test]
fn what_is_left_out_is_counted() {
    let lab = Lab::new();
    for folder in ["node_modules/x", "src/node_modules", "src/keep"] {
        fs::create_dir_all(lab.tree.path().join(folder)).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(lab.tree.path().join("socket")).unwrap();
    let exclude = (Patterns::new(&["node_modules".into()]).unwrap(), vec!["node_modules".into()]);
    let made = make(Request { exclude, ..request(lab.tree.path(), Destination::File(lab.archive())) }).unwrap();
    assert_eq!(made.skipped, Skipped { excluded: 2, sockets: 1, ..Skipped::default() });
    restore(&lab.archive(), lab.target.path(), false).unwrap();
    let names: Vec<_> = facts(lab.target.path()).into_keys().collect();
    assert_eq!(names, [&b""[..], b"src", b"src/keep"]);
}

/// Writes until told to stop.
fn restless(path: PathBuf, length: usize) -> (Arc<AtomicBool>, std::thread::JoinHandle<()>) {
    let going = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&going);
    fs::write(&path, vec![0; length]).unwrap();
    let thread = std::thread::spawn(move || {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let mut round = 0_u64;
        while flag.load(Ordering::Relaxed) {
            std::os::unix::fs::FileExt::write_all_at(&file, &round.to_le_bytes(), round % 100).unwrap();
            round += 1;
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    (going, thread)
}

#[rstest]
#[case(1000)]
#[case(5 << 20)]
fn a_file_that_never_holds_still_is_named(#[case] length: usize) {
    let lab = Lab::new();
    fs::write(lab.tree.path().join("calm"), "calm").unwrap();
    let (going, thread) = restless(lab.tree.path().join("restless"), length);
    let try_it = |keep_changed: bool| {
        // On a busy machine the writer may be kept waiting so long that the file does hold still.
        for _ in 0..20 {
            let _ = fs::remove_file(lab.archive());
            let request = request(lab.tree.path(), Destination::File(lab.archive()));
            let made = make(Request { keep_changed, ..request }).unwrap();
            if !made.changed.is_empty() {
                return made;
            }
        }
        panic!("it never changed");
    };
    let made = try_it(false);
    assert_eq!(made.changed, [PathText::new(b"restless")]);
    assert!(made.archive.is_none());
    assert!(fs::read_dir(lab.aside.path()).unwrap().next().is_none(), "nothing is left");
    assert!(try_it(true).archive.is_some());
    going.store(false, Ordering::Relaxed);
    thread.join().unwrap();
    let restored = restore(&lab.archive(), lab.target.path(), false).unwrap();
    assert_eq!(restored.verified.summary.changed, [PathText::new(b"restless")]);
    assert_eq!(restored.verified.summary.files, 2);
    assert_eq!(fs::metadata(lab.target.path().join("restless")).unwrap().len(), length as u64);
    assert_eq!(fs::read(lab.target.path().join("calm")).unwrap(), b"calm");
}

/// It is read again, and the archive has what it was in the end.
#[test]
fn a_file_that_changes_for_a_while_is_read_again() {
    let lab = Lab::new();
    let (going, thread) = restless(lab.tree.path().join("busy"), 5 << 20);
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(150));
        going.store(false, Ordering::Relaxed);
        thread.join().unwrap();
    });
    let made = make(request(lab.tree.path(), Destination::File(lab.archive()))).unwrap();
    stopper.join().unwrap();
    assert!(made.changed.is_empty());
    restore(&lab.archive(), lab.target.path(), false).unwrap();
    assert_same(&facts(lab.tree.path()), &facts(lab.target.path()), "the last version");
}

#[test]
fn names_that_come_and_go_are_no_failure() {
    let lab = Lab::new();
    for number in 0..300 {
        fs::write(lab.tree.path().join(format!("f{number:03}")), "x").unwrap();
    }
    let going = Arc::new(AtomicBool::new(true));
    let (flag, tree) = (Arc::clone(&going), lab.tree.path().to_owned());
    let thread = std::thread::spawn(move || {
        let mut round = 0;
        while flag.load(Ordering::Relaxed) {
            let path = tree.join(format!("f{:03}", round % 300));
            let _ = fs::remove_file(&path);
            let folder = tree.join(format!("d{:03}", round % 300));
            let _ = fs::create_dir(&folder);
            let _ = fs::remove_dir(&folder);
            // What stands there afterwards may be something else.
            let _ =
                if round % 2 == 0 { std::os::unix::fs::symlink("/etc/passwd", &path) } else { fs::write(&path, "y") };
            round += 1;
        }
    });
    for _ in 0..10 {
        make(Request { keep_changed: true, ..request(lab.tree.path(), Destination::File(lab.archive())) }).unwrap();
        let verified = verify(&Origin::File(lab.archive()), &Stop::default(), &mut |_, _| {}).unwrap();
        assert!(verified.summary.bytes < 10_000, "a link was followed");
    }
    going.store(false, Ordering::Relaxed);
    thread.join().unwrap();
}

#[test]
fn a_tree_deeper_than_any_path_comes_back() {
    const DEPTH: usize = 800;
    let lab = Lab::new();
    let mut here = lab.tree.path().to_owned();
    // A path may have 4096 bytes: the rest is made by moving what is there down.
    let name = "d".repeat(10);
    for _ in 0..DEPTH / 200 {
        let top = lab.tree.path().join("top");
        here = top.clone();
        for _ in 0..200 {
            here.push(&name);
        }
        fs::create_dir_all(&here).unwrap();
        let old = lab.tree.path().join("old");
        if old.exists() {
            fs::rename(&old, here.join("old")).unwrap();
        } else {
            fs::write(here.join("file"), "deep").unwrap();
        }
        fs::rename(&top, &old).unwrap();
    }
    drop(here);
    let made = to_file(lab.tree.path(), &lab.archive());
    assert_eq!(made.archive.unwrap().summary.entries, 1 + DEPTH as u64 + (DEPTH / 200) as u64 + 1);
    restore(&lab.archive(), lab.target.path(), false).unwrap();
    let again = lab.aside.path().join("again.tar.zst");
    let one = verify(&Origin::File(lab.archive()), &Stop::default(), &mut |_, _| {}).unwrap();
    let other = to_file(lab.target.path(), &again).archive.unwrap();
    assert_eq!((one.summary.entries, one.summary.bytes), (other.summary.entries, other.summary.bytes));
    // The standard library's removal is recursive by paths; ours is not.
    for folder in [lab.tree.path(), lab.target.path()] {
        let held = fs::File::open(folder).unwrap();
        dindctl::archive::remove::remove(std::os::fd::AsFd::as_fd(&held), "old".as_ref()).unwrap();
    }
}

#[test]
fn zeros_become_holes() {
    let lab = Lab::new();
    let file = fs::File::create(lab.tree.path().join("image")).unwrap();
    file.set_len(16 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 8 << 20).unwrap();
    let made = to_file(lab.tree.path(), &lab.archive());
    assert!(made.archive.unwrap().bytes < 100_000);
    let restored = restore(&lab.archive(), lab.target.path(), false).unwrap();
    assert!(restored.verified.need.bytes < 20_000);
    let stat = fs::metadata(lab.target.path().join("image")).unwrap();
    assert!(stat.len() == 16 << 20 && stat.blocks() * 512 < 1 << 20, "{stat:?}");
    assert_same(&facts(lab.tree.path()), &facts(lab.target.path()), "sparse");
}

#[test]
fn two_at_the_same_folder_do_not_meet() {
    let lab = Lab::new();
    let source = Source::open(lab.tree.path()).unwrap();
    let second = Source::open(lab.tree.path()).unwrap();
    assert!(Target::open(lab.tree.path()).unwrap_err().to_string().contains("is being backed up or restored"));
    drop((source, second));
    let _target = Target::open(lab.tree.path()).unwrap();
    assert!(Source::open(lab.tree.path()).is_err());
}

#[test]
fn a_killed_restore_is_ended_before_a_backup() {
    let lab = Lab::new();
    let hidden = lab.tree.path().join(".dindctl-restore-1234");
    fs::create_dir_all(hidden.join("old/kept")).unwrap();
    fs::create_dir_all(hidden.join("new")).unwrap();
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o700)).unwrap();
    let error = make(request(lab.tree.path(), Destination::File(lab.archive()))).unwrap_err();
    assert!(error.hint().unwrap().contains("--recover"), "{error}");
    let rights = Rights { lenient: true };
    assert_eq!(Target::open(lab.tree.path()).unwrap().recover(rights).unwrap().len(), 1);
    let names: BTreeMap<_, _> = facts(lab.tree.path());
    assert_eq!(names.keys().map(|name| std::ffi::OsStr::from_bytes(name)).collect::<Vec<_>>(), ["", "kept"]);
    to_file(lab.tree.path(), &lab.archive());
}
