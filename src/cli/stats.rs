/*!
`dindctl stats`: what this container and the ones in it use. Exit code 0 also when it is interrupted or its reader goes, which is how it
ends; 125 for usage errors and containers that do not exist; 143 and the like for other signals.
*/
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::failure::Failure;
use super::say::{Level, Voice};
use super::{Environment, OutputFormat};
use crate::exec::error::ExecError;
use crate::exec::rejection::Rejection;
use crate::exec::terminal::Signals;
use crate::exec::{daemon, endpoint, exit};
use crate::probe::Roots;
use crate::stats::sampler::{Sample, Sampler};
use crate::stats::table;

/// Between samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// Rates over less say more about the scheduler than about containers: a CPU quota is one of 100 ms.
const SHORTEST: Duration = Duration::from_millis(200);
/// The first sample comes after so long.
const FIRST: Duration = Duration::from_millis(500);

/// What was typed.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// One sample only, measured over half a second, or over the interval where one is given
    #[arg(long)]
    no_stream: bool,
    /// Time between samples, such as 500ms [default: 1s]
    #[arg(long, value_name = "DURATION")]
    interval: Option<String>,
    /// Form of the result; json is one object a line for each sample
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
    /// Names or identifiers of containers [default: all that run]
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// When samples are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    first: Duration,
    interval: Duration,
}

/// Runs the command.
pub fn run(arguments: StatsArgs, environment: &Environment, voice: Voice) -> u8 {
    match watch(arguments, environment, voice) {
        Ok(code) => code,
        Err(failure) => failure.report(voice),
    }
}

fn pace(arguments: &StatsArgs) -> Result<Pace, Rejection> {
    let Some(typed) = &arguments.interval else { return Ok(Pace { first: FIRST, interval: INTERVAL }) };
    let refuse = |why: String| Rejection::new("--interval", typed.clone(), why).with_hint("write 500ms, 2s or 1m");
    let interval = humantime::parse_duration(typed).map_err(|error| refuse(format!("is no duration: {error}")))?;
    if interval < SHORTEST {
        return Err(refuse(format!("is shorter than {}", humantime::format_duration(SHORTEST))));
    }
    let first = if arguments.no_stream { interval } else { interval.min(FIRST) };
    Ok(Pace { first, interval })
}

fn watch(arguments: StatsArgs, environment: &Environment, voice: Voice) -> Result<u8, Failure> {
    let pace = pace(&arguments).map_err(ExecError::from)?;
    let env = environment.texts();
    let endpoint = endpoint::from_env(&env)?;
    let runtime = daemon::runtime()?;
    let screen = Screen::new(arguments.output, voice);
    let named = !arguments.containers.is_empty();
    let sampler = Sampler::new(env, endpoint, Roots::system(), arguments.containers);
    let code = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(ExecError::local("listen to signals"))?;
        let showing = show(sampler, screen, pace, arguments.no_stream, named);
        tokio::select! {
            biased;
            number = signals.stop() => Ok(if number == libc::SIGINT { 0 } else { exit::of_signal(number) }),
            code = showing => code,
        }
    });
    // A daemon that does not answer may be waited for by a thread still.
    runtime.shutdown_background();
    code
}

async fn show(mut sampler: Sampler, mut screen: Screen, pace: Pace, once: bool, named: bool) -> Result<u8, Failure> {
    let first = sampler.sample().await;
    if named && !first.missing.is_empty() {
        let message = format!("no such container: {}", first.missing.join(", "));
        return Err(Failure::new(message, "docker ps --all lists them"));
    }
    let mut next = Instant::now() + pace.first;
    loop {
        tokio::time::sleep_until(next).await;
        match screen.show(&sampler.sample().await) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(0),
            Err(error) => {
                return Err(Failure::new(format!("cannot write the result: {error}"), "look at where stdout goes"));
            }
        }
        if once {
            return Ok(0);
        }
        // One that took long delays the following ones and makes none of them shorter.
        next = (next + pace.interval).max(Instant::now() + pace.interval / 2);
    }
}

/// Where samples go.
struct Screen {
    output: OutputFormat,
    voice: Voice,
    /// Lines of the last sample, where the next one takes its place.
    drawn: Option<usize>,
    /// What was said already.
    said: Option<String>,
    begun: bool,
}

impl Screen {
    fn new(output: OutputFormat, voice: Voice) -> Self {
        let redraws = output == OutputFormat::Text && io::stdout().is_terminal();
        Self { output, voice, drawn: redraws.then_some(0), said: None, begun: false }
    }

    fn show(&mut self, sample: &Sample) -> io::Result<()> {
        let mut text = match self.output {
            OutputFormat::Json => serde_json::to_string(sample)?,
            OutputFormat::Text => self.table(sample),
        };
        text.push('\n');
        if self.output == OutputFormat::Json {
            self.tell(sample);
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    fn table(&mut self, sample: &Sample) -> String {
        let lines = table::lines(sample);
        let Some(drawn) = self.drawn else {
            let gap = if std::mem::replace(&mut self.begun, true) { "\n" } else { "" };
            return format!("{gap}{}", lines.join("\n"));
        };
        let size = terminal_size::terminal_size_of(io::stdout());
        let (columns, rows) = size.map_or((80, 24), |(width, height)| (width.0, height.0));
        let lines = table::fit(lines, columns.into(), usize::from(rows).saturating_sub(1));
        self.drawn = Some(lines.len());
        // Up to the first line of the last sample, and away with what is below.
        let back = if drawn == 0 { String::new() } else { format!("\x1b[{drawn}A\x1b[J") };
        format!("{back}{}", lines.join("\n"))
    }

    /// The objects carry it; people who look at them read it once.
    fn tell(&mut self, sample: &Sample) {
        let problem = sample.daemon.problem.clone().or_else(|| sample.outer_absent.clone());
        if problem != self.said {
            if let Some(problem) = &problem {
                self.voice.say(Level::Warn, problem);
            }
            self.said = problem;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paced(no_stream: bool, interval: Option<&str>) -> Result<Pace, Rejection> {
        let interval = interval.map(str::to_owned);
        pace(&StatsArgs { no_stream, interval, output: OutputFormat::Text, containers: Vec::new() })
    }

    #[test]
    fn the_first_sample_comes_soon() {
        let pace = |first, interval| {
            Ok(Pace { first: Duration::from_millis(first), interval: Duration::from_millis(interval) })
        };
        assert_eq!(paced(false, None), pace(500, 1000));
        assert_eq!(paced(false, Some("5s")), pace(500, 5000));
        assert_eq!(paced(false, Some("200ms")), pace(200, 200));
        assert_eq!(paced(true, Some("5s")), pace(5000, 5000));
    }

    #[test]
    fn an_interval_that_is_none_is_refused() {
        for (typed, why) in [("soon", "no duration"), ("10ms", "shorter than 200ms"), ("0s", "shorter")] {
            let error = paced(false, Some(typed)).unwrap_err();
            assert!(error.to_string().contains(why) && error.hint().is_some(), "{error}");
        }
    }
}
