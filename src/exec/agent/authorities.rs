/*!
Authorities of the job beside those of the image.
*/
use std::path::Path;

use super::prepare::{as_user, read_bounded};
use super::refusal::Refusal;
use crate::exec::authorities::{BUNDLE, EXTRA};
use crate::probe::certificates::BUNDLES;
use crate::sys::spawn::Identity;

/// Writes both files below `root` (`/`). What the image calls its bundle is read as the job's user, so that a link in its
/// place shows the program nothing that it could not read itself.
pub(super) fn install(extra: &str, identity: &Identity, root: &Path) -> Result<(), Refusal> {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let image = as_user(identity, || {
        BUNDLES.iter().map(|path| read_bounded(&below(path))).find(|text| !text.is_empty()).unwrap_or_default()
    })?;
    let write = |path: &str, text: &str| {
        std::fs::write(below(path), text)
            .map_err(|error| Refusal::internal("authorities", format!("cannot write {path}: {error}")))
    };
    write(EXTRA, extra)?;
    write(BUNDLE, &format!("{}\n{extra}", image.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::authorities::FOLDER;

    fn own() -> Identity {
        Identity { uid: nix::unistd::getuid().as_raw(), gid: nix::unistd::getgid().as_raw(), groups: vec![] }
    }

    #[test]
    fn the_extra_ones_follow_those_of_the_image() {
        let root = tempfile::tempdir().unwrap();
        let below = |path: &str| root.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(below(FOLDER)).unwrap();
        install("EXTRA\n", &own(), root.path()).unwrap();
        assert_eq!(std::fs::read_to_string(below(BUNDLE)).unwrap(), "\nEXTRA\n");
        std::fs::create_dir_all(below("/etc/pki/tls/certs")).unwrap();
        std::fs::write(below("/etc/pki/tls/certs/ca-bundle.crt"), "IMAGE\n\n").unwrap();
        install("EXTRA\n", &own(), root.path()).unwrap();
        assert_eq!(std::fs::read_to_string(below(BUNDLE)).unwrap(), "IMAGE\nEXTRA\n");
        assert_eq!(std::fs::read_to_string(below(EXTRA)).unwrap(), "EXTRA\n");
    }

    #[test]
    fn without_their_place_the_job_does_not_run() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(install("EXTRA", &own(), root.path()).unwrap_err().problem.code, "authorities");
    }
}
