/*!
Versions, and which of them a fix is in.
*/
use std::cmp::Ordering;

/// A version such as `1.2.0-rc.3`. What a distribution adds (`+ds1`) does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    numbers: [u64; 3],
    /// Number of the release candidate; `None` for the release itself.
    candidate: Option<u64>,
    /// Whether a distribution has built it, and may have mended it.
    pub distribution: bool,
}

impl Release {
    /// Reads the first version in a text.
    pub fn find(text: &str) -> Option<Self> {
        text.split(|letter: char| letter.is_whitespace() || letter == ',').find_map(Self::parse)
    }

    /// Reads one.
    pub fn parse(word: &str) -> Option<Self> {
        let word = word.strip_prefix('v').unwrap_or(word);
        let (version, distribution) = match word.split_once(['+', '~']) {
            Some((version, _)) => (version, true),
            None => (word, false),
        };
        let (numbers, suffix) =
            version.split_once('-').map_or((version, None), |(numbers, suffix)| (numbers, Some(suffix)));
        let mut parts = numbers.split('.');
        let mut next = || parts.next()?.parse::<u64>().ok();
        let numbers = [next()?, next()?, next()?];
        let candidate = suffix.and_then(|suffix| {
            let digits = suffix.strip_prefix("rc")?.trim_start_matches('.');
            digits.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
        });
        Some(Self { numbers, candidate, distribution })
    }

    fn branch(&self) -> [u64; 2] {
        let [major, minor, _] = self.numbers;
        [major, minor]
    }

    /// Whether one of `fixes`, the first good release of each branch that was mended, is in it. Branches above the last one
    /// began mended; those below the first, and between, never were.
    pub fn has(&self, fixes: &[&str]) -> bool {
        let fixes: Vec<Self> = fixes.iter().filter_map(|fix| Self::parse(fix)).collect();
        match fixes.iter().find(|fix| fix.branch() == self.branch()) {
            Some(fix) => self >= fix,
            None => fixes.iter().all(|fix| self > fix),
        }
    }
}

impl PartialOrd for Release {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        // A candidate comes before its release.
        let candidate = |release: &Self| release.candidate.unwrap_or(u64::MAX);
        Some(self.numbers.cmp(&other.numbers).then(candidate(self).cmp(&candidate(other))))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const RUNC: [&str; 3] = ["1.2.8", "1.3.3", "1.4.0-rc.3"];

    #[rstest]
    #[case("1.1.15", false)]
    #[case("1.2.7", false)]
    #[case("1.2.8", true)]
    #[case("1.3.0", false)]
    #[case("1.3.4", true)]
    #[case("1.4.0-rc.2", false)]
    #[case("1.4.0-rc.3", true)]
    #[case("1.4.0", true)]
    #[case("1.5.0", true)]
    #[case("2.0.0", true)]
    fn branches_are_mended_one_by_one(#[case] version: &str, #[case] mended: bool) {
        assert_eq!(Release::parse(version).unwrap().has(&RUNC), mended);
    }

    #[rstest]
    #[case("Docker version 26.1.5+dfsg1, build 411e817", "26.1.5", true)]
    #[case("containerd github.com/containerd/containerd/v2 v2.0.7 4ac6c20c7bbf", "2.0.7", false)]
    #[case("containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+b4", "1.7.24", true)]
    #[case("runc version 1.1.15+ds1\ncommit: 1.1.15+ds1-2+b4\nspec: 1.2.0", "1.1.15", true)]
    #[case("runc version 1.0.0-rc95", "1.0.0-rc.95", false)]
    fn programs_name_their_versions(#[case] text: &str, #[case] version: &str, #[case] distribution: bool) {
        let found = Release::find(text).unwrap();
        assert_eq!(found, Release { distribution, ..Release::parse(version).unwrap() });
    }

    #[test]
    fn other_words_are_no_versions() {
        assert_eq!(Release::find("podman version five"), None);
        assert_eq!(Release::parse("1.2"), None);
    }
}
