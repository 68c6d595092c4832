//! The conversation with the agent: frames out, frames in, signals and time, until there is a report or none can come.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use futures_util::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::chain::chain;
use super::outcome::Report;
use super::protocol::{self, Decoder, Frame, Kind, STDIN_WINDOW};
use super::sink::{Closed, Event, Sink};
use super::terminal::{self, Notice, Signals};

/// Longest time that the daemon may take to start a container.
pub const START: Duration = Duration::from_secs(120);
/// Added to the run's own limits before the agent itself counts as dead.
pub const MARGIN: Duration = Duration::from_secs(10);
/// How long a cancelled agent may take to report.
const FAREWELL: Duration = Duration::from_secs(5);
/// What is kept of the agent's own complaints, bytes.
const COMPLAINT: usize = 4096;

/// The caller's side of a conversation.
#[derive(Debug)]
pub struct Opening {
    /// The job, as JSON.
    pub job: Vec<u8>,
    /// The workspace as a tar archive.
    pub archive: Option<Vec<u8>>,
    /// Standard input of the program, where it is forwarded.
    pub stdin: Option<mpsc::Receiver<Vec<u8>>>,
    /// The run's own limits together.
    pub limit: Duration,
    /// The run's own time between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// How a conversation ended.
#[derive(Debug)]
pub enum Ending {
    /// With a report.
    Report(Report),
    /// The container did not start.
    StartFailed(bollard::errors::Error),
    /// The stream ended without a report; what the agent complained of.
    Lost(String),
    /// Neither a report nor an end came in time.
    Overdue,
    /// Our own reader held everything up until the time was over.
    Stalled,
    /// The caller interrupted it, and the report came or not.
    Interrupted(i32, Option<Report>),
    /// Nobody reads the output any more.
    Closed,
}

/// A finished conversation.
#[derive(Debug)]
pub struct Conversation {
    /// How it ended.
    pub ending: Ending,
    /// When the agent said that the program was started.
    pub started: Option<Instant>,
}

struct Line<'a> {
    sink: &'a mut Sink,
    signals: &'a mut Signals,
    outbox: mpsc::UnboundedSender<Vec<u8>>,
    decoder: Decoder,
    complaint: Vec<u8>,
    sent: u64,
    taken: u64,
    limit: Duration,
    grace: Duration,
    until: Instant,
    started: Option<Instant>,
    interrupted: Option<i32>,
}

/// Talks to the agent in the attached container while `start` starts it.
pub async fn converse(
    attached: AttachContainerResults,
    start: impl Future<Output = Result<(), bollard::errors::Error>>,
    opening: Opening,
    sink: &mut Sink,
    signals: &mut Signals,
) -> Conversation {
    let (outbox, queue) = mpsc::unbounded_channel();
    let writer = tokio::spawn(write_all(attached.input, queue));
    let Opening { job, archive, mut stdin, limit, grace } = opening;
    let mut line = Line {
        sink,
        signals,
        outbox,
        decoder: Decoder::default(),
        complaint: Vec::new(),
        sent: 0,
        taken: 0,
        limit,
        grace,
        until: Instant::now() + START + limit + MARGIN,
        started: None,
        interrupted: None,
    };
    line.send(Kind::Job, &job);
    if let Some(archive) = archive {
        for piece in archive.chunks(32 * 1024) {
            line.send(Kind::Archive, piece);
        }
        line.send(Kind::ArchiveEof, &[]);
    }
    let ending = line.run(attached.output, start, &mut stdin).await;
    // Closing our end tells an agent that still runs that nobody waits for it.
    writer.abort();
    Conversation { ending, started: line.started }
}

type Output = Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

