/*!
PID 1: signals, reaping, the service state machine, restart policy, shutdown and the log pump. Synchronous and
single-threaded.
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod lines;
pub mod logfile;
pub mod notify;
pub mod policy;
pub mod reaper;
pub mod report;
pub mod say;
pub mod service;
pub mod shutdown;
pub mod signals;
pub mod spec;
pub mod state;
