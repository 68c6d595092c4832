/*!
Raw system calls behind safe functions. The only room that may hold `unsafe`.

Nothing here decides anything: a function does one thing, reports errno, and leaves policy to the rooms above.
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod background;
pub mod beside;
pub mod descriptors;
pub mod family;
pub mod file;
pub mod fsuser;
pub mod inheritance;
pub mod keyring;
pub mod memory;
pub mod module;
pub mod mount;
pub mod nfnetlink;
pub mod overlay;
pub mod pidfd;
pub mod readiness;
pub mod signal;
pub mod signal_set;
pub mod spawn;
mod strangers;
pub mod terminal;
pub mod wait;
pub mod words;
pub mod xtables;
