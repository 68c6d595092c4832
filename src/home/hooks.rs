/*!
Programs that an image or its user has run before the command (`ENTRYPOINTD` of code-server's image): every executable file below
a folder, in the order of their paths.
*/
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Most hooks; more are a mistaken folder.
const LIMIT: usize = 256;

/// The hooks below `folder`; none where there is no such folder. Links are no hooks, as `find -type f` sees none. The error is a folder that
/// cannot be read, or one that holds too many.
pub fn find(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let (mut found, mut waiting) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = waiting.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.map_err(|error| format!("cannot read {}: {error}", folder.display()))?,
        };
        for entry in entries.flatten() {
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                waiting.push(entry.path());
            } else if about.is_file() && about.permissions().mode() & 0o111 != 0 {
                found.push(entry.path());
            }
            if found.len().max(waiting.len()) > LIMIT {
                return Err(format!("there are more than {LIMIT} hooks or folders below {}", folder.display()));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_files_are_found_in_order() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("20/deep")).unwrap();
        for (name, mode) in [("30-c", 0o755), ("20/deep/b", 0o700), ("10-a", 0o755), ("readme", 0o644)] {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::os::unix::fs::symlink("/bin/true", folder.path().join("link")).unwrap();
        let names: Vec<_> = find(folder.path()).unwrap();
        let names: Vec<_> =
            names.iter().map(|path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["10-a", "20/deep/b", "30-c"]);
        assert_eq!(find(&folder.path().join("none")), Ok(vec![]));
    }
}
