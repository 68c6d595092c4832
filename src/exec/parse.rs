//! Values as people type them: sizes, durations, counts, names.

use std::time::Duration;

use super::rejection::Rejection;

const SIZE_HINT: &str = "write a number and a unit such as 64k, 512m or 2g (binary, as docker reads them)";
const DURATION_HINT: &str = "write a number and a unit such as 500ms, 30s or 5m";
/// Longest time that a run may be given.
pub const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

/// A size in bytes. Units are binary and case does not matter: `512m`, `512MB` and `512MiB` are all 512 MiB.
pub fn size(option: &str, typed: &str) -> Result<u64, Rejection> {
    let refuse = |why: &str| Rejection::new(option, typed, why).with_hint(SIZE_HINT);
    let text = typed.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift: u8 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(refuse("is not a size")),
    };
    let number: f64 = number.parse().map_err(|_| refuse("is not a size"))?;
    let bytes = number * f64::from(shift).exp2();
    // A float is exact up to here, which is more than any machine has.
    if bytes > 53_f64.exp2() {
        return Err(refuse("is larger than any machine"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Not negative, and below 2^53.
    Ok(bytes as u64)
}

/// A duration above zero and up to [`MAX_DURATION`]. A bare number means seconds, as for `timeout(1)`.
pub fn duration(option: &str, typed: &str) -> Result<Duration, Rejection> {
    let value = duration_or_zero(option, typed)?;
    if value < Duration::from_millis(1) {
        return Err(Rejection::new(option, typed, "must be above zero").with_hint(DURATION_HINT));
    }
    Ok(value)
}

/// A duration of zero up to [`MAX_DURATION`].
pub fn duration_or_zero(option: &str, typed: &str) -> Result<Duration, Rejection> {
    let text = typed.trim();
    let seconds = text.parse::<f64>().ok().filter(|number| number.is_finite());
    let value = match seconds {
        Some(number) => Duration::try_from_secs_f64(number).ok(),
        None => humantime::parse_duration(text).ok(),
    }
    .ok_or_else(|| Rejection::new(option, typed, "is not a duration").with_hint(DURATION_HINT))?;
    if value > MAX_DURATION {
        return Err(Rejection::new(option, typed, "is more than 7 days").with_hint(DURATION_HINT));
    }
    Ok(value)
}

/// A share of processors in units of 10⁻⁹, as the daemon counts them.
pub fn cpus(typed: &str) -> Result<i64, Rejection> {
    let refuse =
        |why: &str| Rejection::new("--cpus", typed, why).with_hint("write a number of processors such as 1 or 0.5");
    let number: f64 = typed.trim().parse().map_err(|_| refuse("is not a number"))?;
    if !(0.01..=4096.0).contains(&number) {
        return Err(refuse("must be between 0.01 and 4096"));
    }
    #[allow(clippy::cast_possible_truncation)] // At most 4096 × 10⁹.
    Ok((number * 1e9).round() as i64)
}

/// A whole number within bounds.
pub fn count(option: &str, typed: &str, least: i64, most: i64) -> Result<i64, Rejection> {
    let hint = format!("write a whole number from {least} to {most}");
    let number: i64 =
        typed.trim().parse().map_err(|_| Rejection::new(option, typed, "is not a whole number").with_hint(&hint))?;
    if !(least..=most).contains(&number) {
        return Err(Rejection::new(option, typed, format!("must be from {least} to {most}")).with_hint(&hint));
    }
    Ok(number)
}

/// One of a few words.
pub fn word<'a, T: Copy>(option: &str, typed: &str, words: &[(&'a str, T)]) -> Result<T, Rejection> {
    if let Some((_, value)) = words.iter().find(|(name, _)| *name == typed) {
        return Ok(*value);
    }
    let names: Vec<&'a str> = words.iter().map(|(name, _)| *name).collect();
    Err(Rejection::new(option, typed, "is not one of the choices")
        .with_hint(format!("choose one of {}", names.join(", "))))
}

