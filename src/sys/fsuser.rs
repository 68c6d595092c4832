/*!
Touching files as another user without becoming that user.

The sandbox agent is root without `CAP_CHOWN` and `CAP_DAC_OVERRIDE`, and PID 1 may be root without the latter: they cannot
go into every folder, and the agent cannot give files away, but both can create them with the file system identity of their owner (`setfsuid(2)`, which needs `CAP_SETUID`). The real and effective
ids stay, so nobody gains the right to signal or trace the agent meanwhile.
*/
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getgid, getuid, setfsgid, setfsuid, setgroups};

use super::spawn::Identity;

/// While this lives, the calling thread meets the file system as another user. Only for single-threaded processes.
#[derive(Debug)]
#[must_use = "the identity is given back when this is dropped"]
pub struct FsUser {
    back: (Uid, Gid),
}

impl FsUser {
    /// Takes on the file system identity, with exactly its supplementary groups. These are not given back: whoever
    /// acts for other users should have none of its own.
    pub fn assume(identity: &Identity) -> Result<Self, Errno> {
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        let back = (getuid(), getgid());
        if back != (uid, gid) {
            let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
            setgroups(&groups)?;
        }
        Self::ids(back, uid, gid)
    }

    /// The same, but the own supplementary groups are kept.
    pub fn assume_ids(uid: u32, gid: u32) -> Result<Self, Errno> {
        Self::ids((getuid(), getgid()), Uid::from_raw(uid), Gid::from_raw(gid))
    }

    fn ids(back: (Uid, Gid), uid: Uid, gid: Gid) -> Result<Self, Errno> {
        let guard = Self { back };
        // These two calls return the previous value, not success; asking for an impossible id only reads it.
        setfsgid(gid);
        setfsuid(uid);
        let unchanged = (setfsuid(Uid::from_raw(u32::MAX)), setfsgid(Gid::from_raw(u32::MAX)));
        if unchanged == (uid, gid) { Ok(guard) } else { Err(Errno::EPERM) }
    }
}

impl Drop for FsUser {
    fn drop(&mut self) {
        setfsuid(self.back.0);
        setfsgid(self.back.1);
    }
}
