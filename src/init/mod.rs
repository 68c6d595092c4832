/*!
PID 1: signals, reaping, the service state machine, restart policy, shutdown and the log pump. Synchronous and single-threaded.
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod state;
