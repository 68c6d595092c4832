//! Ports of this machine for tests.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// A TCP port that was free on loopback a moment ago, and that no other test of this process was given: the kernel hands a port out
/// again as soon as it is closed, to one in 2,000 stacks of four ports the same one twice.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("its address").port();
        if given.insert(port) {
            return port;
        }
    }
}
