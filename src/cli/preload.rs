/*!
`dindctl preload`: loads archives of images, each once. PID 1 runs it as a process of its own when the daemon is ready for the first time.

Exit code 0 done, 1 an archive is broken, 125 usage and daemon errors, 128+n interrupted.
*/
use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::config::{Config, Source};
use super::failure::Failure;
use super::say::{self, Level, Voice};
use super::{Environment, OutputFormat};
use crate::clean::report::size;
use crate::exec::error::ExecError;
use crate::exec::rejection::Rejection;
use crate::exec::terminal::Signals;
use crate::exec::{daemon, endpoint, exit, locality};
use crate::init::say::printable;
use crate::preload::find::{Candidate, candidates};
use crate::preload::load::{Loading, Told};
use crate::preload::report::{Archive, Report, Status};

/// How PID 1 calls it.
pub const COMMAND: &str = "preload";
/// The option it gives.
pub const LINES: &str = "--lines";
/// Exit code when an archive could not be loaded.
pub const BROKEN: u8 = 1;

/// What was typed.
#[derive(Debug, Args)]
pub struct PreloadArgs {
    /// Archives (docker save, or OCI layouts; plain, gzip or zstd), or folders of them [default: `DINDCTL_PRELOAD`, /preload]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Load what was loaded before, too
    #[arg(long)]
    again: bool,
    /// Archives that are loaded at the same time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    parallel: u8,
    /// Address of the daemon, as in `DOCKER_HOST`, such as `unix:///run/docker.sock`
    #[arg(short = 'H', long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Say lines at a terminal as well: it is the terminal of a whole container
    #[arg(long, hide = true)]
    lines: bool,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

/// Runs the command.
pub fn run(arguments: &PreloadArgs, environment: &Environment, config: &Config, voice: Voice) -> u8 {
    let loaded = found(arguments, config).and_then(|found| load(arguments, found, environment, voice));
    match loaded {
        Ok(code) => code,
        Err(failure) => failure.report(voice),
    }
}

/// Every archive that is meant. The default folder need not be there.
fn found(arguments: &PreloadArgs, config: &Config) -> Result<Vec<Candidate>, Failure> {
    let mut paths = arguments.paths.clone();
    if paths.is_empty() {
        let folder = config.get("preload.path");
        if folder.is_empty() || (config.source("preload.path") == &Source::Default && !Path::new(folder).exists()) {
            return Ok(Vec::new());
        }
        paths.push(folder.into());
    }
    let mut all: Vec<Candidate> = Vec::new();
    for path in paths {
        let found = candidates(&path).map_err(|error| {
            let rejection = Rejection::new("PATH", path.display().to_string(), format!("cannot be read: {error}"));
            ExecError::from(rejection.with_hint("name an archive, or a folder of archives"))
        })?;
        for candidate in found {
            if all.iter().all(|known| known.path != candidate.path) {
                all.push(candidate);
            }
        }
    }
    Ok(all)
}

fn load(
    arguments: &PreloadArgs,
    found: Vec<Candidate>,
    environment: &Environment,
    voice: Voice,
) -> Result<u8, Failure> {
    if found.is_empty() {
        end(&Report::new(Vec::new()), arguments.output, voice);
        return Ok(0);
    }
    let mut env = environment.texts();
    if let Some(host) = &arguments.host {
        env.insert("DOCKER_HOST".to_owned(), host.clone());
    }
    let endpoint = endpoint::from_env(&env)?;
    let runtime = daemon::runtime()?;
    let code = runtime.block_on(async {
        let daemon = daemon::connect(endpoint, &env, &voice.waits()).await?;
        let mut signals = Signals::listen().map_err(ExecError::local("listen to signals"))?;
        let ours = locality::shares_container(daemon.peer, Path::new("/proc"));
        let teller = Arc::new(Teller::new(arguments, voice));
        let loading = Arc::new(Loading::new(daemon.docker, ours, arguments.again, teller).await?);
        let one = |candidate| {
            let loading = Arc::clone(&loading);
            async move { loading.load(candidate).await }
        };
        let all = futures_util::stream::iter(found).map(one).buffered(usize::from(arguments.parallel));
        tokio::select! {
            biased;
            number = signals.stop() => {
                voice.fail_with("interrupted; archives that were loaded are kept", None);
                Ok(exit::of_signal(number))
            }
            archives = all.collect::<Vec<_>>() => {
                let report = Report::new(archives);
                end(&report, arguments.output, voice);
                Ok(if report.has_broken() { BROKEN } else { 0 })
            }
        }
    });
    // A reader may be in the middle of an archive.
    runtime.shutdown_background();
    code
}

fn end(report: &Report, output: OutputFormat, voice: Voice) {
    match output {
        OutputFormat::Json => match serde_json::to_string(report) {
            Ok(text) => say::result(&text),
            Err(error) => voice.fail_with(&format!("cannot write the result: {error}"), None),
        },
        OutputFormat::Text => voice.say(Level::Info, &summary(report)),
    }
}

/// `3 archives of images: 1 loaded, 2 known`.
fn summary(report: &Report) -> String {
    let words = [
        (Status::Loaded, "loaded"),
        (Status::Known, "loaded before"),
        (Status::Present, "with images that are there"),
        (Status::Skipped, "passed over"),
        (Status::Broken, "broken"),
    ];
    let count = |status| report.archives.iter().filter(|archive| archive.status == status).count();
    let parts: Vec<String> = words
        .iter()
        .map(|(status, word)| (count(*status), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    match report.archives.len() {
        0 => "there are no archives of images to load".to_owned(),
        1 => format!("1 archive of images: {}", parts.join(", ")),
        many => format!("{many} archives of images: {}", parts.join(", ")),
    }
}

/// Says what is done: bars at a terminal, lines elsewhere.
struct Teller {
    voice: Voice,
    /// Whether what became of each archive is the result, and not a line of a log.
    results: bool,
    bars: Option<(MultiProgress, Mutex<HashMap<PathBuf, ProgressBar>>)>,
}

impl Teller {
    fn new(arguments: &PreloadArgs, voice: Voice) -> Self {
        let bars = (!arguments.lines && io::stderr().is_terminal()).then(|| (MultiProgress::new(), Mutex::default()));
        Self { voice, results: !arguments.lines && arguments.output == OutputFormat::Text, bars }
    }

    fn bar(&self, archive: &Path) -> Option<ProgressBar> {
        let (_, bars) = self.bars.as_ref()?;
        bars.lock().unwrap_or_else(PoisonError::into_inner).get(archive).cloned()
    }

    fn lines(&self, say: impl FnOnce()) {
        match &self.bars {
            Some((bars, _)) => bars.suspend(say),
            None => say(),
        }
    }
}

impl Told for Teller {
    fn begins(&self, archive: &Path, bytes: u64) {
        let Some((bars, known)) = &self.bars else {
            return self.voice.say(Level::Info, &format!("loading {} ({})", archive.display(), size(bytes)));
        };
        // It is read twice: to look at it, and for the daemon.
        let bar = bars.add(ProgressBar::new(bytes.saturating_mul(2)));
        if let Ok(style) = ProgressStyle::with_template("{percent:>3} % {wide_msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(archive.display().to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        known.lock().unwrap_or_else(PoisonError::into_inner).insert(archive.to_owned(), bar);
    }

    fn read(&self, archive: &Path, bytes: u64) {
        if let Some(bar) = self.bar(archive) {
            bar.inc(bytes);
        }
    }

    fn ends(&self, archive: &Archive) {
        if let Some(bar) = self.bar(&archive.path) {
            bar.finish_and_clear();
        }
        self.lines(|| {
            let (level, line) = line(archive);
            if self.results && level != Level::Error {
                return say::result(&printable(&line));
            }
            self.voice.say(level, &line);
            if let Some(hint) = archive.hint.filter(|_| archive.status == Status::Broken) {
                self.voice.say(Level::Hint, hint);
            }
        });
    }

    fn warns(&self, message: &str) {
        self.lines(|| self.voice.say(Level::Warn, message));
    }
}

fn line(archive: &Archive) -> (Level, String) {
    let (path, images) = (archive.path.display(), archive.images.join(", "));
    let reason = archive.reason.as_deref().unwrap_or_default();
    match archive.status {
        Status::Loaded => {
            let took = Duration::from_millis(archive.ms);
            (Level::Info, format!("loaded {images} from {path} in {}", humantime::Duration::from(took)))
        }
        Status::Known => (Level::Debug, format!("{path} was loaded before")),
        Status::Present => (Level::Debug, format!("{images} of {path} is there")),
        Status::Skipped => (Level::Info, format!("{path} is passed over: {reason}")),
        Status::Broken => (Level::Error, format!("{path} is not loaded: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str, status: Status) -> Archive {
        Archive { images: vec!["a:1".into(), "b:2".into()], ms: 1200, ..Archive::new(name.into(), status) }
    }

    #[test]
    fn what_came_of_it_is_one_line() {
        let (level, loaded) = line(&archive("/preload/a.tar", Status::Loaded));
        assert_eq!((level, &*loaded), (Level::Info, "loaded a:1, b:2 from /preload/a.tar in 1s 200ms"));
        let broken = Archive { reason: Some("it is empty".into()), ..archive("/b", Status::Broken) };
        assert_eq!(line(&broken), (Level::Error, "/b is not loaded: it is empty".into()));
    }

    #[test]
    fn the_end_counts() {
        let all = [Status::Loaded, Status::Known, Status::Known, Status::Broken];
        let mut report = Report::new(all.map(|status| archive("/a", status)).into());
        assert_eq!(summary(&report), "4 archives of images: 1 loaded, 2 loaded before, 1 broken");
        assert!(report.has_broken());
        report.archives.truncate(1);
        assert_eq!(summary(&report), "1 archive of images: 1 loaded");
        assert!(!report.has_broken());
        assert_eq!(summary(&Report::new(Vec::new())), "there are no archives of images to load");
    }
}
