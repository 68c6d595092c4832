/*!
The preparation of a Docker-in-Docker container as a plan of steps that first look, then say, then do.
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
