//! The caller's terminal, its signals and its standard input.

use std::io::{self, Read};
use std::os::fd::AsFd;

use nix::sys::termios::{self, SetArg, Termios};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Raw mode for as long as it lives, so that every key reaches the program.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches standard input to raw mode.
    pub fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone by now, and then there is nothing to restore.
        let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
    }
}

/// Rows and columns of the terminal on standard input.
pub fn size() -> Option<(u16, u16)> {
    let (width, height) = terminal_size::terminal_size_of(io::stdin())?;
    Some((height.0, width.0))
}

/// What the caller's terminal or system tells us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// End the run: the number of the signal.
    Stop(i32),
    /// The terminal has another size.
    Resized,
}

/// The signals that a run listens to.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    resized: Signal,
}

impl Signals {
    /// Takes the signals over from their defaults.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            resized: signal(SignalKind::window_change())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Notice {
        tokio::select! {
            _ = self.interrupt.recv() => Notice::Stop(SignalKind::interrupt().as_raw_value()),
            _ = self.terminate.recv() => Notice::Stop(SignalKind::terminate().as_raw_value()),
            _ = self.hangup.recv() => Notice::Stop(SignalKind::hangup().as_raw_value()),
            _ = self.resized.recv() => Notice::Resized,
        }
    }

    /// The next one that ends the run.
    pub async fn stop(&mut self) -> i32 {
        loop {
            if let Notice::Stop(number) = self.next().await {
                return number;
            }
        }
    }
}

/// Reads standard input in pieces on a thread of its own, which the end of the process does not wait for.
pub fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(2);
    std::thread::spawn(move || {
        let mut piece = vec![0; 32 * 1024];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An input that cannot be read has ended, for the program as for us.
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    if sender.blocking_send(piece.get(..count).unwrap_or_default().to_vec()).is_err() {
                        return;
                    }
                }
            }
        }
    });
    receiver
}
