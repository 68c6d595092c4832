/*!
Authorities that the daemon trusts besides those of the image.

The daemons are Go programs, which take `SSL_CERT_FILE` in the place of the system's bundle, so theirs has both.
*/
use std::path::{Path, PathBuf};

use super::super::failure::Failure;
use super::super::places::RUN_DIR;
use super::{Launch, files};
use crate::probe::certificates::{self, BUNDLES};

/// The whole bundle with `trust.ca_file`, checked; `None` where there is no such file.
pub fn bundle(launch: &Launch<'_>) -> Result<Option<String>, Failure> {
    let extra = launch.config.get("trust.ca_file");
    if extra.is_empty() {
        return Ok(None);
    }
    let place = launch.config.source("trust.ca_file").to_string();
    let refuse = |why: String, hint: &str| Failure::new(format!("the authorities in {extra} ({place}): {why}"), hint);
    let text = std::fs::read_to_string(extra)
        .map_err(|error| refuse(format!("cannot be read: {error}"), "mount the file into the container"))?;
    certificates::authorities(&text)
        .map_err(|why| refuse(why, "the file must hold certificates in PEM form (-----BEGIN CERTIFICATE-----)"))?;
    let usual = launch.environment.get("SSL_CERT_FILE").map(PathBuf::from);
    let bundle = usual.or_else(|| BUNDLES.map(PathBuf::from).into_iter().find(|path| path.exists()));
    let system = bundle.map_or(Ok(String::new()), |path| {
        std::fs::read_to_string(&path).map_err(|error| {
            let message = format!("cannot read the authorities of the system in {}: {error}", path.display());
            Failure::new(message, "SSL_CERT_FILE names another file; unset it for the system's own")
        })
    })?;
    Ok(Some(format!("{}\n{text}", system.trim_end())))
}

/// Lets everything that is started from now on trust it.
pub fn install(launch: &mut Launch<'_>, bundle: &str) -> Result<(), Failure> {
    let merged = Path::new(RUN_DIR).join("ca-certificates.crt");
    // A command of another user inherits the variable.
    files::replace_public(&merged, bundle)?;
    launch.environment.set("SSL_CERT_FILE", merged.as_os_str());
    Ok(())
}