impl Line<'_> {
    fn send(&self, kind: Kind, payload: &[u8]) {
        let mut frame = Vec::with_capacity(protocol::HEADER + payload.len());
        protocol::encode(kind, payload, &mut frame);
        // The writer ends only with the connection, and then the reading side says so.
        let _ = self.outbox.send(frame);
    }

    async fn run(
        &mut self,
        mut output: Output,
        start: impl Future<Output = Result<(), bollard::errors::Error>>,
        stdin: &mut Option<mpsc::Receiver<Vec<u8>>>,
    ) -> Ending {
        let mut start = std::pin::pin!(start);
        let mut starting = true;
        loop {
            let window = self.sent.saturating_sub(self.taken) < STDIN_WINDOW as u64 - 32 * 1024;
            tokio::select! {
                notice = self.signals.next() => if let Some(ending) = self.notice(notice) { return ending },
                piece = output.next() => match piece {
                    // A container that fails to start ends the stream before the daemon says why.
                    None if starting => {
                        if let Ok(Err(error)) = tokio::time::timeout(FAREWELL, &mut start).await {
                            return Ending::StartFailed(error);
                        }
                        return self.lost();
                    }
                    None => return self.lost(),
                    Some(Err(error)) => {
                        self.complaint.extend(format!(" the stream broke: {}", chain(&error)).bytes());
                        return self.lost();
                    }
                    Some(Ok(piece)) => if let Some(ending) = self.piece(piece).await { return ending },
                },
                outcome = &mut start, if starting => match outcome {
                    Ok(()) => starting = false,
                    Err(error) => return Ending::StartFailed(error),
                },
                piece = next_input(stdin), if window && stdin.is_some() => self.input(piece, stdin),
                () = tokio::time::sleep_until(self.until) => return self.overdue(),
            }
        }
    }

    fn input(&mut self, piece: Option<Vec<u8>>, stdin: &mut Option<mpsc::Receiver<Vec<u8>>>) {
        if let Some(bytes) = piece {
            self.sent += bytes.len() as u64;
            self.send(Kind::Stdin, &bytes);
        } else {
            *stdin = None;
            self.send(Kind::StdinEof, &[]);
        }
    }

    fn overdue(&self) -> Ending {
        self.interrupted.map_or(Ending::Overdue, |number| Ending::Interrupted(number, None))
    }

    fn lost(&self) -> Ending {
        let said = String::from_utf8_lossy(&self.complaint).trim().to_owned();
        self.interrupted.map_or(Ending::Lost(said), |number| Ending::Interrupted(number, None))
    }

    fn notice(&mut self, notice: Notice) -> Option<Ending> {
        match (notice, self.interrupted) {
            (Notice::Resized, _) => {
                if let Some((rows, columns)) = terminal::size() {
                    self.send(Kind::Resize, &[rows.to_be_bytes(), columns.to_be_bytes()].concat());
                }
                None
            }
            // Whoever asks twice does not want to wait.
            (Notice::Stop(number), Some(_)) => Some(Ending::Interrupted(number, None)),
            (Notice::Stop(number), None) => {
                self.interrupted = Some(number);
                self.send(Kind::Cancel, &[]);
                self.until = Instant::now() + self.grace + FAREWELL;
                None
            }
        }
    }

    async fn piece(&mut self, piece: LogOutput) -> Option<Ending> {
        match piece {
            LogOutput::StdErr { message } => {
                let room = COMPLAINT.saturating_sub(self.complaint.len());
                self.complaint.extend(message.into_iter().take(room));
                return None;
            }
            LogOutput::StdOut { message } | LogOutput::Console { message } => self.decoder.push(&message),
            LogOutput::StdIn { .. } => {}
        }
        loop {
            match self.decoder.next_frame() {
                Ok(None) => return None,
                Ok(Some(frame)) => {
                    if let Some(ending) = self.frame(frame).await {
                        return Some(ending);
                    }
                }
                Err(error) => return Some(Ending::Lost(error.to_string())),
            }
        }
    }

    async fn frame(&mut self, frame: Frame) -> Option<Ending> {
        let Frame { kind, payload } = frame;
        let event = match kind {
            Kind::Started => {
                self.started = Some(Instant::now());
                if self.interrupted.is_none() {
                    self.until = Instant::now() + self.limit + MARGIN;
                }
                Event::Started
            }
            Kind::Stdout => Event::Stdout(payload),
            Kind::Stderr => Event::Stderr(payload),
            Kind::StdoutGap => Event::Gap("stdout", protocol::count_payload(&payload)?),
            Kind::StderrGap => Event::Gap("stderr", protocol::count_payload(&payload)?),
            Kind::StdinTaken => {
                self.taken = protocol::count_payload(&payload)?;
                return None;
            }
            Kind::Report => return Some(self.report(&payload)),
            // Ready says nothing that a caller of the same version needs; the rest are ours to send.
            _ => return None,
        };
        self.put(event).await
    }

    fn report(&self, payload: &[u8]) -> Ending {
        match serde_json::from_slice::<Report>(payload) {
            Ok(report) => match self.interrupted {
                None => Ending::Report(report),
                Some(number) => Ending::Interrupted(number, Some(report)),
            },
            Err(error) => Ending::Lost(format!("its report cannot be read: {error}")),
        }
    }

    /// Hands an event on. A reader that stalls holds up neither the clock nor the caller's signals.
    async fn put(&mut self, event: Event) -> Option<Ending> {
        tokio::select! {
            biased;
            outcome = self.sink.put(event) => outcome.err().map(|Closed| Ending::Closed),
            number = self.signals.stop() => Some(Ending::Interrupted(number, None)),
            () = tokio::time::sleep_until(self.until) =>
                Some(self.interrupted.map_or(Ending::Stalled, |number| Ending::Interrupted(number, None))),
        }
    }
}

