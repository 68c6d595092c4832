/*!
Archives of images in a folder are loaded once dockerd is ready. Nobody waits for it: the container is healthy meanwhile, and a broken
archive harms nothing.
*/
use std::fs;
use std::path::Path;

use super::super::config::Source;
use super::super::preload::{BROKEN, COMMAND, LINES};
use super::super::say::Level;
use super::Launch;
use super::missed::asking;
use super::services::DOCKERD;
use crate::init::spec::{Occasion, Upkeep, Verdict};
use crate::sys::wait::Exit;

/// The work; `None` where nothing is to be loaded.
pub fn upkeep(launch: &Launch<'_>, listen: &[String]) -> Option<Upkeep> {
    let folder = launch.config.get("preload.path");
    // What cannot be looked at is told of by the process that tries to.
    let nothing = || match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => launch.config.source("preload.path") == &Source::Default && !Path::new(folder).exists(),
    };
    if folder.is_empty() || nothing() {
        return None;
    }
    let Some(mut spawn) = asking(launch, listen, COMMAND) else {
        let why = format!("the image archives of {folder} are not loaded: the API has no unix socket");
        launch.voice.say(Level::Warn, &why);
        return None;
    };
    spawn.argv.push(LINES.into());
    let judge = |exit| match exit {
        // Broken ones were named.
        Exit::Code(0 | BROKEN) => Verdict::Done,
        _ => Verdict::Failed,
    };
    let occasion = Occasion::First(DOCKERD.to_owned());
    Some(Upkeep { name: "loading of image archives", occasion, spawn, judge: Box::new(judge) })
}
