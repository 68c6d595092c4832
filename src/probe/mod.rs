/*!
What surrounds this process: capabilities, cgroup set-up, mounts, namespaces, users. Reads only; every function takes the root path it reads from.
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
