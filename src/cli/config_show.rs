/*!
`dindctl config show`: every setting with its value and where it comes from.
*/
use clap::Subcommand;

use super::OutputFormat;
use super::config::Config;
use super::say::result;

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting, its value and where it comes from
    Show {
        /// Form of the result
        #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
        output: OutputFormat,
    },
}

/// Runs the command.
pub fn run(command: &ConfigCommand, config: &Config) -> u8 {
    let ConfigCommand::Show { output } = command;
    match output {
        OutputFormat::Json => {
            let rows: Vec<_> = config
                .rows()
                .map(|(key, value, source)| {
                    serde_json::json!({
                        "key": key.name, "value": value, "source": source.to_string(),
                        "env": key.env, "default": key.default, "doc": key.doc,
                    })
                })
                .collect();
            result(&serde_json::json!({ "schema": "dindctl.config/v1", "settings": rows }).to_string());
        }
        OutputFormat::Text => {
            let width = config.rows().map(|(key, _, _)| key.name.len()).max().unwrap_or_default();
            for (key, value, source) in config.rows() {
                result(&format!("{:width$}  {:12}  ({source})  # {}", key.name, format!("\"{value}\""), key.doc));
            }
        }
    }
    0
}
