/*!
The limit on CPU time: when to look, and whether it is passed.
*/
use std::time::Duration;

/// Shortest pause between two looks.
const SHORTEST: Duration = Duration::from_millis(5);
/// Longest pause: the number of usable processors may have been guessed too high.
const LONGEST: Duration = Duration::from_secs(1);

/// Looks rarely while there is much left and often near the end; not at all without a limit.
#[derive(Debug)]
pub(super) struct CpuWatch {
    limit: Option<Duration>,
    processors: u32,
    next: Duration,
}

impl CpuWatch {
    /// A watch for this much CPU time of all processes together.
    pub(super) fn new(limit: Option<Duration>) -> Self {
        // Finding out reads files, which a job without the limit need not pay for.
        let count = limit.and_then(|_| std::thread::available_parallelism().ok());
        let processors = count.map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
        Self { limit, processors, next: Duration::ZERO }
    }

    /// When to look again.
    pub(super) fn next(&self) -> Duration {
        if self.limit.is_some() { self.next } else { Duration::MAX }
    }

    /// Looks, if it is time: whether more than the limit was used.
    pub(super) fn is_exceeded(&mut self, now: Duration, used: impl FnOnce() -> Duration) -> bool {
        let Some(limit) = self.limit.filter(|_| now >= self.next) else { return false };
        let left = limit.saturating_sub(used());
        // With all processors busy it cannot be used up sooner than this.
        self.next = now.saturating_add((left / self.processors.max(1)).clamp(SHORTEST, LONGEST));
        left.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn looks_come_closer_as_the_limit_does() {
        let mut watch = CpuWatch { limit: Some(ms(1_000)), processors: 2, next: ms(0) };
        assert!(!watch.is_exceeded(ms(0), || ms(0)));
        assert_eq!(watch.next(), ms(500));
        assert!(!watch.is_exceeded(ms(499), || ms(5_000)), "not before its time");
        assert!(!watch.is_exceeded(ms(500), || ms(900)));
        assert_eq!(watch.next(), ms(550));
        assert!(!watch.is_exceeded(ms(550), || ms(999)));
        assert_eq!(watch.next(), ms(555));
        assert!(watch.is_exceeded(ms(555), || ms(1_000)));
    }

    #[test]
    fn without_a_limit_nobody_looks() {
        let mut watch = CpuWatch::new(None);
        assert!(!watch.is_exceeded(ms(u64::MAX), || unreachable!()));
        assert_eq!(watch.next(), Duration::MAX);
    }
}
