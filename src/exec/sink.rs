//! Where output goes: streamed as it arrives, collected for a result, or both.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::thread::JoinHandle;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::sync::mpsc;

use super::error::ExecError;
use crate::sys::background::Back;

/// A piece of what a run does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The program was started.
    Started,
    /// Bytes of its standard output.
    Stdout(Vec<u8>),
    /// Bytes of its standard error.
    Stderr(Vec<u8>),
    /// Bytes dropped from one of them at this place.
    Gap(&'static str, u64),
}

/// Nobody reads our output any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// How output is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// To our own standard output and error as it arrives.
    Text,
    /// Kept for the result.
    Collect,
    /// Kept for the result, and each event as one line of JSON on standard output.
    Events,
    /// Nowhere: the run goes on in the background.
    Nowhere,
}

enum Line {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

/// Takes the events of one run.
#[derive(Debug)]
pub struct Sink {
    delivery: Delivery,
    kept: (Vec<u8>, Vec<u8>),
    halves: (Vec<u8>, Vec<u8>),
    printer: Option<(mpsc::Sender<Line>, JoinHandle<()>)>,
    back: Option<Back>,
}

/// Pieces under way to a reader that is slower than the program; one is at most 32 KiB.
const UNDER_WAY: usize = 64;

impl Sink {
    /// A sink. Printing happens on a thread of its own: a reader that stalls must not stop us from keeping time.
    pub fn new(delivery: Delivery) -> Result<Self, ExecError> {
        let doing = "open our own output";
        let printer = if delivery == Delivery::Collect {
            None
        } else {
            let out = std::io::stdout().as_fd().try_clone_to_owned().map_err(ExecError::local(doing))?;
            let err = std::io::stderr().as_fd().try_clone_to_owned().map_err(ExecError::local(doing))?;
            Some(start_printer(File::from(out), File::from(err)))
        };
        Ok(Self { delivery, kept: <_>::default(), halves: <_>::default(), printer, back: None })
    }

    /// A sink for a run in the background, which lets its caller go as soon as the program has started.
    pub fn in_background(back: Back) -> Self {
        let nothing = <(Vec<u8>, Vec<u8>)>::default;
        Self { delivery: Delivery::Nowhere, kept: nothing(), halves: nothing(), printer: None, back: Some(back) }
    }

    /// Delivers one event; waits while the reader is behind.
    pub async fn put(&mut self, event: Event) -> Result<(), Closed> {
        if event == Event::Started
            && let Some(back) = self.back.take()
        {
            // A caller that has gone has not heard of the run: it is cancelled like any other.
            return back.is_on_its_way().map_err(|_| Closed);
        }
        if matches!(self.delivery, Delivery::Collect | Delivery::Events) {
            match &event {
                Event::Stdout(bytes) => self.kept.0.extend_from_slice(bytes),
                Event::Stderr(bytes) => self.kept.1.extend_from_slice(bytes),
                Event::Started | Event::Gap(..) => {}
            }
        }
        let Some(line) = self.line(event) else { return Ok(()) };
        match &self.printer {
            Some((sender, _)) => sender.send(line).await.map_err(|_| Closed),
            None => Ok(()),
        }
    }

    fn line(&mut self, event: Event) -> Option<Line> {
        match (self.delivery, event) {
            (Delivery::Collect | Delivery::Nowhere, _) | (Delivery::Text, Event::Started) => None,
            (Delivery::Text, Event::Stdout(bytes)) => Some(Line::Out(bytes)),
            (Delivery::Text, Event::Stderr(bytes)) => Some(Line::Err(bytes)),
            (Delivery::Text, Event::Gap(stream, bytes)) => {
                Some(Line::Err(format!("\ndindctl: {bytes} bytes of {stream} left out here\n").into_bytes()))
            }
            (Delivery::Events, Event::Started) => Some(json_line(&json!({"event": "started"}))),
            (Delivery::Events, Event::Gap(stream, bytes)) => {
                Some(json_line(&json!({"event": "gap", "stream": stream, "bytes": bytes})))
            }
            (Delivery::Events, Event::Stdout(bytes)) => output_line("stdout", &mut self.halves.0, &bytes),
            (Delivery::Events, Event::Stderr(bytes)) => output_line("stderr", &mut self.halves.1, &bytes),
        }
    }

