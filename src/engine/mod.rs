/*!
The container engine as a thing to start and to ask: command lines of dockerd and containerd, daemon.json, the
certificates of the API, what their last words mean, and the health probe.

Everything but [`ping`] is a pure function over arguments, environment and file contents.
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod arguments;
pub mod containerd;
pub mod daemon_json;
pub mod diagnosis;
pub mod dockerd;
pub mod ping;
pub mod rootlesskit;
pub mod settings;
pub mod socket;
pub mod tls;