async fn next_input(stdin: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match stdin {
        Some(receiver) => receiver.recv().await,
        None => None,
    }
}

async fn write_all(mut input: Pin<Box<dyn AsyncWrite + Send>>, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        // A broken connection shows on the reading side, where it can be explained.
        if input.write_all(&frame).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::{Status, Truncated, Usage};
    use super::super::sink::Delivery;
    use super::*;
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, DuplexStream};

    fn opening(stdin: Option<mpsc::Receiver<Vec<u8>>>) -> Opening {
        let limit = Duration::from_secs(1);
        Opening { job: b"{}".to_vec(), archive: None, stdin, limit, grace: Duration::ZERO }
    }

    fn report() -> Report {
        Report {
            status: Status::Ok,
            returncode: Some(0),
            signal: None,
            oom_killed: false,
            truncated: Truncated::default(),
            usage: Usage::default(),
            problem: None,
        }
    }

    fn frames(list: &[(Kind, &[u8])]) -> Vec<u8> {
        let mut wire = Vec::new();
        for (kind, payload) in list {
            protocol::encode(*kind, payload, &mut wire);
        }
        wire
    }

    fn attached(pieces: Vec<LogOutput>, hang: bool) -> (AttachContainerResults, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(8 << 20);
        let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok));
        let output: Output =
            if hang { Box::pin(pieces.chain(futures_util::stream::pending())) } else { Box::pin(pieces) };
        (AttachContainerResults { output, input: Box::pin(ours) }, theirs)
    }

    fn stdout(bytes: Vec<u8>) -> LogOutput {
        LogOutput::StdOut { message: Bytes::from(bytes) }
    }

    async fn talk(pieces: Vec<LogOutput>, hang: bool, opening: Opening) -> (Ending, Vec<u8>, Vec<u8>) {
        let (attached, mut theirs) = attached(pieces, hang);
        let mut sink = Sink::new(Delivery::Collect).unwrap();
        let mut signals = Signals::listen().unwrap();
        let conversation = converse(attached, async { Ok(()) }, opening, &mut sink, &mut signals).await;
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        (conversation.ending, sink.finish().await.0, heard)
    }

    #[tokio::test]
    async fn output_and_report_in_any_pieces() {
        let report_json = serde_json::to_vec(&report()).unwrap();
        let wire = frames(&[
            (Kind::Ready, b"{\"version\":\"1\"}"),
            (Kind::Started, b""),
            (Kind::Stdout, b"hello "),
            (Kind::Stdout, b"world"),
            (Kind::Report, &report_json),
        ]);
        let pieces = wire.chunks(7).map(|piece| stdout(piece.to_vec())).collect();
        let (ending, output, _) = talk(pieces, true, opening(None)).await;
        assert!(matches!(ending, Ending::Report(got) if got == report()));
        assert_eq!(output, b"hello world");
    }

    #[tokio::test]
    async fn an_end_without_report_carries_the_complaint() {
        let panic = LogOutput::StdErr { message: Bytes::from_static(b"agent: cannot mount\n") };
        let (ending, ..) = talk(vec![panic], false, opening(None)).await;
        assert!(matches!(&ending, Ending::Lost(said) if said == "agent: cannot mount"), "{ending:?}");
    }

    #[tokio::test]
    async fn a_failed_start_is_told_even_when_the_stream_ends_first() {
        let (attached, _theirs) = attached(Vec::new(), false);
        let mut sink = Sink::new(Delivery::Collect).unwrap();
        let mut signals = Signals::listen().unwrap();
        let start = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(bollard::errors::Error::RequestTimeoutError)
        };
        let conversation = converse(attached, start, opening(None), &mut sink, &mut signals).await;
        assert!(matches!(conversation.ending, Ending::StartFailed(_)), "{:?}", conversation.ending);
    }

    #[tokio::test]
    async fn a_stranger_on_the_stream_is_an_end() {
        let (ending, ..) = talk(vec![stdout(b"\x7f....".to_vec())], true, opening(None)).await;
        assert!(matches!(&ending, Ending::Lost(said) if said.contains("frame type 127")), "{ending:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_agent_is_given_up_after_the_limits() {
        let before = Instant::now();
        let (ending, ..) = talk(vec![stdout(frames(&[(Kind::Started, b"")]))], true, opening(None)).await;
        assert!(matches!(ending, Ending::Overdue), "{ending:?}");
        assert_eq!(before.elapsed().as_secs(), (Duration::from_secs(1) + MARGIN).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_input_is_under_way_than_the_window() {
        let (sender, receiver) = mpsc::channel(1);
        let feeder = tokio::spawn(async move { while sender.send(vec![0; 32 * 1024]).await.is_ok() {} });
        let (ending, _, heard) = talk(Vec::new(), true, opening(Some(receiver))).await;
        feeder.await.unwrap();
        assert!(matches!(ending, Ending::Overdue), "{ending:?}");
        let mut decoder = Decoder::default();
        decoder.push(&heard);
        let mut bytes = 0;
        while let Some(frame) = decoder.next_frame().unwrap() {
            bytes += if frame.kind == Kind::Stdin { frame.payload.len() } else { 0 };
        }
        assert!(bytes > STDIN_WINDOW / 2 && bytes <= STDIN_WINDOW, "{bytes}");
    }

    #[tokio::test]
    async fn input_ends_with_a_word() {
        let (sender, receiver) = mpsc::channel(4);
        sender.send(b"in".to_vec()).await.unwrap();
        drop(sender);
        let (attached, mut theirs) = attached(Vec::new(), true);
        let mut sink = Sink::new(Delivery::Collect).unwrap();
        let mut signals = Signals::listen().unwrap();
        let want = frames(&[(Kind::Job, b"{}"), (Kind::Stdin, b"in"), (Kind::StdinEof, b"")]);
        let mut heard = vec![0; want.len()];
        let conversation = converse(attached, async { Ok(()) }, opening(Some(receiver)), &mut sink, &mut signals);
        tokio::select! {
            ended = conversation => panic!("{ended:?}"),
            read = theirs.read_exact(&mut heard) => drop(read.unwrap()),
        }
        assert_eq!(heard, want);
    }
}
