//! The agent: PID 1 of the sandbox container.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod access;
pub mod accounts;
mod alarm;
mod caller;
mod classify;
mod ending;
mod environment;
mod feeder;
mod household;
mod keeper;
mod outbox;
mod refusal;
mod tree;
mod unpack;
mod usage;
