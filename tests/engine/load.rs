//! A steady stream of requests to an API, and what became of each.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Seen {
    /// Answered with 200.
    pub answered: usize,
    /// The connection was not taken.
    pub refused: usize,
    /// The connection was taken and broke.
    pub broken: usize,
    /// When those that broke began and ended.
    pub breaks: Vec<(Instant, Instant)>,
    /// The longest time that one took.
    pub longest: Duration,
}

impl Seen {
    fn count(&mut self, (from, to, end): (Instant, Instant, End)) {
        self.longest = self.longest.max(to - from);
        match end {
            End::Answered => self.answered += 1,
            End::Refused => self.refused += 1,
            End::Broken => {
                self.broken += 1;
                self.breaks.push((from, to));
            }
        }
    }
}

/// A running stream.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

enum End {
    Answered,
    Refused,
    Broken,
}

fn request(address: SocketAddr) -> End {
    let limit = Duration::from_secs(30);
    let Ok(mut stream) = TcpStream::connect_timeout(&address, limit) else {
        return End::Refused;
    };
    stream.set_read_timeout(Some(limit)).expect("timeout");
    if stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n").is_err() {
        return End::Broken;
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) if answer.starts_with(b"HTTP/1.0 200") || answer.starts_with(b"HTTP/1.1 200") => End::Answered,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => End::Refused,
        _ => End::Broken,
    }
}

/// Whether one request to `address` is answered.
pub fn answers(address: &str) -> bool {
    matches!(request(address.parse().expect("address")), End::Answered)
}

impl Load {
    /// Sends `rate` requests a second to `address`, each on a connection and thread of its own, for two minutes at most.
    pub fn start(address: &str, rate: u32) -> Self {
        Self::start_for(address, rate, Duration::from_secs(120))
    }

    /// The same for as long as `limit`: a test that hangs must not send for ever.
    pub fn start_for(address: &str, rate: u32, limit: Duration) -> Self {
        let address: SocketAddr = address.parse().expect("address");
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = spawn(move || {
            let (sender, outcomes) = std::sync::mpsc::channel();
            let (started, mut sent) = (Instant::now(), 0_usize);
            while !ended.load(Ordering::Relaxed) && started.elapsed() < limit {
                let sender = sender.clone();
                spawn(move || {
                    let from = Instant::now();
                    let end = request(address);
                    sender.send((from, Instant::now(), end))
                });
                sent += 1;
                sleep(Duration::from_secs(1) / rate);
            }
            drop(sender);
            let mut seen = Seen::default();
            for outcome in outcomes {
                seen.count(outcome);
            }
            assert_eq!(seen.answered + seen.refused + seen.broken, sent, "a request's thread died");
            seen
        });
        Self { stop, thread }
    }

    /// Ends the stream and counts.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("load thread")
    }
}
