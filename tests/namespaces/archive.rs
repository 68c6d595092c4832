//! Backup and restore with what only root has: owners, devices, capabilities of files, mounts, small disks, signals.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use crate::support::{ensure, eventually, trial};
use crate::trees::{assert_same, facts, grow};

type Outcome = Result<(), Failed>;

pub fn trials() -> Vec<Trial> {
    let root = if nix::unistd::geteuid().is_root() { Ok(()) } else { Err("needs root".to_owned()) };
    let mounts = root.clone().and_then(|()| mount_namespaces());
    vec![
        trial("archive_a_hostile_tree_of_root_comes_back_as_it_was", &root, a_hostile_tree),
        trial("archive_an_ordinary_user_is_told_what_cannot_be_kept", &root, an_ordinary_user),
        trial("archive_no_other_file_system_is_entered", &mounts, other_file_systems),
        trial("archive_a_mount_point_is_replaced_and_a_full_disk_is_no_half", &mounts, small_disks),
        trial("archive_a_signal_leaves_no_half_file", &root, signals_while_writing),
        trial("archive_a_killed_restore_is_undone_by_the_next", &root, killed_restores),
        trial("archive_the_command_line_says_what_it_did", &root, the_command_line),
    ]
}

fn mount_namespaces() -> Result<(), String> {
    let tried = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "x", "/mnt"]).output();
    let tried = tried.map_err(|error| format!("cannot run unshare: {error}"))?;
    if tried.status.success() {
        Ok(())
    } else {
        Err(format!("no mounts: {}", String::from_utf8_lossy(&tried.stderr).trim()))
    }
}

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_dindctl")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    // Of the tests, not of dindctl, which would warn about it.
    command.args(arguments).env_remove("DINDCTL_BIN");
    command
}

fn dindctl(arguments: &[&str]) -> std::io::Result<Output> {
    command(arguments).stdin(Stdio::null()).output()
}

