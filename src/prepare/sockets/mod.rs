/*!
The API sockets: bound by PID 1 with owner and mode settled before anyone can connect, kept over every restart of the
daemon, and handed to it by activation.
*/

mod address;
mod bind;
mod holder;
mod tcp;
mod unix;

pub use address::{ListenAddress, parse};
pub use bind::{Bound, Listener, Openness, SocketError, SocketWishes, bind, insecure_warning};
