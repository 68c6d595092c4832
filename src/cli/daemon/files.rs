/*!
The files that dindctl writes for dockerd: the merged daemon.json, and how it changes for a reload and for a stop.
*/
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::failure::Failure;
use crate::engine::arguments::DaemonArguments;
use crate::engine::daemon_json::{DaemonJson, Decided, is_swarm_member};

/// Replaces a file in one step; readable for root only, because a daemon.json may hold the password of a proxy.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    replaced(path, write(path, text))
}

/// The same with a file that everybody may read.
pub fn replace_public(path: &Path, text: &str) -> Result<(), Failure> {
    replaced(path, write_as(path, text, 0o644))
}

fn replaced(path: &Path, outcome: std::io::Result<()>) -> Result<(), Failure> {
    outcome.map_err(|error| {
        Failure::new(format!("cannot write {}: {error}", path.display()), "the container needs a writable /run")
    })
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    write_as(path, text, 0o600)
}

fn write_as(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    // Whatever the umask is, and the file of a start that broke off.
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    drop(file);
    std::fs::rename(&fresh, path)
}

/// Merges the user's daemon.json anew; runs before `SIGHUP` reaches dockerd, which reads only the merged file.
pub fn reload_hook(
    arguments: DaemonArguments,
    decided: Decided,
    data_root: PathBuf,
    merged: PathBuf,
) -> Box<dyn FnMut() -> Result<(), String>> {
    Box::new(move || {
        let file = DaemonJson::read(Path::new("/"), &arguments).map_err(|error| error.to_string())?;
        let decided = Decided { swarm: is_swarm_member(&data_root), ..decided.clone() };
        let fresh = file.merge(&arguments, &decided).map_err(|error| error.to_string())?;
        write(&merged, &fresh.text()).map_err(|error| format!("cannot write {}: {error}", merged.display()))
    })
}

/// Switches live-restore off in the merged file, for an orderly stop: the nested containers end with the daemon and
/// get their own stop signals and times.
pub fn stop_hook(path: PathBuf, text: String) -> Box<dyn FnMut() -> Result<(), String>> {
    Box::new(move || write(&path, &text).map_err(|error| format!("cannot write {}: {error}", path.display())))
}
