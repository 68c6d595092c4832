/*!
The account and the home of an ordinary user in a container, made ready before a program runs as that user: ids and name by
request, folders that can be written, what a new home begins with, and hooks.

All of it is done by root in a folder that belongs to somebody else and that outlives the container, so no link in it is ever
followed, and nothing is changed but what is named here: no tree is walked to change its owner.
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod account;
pub mod accounts_file;
pub mod error;
pub mod folder;
pub mod hooks;
pub mod refusal;
pub mod setup;

pub use account::{Wish, WishError};
pub use error::HomeError;
pub use setup::{Ready, set_up};
