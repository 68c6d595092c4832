/*!
Work whose end nobody has to wait for but the process: what the kernel takes its time for, such as giving a file system up.
*/
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

type Work = Box<dyn FnOnce() -> Result<(), String> + Send>;

static QUEUE: Mutex<Vec<Work>> = Mutex::new(Vec::new());
static UNDER_WAY: Mutex<Vec<JoinHandle<Vec<String>>>> = Mutex::new(Vec::new());

fn take<T>(list: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut *list.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Leaves it for [`begin`], or [`settle`] at the latest: it would take the time of what somebody waits for.
pub fn run(work: impl FnOnce() -> Result<(), String> + Send + 'static) {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(work));
}

/// Closes what the kernel may take long to give up.
pub fn close(descriptor: OwnedFd) {
    run(move || {
        drop(descriptor);
        Ok(())
    });
}

/// Begins with what has come together, in a thread of its own and in the order in which it came. Where there can be no thread it
/// stays for [`settle`].
pub fn begin() {
    let work = take(&QUEUE);
    if work.is_empty() {
        return;
    }
    let shared = Arc::new(Mutex::new(work));
    let theirs = Arc::clone(&shared);
    match std::thread::Builder::new().name("beside".to_owned()).spawn(move || all(take(&theirs))) {
        Ok(thread) => UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).push(thread),
        Err(_) => QUEUE.lock().unwrap_or_else(PoisonError::into_inner).extend(take(&shared)),
    }
}

/// Begins with it at once in a thread of its own, which only [`settle`] waits for. Where there can be no thread it stays undone: it is
/// for what somebody else does as well who is first.
pub fn lend(name: &str, work: impl FnOnce() + Send + 'static) {
    let work = || {
        work();
        Vec::new()
    };
    if let Ok(thread) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
        UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }
}

fn all(work: Vec<Work>) -> Vec<String> {
    work.into_iter().filter_map(|work| work().err()).collect()
}

/// Waits for all of it; to be called before the process ends. What failed is told.
pub fn settle() -> Vec<String> {
    let join = |thread: JoinHandle<Vec<String>>| thread.join().unwrap_or_else(|_| vec!["it panicked".into()]);
    let mut failures: Vec<String> = take(&UNDER_WAY).into_iter().flat_map(join).collect();
    failures.extend(all(take(&QUEUE)));
    failures
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
        begin();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !path.is_dir() && std::time::Instant::now() < end {
            assert_eq!(settle(), Vec::<String>::new());
        }
        assert!(path.is_dir());
    }
}
