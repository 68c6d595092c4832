/*!
Whether limits hold here: containers with limits are started and loaded from inside, and what they really get is
measured from outside, from the counters of their control groups.

The load program is dindctl itself, in an image of one file, so nothing has to be pulled.
*/

pub mod amount;
pub mod catalog;
pub mod counters;
pub mod groups;
pub mod judge;
pub mod junit;
pub mod load;
pub mod meter;
pub mod place;
pub mod report;
pub mod trial;
