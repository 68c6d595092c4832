//! `dindctl gc`: arguments as typed.

use clap::Args;

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