/// A soft and hard resource limit, `NAME=SOFT[:HARD]`, as `docker run --ulimit` reads it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Ulimit {
    /// Name without `RLIMIT_`, lower case.
    pub name: String,
    /// Soft value; -1 is unlimited.
    pub soft: i64,
    /// Hard value; -1 is unlimited.
    pub hard: i64,
}

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads one [`Ulimit`].
pub fn ulimit(typed: &str) -> Result<Ulimit, Rejection> {
    let refuse = |why: &str| {
        Rejection::new("--ulimit", typed, why).with_hint("write NAME=SOFT[:HARD], for example nofile=1024:2048")
    };
    let (name, values) = typed.split_once('=').ok_or_else(|| refuse("has no ="))?;
    if !ULIMITS.contains(&name) {
        return Err(refuse("names no resource limit"));
    }
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number =
        |text: &str| text.parse::<i64>().ok().filter(|value| *value >= -1).ok_or_else(|| refuse("is not a number"));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(refuse("has a soft limit above the hard one"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("512m", 512 << 20)]
    #[case("512MB", 512 << 20)]
    #[case("1MiB", 1 << 20)]
    #[case("1.5g", 3 << 29)]
    #[case("6291456", 6 << 20)]
    #[case("64 k", 64 << 10)]
    fn sizes(#[case] typed: &str, #[case] bytes: u64) {
        assert_eq!(size("--memory", typed).unwrap(), bytes);
    }

    #[rstest]
    #[case("")]
    #[case("m")]
    #[case("12q")]
    #[case("-1m")]
    #[case("1e3")]
    #[case("9999999t")]
    #[case("1..2m")]
    fn no_sizes(#[case] typed: &str) {
        assert!(size("--memory", typed).unwrap_err().hint().is_some());
    }

    #[rstest]
    #[case("30", 30_000)]
    #[case("0.5", 500)]
    #[case("1m 30s", 90_000)]
    #[case("250ms", 250)]
    fn durations(#[case] typed: &str, #[case] millis: u128) {
        assert_eq!(duration("--timeout", typed).unwrap().as_millis(), millis);
    }

    #[rstest]
    #[case("0")]
    #[case("-1")]
    #[case("soon")]
    #[case("8d")]
    #[case("nan")]
    #[case("inf")]
    fn no_durations(#[case] typed: &str) {
        assert!(duration("--timeout", typed).is_err());
    }

    #[rstest]
    #[case("1", Some(1_000_000_000))]
    #[case("0.5", Some(500_000_000))]
    #[case("0", None)]
    #[case("many", None)]
    fn processors(#[case] typed: &str, #[case] nanos: Option<i64>) {
        assert_eq!(cpus(typed).ok(), nanos);
    }

    #[rstest]
    #[case("nofile=1024", Some((1024, 1024)))]
    #[case("nofile=10:20", Some((10, 20)))]
    #[case("core=-1", Some((-1, -1)))]
    #[case("nofile=20:10", None)]
    #[case("nofile", None)]
    #[case("files=3", None)]
    fn ulimits(#[case] typed: &str, #[case] want: Option<(i64, i64)>) {
        assert_eq!(ulimit(typed).ok().map(|limit| (limit.soft, limit.hard)), want);
    }

    proptest! {
        #[test]
        fn size_never_panics_and_scales(number in 0_u64..1 << 20, unit in prop::sample::select(vec!["b", "k", "m", "g"])) {
            let shift: u8 = match unit { "b" => 0, "k" => 10, "m" => 20, _ => 30 };
            prop_assert_eq!(size("x", &format!("{number}{unit}")).unwrap(), number << shift);
        }

        #[test]
        fn garbage_never_panics(text in "\\PC{0,12}") {
            let _ = (size("x", &text).is_ok(), duration("x", &text).is_ok(), cpus(&text).is_ok(), ulimit(&text).is_ok());
        }
    }
}
