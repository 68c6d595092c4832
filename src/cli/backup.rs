/*!
`dindctl backup`: a folder as one archive.

Exit codes: 0 done, 1 files changed whenever they were read, 125 anything else, 128+n ended by signal n.
*/
use std::ffi::OsString;
use std::io::{IsTerminal, stdout};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;

use super::archive::{DEFAULT_FOLDER, Meter, SIGNALS, failed};
use super::say::{self, Level, Voice};
use super::{Environment, OutputFormat, VERSION};
use crate::archive::backup::{Backup, Destination, Request, Source, backup};
use crate::archive::error::ArchiveError;
use crate::archive::manifest::{PathText, Skipped};
use crate::archive::names::Patterns;
use crate::archive::pause::Paused;
use crate::archive::stop::Stop;
use crate::probe::{Roots, mountinfo};

/// Exit code when files did not hold still.
const CHANGED: u8 = 1;
/// Paused containers do not wait longer than this for whoever takes the archive.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "\
The archive is a .tar.zst that ends with a manifest and a seal; `dindctl restore --verify-only` tells whether it is whole, \
`tar --zstd -t` lists it. With `-` it goes to standard output, and the result (-o json) to standard error.

  docker exec dind dindctl backup - >workspaces.tar.zst
  dindctl backup --pause --exclude node_modules --file /backup/w.tar.zst /workspaces")]
pub struct BackupArgs {
    /// The folder [default: `DIND_WORKSPACE_PATH`, else /workspaces]; `-` among the words means standard output
    #[arg(value_name = "FOLDER", num_args = 0..=2)]
    words: Vec<OsString>,
    /// Write the archive to this file, which appears when it is complete, or to standard output (-)
    #[arg(short, long, value_name = "FILE|-", alias = "output-file")]
    file: Option<OsString>,
    /// Leave out what matches: a name in any folder, or a path from the top when it has a slash (*, ?, [a-z], {a,b}, **)
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<OsString>,
    /// Pause the running containers that have the folder, something in it or something above it mounted while it is read
    #[arg(long)]
    pause: bool,
    /// Keep the archive even when files changed whenever they were read; the exit code is 1 all the same
    #[arg(long)]
    keep_changed: bool,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

#[derive(Serialize)]
struct Answer<'a> {
    schema: &'static str,
    folder: PathText,
    file: Option<PathText>,
    kept: bool,
    entries: u64,
    files: u64,
    bytes: u64,
    archive_bytes: u64,
    sha256: Option<&'a str>,
    changed: &'a [PathText],
    skipped: &'a Skipped,
    paused: &'a [String],
}

/// Where the archive goes and which folder is meant: `None` is standard output.
type Meant = (Option<PathBuf>, Option<PathBuf>);

fn meant(args: &BackupArgs) -> Result<Meant, ArchiveError> {
    let hint = "dindctl backup - >FILE, or dindctl backup --file FILE [FOLDER]";
    let (dashes, folders): (Vec<_>, Vec<_>) = args.words.iter().partition(|word| *word == "-");
    let file = match (&args.file, dashes.len()) {
        (Some(file), 0) => Some(file).filter(|file| *file != "-").map(PathBuf::from),
        (None, 1) => None,
        (None, 0) => return Err(ArchiveError::refused("nothing says where the archive goes", hint)),
        _ => return Err(ArchiveError::refused("more than one thing says where the archive goes", hint)),
    };
    match folders.as_slice() {
        [] => Ok((file, None)),
        [folder] => Ok((file, Some(PathBuf::from(folder)))),
        _ => Err(ArchiveError::refused("only one folder can be backed up", hint)),
    }
}

/// Runs the command.
pub fn run(args: &BackupArgs, environment: &Environment, voice: Voice) -> u8 {
    match make(args, environment, voice) {
        Ok((file, backup)) => {
            tell(&backup, voice);
            print(args.output, file.as_deref(), &backup, voice);
            if backup.changed.is_empty() { 0 } else { CHANGED }
        }
        Err(error) => failed(&error, voice),
    }
}

fn make(args: &BackupArgs, environment: &Environment, voice: Voice) -> Result<(Option<PathBuf>, Backup), ArchiveError> {
    let (file, folder) = meant(args)?;
    let folder =
        folder.unwrap_or_else(|| PathBuf::from(environment.text(DEFAULT_FOLDER.0).unwrap_or(DEFAULT_FOLDER.1)));
    let patterns = Patterns::new(&args.exclude)
        .map_err(|why| ArchiveError::refused(format!("--exclude: {why}"), "write a name or a path from the top"))?;
    let typed = args.exclude.iter().map(|pattern| pattern.to_string_lossy().into_owned()).collect();
    let to = match &file {
        Some(path) => Destination::File(path.clone()),
        None if stdout().is_terminal() => {
            let what = "standard output is a terminal, and an archive is no text";
            return Err(ArchiveError::refused(what, "dindctl backup - >FILE, or --file FILE"));
        }
        None => {
            let own = stdout().as_fd().try_clone_to_owned().map_err(ArchiveError::io("open", "standard output"))?;
            Destination::Stream(own, args.pause.then_some(PATIENCE))
        }
    };
    let source = Source::open(&folder)?;
    // Before signals are noted: until here one may simply end us.
    let paused = args.pause.then(|| Paused::none(&environment.texts(), &voice.waits())).transpose()?;
    let stop = Stop::on(&SIGNALS).map_err(ArchiveError::io("listen to", "signals"))?;
    let mounts = mountinfo::own(&Roots::system()).unwrap_or_default();
    let paused = paused.map(|paused| paused.pause(&source.path, &mounts, &stop)).transpose()?;
    if let Some(paused) = &paused {
        let names = paused.names();
        let list = if names.is_empty() { "no running container has to do with it".into() } else { names.join(", ") };
        voice.say(Level::Info, &format!("paused: {list}"));
    }
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stamp = (humantime::format_rfc3339_seconds(SystemTime::now()).to_string(), VERSION.to_owned(), host);
    let request = Request { folder, to, exclude: (patterns, typed), keep_changed: args.keep_changed, stamp };
    let mut meter = Meter::new("reading");
    let done = backup(request, &source, paused, &stop, &mut |path, count| meter.tell(path, count));
    meter.end();
    Ok((file, done?))
}

