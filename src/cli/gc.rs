//! `dindctl gc`: removes what killed or crashed runs left behind. Exit code 0, or 125 when something went wrong.

use clap::Args;

use super::Environment;
use super::render::Form;
use super::say::{self, Level, Voice};
use crate::exec::error::ExecError;
use crate::exec::gc::{self, Collected};
use crate::exec::{daemon, endpoint, exit};

/// Removes what killed or crashed runs left behind.
#[derive(Debug, Clone, Default, Args)]
pub struct GcArgs {
    /// Say what would be removed and why, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// text or json
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: String,
    /// Remove the container of this run, whatever its owner does
    #[arg(long, value_name = "ID", hide = true)]
    pub run: Option<String>,
    /// Print nothing
    #[arg(long, hide = true)]
    pub quiet: bool,
}

/// Collects, and prints what was removed and why.
pub fn run(args: &GcArgs, voice: Voice) -> u8 {
    let outcome =
        Form::new(&args.output, false).map_err(ExecError::from).and_then(|form| Ok((form, collect(args, voice)?)));
    match outcome {
        Ok((form, collected)) => {
            if !args.quiet {
                print(&collected, form, args.dry_run, voice);
            }
            if collected.errors.is_empty() { 0 } else { exit::OWN }
        }
        Err(error) => {
            voice.fail(&error, error.hint().as_deref());
            exit::OWN
        }
    }
}

fn collect(args: &GcArgs, voice: Voice) -> Result<Collected, ExecError> {
    let env = Environment::of_process().texts();
    let endpoint = endpoint::from_env(&env)?;
    let runtime = daemon::runtime()?;
    runtime.block_on(async {
        let daemon = daemon::connect(endpoint, &env, &voice.waits()).await?;
        if let Some(run) = &args.run {
            gc::remove_run(&daemon.docker, run, false).await?;
        }
        gc::collect(&daemon.docker, args.dry_run).await
    })
}

fn print(collected: &Collected, form: Form, dry_run: bool, voice: Voice) {
    if form == Form::Text {
        let verb = if dry_run { "would remove" } else { "removed" };
        for removed in &collected.removed {
            say::result(&format!("{verb} {} {} ({}): {}", removed.kind, removed.name, removed.state, removed.reason));
        }
        if collected.removed.is_empty() {
            voice.say(Level::Info, "nothing is left over");
        }
    } else {
        match serde_json::to_string(collected) {
            Ok(text) => say::result(&text),
            Err(error) => voice.fail_with(&format!("cannot write the result: {error}"), None),
        }
    }
    for error in &collected.errors {
        voice.fail_with(error, None);
    }
}
