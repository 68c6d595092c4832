/*!
Running untrusted code: a validated [`request`] becomes a throw-away container whose PID 1 is our own agent, spoken
to in framed messages ([`protocol`]), and ends in a typed [`outcome`].
*/

pub mod agent;
pub mod outcome;
pub mod protocol;
