//! Everything of a container that nested containers can leave behind: compared before and after.

use std::time::{Duration, Instant};

use crate::docker::Container;

/// One line for each thing. Processes by name, without those that came in from outside and this script's own.
const SCRIPT: &str = r#"
for status in /proc/[0-9]*/status; do
    name='' pid='' parent=''
    while read -r key value _; do
        case $key in Name:) name=$value ;; Pid:) pid=$value ;; PPid:) parent=$value; break ;; esac
    done <"$status" 2>/dev/null
    case $parent in '' | 0 | $$) ;; *) echo "process $name" ;; esac
done
while read -r _ _ _ _ point _; do echo "mount $point"; done </proc/self/mountinfo
for path in /sys/class/net/* /run/docker/runtime-runc/*/* /run/containerd/io.containerd.runtime.v2.task/*/*; do
    if [ -e "$path" ]; then echo "file $path"; fi
done
find /sys/fs/cgroup -mindepth 1 -type d | sed 's/^/cgroup /'
echo "descriptors of PID 1: $(ls /proc/1/fd | wc -l)"
"#;

/// What there is, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory(Vec<String>);

impl Inventory {
    /// Looks.
    #[track_caller]
    pub fn of(container: &Container) -> Self {
        let mut lines: Vec<String> = container.sh(SCRIPT).ok().lines().map(str::to_owned).collect();
        lines.sort();
        assert!(lines.len() > 20, "the inventory sees nothing: {lines:?}");
        Self(lines)
    }

    /// Looks until two looks see the same: what ended is cleaned up behind its caller's back.
    #[track_caller]
    pub fn of_rest(container: &Container) -> Self {
        let end = Instant::now() + Duration::from_secs(60);
        let mut before = Self::of(container);
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let now = Self::of(container);
            if now == before {
                return now;
            }
            assert!(Instant::now() < end, "it does not come to rest: {:#?}", now.beyond(&before));
            before = now;
        }
    }

    /// What one has and the other lacks, each thing as often as it is too many.
    fn beyond(&self, other: &Self) -> Vec<String> {
        let mut rest = other.0.clone();
        let extra = self.0.iter().filter(|line| match rest.iter().position(|known| known == *line) {
            Some(place) => {
                rest.swap_remove(place);
                false
            }
            None => true,
        });
        extra.cloned().collect()
    }

    /// Looks until everything is as it was but for what `residue` lets pass, for as long as `limit`. Gives that.
    #[track_caller]
    pub fn assert_same_again(
        &self,
        container: &Container,
        limit: Duration,
        residue: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let end = Instant::now() + limit;
        loop {
            let now = Self::of(container);
            let (passed, left): (Vec<String>, Vec<String>) =
                now.beyond(self).into_iter().partition(|line| residue(line));
            let missing = self.beyond(&now);
            if left.is_empty() && missing.is_empty() {
                return passed;
            }
            assert!(Instant::now() < end, "left behind: {left:#?}\nmissing: {missing:#?}\npassed: {passed:#?}");
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}
