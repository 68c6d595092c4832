/*!
Ring 2: the preparation against folders that look like a container's root, and against a model of the kernel; backup and
restore against real folders. No privileges needed.
*/

#[path = "tempdir/applets.rs"]
mod applets;
#[path = "tempdir/applying.rs"]
mod applying;
#[path = "tempdir/archive.rs"]
mod archive;
#[path = "tempdir/cgroups.rs"]
mod cgroups;
#[path = "tempdir/fake_kernel.rs"]
mod fake_kernel;
#[path = "tempdir/fake_root.rs"]
mod fake_root;
#[path = "tempdir/forgeries.rs"]
mod forgeries;
#[path = "tempdir/gathering.rs"]
mod gathering;
#[path = "tempdir/plans.rs"]
mod plans;
#[path = "support/ports.rs"]
mod ports;
#[path = "tempdir/scripts.rs"]
mod scripts;
#[path = "tempdir/sockets.rs"]
mod sockets;
#[path = "tempdir/stats.rs"]
mod stats;
#[path = "support/trees.rs"]
mod trees;
