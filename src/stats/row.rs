//! One line of the table: two readings of the same container, and the time between them.

use std::time::Duration;

use serde::Serialize;

use super::number;
use super::reading::{Flow, Pressure, Reading};

/// What one container uses. `null` where it is not known or not limited.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Row {
    /// Identifier of the container; none for the outer one.
    pub id: Option<String>,
    /// Its name; the host name of the outer one.
    pub name: String,
    /// `running`, `paused`, `exited`, …
    pub state: String,
    /// CPUs in use: 0.5 is half of one CPU.
    pub cpu: Option<f64>,
    /// CPUs.
    pub cpu_limit: Option<f64>,
    /// Bytes, without inactive file cache.
    pub memory_bytes: Option<u64>,
    /// Bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Fraction of the limit.
    pub memory: Option<f64>,
    /// Fractions of the last ten seconds.
    pub memory_pressure: Option<Pressure>,
    /// Tasks.
    pub pids: Option<u64>,
    /// Tasks.
    pub pids_limit: Option<u64>,
    /// Bytes received so far.
    pub net_rx_bytes: Option<u64>,
    /// Bytes sent so far.
    pub net_tx_bytes: Option<u64>,
    /// Bytes received in a second.
    pub net_rx_bytes_per_second: Option<f64>,
    /// Bytes sent in a second.
    pub net_tx_bytes_per_second: Option<f64>,
    /// Bytes read from block devices so far.
    pub block_read_bytes: Option<u64>,
    /// Bytes written to block devices so far.
    pub block_written_bytes: Option<u64>,
    /// Bytes read in a second.
    pub block_read_bytes_per_second: Option<f64>,
    /// Bytes written in a second.
    pub block_written_bytes_per_second: Option<f64>,
}

/// Whose row it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Identifier of a container.
    pub id: Option<String>,
    /// Name.
    pub name: String,
    /// State.
    pub state: String,
}

impl Row {
    /// From a reading and the one before it, which is so long ago. Rates need both.
    pub fn new(subject: Subject, now: &Reading, before: Option<(&Reading, Duration)>) -> Self {
        let rate = |of: fn(&Reading) -> Option<u64>| {
            let (before, span) = before?;
            // A counter that has gone back began anew.
            let grown = of(now)?.checked_sub(of(before)?)?;
            (!span.is_zero()).then(|| number(grown) / span.as_secs_f64())
        };
        let nanoseconds = |reading: &Reading| reading.cpu.and_then(|time| u64::try_from(time.as_nanos()).ok());
        let both = |flow: Option<Flow>| (flow.map(|flow| flow.incoming), flow.map(|flow| flow.outgoing));
        let (net, block) = (both(now.net), both(now.block));
        Self {
            id: subject.id,
            name: subject.name,
            state: subject.state,
            cpu: rate(nanoseconds).map(|nanoseconds| nanoseconds / 1e9),
            cpu_limit: now.cpu_limit,
            memory_bytes: now.memory,
            memory_limit_bytes: now.memory_limit,
            memory: now.memory.zip(now.memory_limit).and_then(|(used, limit)| fraction(used, limit)),
            memory_pressure: now.pressure,
            pids: now.pids,
            pids_limit: now.pids_limit,
            net_rx_bytes: net.0,
            net_tx_bytes: net.1,
            net_rx_bytes_per_second: rate(|reading| reading.net.map(|flow| flow.incoming)),
            net_tx_bytes_per_second: rate(|reading| reading.net.map(|flow| flow.outgoing)),
            block_read_bytes: block.0,
            block_written_bytes: block.1,
            block_read_bytes_per_second: rate(|reading| reading.block.map(|flow| flow.incoming)),
            block_written_bytes_per_second: rate(|reading| reading.block.map(|flow| flow.outgoing)),
        }
    }
}

fn fraction(used: u64, limit: u64) -> Option<f64> {
    (limit > 0).then(|| number(used) / number(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(cpu_ms: u64, net: u64) -> Reading {
        Reading {
            cpu: Some(Duration::from_millis(cpu_ms)),
            memory: Some(32 << 20),
            memory_limit: Some(64 << 20),
            net: Some(Flow { incoming: net, outgoing: 2 * net }),
            ..Reading::default()
        }
    }

    #[test]
    fn two_readings_make_rates() {
        let before = reading(1000, 100);
        let row = Row::new(Subject::default(), &reading(1250, 600), Some((&before, Duration::from_millis(500))));
        assert_eq!((row.cpu, row.memory), (Some(0.5), Some(0.5)));
        assert_eq!((row.net_rx_bytes, row.net_tx_bytes), (Some(600), Some(1200)));
        assert_eq!((row.net_rx_bytes_per_second, row.net_tx_bytes_per_second), (Some(1000.0), Some(2000.0)));
        assert_eq!((row.block_read_bytes, row.block_read_bytes_per_second), (None, None));
    }

    #[test]
    fn one_reading_or_a_counter_that_began_anew_makes_none() {
        let row = Row::new(Subject::default(), &reading(1000, 100), None);
        assert_eq!((row.cpu, row.memory, row.net_rx_bytes), (None, Some(0.5), Some(100)));
        let before = reading(5000, 50);
        let row = Row::new(Subject::default(), &reading(1000, 100), Some((&before, Duration::from_secs(1))));
        assert_eq!((row.cpu, row.net_rx_bytes_per_second), (None, Some(50.0)));
        let row = Row::new(Subject::default(), &reading(5000, 100), Some((&before, Duration::ZERO)));
        assert_eq!(row.cpu, None);
    }
}
