/*!
`dindctl certificates`: makes or renews the API's certificates below `DOCKER_TLS_CERTDIR`. PID 1 runs it as a process
of its own; by hand it does the same at any time.
*/
use std::collections::BTreeSet;
use std::time::SystemTime;

use clap::Args;

use super::config::Config;
use super::failure::Failure;
use super::say::{Level, Voice};
use super::{Environment, FAILED};
use crate::prepare::tls::{self, Decision, KeyKind, TlsFacts, TlsWishes};
use crate::probe::{Roots, certificates, names};

/// What was typed.
#[derive(Debug, Args)]
pub struct CertificatesArgs {
    /// Make nothing where only names are new
    #[arg(long, hide = true)]
    near_end: bool,
}

/// Whether anything is to be made whatever the names are.
fn is_due(wishes: &TlsWishes) -> bool {
    let facts = TlsFacts { folder: certificates::look(&wishes.directory), names: BTreeSet::new() };
    !matches!(tls::decide(&facts, wishes), Decision::Keep { .. })
}

/// What the environment and the settings ask; `None` where `DOCKER_TLS_CERTDIR` is unset or empty.
pub fn wishes(environment: &Environment, config: &Config) -> Result<Option<TlsWishes>, Failure> {
    let Some(directory) = environment.get("DOCKER_TLS_CERTDIR").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let names = environment.get("DOCKER_TLS_SAN").unwrap_or_default().to_string_lossy();
    let names = tls::parse_san(&names).map_err(|error| Failure::new(error.to_string(), error.hint()))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(Some(TlsWishes {
        directory: directory.into(),
        names,
        key: KeyKind::named(config.get("tls.key")).unwrap_or_default(),
        days: config.get("tls.days").parse().unwrap_or(tls::DAYS),
        now: i64::try_from(now).unwrap_or(i64::MAX),
    }))
}

/// Runs the command.
pub fn run(arguments: &CertificatesArgs, environment: &Environment, config: &Config, voice: Voice) -> u8 {
    let wishes = match wishes(environment, config) {
        Ok(Some(wishes)) => wishes,
        Ok(None) => {
            voice.fail_with(
                "DOCKER_TLS_CERTDIR is not set, so there is no folder for certificates",
                Some("set it to /certs"),
            );
            return FAILED;
        }
        Err(failure) => return failure.report(voice),
    };
    if wishes.key == KeyKind::Rsa {
        voice.say(Level::Info, "RSA keys that are missing take some seconds each to make");
    }
    let made = if arguments.near_end && !is_due(&wishes) {
        Ok(None)
    } else {
        tls::issue(&wishes, &names::own(&Roots::system()))
    };
    match made {
        Ok(Some(work)) => {
            voice.say(Level::Info, &format!("certificates made in {}: {work}", wishes.directory.display()));
            0
        }
        Ok(None) => {
            voice.say(Level::Debug, &format!("the certificates in {} are in order", wishes.directory.display()));
            0
        }
        Err(error) => Failure::new(error.to_string(), error.hint()).report(voice),
    }
}
