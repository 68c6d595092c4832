/*!
Where things are for the user that asks: root's places, or those below the folder of an ordinary user
(`XDG_RUNTIME_DIR`, basedir specification), whose daemon runs in a user namespace.
*/
use std::path::PathBuf;

use nix::unistd::geteuid;

use super::Environment;
use crate::engine::socket;
use crate::init::state::STATE_PATH;

/// Folder for everything that lives as long as the container and belongs to root.
pub const RUN_DIR: &str = "/run/dindctl";

/// The user's folder for sockets and state.
pub fn runtime_dir(environment: &Environment) -> PathBuf {
    socket::runtime_dir(environment.get("XDG_RUNTIME_DIR"), geteuid().as_raw())
}

/// The supervisor's folder of an ordinary user.
pub fn user_run_dir(environment: &Environment) -> PathBuf {
    runtime_dir(environment).join("dindctl")
}

/// The daemon's socket where nobody says otherwise.
pub fn socket(environment: &Environment) -> PathBuf {
    socket::usual(environment.get("XDG_RUNTIME_DIR"), geteuid().as_raw())
}

/// The daemon's data of an ordinary user (`XDG_DATA_HOME`, else below `HOME`), as dockerd itself has it.
pub fn user_data_root(environment: &Environment) -> Option<PathBuf> {
    let filled = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = filled("XDG_DATA_HOME").or_else(|| filled("HOME").map(|home| home.join(".local/share")))?;
    Some(data.join("docker"))
}

/// Where the supervisor in this container can be asked.
pub fn control_path(environment: &Environment) -> PathBuf {
    state_path(environment).with_file_name("control.sock")
}

/// The state of the supervisor in this container: root's, else the user's own.
pub fn state_path(environment: &Environment) -> PathBuf {
    let root = PathBuf::from(STATE_PATH);
    if geteuid().is_root() || root.exists() { root } else { user_run_dir(environment).join("state.json") }
}
