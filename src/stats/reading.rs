//! The counters of one container at one moment.

use std::time::Duration;

use serde::Serialize;

/// Bytes in two directions: received and sent, or read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Received or read.
    pub incoming: u64,
    /// Sent or written.
    pub outgoing: u64,
}

impl Flow {
    /// Both together; at the end of the range it stays there.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            incoming: self.incoming.saturating_add(other.incoming),
            outgoing: self.outgoing.saturating_add(other.outgoing),
        }
    }
}

/// Share of the last ten seconds in which tasks waited for memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one waited, 0 to 1.
    pub some: f64,
    /// All of them waited, 0 to 1.
    pub full: Option<f64>,
}

/// Counters and limits; `None` where nobody counts, or nothing is limited.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reading {
    /// CPU time so far.
    pub cpu: Option<Duration>,
    /// CPUs.
    pub cpu_limit: Option<f64>,
    /// Bytes in use, without the file cache that can be given back at once.
    pub memory: Option<u64>,
    /// Bytes: the narrowest limit that can be seen, else the memory of the machine.
    pub memory_limit: Option<u64>,
    /// Waiting for memory.
    pub pressure: Option<Pressure>,
    /// Tasks: processes and threads.
    pub pids: Option<u64>,
    /// Tasks.
    pub pids_limit: Option<u64>,
    /// Network, bytes so far.
    pub net: Option<Flow>,
    /// Block devices, bytes so far.
    pub block: Option<Flow>,
}

/// Memory in use without its inactive file pages, as the docker CLI has it.
pub const fn without_cache(usage: u64, inactive_file: Option<u64>) -> u64 {
    match inactive_file {
        Some(inactive) if inactive < usage => usage - inactive,
        _ => usage,
    }
}
