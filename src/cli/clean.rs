/*!
`dindctl clean`: prunes the daemon. Exit code 0 done, 1 something could not be removed or the answer at the terminal was no, 125 usage and
daemon errors, 128+n interrupted.
*/
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::failure::Failure;
use super::say::{self, Level, Voice};
use super::{Environment, OutputFormat};
use crate::clean::act::act;
use crate::clean::look::{Found, look};
use crate::clean::plan::Wishes;
use crate::clean::report::{Bytes, Item, Kind, Report, size, summary};
use crate::exec::daemon::{self, Daemon};
use crate::exec::error::ExecError;
use crate::exec::rejection::Rejection;
use crate::exec::terminal::Signals;
use crate::exec::{endpoint, exit};
use crate::probe::Roots;

/// Exit code when not everything went as it was asked for.
const NOT_ALL: u8 = 1;

/// What was typed.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // They are switches.
pub struct CleanArgs {
    /// Say what would be removed and why, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove every image that no container uses, not only those without a tag, and all of the unused build cache
    #[arg(long)]
    all: bool,
    /// Remove volumes that no container uses as well, with the data in them
    #[arg(long)]
    volumes: bool,
    /// Only what was made longer ago than this, such as 12h or 7days; of the build cache, what was not used since
    #[arg(long, value_name = "DURATION")]
    older_than: Option<String>,
    /// Do not ask before data goes
    #[arg(short, long)]
    yes: bool,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

/// Runs the command.
pub fn run(arguments: &CleanArgs, environment: &Environment, voice: Voice) -> u8 {
    match clean(arguments, environment, voice) {
        Ok(code) => code,
        Err(failure) => failure.report(voice),
    }
}

fn clean(arguments: &CleanArgs, environment: &Environment, voice: Voice) -> Result<u8, Failure> {
    let wishes = wishes(arguments).map_err(ExecError::from)?;
    let asks = wishes.volumes && !arguments.yes && !arguments.dry_run;
    may_ask(asks, io::stdin().is_terminal())?;
    let env = environment.texts();
    let endpoint = endpoint::from_env(&env)?;
    let runtime = daemon::runtime()?;
    runtime.block_on(async {
        let daemon = daemon::connect(endpoint, &env, &voice.waits()).await?;
        let roots = Roots::system();
        let found = look(&daemon, &wishes, &roots).await?;
        for note in &found.notes {
            voice.say(Level::Warn, note);
        }
        if arguments.dry_run {
            let reclaimed_bytes = Bytes::of(&found.items);
            print(&Report { removed: found.items, reclaimed_bytes, ..Report::new(true) }, arguments.output, voice);
            return Ok(0);
        }
        if found.items.is_empty() {
            print(&Report::new(false), arguments.output, voice);
            return Ok(0);
        }
        voice.say(Level::Info, &format!("removing {}", summary(&found.items)));
        let volumes = found.items.iter().filter(|item| item.kind == Kind::Volume).count();
        if asks && volumes > 0 && !agrees(volumes)? {
            voice.say(Level::Info, "nothing was removed");
            return Ok(NOT_ALL);
        }
        remove(&daemon, &roots, &found, &wishes, arguments.output, voice).await
    })
}

fn wishes(arguments: &CleanArgs) -> Result<Wishes, Rejection> {
    let duration = |typed: &String| -> Result<Duration, Rejection> {
        humantime::parse_duration(typed).map_err(|error| {
            Rejection::new("--older-than", typed.clone(), format!("is no duration: {error}"))
                .with_hint("write 12h, 7days or 1month")
        })
    };
    let older_than = arguments.older_than.as_ref().map(duration).transpose()?;
    Ok(Wishes { all: arguments.all, volumes: arguments.volumes, older_than })
}

fn may_ask(asks: bool, terminal: bool) -> Result<(), Failure> {
    if asks && !terminal {
        return Err(Failure::new(
            "--volumes removes data, and there is no terminal to ask at",
            "look with --dry-run, then add --yes",
        ));
    }
    Ok(())
}

fn agrees(volumes: usize) -> Result<bool, Failure> {
    let what = if volumes == 1 { "1 volume".to_owned() } else { format!("{volumes} volumes") };
    let failed = |error: io::Error| Failure::new(format!("cannot ask at the terminal: {error}"), "add --yes");
    let mut stderr = io::stderr().lock();
    write!(stderr, "dindctl: remove {what} with all data in them? [y/N] ")
        .and_then(|()| stderr.flush())
        .map_err(failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

async fn remove(
    daemon: &Daemon,
    roots: &Roots,
    found: &Found,
    wishes: &Wishes,
    output: OutputFormat,
    voice: Voice,
) -> Result<u8, Failure> {
    let mut signals = Signals::listen().map_err(ExecError::local("listen to signals"))?;
    let bar = bar(found.items.len());
    let tell = |item: &Item| {
        if let Some(bar) = &bar {
            bar.inc(1);
            bar.set_message(format!("{} {}", item.kind.words().0, item.name));
        }
    };
    let mut report = Report::new(false);
    let ended = tokio::select! {
        biased;
        number = signals.stop() => Err(number),
        outcome = act(&daemon.docker, roots, found, wishes, &mut report, &tell) => Ok(outcome),
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    // What was done is said, whatever came then.
    print(&report, output, voice);
    match ended {
        Ok(Ok(())) => Ok(if report.failed.is_empty() { 0 } else { NOT_ALL }),
        Ok(Err(error)) => Err(error.into()),
        Err(number) => {
            voice.fail_with("interrupted; the rest is left as it is", None);
            Ok(exit::of_signal(number))
        }
    }
}

fn bar(length: usize) -> Option<ProgressBar> {
    if !io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new(u64::try_from(length).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{pos}/{len} {wide_msg}") {
        bar.set_style(style);
    }
    Some(bar)
}

fn print(report: &Report, output: OutputFormat, voice: Voice) {
    match output {
        OutputFormat::Json => match serde_json::to_string(report) {
            Ok(text) => say::result(&text),
            Err(error) => voice.fail_with(&format!("cannot write the result: {error}"), None),
        },
        OutputFormat::Text => {
            for line in lines(report) {
                say::result(&line);
            }
            if report.removed.is_empty() && report.failed.is_empty() {
                voice.say(Level::Info, "there is nothing to remove");
            }
        }
    }
    for failed in &report.failed {
        let name = failed.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        voice.fail_with(&format!("cannot remove {}{name}: {}", failed.kind.words().0, failed.reason), None);
    }
}

/// For people. The build cache has many entries that nobody knows by name.
fn lines(report: &Report) -> Vec<String> {
    let verb = if report.dry_run { "would remove" } else { "removed" };
    let line = |item: &Item| {
        let bytes =
            item.bytes.filter(|bytes| *bytes > 0).map(|bytes| format!(" ({})", size(bytes))).unwrap_or_default();
        format!("{verb} {} {}{bytes}: {}", item.kind.words().0, item.name, item.reason)
    };
    let mut lines: Vec<String> = report.removed.iter().filter(|item| item.kind != Kind::BuildCache).map(line).collect();
    let cache: Vec<Item> = report.removed.iter().filter(|item| item.kind == Kind::BuildCache).cloned().collect();
    if !cache.is_empty() {
        lines.push(format!("{verb} {}", summary(&cache)));
    }
    let Bytes { containers, images, volumes, build_cache, total } = report.reclaimed_bytes;
    if !report.removed.is_empty() {
        let verb = if report.dry_run { "would reclaim at least" } else { "reclaimed" };
        let parts =
            [("containers", containers), ("images", images), ("volumes", volumes), ("build cache", build_cache)];
        let parts =
            parts.iter().filter(|(_, bytes)| *bytes > 0).map(|(name, bytes)| format!("{name} {}", size(*bytes)));
        let parts = parts.collect::<Vec<_>>().join(", ");
        let parts = if parts.is_empty() { parts } else { format!(": {parts}") };
        lines.push(format!("{verb} {}{parts}", size(total)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(older_than: Option<&str>) -> CleanArgs {
        CleanArgs {
            dry_run: false,
            all: true,
            volumes: false,
            older_than: older_than.map(str::to_owned),
            yes: false,
            output: OutputFormat::Text,
        }
    }

    #[test]
    fn an_age_is_a_duration() {
        let wanted = wishes(&arguments(Some("2days"))).unwrap();
        assert_eq!(wanted, Wishes { all: true, volumes: false, older_than: Some(Duration::from_secs(2 * 86400)) });
        let error = wishes(&arguments(Some("old"))).unwrap_err();
        assert!(error.to_string().starts_with("--older-than \"old\"") && error.hint().is_some(), "{error}");
    }

    #[test]
    fn data_does_not_go_unasked() {
        assert!(may_ask(false, false).is_ok() && may_ask(true, true).is_ok());
        let failure = may_ask(true, false).unwrap_err();
        assert!(failure.code == 125 && failure.hint.is_some_and(|hint| hint.contains("--yes")));
    }

    #[test]
    fn people_read_what_went_and_how_much_it_was() {
        let item = |kind, name: &str, bytes| Item {
            kind,
            name: name.into(),
            id: None,
            bytes,
            reason: "because".into(),
            references: Vec::new(),
        };
        let removed = vec![
            item(Kind::Container, "job", Some(1 << 20)),
            item(Kind::BuildCache, "x", Some(1024)),
            item(Kind::BuildCache, "y", Some(1024)),
            item(Kind::Network, "net", None),
        ];
        let reclaimed_bytes = Bytes::of(&removed);
        let mut report = Report { removed, reclaimed_bytes, ..Report::new(false) };
        let want = [
            "removed container job (1.0 MiB): because",
            "removed network net: because",
            "removed 2 build cache entries (2.0 KiB)",
            "reclaimed 1.0 MiB: containers 1.0 MiB, build cache 2.0 KiB",
        ];
        assert_eq!(lines(&report), want);
        report.dry_run = true;
        assert!(lines(&report)[3].starts_with("would reclaim at least 1.0 MiB"));
        assert!(lines(&Report::new(false)).is_empty());
    }
}
