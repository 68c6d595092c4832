/*!
Running untrusted code: a validated [`request`] becomes a throw-away container whose PID 1 is our own agent, spoken
to in framed messages ([`protocol`]), and ends in a typed [`outcome`].
*/

pub mod agent;
pub mod authorities;
pub mod chain;
pub mod container;
pub mod daemon;
pub mod delivery;
pub mod dryrun;
pub mod egress;
pub mod endpoint;
pub mod error;
pub mod exit;
pub mod gc;
pub mod image;
pub mod job;
pub mod language;
pub mod lease;
pub mod locality;
pub mod missed;
pub mod network;
pub mod outcome;
pub mod parse;
pub mod plain;
pub mod program;
pub mod protocol;
pub mod rejection;
pub mod request;
pub mod result;
pub mod run;
pub mod settings;
pub mod sink;
pub mod stream;
pub mod teardown;
pub mod terminal;
pub mod typed;
pub mod variables;
pub mod workspace;
