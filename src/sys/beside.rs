/*!
Work whose end nobody has to wait for but the process: what the kernel takes its time for, such as giving a file system up.
*/
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

/// One piece of work, or why it failed already.
enum Work {
    UnderWay(JoinHandle<Result<(), String>>),
    Failed(String),
}

static WORK: Mutex<Vec<Work>> = Mutex::new(Vec::new());

fn note(work: Work) {
    WORK.lock().unwrap_or_else(PoisonError::into_inner).push(work);
}

/// Does it in a thread of its own; where there can be none, at once.
pub fn run(work: impl FnOnce() -> Result<(), String> + Clone + Send + 'static) {
    let here = work.clone();
    match std::thread::Builder::new().spawn(work) {
        Ok(thread) => note(Work::UnderWay(thread)),
        Err(_) => {
            if let Err(why) = here() {
                note(Work::Failed(why));
            }
        }
    }
}

/// Closes what the kernel may take long to give up.
pub fn close(descriptor: OwnedFd) {
    // Where there is no thread, it has been closed with what was to be its work.
    if let Ok(thread) = std::thread::Builder::new().spawn(move || {
        drop(descriptor);
        Ok(())
    }) {
        note(Work::UnderWay(thread));
    }
}

/// Waits for all of it; to be called before the process ends. What failed is told.
pub fn settle() -> Vec<String> {
    let all = std::mem::take(&mut *WORK.lock().unwrap_or_else(PoisonError::into_inner));
    let failure = |work| match work {
        Work::UnderWay(thread) => thread.join().unwrap_or_else(|_| Err("it panicked".into())).err(),
        Work::Failed(why) => Some(why),
    };
    all.into_iter().filter_map(failure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests may take the word of a failure away, but never the work.
    #[test]
    fn it_is_done_when_the_process_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let made = path.clone();
        run(move || std::fs::create_dir(made).map_err(|error| error.to_string()));
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !path.is_dir() && std::time::Instant::now() < end {
            assert_eq!(settle(), Vec::<String>::new());
        }
        assert!(path.is_dir());
    }
}