fn ok(output: &Output) -> Outcome {
    ensure(output.status.success(), || format!("{:?} {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

fn folders() -> std::io::Result<(tempfile::TempDir, PathBuf, PathBuf, PathBuf)> {
    let lab = tempfile::tempdir()?;
    let (tree, target) = (lab.path().join("tree"), lab.path().join("target"));
    std::fs::create_dir(&tree)?;
    std::fs::create_dir(&target)?;
    let archive = lab.path().join("a.tar.zst");
    Ok((lab, tree, target, archive))
}

fn a_hostile_tree() -> Outcome {
    for seed in 11..16 {
        let (_lab, tree, target, archive) = folders()?;
        grow(&tree, seed, 400, true);
        xattr::set(&tree, "trusted.folder", b"itself")?;
        // Whatever the target hands down must not reach the new tree.
        grow(&target, seed + 100, 20, true);
        let list = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x07\0\x39\x05\0\0\x04\0\x07\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\x07\0\xff\xff\xff\xff";
        xattr::set(&target, "system.posix_acl_default", list)?;
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o2775))?;
        let before = facts(&tree);
        ok(&dindctl(&["backup", "-f", text(&archive), text(&tree)])?)?;
        let restored = dindctl(&["restore", text(&archive), "--to", text(&target), "--replace", "-o", "json"])?;
        ok(&restored)?;
        let answer: serde_json::Value = serde_json::from_slice(&restored.stdout)?;
        let nothing = serde_json::json!({"owners": 0, "devices": 0, "xattrs": 0});
        ensure(answer["lost"] == nothing, || answer.to_string())?;
        assert_same(&before, &facts(&target), &format!("seed {seed}"));
    }
    Ok(())
}

fn an_ordinary_user() -> Outcome {
    let (lab, tree, target, archive) = folders()?;
    std::fs::set_permissions(lab.path(), std::fs::Permissions::from_mode(0o755))?;
    std::fs::write(tree.join("program"), "x")?;
    std::os::unix::fs::chown(tree.join("program"), Some(1234), Some(1234))?;
    std::fs::set_permissions(tree.join("program"), std::fs::Permissions::from_mode(0o6755))?;
    let kind = nix::sys::stat::SFlag::S_IFCHR;
    nix::sys::stat::mknod(&tree.join("null"), kind, nix::sys::stat::Mode::S_IRWXU, nix::sys::stat::makedev(1, 3))?;
    std::fs::hard_link(tree.join("null"), tree.join("null2"))?;
    xattr::set(tree.join("program"), "trusted.x", b"x")?;
    ok(&dindctl(&["backup", "-f", text(&archive), text(&tree)])?)?;
    std::fs::set_permissions(&archive, std::fs::Permissions::from_mode(0o644))?;
    // The folder of the build may be closed to others.
    let copy = lab.path().join("dindctl");
    std::fs::copy(program(), &copy)?;
    std::os::unix::fs::chown(&target, Some(4321), Some(4321))?;
    let as_user = |arguments: &[&str]| {
        let user = ["--reuid=4321", "--regid=4321", "--clear-groups"];
        Command::new("setpriv").args(user).arg(&copy).args(arguments).stdin(Stdio::null()).output()
    };
    let restored = as_user(&["restore", text(&archive), "--to", text(&target), "-o", "json"])?;
    ok(&restored)?;
    let answer: serde_json::Value = serde_json::from_slice(&restored.stdout)?;
    ensure(answer["lost"] == serde_json::json!({"owners": 2, "devices": 1, "xattrs": 1}), || answer.to_string())?;
    let said = String::from_utf8_lossy(&restored.stderr).into_owned();
    ensure(said.contains("owner and group") && said.contains("device nodes, which are missing now"), || said)?;
    let stat = std::fs::metadata(target.join("program"))?;
    ensure(stat.mode() & 0o7777 == 0o755 && stat.uid() == 4321, || format!("{stat:?}"))?;
    // What cannot be read is not silently left out.
    std::fs::write(tree.join("secret"), "x")?;
    std::fs::set_permissions(tree.join("secret"), std::fs::Permissions::from_mode(0o600))?;
    let refused = as_user(&["backup", "-", text(&tree)])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure(refused.status.code() == Some(125) && said.contains("secret: EACCES"), || said)
}

/// Runs a shell line with mounts of its own. `$1` is dindctl, `$2` the folder.
fn with_mounts(script: &str, folder: &Path) -> std::io::Result<Output> {
    let whole = format!("set -eu; cd \"$2\"; {script}");
    let line = ["--mount", "--propagation=private", "bash", "-c", &whole, "x", program()];
    Command::new("unshare").args(line).arg(folder).stdin(Stdio::null()).output()
}

fn other_file_systems() -> Outcome {
    let (lab, tree, ..) = folders()?;
    for name in ["tmpfs", "same", "kept"] {
        std::fs::create_dir(tree.join(name))?;
        std::fs::write(tree.join(name).join("file"), "x")?;
    }
    std::fs::write(tree.join("bound"), "x")?;
    let script = r#"
        mount -t tmpfs x tree/tmpfs; touch tree/tmpfs/foreign
        mount --bind tree/kept tree/same
        mount --bind tree/kept/file tree/bound
        "$1" backup -f a.tar.zst tree -o json
        "$1" restore a.tar.zst --to target
        code=0; "$1" restore a.tar.zst --to tree --replace 2>refused || code=$?
        test $code = 125; grep -q 'is mounted inside' refused
        find target | sort"#;
    let output = with_mounts(script, lab.path())?;
    ok(&output)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (json, rest) = said.split_once('\n').ok_or("no output")?;
    let answer: serde_json::Value = serde_json::from_str(json)?;
    ensure(answer["skipped"]["mounts"] == serde_json::json!(["bound", "same", "tmpfs"]), || answer.to_string())?;
    ensure(rest.ends_with("\ntarget\ntarget/kept\ntarget/kept/file\n"), || rest.to_owned())?;
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(notes.contains("other file systems mounted below: bound, same, tmpfs"), || notes)
}

fn small_disks() -> Outcome {
    let (lab, tree, ..) = folders()?;
    for number in 0..4_u8 {
        // Nothing that compresses.
        let mut bytes = vec![0; 500_000];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        std::fs::write(tree.join(format!("file{number}")), bytes)?;
    }
    let script = r#"
        fails() { code=0; "$@" 2>said || code=$?; test $code = 125 || { cat said >&2; exit 9; }; cat said >&2; }
        mkdir disk; mount -t tmpfs -o size=1m,nr_inodes=50 x disk
        fails "$1" backup -f disk/a.tar.zst tree
        test "$(ls -A disk)" = ""
        fails "$1" backup - tree >/dev/full
        "$1" backup -f a.tar.zst tree
        fails "$1" restore a.tar.zst --to disk
        test "$(ls -A disk)" = ""
        umount disk; mount -t tmpfs -o size=3m,nr_inodes=50 x disk
        echo old >disk/old; chmod 2751 disk
        "$1" restore a.tar.zst --to disk --replace
        fails "$1" restore a.tar.zst --to disk --replace
        test "$(ls -A disk | tr '\n' ' ')" = "file0 file1 file2 file3 "
        umount disk; mount -t tmpfs -o size=3m,nr_inodes=9 x disk
        mkdir many; touch many/{1..20}; "$1" backup -f many.tar.zst many; echo old >disk/old
        fails "$1" restore many.tar.zst --to disk --replace
        test "$(ls -A disk)" = old
        umount disk; mount -t tmpfs -o size=4m x disk
        "$1" restore - --to disk <a.tar.zst
        diff -r tree disk"#;
    let output = with_mounts(script, lab.path())?;
    ok(&output)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for what in ["ENOSPC", "bytes free, and", "inodes free, and", "old and new tree need room at the same time"] {
        ensure(said.contains(what), || format!("{what}: {said}"))?;
    }
    Ok(())
}

fn signals_while_writing() -> Outcome {
    let (lab, tree, ..) = folders()?;
    for number in 0..200 {
        std::fs::write(tree.join(format!("{number}")), vec![1; 100_000])?;
    }
    let aside = lab.path().join("aside");
    std::fs::create_dir(&aside)?;
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143), (libc::SIGHUP, 129)] {
        let mut child = Command::new(program())
            .args(["backup", "-f", text(&aside.join("a.tar.zst")), text(&tree)])
            .stderr(Stdio::null())
            .spawn()?;
        eventually("a temporary file", || std::fs::read_dir(&aside).ok()?.next()?.ok())?;
        dindctl::sys::signal::send(i32::try_from(child.id())?, signal)?;
        let status = child.wait()?;
        ensure(status.code() == Some(code), || format!("{status:?}"))?;
        let left: Vec<_> =
            std::fs::read_dir(&aside)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        ensure(left.is_empty(), || format!("{left:?}"))?;
    }
    // A reader that stalls holds no signal up, and one that goes away is told.
    let spawn = || {
        Command::new(program()).args(["backup", "-", text(&tree)]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let mut child = spawn()?;
    let mut first = [0; 100];
    child.stdout.as_mut().ok_or("no pipe")?.read_exact(&mut first)?;
    std::thread::sleep(Duration::from_millis(300));
    dindctl::sys::signal::send(i32::try_from(child.id())?, libc::SIGTERM)?;
    let stdout = child.stdout.take();
    let output = child.wait_with_output()?;
    drop(stdout);
    // It may have been done before, when everything went into the pipe.
    ensure(matches!(output.status.code(), Some(143 | 0)), || format!("{output:?}"))
}

/// Kills the process at many moments; whatever it has done by then, the next call makes a whole tree of it.
fn killed_restores() -> Outcome {
    let (lab, tree, target, archive) = folders()?;
    grow(&tree, 21, 150, true);
    ok(&dindctl(&["backup", "-f", text(&archive), text(&tree)])?)?;
    let (old, new) = (lab.path().join("old.tar.zst"), facts(&tree));
    grow(&target, 22, 150, true);
    let before = facts(&target);
    ok(&dindctl(&["backup", "-f", text(&old), text(&target)])?)?;
    let mut outcomes = std::collections::BTreeMap::new();
    for round in 0..40_u64 {
        let mut child = Command::new(program())
            .args(["restore", text(&archive), "--to", text(&target), "--replace"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // From the moment at which the hidden folder is there, a little later each time.
        let hidden = || {
            std::fs::read_dir(&target)
                .ok()?
                .flatten()
                .find(|entry| entry.file_name().to_string_lossy().starts_with(".dindctl-restore-"))
        };
        while hidden().is_none() && child.try_wait()?.is_none() {}
        std::thread::sleep(Duration::from_micros(round * round * 200));
        let _ = child.kill();
        child.wait()?;
        ok(&dindctl(&["restore", "--recover", "--to", text(&target)])?)?;
        let after = facts(&target);
        let name = if after == new { "new" } else { "old" };
        *outcomes.entry(name).or_insert(0) += 1;
        if name == "old" {
            let mut lines = (before.clone(), after);
            // The time of the folder itself is only known from the moment at which it was noted.
            lines.0.remove(b"".as_slice());
            lines.1.remove(b"".as_slice());
            assert_same(&lines.0, &lines.1, "the old tree");
        } else {
            ok(&dindctl(&["restore", text(&old), "--to", text(&target), "--replace"])?)?;
        }
    }
    eprintln!("after a kill: {outcomes:?}");
    ensure(outcomes.contains_key("old"), || "no kill came in time".to_owned())
}

fn the_command_line() -> Outcome {
    let (lab, tree, target, archive) = folders()?;
    std::fs::write(tree.join("file"), "text")?;
    let usual =
        |arguments: &[&str], input: Stdio| command(arguments).env("DIND_WORKSPACE_PATH", &tree).stdin(input).output();
    let made = usual(&["backup", "-", "-o", "json"], Stdio::null())?;
    ok(&made)?;
    std::fs::File::create(&archive)?.write_all(&made.stdout)?;
    let backup: serde_json::Value = serde_json::from_slice(&made.stderr)?;
    let verified = usual(&["restore", "--verify-only", "-", "-o", "json"], std::fs::File::open(&archive)?.into())?;
    ok(&verified)?;
    let answer: serde_json::Value = serde_json::from_slice(&verified.stdout)?;
    for key in ["entries", "files", "bytes", "archive_bytes", "sha256", "changed", "skipped"] {
        ensure(backup[key] == answer[key], || format!("{key}: {backup} {answer}"))?;
    }
    ensure(
        answer["restored"] == false
            && answer["entries"] == 2
            && answer["backup"]["folder"] == text(&tree.canonicalize()?),
        || answer.to_string(),
    )?;
    let restored = usual(&["restore", text(&archive), "--to", text(&target)], Stdio::null())?;
    let said = String::from_utf8_lossy(&restored.stdout).into_owned();
    ensure(said.starts_with("restored to ") && said.contains("2 names, 4 B in"), || said)?;
    // Codes: the archive's fault, everybody else's.
    let mut bytes = std::fs::read(&archive)?;
    bytes.pop();
    std::fs::write(lab.path().join("short"), &bytes)?;
    let short = usual(&["restore", "--verify-only", text(&lab.path().join("short"))], Stdio::null())?;
    let said = String::from_utf8_lossy(&short.stderr).into_owned();
    ensure(
        short.status.code() == Some(1)
            && said.contains("is truncated: it ends after")
            && said.contains("dindctl: hint: "),
        || said,
    )?;
    for wrong in [
        &["backup"][..],
        &["restore"],
        &["restore", "/nowhere"],
        &["backup", "-", "/nowhere"],
        &["backup", "-", "--exclude", "/"],
    ] {
        let output = usual(wrong, Stdio::null())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(output.status.code() == Some(125) && said.lines().count() <= 2, || format!("{wrong:?}: {said}"))?;
    }
    Ok(())
}
