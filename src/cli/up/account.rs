/*!
Who the command is run as, and what that changes in its environment.
*/
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::Environment;
use super::super::failure::Failure;
use super::super::say::{Level, Voice};
use crate::engine::socket;
use crate::home::{self, HomeError, Wish, account};
use crate::probe::Roots;
use crate::probe::users::{self, User};
use crate::sys::spawn::Identity;

/// Where an image keeps what a new home begins with.
const SKELETON: &str = "/usr/share/dindctl/home";

/// Makes account and home of `name` ready, as `PUID`, `PGID` and `DOCKER_USER` ask, and gives the name that it has then.
pub fn make_ready(name: &str, environment: &Environment, voice: Voice) -> Result<String, Failure> {
    let id = |variable| environment.text(variable).map(|text| account::id(variable, text)).transpose();
    let wish = Wish {
        base: name.to_owned(),
        name: environment.text("DOCKER_USER").map(str::to_owned),
        uid: id("PUID").map_err(HomeError::from)?,
        gid: id("PGID").map_err(HomeError::from)?,
    };
    let ready = home::set_up(&Roots::system(), &wish, Path::new(SKELETON))?;
    for done in &ready.done {
        voice.say(Level::Info, done);
    }
    for problem in &ready.problems {
        voice.say(Level::Warn, problem);
    }
    Ok(ready.user.name)
}

/// User and groups of the command; `HOME`, `USER`, `LOGNAME` and `SHELL` follow, as with `su -p` they would not, and so does
/// `XDG_RUNTIME_DIR`: the one of root is closed to others (basedir specification).
pub fn identity(name: &str, socket_group: &str, environment: &mut Environment) -> Result<Identity, Failure> {
    let roots = Roots::system();
    let known = users::users(&roots)?;
    let all_groups = users::groups(&roots)?;
    let user = users::find_user(&known, name).ok_or_else(|| {
        Failure::new(
            format!("there is no user {name:?} in /etc/passwd"),
            "create the user in the image, or leave --user out",
        )
    })?;
    let mut groups = users::supplementary(&all_groups, user);
    if let Some(gid) = users::find_gid(&all_groups, socket_group)
        && !groups.contains(&gid)
    {
        groups.push(gid);
    }
    describe(user, environment);
    Ok(Identity { uid: user.uid, gid: user.gid, groups })
}

fn describe(user: &User, environment: &mut Environment) {
    environment.set("HOME", user.home.as_str());
    environment.set("USER", user.name.as_str());
    environment.set("LOGNAME", user.name.as_str());
    if !user.shell.is_empty() {
        environment.set("SHELL", user.shell.as_str());
    }
    let runtime = socket::runtime_dir(None, user.uid);
    if std::fs::metadata(&runtime).is_ok_and(|found| found.is_dir() && found.uid() == user.uid) {
        environment.set("XDG_RUNTIME_DIR", runtime.as_os_str());
    } else if user.uid != 0 {
        environment.remove("XDG_RUNTIME_DIR");
    }
}

/// What an ordinary user who was chosen from outside (`docker run -u`) can do and cannot, in words.
pub fn told_of_outsider(uid: u32, gid: u32, environment: &Environment) -> Vec<String> {
    let mut told = vec![format!(
        "started as {uid}:{gid}: no account is renamed, no id is changed, no folder is given away; that takes root (PUID and PGID instead of -u)"
    )];
    let home = environment.text("HOME").unwrap_or("/");
    let writable = nix::unistd::access(home, nix::unistd::AccessFlags::W_OK).is_ok();
    if !writable {
        told.push(format!("{home} is not writable for {uid}:{gid}; mount a volume that is, or set HOME"));
    }
    told
}