    /// Waits until everything is written, and gives what was kept.
    pub async fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        for (stream, half) in
            [("stdout", std::mem::take(&mut self.halves.0)), ("stderr", std::mem::take(&mut self.halves.1))]
        {
            if let (Some((sender, _)), false) = (&self.printer, half.is_empty()) {
                // A reader that has gone is noticed by whoever writes the result.
                let _ = sender.send(output_event(stream, &half)).await;
            }
        }
        if let Some((sender, thread)) = self.printer.take() {
            drop(sender);
            // The thread only writes; it ends when everything is written or nobody reads.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.kept
    }
}

fn start_printer(mut out: File, mut err: File) -> (mpsc::Sender<Line>, JoinHandle<()>) {
    let (sender, mut receiver) = mpsc::channel::<Line>(UNDER_WAY);
    let thread = std::thread::spawn(move || {
        while let Some(line) = receiver.blocking_recv() {
            let written = match line {
                Line::Out(bytes) => out.write_all(&bytes),
                Line::Err(bytes) => err.write_all(&bytes),
            };
            if written.is_err() {
                // Dropping the receiver tells the sender.
                return;
            }
        }
    });
    (sender, thread)
}

fn json_line(value: &serde_json::Value) -> Line {
    Line::Out(format!("{value}\n").into_bytes())
}

/// One event for the bytes, keeping a character that is not complete yet for the next.
fn output_line(stream: &str, half: &mut Vec<u8>, bytes: &[u8]) -> Option<Line> {
    half.extend_from_slice(bytes);
    let mut all = std::mem::take(half);
    if let Err(error) = std::str::from_utf8(&all)
        && error.error_len().is_none()
    {
        *half = all.split_off(error.valid_up_to());
    }
    (!all.is_empty()).then(|| output_event(stream, &all))
}

fn output_event(stream: &str, bytes: &[u8]) -> Line {
    json_line(&match std::str::from_utf8(bytes) {
        Ok(text) => json!({"event": stream, "data": text, "encoding": "utf-8"}),
        Err(_) => json!({"event": stream, "data": STANDARD.encode(bytes), "encoding": "base64"}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: Option<Line>) -> Option<String> {
        line.map(|line| match line {
            Line::Out(bytes) | Line::Err(bytes) => String::from_utf8(bytes).unwrap(),
        })
    }

    #[test]
    fn a_split_character_waits_for_its_other_half() {
        let mut half = Vec::new();
        let first = text(output_line("stdout", &mut half, &[b'a', 0xc3])).unwrap();
        assert!(first.contains("\"data\":\"a\""), "{first}");
        let second = text(output_line("stdout", &mut half, &[0xa4])).unwrap();
        assert!(second.contains("\"data\":\"ä\""), "{second}");
        assert!(half.is_empty());
        let bytes = text(output_line("stdout", &mut half, &[0xff, b'x'])).unwrap();
        assert!(bytes.contains("base64"), "{bytes}");
    }

    #[tokio::test]
    async fn collected_output_stays_apart() {
        let mut sink = Sink::new(Delivery::Collect).unwrap();
        for event in
            [Event::Stdout(b"1".to_vec()), Event::Stderr(b"2".to_vec()), Event::Started, Event::Stdout(b"3".to_vec())]
        {
            sink.put(event).await.unwrap();
        }
        assert_eq!(sink.finish().await, (b"13".to_vec(), b"2".to_vec()));
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_is_noticed() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let out = File::from(std::os::fd::OwnedFd::from(writer));
        let (sender, thread) = start_printer(out.try_clone().unwrap(), out);
        sender.send(Line::Out(b"x".to_vec())).await.unwrap();
        sender.closed().await;
        thread.join().unwrap();
    }
}
