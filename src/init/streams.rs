/*!
Both output streams of PID 1, shared by the services that are pumped and by our own lines.
*/
use std::os::fd::{AsFd, BorrowedFd};

use super::logpump::Pump;
use super::outlet::Outlet;
use super::say::{Level, Logger, Say, unix_time};
use super::spec::Sink;

/// Standard output and error.
#[derive(Debug)]
pub struct Streams {
    stdout: Outlet,
    stderr: Outlet,
    say: Say,
    /// Which service goes first in the next turn, so that a chatty one cannot starve the others.
    first: usize,
}

impl Streams {
    /// Opens the process's own streams.
    pub fn open(say: Say) -> Self {
        Self {
            stdout: Outlet::open(std::io::stdout().as_fd()),
            stderr: Outlet::open(std::io::stderr().as_fd()),
            say,
            first: 0,
        }
    }

    /// Writes what the readers take now: our own lines, then a piece of each service in turn.
    pub fn turn(&mut self, pumps: &mut [(Sink, &mut Pump)]) {
        let count = pumps.len().max(1);
        for (sink, outlet) in [(Sink::Stdout, &mut self.stdout), (Sink::Stderr, &mut self.stderr)] {
            let first = &mut self.first;
            outlet.turn(|piece| {
                for _ in 0..count {
                    *first = if *first + 1 < count { *first + 1 } else { 0 };
                    if let Some((of, pump)) = pumps.get_mut(*first)
                        && *of == sink
                    {
                        pump.take(piece);
                        if !piece.is_empty() {
                            return;
                        }
                    }
                }
            });
            if outlet.is_dead() {
                pumps.iter_mut().filter(|(of, _)| *of == sink).for_each(|(_, pump)| pump.discard());
            }
        }
        // Somebody reads again.
        if !self.stderr.is_pending() {
            let dropped = self.stderr.take_dropped();
            if dropped > 0 {
                self.warn(&format!("{dropped} lines of dindctl were dropped, because nobody read standard error"));
            }
        }
    }

    /// Descriptors to poll for room.
    pub fn awaited(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.stdout, &self.stderr].into_iter().filter_map(Outlet::awaited)
    }
}

impl Logger for Streams {
    fn log(&mut self, level: Level, message: &str) {
        if let Some(line) = self.say.render(level, message, unix_time()) {
            self.stderr.say(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::init::say::Format;

    /// Their number was taken and forgotten before anybody could read it.
    #[test]
    fn lines_that_were_dropped_are_counted_when_somebody_reads_again() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        reader.set_nonblocking(true).unwrap();
        let nothing = std::fs::File::options().write(true).open("/dev/null").unwrap();
        let mut streams = Streams {
            stdout: Outlet::open(nothing.as_fd()),
            stderr: Outlet::open(writer.as_fd()),
            say: Say { format: Format::Text, level: Level::Info },
            first: 0,
        };
        for _ in 0..20_000 {
            streams.info("a line that nobody reads");
            streams.turn(&mut []);
        }
        let mut text = Vec::new();
        while streams.awaited().next().is_some() {
            let _ = reader.read_to_end(&mut text);
            streams.turn(&mut []);
        }
        drop((streams, writer));
        reader.set_nonblocking(false).unwrap();
        reader.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let read = text.lines().filter(|line| line.contains("a line that nobody reads")).count();
        let told = format!("{} lines of dindctl were dropped", 20_000 - read);
        assert!(read < 20_000 && text.lines().last().unwrap().contains(&told), "{read}: {:?}", text.lines().last());
    }
}
