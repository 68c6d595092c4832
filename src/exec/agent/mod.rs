//! The agent: PID 1 of the sandbox container.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod access;
pub mod accounts;
mod classify;
mod ending;
mod environment;
mod feeder;
mod keeper;
mod outbox;
mod usage;
