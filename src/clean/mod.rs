/*!
Pruning a daemon: [`inventory`] says what there is, [`plan`] decides what may go ([`look`] does both), [`act`] removes it and [`report`]
tells what came of it.
[`groups`] finds the control groups that killed daemons left behind, [`tasks`] what containerd still runs of theirs, and [`forsaken`] ends that.

What `dindctl gc` decides about (everything with a label of ours) stays with it; the plan leaves it alone.
*/

pub mod act;
pub mod forsaken;
pub mod groups;
pub mod inventory;
pub mod look;
pub mod plan;
pub mod report;
pub mod tasks;
