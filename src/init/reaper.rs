/*!
Collecting every dead child, our own services and orphans of unknown origin alike.
*/
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::sys::wait::{Death, Reaped, reap_one};

/// The deaths of one turn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Harvest {
    /// Who died, in the order the kernel gave them.
    pub deaths: Vec<Death>,
    /// Whether the turn ended before the dead did; come back without waiting for a signal.
    pub more: bool,
    /// Whether there is no child left at all.
    pub childless: bool,
}

/// Longest run of deaths taken in one turn, so that a storm of forks cannot keep PID 1 from its other duties.
pub const TURN: usize = 1024;

/// Collects the dead until `reap` has none left or the turn is full.
pub fn harvest(mut reap: impl FnMut() -> Result<Reaped, Errno>) -> Result<Harvest, Errno> {
    let mut harvest = Harvest::default();
    while harvest.deaths.len() < TURN {
        match reap()? {
            Reaped::Death(death) => harvest.deaths.push(death),
            Reaped::NoneDead => return Ok(harvest),
            Reaped::NoChild => return Ok(Harvest { childless: true, ..harvest }),
        }
    }
    harvest.more = true;
    Ok(harvest)
}

/// [`harvest`] of this process's children.
pub fn harvest_children() -> Result<Harvest, Errno> {
    harvest(reap_one)
}

/// Makes orphans below us our children. PID 1 has that duty anyway; anyone else becomes a subreaper
/// (`PR_SET_CHILD_SUBREAPER`), so the same supervisor works in a test or under another init.
pub fn adopt_orphans() -> Result<(), Errno> {
    if Pid::this().as_raw() == 1 { Ok(()) } else { nix::sys::prctl::set_child_subreaper(true) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::wait::Exit;

    fn death(pid: i32) -> Reaped {
        Reaped::Death(Death { pid, exit: Exit::Code(0) })
    }

    #[test]
    fn all_the_dead_are_collected_and_an_empty_nest_is_told() {
        let mut answers = vec![Reaped::NoChild, death(3), death(2)];
        let harvest = harvest(|| Ok(answers.pop().unwrap())).unwrap();
        assert_eq!(harvest.deaths.iter().map(|death| death.pid).collect::<Vec<_>>(), [2, 3]);
        assert!(harvest.childless && !harvest.more);
    }

    #[test]
    fn an_endless_storm_ends_the_turn_and_is_not_forgotten() {
        let harvest = harvest(|| Ok(death(2))).unwrap();
        assert_eq!(harvest.deaths.len(), TURN);
        assert!(harvest.more && !harvest.childless);
    }

    #[test]
    fn living_children_end_the_turn() {
        let harvest = harvest(|| Ok(Reaped::NoneDead)).unwrap();
        assert_eq!(harvest, Harvest::default());
    }
}
