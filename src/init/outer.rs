/*!
The stop limit of whoever started the container. `docker stop` kills after 10 s unless told otherwise, and no process
can see that limit; where the user says it in the environment, a limit shorter than ours is worth a warning.
*/
use std::time::Duration;

/// Variables that may hold the outer limit, the first one set wins.
pub const VARIABLES: [&str; 2] = ["DINDCTL_OUTER_STOP_TIMEOUT", "STOP_GRACE"];

/// A warning when the outer limit that the environment tells is not above `ours`, or cannot be read.
pub fn warning(ours: Duration, env: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (name, value) = VARIABLES.iter().find_map(|name| env(name).map(|value| (name, value)))?;
    let Some(outer) = parse(value.trim()) else {
        return Some(format!("{name}={value:?} is not a duration; use seconds (45) or 45s, 1m30s"));
    };
    (outer <= ours).then(|| {
        format!(
            "{name} says that the container is killed {} after a stop, before our own limit of {} is over; \
             raise it (docker run --stop-timeout, compose stop_grace_period) or lower --stop-timeout",
            humantime::format_duration(outer),
            humantime::format_duration(ours),
        )
    })
}

fn parse(value: &str) -> Option<Duration> {
    value.parse().map(Duration::from_secs).ok().or_else(|| humantime::parse_duration(value).ok())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::shorter("10", true)]
    #[case::shorter_with_unit("30s", true)]
    #[case::equal_loses_the_race("35s", true)]
    #[case::longer("1m", false)]
    #[case::unreadable("soon", true)]
    fn a_shorter_outer_limit_is_told(#[case] value: &str, #[case] warned: bool) {
        let env = |name: &str| (name == "STOP_GRACE").then(|| value.to_owned());
        let warning = warning(Duration::from_secs(35), env);
        assert_eq!(warning.is_some(), warned, "{warning:?}");
        assert!(warning.is_none_or(|text| text.contains("STOP_GRACE")));
    }

    #[test]
    fn silence_means_no_warning() {
        assert_eq!(warning(Duration::from_secs(35), |_| None), None);
    }
}
