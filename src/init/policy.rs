/*!
Whether a service that died is started again, and when.

The rule is keyed on readiness, as s6's is, and not on uptime: a daemon that takes a minute to fail has failed just
as much as one that fails at once, and one that served its clients and was killed should be back without delay.

A life is **good** when the service was ready for longer than [`RestartPolicy::min_ready`] in it.
After a good life it is started again at once. After a bad one it waits `first_delay`, and twice as long after each
further bad one, up to `max_delay`; up to a quarter less at random, so that the daemons of a machine whose disk is full do not come back all
at the same moment. It is given up after `max_failures` bad lives in a row, or after
`max_deaths` deaths of any kind within `window`, or at once when the cause is known to be permanent.

One that has had a good life can work here, so what kills it now comes from outside and may pass: the kernel that is short of memory
kills a daemon at each of five starts within 1.3 s. Its bad lives have to go on for `patience` as well.
*/
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Which ends of a process lead to a new start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Every one.
    Always,
    /// Every one but exit code 0.
    OnFailure,
    /// None: when it ends it has ended.
    Never,
}

impl Restart {
    /// The names that the command line and the configuration use.
    pub const NAMES: [&'static str; 3] = ["always", "on-failure", "never"];
}

impl std::str::FromStr for Restart {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "always" => Ok(Self::Always),
            "on-failure" => Ok(Self::OnFailure),
            "never" => Ok(Self::Never),
            _ => Err(format!("one of {} is expected", Self::NAMES.join(", "))),
        }
    }
}

/// When a service that died is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Which ends count.
    pub restart: Restart,
    /// A service that was ready for longer than this is started again without delay.
    pub min_ready: Duration,
    /// Delay after the first bad life.
    pub first_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
    /// Bad lives in a row after which it is given up; 0 never gives up.
    pub max_failures: u32,
    /// How long the bad lives of one that has had a good one must have gone on before it is given up for their number.
    pub patience: Duration,
    /// Deaths of any kind within `window` after which it is given up; 0 never gives up.
    pub max_deaths: u32,
    /// Length of the window for `max_deaths`.
    pub window: Duration,
}

impl RestartPolicy {
    /// The defaults of every number, for this choice of ends.
    pub const fn new(restart: Restart) -> Self {
        Self {
            restart,
            min_ready: Duration::from_secs(1),
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(10),
            max_failures: 5,
            patience: Duration::from_secs(30),
            max_deaths: 30,
            window: Duration::from_secs(60),
        }
    }
}

/// One life of a process, as far as the policy cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// How long it had been ready when it died; `None`: it never was.
    pub ready_for: Option<Duration>,
    /// Whether it ended with exit code 0.
    pub success: bool,
    /// Whether the cause of its death is known to stay (a missing program or privilege).
    pub permanent: bool,
}

/// The deaths of one service so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    failures: u32,
    /// The first of the bad lives in a row ended then.
    failing_since: Duration,
    /// Whether there was a good life.
    proven: bool,
    deaths: VecDeque<Duration>,
    /// State of the random numbers; 0 for none.
    random: u64,
}

impl History {
    /// An empty one with random numbers of its own. The default has none, and delays are what the policy says.
    pub fn seeded(seed: u64) -> Self {
        // Xorshift needs a state that is not 0.
        Self { random: seed | 1, ..Self::default() }
    }

    /// The next random number, below 1024 (Marsaglia's xorshift64).
    fn chance(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u32::try_from(self.random >> 54).unwrap_or_default()
    }

    /// Bad lives in a row up to now.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

/// Why a service is not started again although its policy would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// So many bad lives in a row.
    CrashLoop {
        /// Their number.
        deaths: u32,
    },
    /// So many deaths in so short a time, even if it was ready between them.
    TooOften {
        /// Their number.
        deaths: u32,
        /// The time they fell into.
        window: Duration,
    },
    /// Starting it again cannot help.
    Permanent,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrashLoop { deaths } => write!(f, "died {deaths} times in a row without getting to work"),
            Self::TooOften { deaths, window } => write!(f, "died {deaths} times within {} s", window.as_secs()),
            Self::Permanent => f.write_str("cannot work here"),
        }
    }
}

/// What follows from a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Start again after this time.
    Restart {
        /// Zero means at once.
        after: Duration,
    },
    /// It has ended, and that is what was wanted of it.
    End,
    /// Start it no more; the container ends because of it.
    GiveUp(Reason),
}

