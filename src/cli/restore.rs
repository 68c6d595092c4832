/*!
`dindctl restore`: an archive of `dindctl backup` back into a folder.

Exit codes: 0 done, 1 the archive is damaged or none of ours, 125 anything else, 128+n ended by signal n.
*/
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::archive::{DEFAULT_FOLDER, Meter, SIGNALS, failed};
use super::say::{self, Level, Voice};
use super::{Environment, FAILED, OutputFormat};
use crate::archive::error::ArchiveError;
use crate::archive::manifest::{Header, PathText, Skipped};
use crate::archive::read::Verified;
use crate::archive::restore::{Origin, Restored, Target, Wish, verify};
use crate::archive::stop::Stop;
use crate::archive::swap::Recovered;
use crate::archive::unpack::{Losses, Rights};
use crate::probe::mountinfo::Mount;
use crate::probe::{Roots, mountinfo};

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "\
Everything is verified before anything is changed. The new tree is unpacked aside and then exchanged for the old one; after an \
error or a signal the old one is as it was. A restore that was killed is ended by the next one, or by --recover.

  docker exec -i dind dindctl restore - --replace <workspaces.tar.zst")]
pub struct RestoreArgs {
    /// The archive, or - for standard input
    #[arg(value_name = "ARCHIVE|-", required_unless_present = "recover", conflicts_with = "recover")]
    archive: Option<OsString>,
    /// The folder [default: `DIND_WORKSPACE_PATH`, else /workspaces]
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    /// Replace what is in the folder
    #[arg(long)]
    replace: bool,
    /// Only tell whether the archive is whole; nothing is written
    #[arg(long, conflicts_with_all = ["to", "replace", "recover"])]
    verify_only: bool,
    /// Only end a restore that was killed: put the old tree back, or keep the new one if it was whole
    #[arg(long, conflicts_with = "replace")]
    recover: bool,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

#[derive(Serialize)]
struct Answer<'a> {
    schema: &'static str,
    folder: Option<PathText>,
    file: Option<PathText>,
    restored: bool,
    entries: u64,
    files: u64,
    bytes: u64,
    archive_bytes: u64,
    sha256: &'a str,
    changed: &'a [PathText],
    skipped: &'a Skipped,
    backup: &'a Header,
    lost: Losses,
    replaced: usize,
    recovered: &'a [Recovered],
}

#[derive(Serialize)]
struct RecoverAnswer<'a> {
    schema: &'static str,
    folder: PathText,
    recovered: &'a [Recovered],
}

/// Runs the command.
pub fn run(args: &RestoreArgs, environment: &Environment, voice: Voice) -> u8 {
    let outcome = match &args.archive {
        None => recover(args, environment, voice),
        Some(_) if args.verify_only => only_verify(args, voice),
        Some(_) => restore(args, environment, voice),
    };
    outcome.unwrap_or_else(|error| failed(&error, voice))
}

fn origin(args: &RestoreArgs) -> Result<Origin, ArchiveError> {
    match &args.archive {
        Some(name) if name != "-" => Ok(Origin::File(PathBuf::from(name))),
        _ => {
            let own = std::io::stdin().as_fd().try_clone_to_owned();
            own.map(Origin::Stream).map_err(ArchiveError::io("open", "standard input"))
        }
    }
}

fn target(args: &RestoreArgs, environment: &Environment) -> Result<Target, ArchiveError> {
    let usual = || PathBuf::from(environment.text(DEFAULT_FOLDER.0).unwrap_or(DEFAULT_FOLDER.1));
    Target::open(&args.to.clone().unwrap_or_else(usual))
}

/// Without the table nobody could know what would be moved.
fn mounts() -> Result<Vec<Mount>, ArchiveError> {
    mountinfo::own(&Roots::system())
        .map_err(|error| ArchiveError::refused(error.to_string(), "mount /proc, and try again"))
}

fn stop() -> Result<Stop, ArchiveError> {
    Stop::on(&SIGNALS).map_err(ArchiveError::io("listen to", "signals"))
}

fn only_verify(args: &RestoreArgs, voice: Voice) -> Result<u8, ArchiveError> {
    let mut meter = Meter::new("verifying");
    let verified = verify(&origin(args)?, &stop()?, &mut |path, count| meter.tell(path, count));
    meter.end();
    Ok(answer(args, &verified?, None, voice))
}

