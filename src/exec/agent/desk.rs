/*!
What the caller's frames ask for, noted until somebody acts on it.
*/
use std::collections::VecDeque;

use nix::sys::signal::Signal;

use super::feeder::Feeder;
use crate::exec::protocol::{Frame, Job, Kind};

/// The notes.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// The job, until it is taken.
    pub(super) job: Option<Job>,
    /// Whether a job has come at all; there is one for each agent.
    had_job: bool,
    /// Standard input that has come.
    pub(super) feeder: Feeder,
    /// Pieces of the archive that have come.
    pub(super) archive: VecDeque<Vec<u8>>,
    /// Whether the archive is complete.
    pub(super) archive_ended: bool,
    /// The caller wants the run to end.
    pub(super) cancelled: bool,
    /// Signals for the program, oldest first.
    pub(super) signals: Vec<Signal>,
    /// New size of the caller's terminal, rows and columns.
    pub(super) size: Option<(u16, u16)>,
    /// What the caller did wrong, the first time.
    pub(super) fault: Option<String>,
}

impl Desk {
    /// Notes a frame.
    pub(super) fn note(&mut self, frame: Frame) {
        let Frame { kind, payload } = frame;
        match kind {
            Kind::Cancel => self.cancelled = true,
            Kind::Job if !self.had_job => match serde_json::from_slice(&payload) {
                Ok(job) => {
                    self.had_job = true;
                    self.job = Some(job);
                }
                Err(error) => self.complain(format!("the job cannot be read: {error}")),
            },
            _ if !self.had_job => self.complain(format!("{kind:?} before the job")),
            Kind::Stdin => self.feeder.push(payload),
            Kind::StdinEof => self.feeder.end(),
            Kind::Archive if !self.archive_ended => self.archive.push_back(payload),
            Kind::ArchiveEof => self.archive_ended = true,
            Kind::Signal => match signal(&payload) {
                Some(signal) => self.signals.push(signal),
                None => self.complain(format!("{payload:?} is no signal")),
            },
            Kind::Resize => match *payload.as_slice() {
                [r1, r2, c1, c2] => self.size = Some((u16::from_be_bytes([r1, r2]), u16::from_be_bytes([c1, c2]))),
                _ => self.complain(format!("{payload:?} is no terminal size")),
            },
            other => self.complain(format!("unexpected {other:?}")),
        }
    }

    /// Notes a fault; only the first one matters.
    pub(super) fn complain(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }
}

fn signal(payload: &[u8]) -> Option<Signal> {
    let [number] = *payload else { return None };
    Signal::try_from(i32::from(number)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Sent<'a> = (Kind, &'a [u8]);

    const JOB: &str = r#"{"id":"x","stages":[],"workdir":"/","run_as":{"spec":""},"timeout_ms":1}"#;

    fn after(frames: &[Sent<'_>]) -> Desk {
        let mut desk = Desk::default();
        for (kind, payload) in frames {
            desk.note(Frame { kind: *kind, payload: payload.to_vec() });
        }
        desk
    }

    #[test]
    fn requests_are_noted() {
        let desk = after(&[
            (Kind::Job, JOB.as_bytes()),
            (Kind::Signal, &[2]),
            (Kind::Resize, &[0, 50, 1, 0]),
            (Kind::Archive, b"x"),
            (Kind::ArchiveEof, b""),
            (Kind::Cancel, b""),
        ]);
        assert!(desk.job.is_some() && desk.fault.is_none() && desk.cancelled && desk.archive_ended);
        assert_eq!((desk.signals, desk.size), (vec![Signal::SIGINT], Some((50, 256))));
    }

    #[test]
    fn what_does_not_belong_there_is_a_fault() {
        let job = (Kind::Job, JOB.as_bytes());
        let cases: [(&[Sent<'_>], &str); 8] = [
            (&[(Kind::Stdin, b"x")], "before the job"),
            (&[(Kind::Job, b"{}")], "cannot be read"),
            (&[job, job], "unexpected Job"),
            (&[job, (Kind::Report, b"")], "unexpected Report"),
            (&[job, (Kind::Signal, &[0])], "no signal"),
            (&[job, (Kind::Signal, &[200])], "no signal"),
            (&[job, (Kind::Resize, &[1, 2])], "no terminal size"),
            (&[job, (Kind::ArchiveEof, b""), (Kind::Archive, b"x")], "unexpected Archive"),
        ];
        for (frames, words) in cases {
            let fault = after(frames).fault.unwrap_or_default();
            assert!(fault.contains(words), "{fault:?} should say {words:?}");
        }
    }
}
