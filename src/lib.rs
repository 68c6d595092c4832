/*!
dindctl turns an ordinary image into a Docker-in-Docker host, keeps its daemon alive, and runs untrusted code
through it.

The crate is a handful of rooms, and imports point one way between them (`tests/pure.rs` holds the rule):

| room | idea |
|---|---|
| [`sys`] | raw system calls, the only room with `unsafe` |
| [`probe`] | what surrounds us; reads only |
| [`prepare`] | the plan of preparation steps, and applying it |
| [`init`] | PID 1: signals, reaping, services, shutdown, log pump |
| [`home`] | account and home of an ordinary user |
| [`engine`] | dockerd and containerd as things to start and to ask |
| [`exec`] | job → container → result |
| [`selftest`] | whether limits hold: load, measure, judge |
| [`clean`] | what of a daemon may go, and removing it |
| [`stats`] | what this container and those in it use |
| [`archive`] | a folder as one archive, and back |
| [`preload`] | archives of images, loaded once |
| [`doctor`] | what is wrong here, and how to mend it |
| [`redact`] | what must not leave the machine, taken out of text and documents |
| [`cli`] | arguments as typed → validated request; printing |

PID 1 runs through `sys`, `probe`, `home`, `prepare` and `init` alone: synchronous, in one thread, without a panic path. Threads beside
it end with the preparation (trials of packet filter and overlay, the watch over what takes long) or a moment after it (what the trials leave).
*/

pub mod archive;
pub mod clean;
pub mod cli;
pub mod doctor;
pub mod engine;
pub mod exec;
pub mod home;
pub mod init;
pub mod preload;
pub mod prepare;
pub mod probe;
pub mod redact;
pub mod selftest;
pub mod stats;
pub mod sys;