/// What somebody should know, one line for each kind.
fn tell(backup: &Backup, voice: Voice) {
    let skipped = &backup.skipped;
    let counted = [
        (skipped.excluded, "by --exclude"),
        (skipped.sockets, "sockets, which nobody would listen on"),
        (skipped.vanished, "that vanished while it was read"),
        (skipped.own, "of dindctl itself"),
    ];
    for (count, what) in counted.into_iter().filter(|(count, _)| *count > 0) {
        voice.say(Level::Info, &format!("left out: {count} {what}"));
    }
    if !skipped.mounts.is_empty() {
        let names = super::archive::some(&skipped.mounts);
        voice.say(Level::Warn, &format!("left out: other file systems mounted below: {names}"));
    }
    if !backup.changed.is_empty() {
        let names = super::archive::some(&backup.changed);
        let kept = if backup.archive.is_some() { "kept as it was read last" } else { "no archive was kept" };
        let hint =
            "--pause holds containers still meanwhile; --exclude leaves files out; --keep-changed keeps the archive";
        voice.fail_with(&format!("changed whenever it was read: {names}: {kept}"), Some(hint));
    }
}

fn print(form: OutputFormat, file: Option<&Path>, backup: &Backup, voice: Voice) {
    use std::os::unix::ffi::OsStrExt;
    let text = |path: &Path| PathText::new(path.as_os_str().as_bytes());
    let summary = backup.archive.as_ref().map(|archive| archive.summary.clone()).unwrap_or_default();
    let bytes = backup.archive.as_ref().map_or(0, |archive| archive.bytes);
    let sha256 = backup.archive.as_ref().map(|archive| archive.sha256.as_str());
    let line = match form {
        OutputFormat::Json => {
            let answer = Answer {
                schema: "dindctl.backup.result/v1",
                folder: text(&backup.folder),
                file: file.map(text),
                kept: backup.archive.is_some(),
                entries: summary.entries,
                files: summary.files,
                bytes: summary.bytes,
                archive_bytes: bytes,
                sha256,
                changed: &backup.changed,
                skipped: &backup.skipped,
                paused: &backup.paused,
            };
            match serde_json::to_string(&answer) {
                Ok(line) => line,
                Err(error) => return voice.fail_with(&format!("cannot write the result: {error}"), None),
            }
        }
        OutputFormat::Text => {
            let Some(sha256) = sha256 else { return };
            let (size, content) = (bytesize::ByteSize(bytes), bytesize::ByteSize(summary.bytes));
            let to = file.map_or_else(|| "standard output".into(), |path| path.display().to_string());
            format!(
                "{}: {} names, {content} in {size} to {to}\nsha256 {sha256}",
                backup.folder.display(),
                summary.entries
            )
        }
    };
    match (file, form) {
        (Some(_), _) => say::result(&line),
        // Standard output has the archive.
        (None, OutputFormat::Json) => super::archive::aside(&line),
        (None, OutputFormat::Text) => line.lines().for_each(|line| voice.say(Level::Info, line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: BackupArgs,
    }

    fn words(words: &[&str]) -> Result<Meant, String> {
        let typed = Typed::try_parse_from([&["backup"], words].concat()).map_err(|error| error.to_string())?;
        meant(&typed.args).map_err(|error| error.to_string())
    }

    #[test]
    fn where_it_goes_and_what_it_is() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(words(&["-"]), Ok((None, None)));
        assert_eq!(words(&["-", "/srv"]), Ok((None, path("/srv"))));
        assert_eq!(words(&["/srv", "-"]), Ok((None, path("/srv"))));
        assert_eq!(words(&["--file", "x", "/srv"]), Ok((path("x"), path("/srv"))));
        assert_eq!(words(&["-f", "-"]), Ok((None, None)));
        assert_eq!(words(&["--output-file=x"]), Ok((path("x"), None)));
        for bad in [&["/srv"][..], &[], &["-", "-f", "x"], &["-", "-"], &["-f", "x", "/a", "/b"]] {
            assert!(words(bad).is_err(), "{bad:?}");
        }
    }
}
