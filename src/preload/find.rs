//! Where the archives are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::layout::{INDEX, MARK};

/// One archive, by the name it was found under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// A file, or the folder of an OCI layout.
    pub path: PathBuf,
    /// Whether it was named itself: in a folder, what is no archive is passed over.
    pub named: bool,
}

/// What a path stands for: itself, or everything in the folder, in the order of the names. Hidden files are passed over (a copy on its way,
/// the folders of a Kubernetes volume), and so are folders, unless they are OCI layouts.
pub fn candidates(path: &Path) -> io::Result<Vec<Candidate>> {
    if !fs::metadata(path)?.is_dir() || is_layout(path) {
        return Ok(vec![Candidate { path: path.to_owned(), named: true }]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // A link that leads nowhere is told of when it is opened.
        let folder = fs::metadata(&path).is_ok_and(|what| what.is_dir());
        if !folder || is_layout(&path) {
            found.push(Candidate { path, named: false });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Both files make a layout: an `index.json` alone is in many a folder.
fn is_layout(folder: &Path) -> bool {
    [INDEX, MARK].iter().all(|name| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_what_is_in_it_and_a_layout_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["b.tar", "a.tar.gz", ".part"] {
            fs::write(at(name), "x").unwrap();
        }
        for name in ["layout", "folder", "pages", ".data"] {
            fs::create_dir(at(name)).unwrap();
        }
        for name in ["layout/index.json", "layout/oci-layout", "pages/index.json"] {
            fs::write(at(name), "{}").unwrap();
        }
        fs::write(at("folder/c.tar"), "x").unwrap();
        std::os::unix::fs::symlink("nowhere", at("lost.tar")).unwrap();
        let found = |path: &Path| candidates(path).unwrap();
        let all: Vec<PathBuf> = found(folder.path()).into_iter().map(|candidate| candidate.path).collect();
        assert_eq!(all, ["a.tar.gz", "b.tar", "layout", "lost.tar"].map(at));
        assert!(found(folder.path()).iter().all(|candidate| !candidate.named));
        for name in ["layout", "b.tar"] {
            assert_eq!(found(&at(name)), [Candidate { path: at(name), named: true }]);
        }
        assert_eq!(candidates(&at("nosuch")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
