/*!
PID 1: signals, reaping, the service state machine, restart policy, shutdown and the log pump. Synchronous and
single-threaded.

[`service`], [`policy`], [`shutdown`] and [`report`] decide, over plain data and a clock handed in;
[`supervisor`] does what they say. [`plain`] is the small PID 1 that only forwards and reaps.
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod banner;
pub mod chronicle;
pub mod control;
pub mod event_loop;
pub mod lines;
pub mod logfile;
pub mod logpump;
pub mod notify;
pub mod outer;
pub mod outlet;
pub mod plain;
pub mod policy;
pub mod reaper;
pub mod report;
pub mod say;
pub mod service;
pub mod shutdown;
pub mod signals;
pub mod spec;
pub mod state;
pub mod streams;
pub mod supervisor;
pub mod sweep;
pub mod unit;
pub mod words;
