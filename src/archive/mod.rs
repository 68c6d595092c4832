/*!
Backup and restore of a folder: one `.tar.zst` stream that knows whether it is whole, and a restore that leaves either the old
tree or the new one.

Reading a tree ([`walk`]) and writing one ([`unpack`]) go name by name over open folders ([`cursor`]) and follow no link, so it
does not matter who made the tree or the archive. What an archive looks like is decided in [`pax`], [`order`],
[`manifest`] and [`seal`], without a file system.
*/

pub mod backup;
pub mod cursor;
pub mod entry;
pub mod error;
pub mod manifest;
pub mod names;
pub mod node;
pub mod order;
pub mod pause;
pub mod pax;
pub mod read;
mod records;
pub mod remove;
pub mod restore;
pub mod seal;
pub mod space;
pub mod stop;
mod stream;
pub mod swap;
pub mod unpack;
pub mod walk;
pub mod write;
