/*!
A note for whoever opens a terminal in a container that goes on without its daemon. Shells print the file; PID 1 only keeps it true.
*/
use std::io::{self, ErrorKind};
use std::path::Path;

use super::spec::Notice;

/// Writes the note.
pub fn write(path: &Path, notice: &Notice) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text(notice))
}

/// Takes it away, if it is there.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn text(notice: &Notice) -> String {
    let hint = notice.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    format!(
        "There is no Docker here: {}\n{hint}`dindctl status` and `sudo dindctl doctor` tell more.\n",
        notice.message
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/banner");
        let notice = Notice { message: "no rights".into(), hint: Some("--privileged".into()) };
        write(&path, &notice).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("There is no Docker here: no rights\nhint: --privileged\n"), "{text}");
        for _ in 0..2 {
            remove(&path).unwrap();
        }
        assert!(!path.exists());
    }
}
