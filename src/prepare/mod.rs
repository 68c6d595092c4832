/*!
The preparation of a Docker-in-Docker container as a plan of steps that first look, then say, then do.

[`Facts::gather`] reads, [`plan()`] decides and touches nothing, [`apply()`] does what the plan says through a [`System`].
So the plan can be printed, judged and tested without root, and what is printed is what would be done.
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod apply;
pub mod cgroups;
pub mod delegate;
pub mod dirs;
pub mod env;
pub mod error;
pub mod facts;
pub mod firewall;
pub mod image_store;
pub mod keys;
pub mod layers;
pub mod machine;
pub mod namespace;
pub mod network;
pub mod patience;
pub mod pidfiles;
pub mod plan;
pub mod privilege;
pub mod procsys;
pub mod propagation;
pub mod rlimits;
pub mod rootless;
pub mod securityfs;
pub mod sockets;
pub mod system;
pub mod tidy;
pub mod tls;
pub mod tmp;
pub mod trials;
pub mod v1;
pub mod v1_missing;
pub mod v2;
pub mod wants;

pub use apply::{Applied, Outcome, Status, Warning, apply};
pub use error::PrepareError;
pub use facts::Facts;
pub use patience::Patience;
pub use plan::{Action, Plan, Step, plan};
pub use system::{Linux, System};
pub use wants::{ApparmorWish, CgroupNamespace, FirewallWishes, LayerWishes, NetworkWishes, TmpWish, Told, Wants};