impl RestartPolicy {
    /// Decides about a death at `now` (time since any fixed moment) and notes it in `history`.
    pub fn decide(&self, history: &mut History, now: Duration, life: Life) -> Decision {
        let ends = match self.restart {
            Restart::Always => false,
            Restart::OnFailure => life.success,
            Restart::Never => true,
        };
        if ends {
            return Decision::End;
        }
        let good = life.ready_for.is_some_and(|time| time > self.min_ready);
        history.proven |= good;
        history.failures = if good { 0 } else { history.failures.saturating_add(1) };
        if history.failures <= 1 {
            history.failing_since = now;
        }
        let hopeless = !history.proven || now.saturating_sub(history.failing_since) >= self.patience;
        history.deaths.push_back(now);
        while history.deaths.front().is_some_and(|death| now.saturating_sub(*death) > self.window) {
            history.deaths.pop_front();
        }
        let recent = u32::try_from(history.deaths.len()).unwrap_or(u32::MAX);
        if life.permanent && life.ready_for.is_none() {
            Decision::GiveUp(Reason::Permanent)
        } else if hopeless && self.max_failures != 0 && history.failures >= self.max_failures {
            Decision::GiveUp(Reason::CrashLoop { deaths: history.failures })
        } else if self.max_deaths != 0 && recent >= self.max_deaths {
            Decision::GiveUp(Reason::TooOften { deaths: recent, window: self.window })
        } else {
            let delay = self.delay(history.failures);
            let less = delay.checked_div(4096).unwrap_or_default().saturating_mul(history.chance());
            Decision::Restart { after: delay.saturating_sub(less) }
        }
    }

