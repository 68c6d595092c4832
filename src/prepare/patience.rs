/*!
Saying what is waited for when it takes long: a file system that hangs, a lock that somebody holds, keys that are being made.
Whoever looks at the log of a container that does not start is to find the reason there.
*/
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time until something is said.
pub const LIMIT: Duration = Duration::from_secs(2);
/// Time until it is said again.
const AGAIN: Duration = Duration::from_secs(10);

/// A watch over steps that follow each other; it ends when it is dropped, and nobody waits for that: two changes of the
/// thread take longer than most steps.
#[derive(Debug)]
pub struct Patience {
    step: Arc<Mutex<(String, Instant)>>,
    /// Only its end is heard.
    _present: Sender<()>,
}

impl Patience {
    /// A watch that says what takes longer than `limit`. Where there can be no thread nothing is said.
    pub fn new(limit: Duration, say: impl Fn(&str) + Send + 'static) -> Self {
        let step = Arc::new(Mutex::new((String::new(), Instant::now())));
        let watched = Arc::clone(&step);
        let (present, ended) = channel();
        // Without a thread nothing is said, and nothing else is missing.
        let _ = std::thread::Builder::new().name("patience".into()).spawn(move || watch(&watched, &ended, limit, &say));
        Self { step, _present: present }
    }

    /// Another step begins.
    pub fn at(&self, step: &str) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = (step.to_owned(), Instant::now());
    }
}

fn watch(step: &Mutex<(String, Instant)>, ended: &Receiver<()>, limit: Duration, say: &impl Fn(&str)) {
    // When the present step is spoken of next, by its beginning.
    let mut spoken: Option<(Instant, Duration)> = None;
    let mut wait = limit;
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(wait) {
        let (name, begun) = step.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let due = spoken.filter(|(of, _)| *of == begun).map_or(limit, |(_, due)| due);
        let taken = begun.elapsed();
        if taken < due {
            wait = due.saturating_sub(taken);
            continue;
        }
        if !name.is_empty() {
            say(&format!("still busy with {name}, after {:.0} s", taken.as_secs_f64()));
        }
        spoken = Some((begun, taken.saturating_add(AGAIN)));
        wait = AGAIN.min(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_long_is_named_and_once() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let limit = Duration::from_millis(400);
        let patience = Patience::new(limit, move |text| heard.lock().unwrap().push(text.to_owned()));
        for quick in ["a", "b", "c"] {
            patience.at(quick);
            std::thread::sleep(Duration::from_millis(10));
        }
        patience.at("slow");
        let end = Instant::now() + Duration::from_secs(20);
        while said.lock().unwrap().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(limit);
        drop(patience);
        let said = said.lock().unwrap();
        assert!(matches!(&said[..], [one] if one.starts_with("still busy with slow, after ")), "{said:?}");
    }

    #[test]
    fn it_ends_at_once_and_says_nothing_more() {
        let (say, heard) = channel::<()>();
        let patience = Patience::new(Duration::from_secs(1000), move |_| _ = say.send(()));
        patience.at("anything");
        drop(patience);
        // The thread owns the other end until it is gone.
        assert_eq!(heard.recv_timeout(Duration::from_secs(100)), Err(RecvTimeoutError::Disconnected));
    }
}