fn recover(args: &RestoreArgs, environment: &Environment, voice: Voice) -> Result<u8, ArchiveError> {
    let target = target(args, environment)?;
    let recovered = target.recover(Rights::ours())?;
    let folder = path_text(target.path());
    match args.output {
        OutputFormat::Text => {
            tell_recovered(&recovered, voice);
            if recovered.is_empty() {
                voice.say(Level::Info, "nothing is left of a restore");
            }
        }
        OutputFormat::Json => {
            let answer = RecoverAnswer { schema: "dindctl.recover.result/v1", folder, recovered: &recovered };
            print_json(&answer, voice);
        }
    }
    Ok(0)
}

fn restore(args: &RestoreArgs, environment: &Environment, voice: Voice) -> Result<u8, ArchiveError> {
    let (origin, target, stop) = (origin(args)?, target(args, environment)?, stop()?);
    let mounts = mounts()?;
    let mut meter = Meter::new("restoring");
    let asked = stop.clone();
    let mut steps = |_: &str| asked.check();
    let mut progress = |path: &[u8], count| meter.tell(path, count);
    let wish = Wish { replace: args.replace, mounts: &mounts, rights: Rights::ours(), stop: &stop };
    let outcome = target.restore(&origin, &wish, &mut progress, &mut steps);
    meter.end();
    let restored = outcome?;
    tell_recovered(&restored.recovered, voice);
    let losses = restored.losses;
    let lost = [
        (losses.owners, "owner and group, and with them set-user-id"),
        (losses.devices, "device nodes, which are missing now"),
        (losses.xattrs, "extended attributes"),
    ];
    for (count, what) in lost.into_iter().filter(|(count, _)| *count > 0) {
        voice.say(
            Level::Warn,
            &format!("could not be kept, for lack of rights or by the file system: {what}, {count} times"),
        );
    }
    let code = match &restored.left {
        None => 0,
        Some(why) => {
            let message = format!("the new tree is in place, but the old one could not be removed: {why}");
            voice.fail_with(&message, Some("mend that, then dindctl restore --recover"));
            FAILED
        }
    };
    let said = answer(args, &restored.verified, Some((&restored, target.path())), voice);
    Ok(code.max(said))
}

fn tell_recovered(recovered: &[Recovered], voice: Voice) {
    for what in recovered {
        let words = match what {
            Recovered::RolledBack => "a restore that was killed is undone: the old tree is back",
            Recovered::Finished => "a restore that was killed had come to its end: the new tree stays",
        };
        voice.say(Level::Info, words);
    }
}

fn path_text(path: &std::path::Path) -> PathText {
    use std::os::unix::ffi::OsStrExt;
    PathText::new(path.as_os_str().as_bytes())
}

fn answer(args: &RestoreArgs, verified: &Verified, done: Option<(&Restored, &std::path::Path)>, voice: Voice) -> u8 {
    let summary = &verified.summary;
    if !summary.changed.is_empty() {
        let names = super::archive::some(&summary.changed);
        voice.say(Level::Warn, &format!("the backup was made while these changed: {names}"));
    }
    let file = args.archive.as_ref().filter(|name| *name != "-").map(|name| path_text(name.as_ref()));
    match args.output {
        OutputFormat::Json => {
            let answer = Answer {
                schema: "dindctl.restore.result/v1",
                folder: done.map(|(_, path)| path_text(path)),
                file,
                restored: done.is_some(),
                entries: summary.entries,
                files: summary.files,
                bytes: summary.bytes,
                archive_bytes: verified.bytes,
                sha256: &verified.sha256,
                changed: &summary.changed,
                skipped: &summary.skipped,
                backup: &verified.header,
                lost: done.map(|(restored, _)| restored.losses).unwrap_or_default(),
                replaced: done.map_or(0, |(restored, _)| restored.replaced),
                recovered: done.map_or(&[], |(restored, _)| restored.recovered.as_slice()),
            };
            print_json(&answer, voice)
        }
        OutputFormat::Text => {
            let what = done.map_or("whole", |_| "restored");
            let to = done.map(|(_, path)| format!(" to {}", path.display())).unwrap_or_default();
            let (size, content) = (bytesize::ByteSize(verified.bytes), bytesize::ByteSize(summary.bytes));
            let Header { folder, host, created, .. } = &verified.header;
            say::result(&format!(
                "{what}{to}: {} names, {content} in {size}, backup of {} on {host}, {created}\nsha256 {}",
                summary.entries,
                folder.shown(),
                verified.sha256
            ));
            0
        }
    }
}

fn print_json(answer: &impl Serialize, voice: Voice) -> u8 {
    match serde_json::to_string(answer) {
        Ok(text) => {
            say::result(&text);
            0
        }
        Err(error) => {
            voice.fail_with(&format!("cannot write the result: {error}"), None);
            FAILED
        }
    }
}