    /// Delay before the next start after `failures` bad lives in a row.
    fn delay(&self, failures: u32) -> Duration {
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
                self.first_delay.saturating_mul(factor).min(self.max_delay)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const BAD: Life = Life { ready_for: None, success: false, permanent: false };
    const GOOD: Life = Life { ready_for: Some(Duration::from_secs(5)), success: false, permanent: false };

    fn minute(number: u64) -> Duration {
        Duration::from_secs(60 * number)
    }

    #[test]
    fn the_choice_of_ends_has_names() {
        let all = [Restart::Always, Restart::OnFailure, Restart::Never];
        assert_eq!(Restart::NAMES.map(str::parse), all.map(Ok));
        assert_eq!("no".parse::<Restart>(), Err("one of always, on-failure, never is expected".to_owned()));
    }

    #[test]
    fn bad_lives_double_the_delay_and_the_fifth_is_the_last() {
        let (policy, mut history) = (RestartPolicy::new(Restart::Always), History::default());
        for expected in [100, 200, 400, 800] {
            let decision = policy.decide(&mut history, Duration::ZERO, BAD);
            assert_eq!(decision, Decision::Restart { after: Duration::from_millis(expected) });
        }
        let last = policy.decide(&mut history, Duration::ZERO, BAD);
        assert_eq!(last, Decision::GiveUp(Reason::CrashLoop { deaths: 5 }));
    }

    /// The delays are what passes between the deaths, and each start takes 50 ms.
    #[test]
    fn one_that_has_worked_is_given_up_only_when_it_fails_for_long() {
        let (policy, mut history) = (RestartPolicy::new(Restart::Always), History::default());
        let mut now = minute(1);
        policy.decide(&mut history, now, GOOD);
        let first = now;
        let deaths = loop {
            match policy.decide(&mut history, now, BAD) {
                Decision::Restart { after } => now += after + Duration::from_millis(50),
                Decision::GiveUp(Reason::CrashLoop { deaths }) => break deaths,
                other => panic!("{other:?}"),
            }
        };
        let took = now.saturating_sub(first);
        assert!(took >= policy.patience && took <= policy.patience + policy.max_delay, "{took:?}");
        assert_eq!(deaths, 10);
        // What passed in time is forgiven whole.
        let (policy, mut history) = (RestartPolicy::new(Restart::Always), History::default());
        for second in 0..40 {
            let life = if second % 20 == 0 { GOOD } else { BAD };
            let policy = RestartPolicy { max_deaths: 0, ..policy.clone() };
            let decision = policy.decide(&mut history, Duration::from_secs(second), life);
            assert!(matches!(decision, Decision::Restart { .. }), "{second}: {decision:?}");
        }
    }

    #[test]
    fn two_services_that_fail_together_do_not_come_back_together() {
        let policy = RestartPolicy { max_failures: 0, max_deaths: 0, ..RestartPolicy::new(Restart::Always) };
        let delays = |seed| {
            let mut history = History::seeded(seed);
            let mut delays = (0..20).map(|_| match policy.decide(&mut history, Duration::ZERO, BAD) {
                Decision::Restart { after } => after,
                other => panic!("{other:?}"),
            });
            let first = delays.next().unwrap();
            (first, delays.last().unwrap())
        };
        let (first, last) = delays(0x1234_5678_9abc_def0);
        assert!(first <= policy.first_delay && first >= policy.first_delay * 3 / 4, "{first:?}");
        assert!(last <= policy.max_delay && last >= policy.max_delay * 3 / 4, "{last:?}");
        assert_ne!(delays(0x0fed_cba9_8765_4321), (first, last));
    }

    #[test]
    fn a_good_life_is_followed_at_once_and_forgives() {
        let (policy, mut history) = (RestartPolicy::new(Restart::Always), History::default());
        policy.decide(&mut history, Duration::ZERO, BAD);
        assert_eq!(policy.decide(&mut history, minute(1), GOOD), Decision::Restart { after: Duration::ZERO });
        assert_eq!(history.failures(), 0);
    }

    #[test]
    fn ready_for_exactly_the_minimum_is_not_yet_good() {
        let (policy, mut history) = (RestartPolicy::new(Restart::Always), History::default());
        let life = Life { ready_for: Some(policy.min_ready), ..BAD };
        assert_eq!(policy.decide(&mut history, minute(1), life), Decision::Restart { after: policy.first_delay });
    }

    #[test]
    fn good_lives_that_end_too_often_end_in_giving_up() {
        let policy = RestartPolicy { max_deaths: 3, ..RestartPolicy::new(Restart::Always) };
        let mut history = History::default();
        for second in [0, 10] {
            let decision = policy.decide(&mut history, Duration::from_secs(second), GOOD);
            assert_eq!(decision, Decision::Restart { after: Duration::ZERO });
        }
        let decision = policy.decide(&mut history, Duration::from_secs(60), GOOD);
        assert_eq!(decision, Decision::GiveUp(Reason::TooOften { deaths: 3, window: policy.window }));
    }

    #[test]
    fn a_permanent_cause_counts_only_before_readiness() {
        let (policy, mut history) = (RestartPolicy::new(Restart::Always), History::default());
        let late = policy.decide(&mut history, Duration::ZERO, Life { permanent: true, ..GOOD });
        assert_eq!(late, Decision::Restart { after: Duration::ZERO });
        let early = policy.decide(&mut history, Duration::ZERO, Life { permanent: true, ..BAD });
        assert_eq!(early, Decision::GiveUp(Reason::Permanent));
    }

    #[rstest]
    #[case(Restart::Never, false, true)]
    #[case(Restart::Never, true, true)]
    #[case(Restart::OnFailure, true, true)]
    #[case(Restart::OnFailure, false, false)]
    #[case(Restart::Always, true, false)]
    fn the_choice_of_ends(#[case] restart: Restart, #[case] success: bool, #[case] ends: bool) {
        let decision = RestartPolicy::new(restart).decide(&mut History::default(), minute(1), Life { success, ..BAD });
        assert_eq!(decision == Decision::End, ends);
    }

    proptest! {
        #[test]
        fn delays_stay_within_their_bounds_and_never_shrink(deaths in 1_u32..200) {
            let policy = RestartPolicy { max_failures: 0, max_deaths: 0, ..RestartPolicy::new(Restart::Always) };
            let (mut history, mut before) = (History::default(), Duration::ZERO);
            for _ in 0..deaths {
                let Decision::Restart { after } = policy.decide(&mut history, Duration::ZERO, BAD) else {
                    return Err(TestCaseError::fail("gave up without a limit"));
                };
                prop_assert!(after >= before && after >= policy.first_delay && after <= policy.max_delay);
                before = after;
            }
        }

        #[test]
        fn the_memory_of_deaths_is_bounded_by_the_window(times in proptest::collection::vec(0_u64..10_000, 1..300)) {
            let policy = RestartPolicy { max_failures: 0, max_deaths: 0, ..RestartPolicy::new(Restart::Always) };
            let (mut history, mut times) = (History::default(), times);
            times.sort_unstable();
            for time in times {
                let now = Duration::from_secs(time);
                policy.decide(&mut history, now, GOOD);
                prop_assert!(history.deaths.iter().all(|death| now.saturating_sub(*death) <= policy.window));
            }
        }
    }
}
