/*!
Quantities with their units, as reports show them.
*/
use serde::Serialize;

/// A unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// CPU time per time: 1 is one CPU the whole time.
    Cpus,
    /// Bytes.
    Bytes,
    /// Tasks: processes and threads.
    Tasks,
    /// Bytes in a second.
    BytesPerSecond,
}

/// How much of what.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Amount {
    /// The number.
    pub value: f64,
    /// Of what.
    pub unit: Unit,
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MEBIBYTE: f64 = 1_048_576.0;
        match self.unit {
            Unit::Cpus => write!(f, "{:.2} CPU", self.value),
            Unit::Bytes => write!(f, "{:.1} MiB", self.value / MEBIBYTE),
            Unit::Tasks => write!(f, "{:.0} tasks", self.value),
            Unit::BytesPerSecond => write!(f, "{:.1} MiB/s", self.value / MEBIBYTE),
        }
    }
}

/// A count as a number that can be divided. Exact up to 2^53, which is 8 PiB.
#[allow(clippy::cast_precision_loss)] // See above.
pub const fn number(count: u64) -> f64 {
    count as f64
}
