/*!
What a signal means to the plain PID 1.
*/
use nix::libc;

use crate::sys::signal_set::SignalSet;

/// What is to be done about a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Collect the dead.
    Reap,
    /// Nothing: we brought it on ourselves by giving up the terminal.
    HandOff,
    /// Pass it on.
    Forward {
        /// And stop ourselves then.
        suspend: bool,
    },
}

/// The rules, and the signals that are still to be dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// See [`super::PlainOptions::rewrite`].
    pub rewrite: Vec<(i32, i32)>,
    /// See [`super::PlainOptions::suspend`].
    pub suspend: bool,
    /// Each of these is dropped once.
    pub hand_off: SignalSet,
}

impl Answers {
    /// The answer to the next signal.
    pub fn to(&mut self, number: i32) -> Answer {
        if self.hand_off.contains(number) {
            self.hand_off = self.hand_off.without(&[number]);
            return Answer::HandOff;
        }
        match number {
            libc::SIGCHLD => Answer::Reap,
            libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Answer::Forward { suspend: self.suspend },
            _ => Answer::Forward { suspend: false },
        }
    }

    /// What is passed on for a signal; 0 is nothing.
    pub fn rewritten(&self, number: i32) -> i32 {
        self.rewrite.iter().rev().find(|(from, _)| *from == number).map_or(number, |(_, to)| *to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(rewrite: &[(i32, i32)], suspend: bool, hand_off: SignalSet) -> Answers {
        Answers { rewrite: rewrite.to_vec(), suspend, hand_off }
    }

    #[test]
    fn a_rewritten_signal_changes_or_goes_and_the_last_rule_counts() {
        let answers = answers(&[(15, 2), (1, 0), (15, 3)], false, SignalSet::EMPTY);
        assert_eq!([15, 1, 2, 40].map(|number| answers.rewritten(number)), [3, 0, 2, 40]);
    }

    #[test]
    fn only_the_first_signals_of_the_hand_off_are_dropped() {
        let mut answers = answers(&[], false, SignalSet::EMPTY.with(libc::SIGHUP).with(libc::SIGCONT));
        let forward = Answer::Forward { suspend: false };
        let came = [libc::SIGHUP, libc::SIGHUP, libc::SIGTERM, libc::SIGCONT, libc::SIGCONT];
        assert_eq!(
            came.map(|number| answers.to(number)),
            [Answer::HandOff, forward, forward, Answer::HandOff, forward]
        );
    }

    #[test]
    fn job_control_stops_us_too_when_asked() {
        for (suspend, number, stops) in
            [(true, libc::SIGTSTP, true), (true, libc::SIGTERM, false), (false, libc::SIGTTOU, false)]
        {
            assert_eq!(answers(&[], suspend, SignalSet::EMPTY).to(number), Answer::Forward { suspend: stops });
        }
        // A real-time signal is one like any other, up to the last.
        assert_eq!(answers(&[], true, SignalSet::EMPTY).to(libc::SIGRTMAX()), Answer::Forward { suspend: false });
        assert_eq!(answers(&[], true, SignalSet::EMPTY).to(libc::SIGCHLD), Answer::Reap);
    }
}
