/*!
What this container and the containers in it use: CPU, memory, tasks, network, disks.

[`text`] reads the kernel's files, [`place`] finds the control groups of the whole container, [`outer`] and [`nested`] make a
[`reading`] of either kind, two of which make a [`row`]; [`sampler`] does it again and again, and [`table`] shows it.
*/

pub mod interfaces;
pub mod nested;
pub mod outer;
pub mod place;
pub mod reading;
pub mod row;
pub mod sampler;
pub mod table;
pub mod text;

/// A count as a number that can be divided. Exact up to 2^53, which is 8 PiB.
#[allow(clippy::cast_precision_loss)] // See above.
pub const fn number(count: u64) -> f64 {
    count as f64
}
