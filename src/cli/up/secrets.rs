/*!
Passwords for the command alone: nothing else that is started gets them. A variable of the container stands in the environment of
PID 1 all the same, and of every `docker exec`; so a file of a secret may take its place (`PASSWORD_FILE`).
*/
use std::ffi::OsString;
use std::path::Path;

use super::super::Environment;
use super::super::failure::Failure;

/// What code-server reads.
const NAMES: [&str; 2] = ["PASSWORD", "HASHED_PASSWORD"];

/// Longest secret, bytes.
const LONGEST: usize = 4096;

/// Takes them out of the environment; files are read below `root`.
pub fn take(environment: &mut Environment, root: &Path) -> Result<Vec<(OsString, OsString)>, Failure> {
    let mut secrets = Vec::new();
    for name in NAMES {
        let file_name = format!("{name}_FILE");
        let file = environment.text(&file_name).map(str::to_owned);
        let value = environment.get(name).filter(|value| !value.is_empty()).map(OsString::from);
        let value = match (value, file) {
            (Some(_), Some(_)) => {
                let message = format!("{name} and {file_name} are both set");
                return Err(Failure::new(message, "leave one of them out"));
            }
            (Some(value), None) => Some(value),
            (None, Some(path)) => Some(read(&file_name, &path, root)?),
            (None, None) => None,
        };
        environment.remove(name);
        environment.remove(&file_name);
        secrets.extend(value.map(|value| (OsString::from(name), value)));
    }
    Ok(secrets)
}

/// The first line of the file.
fn read(variable: &str, path: &str, root: &Path) -> Result<OsString, Failure> {
    let wrong = |why: String| {
        let hint = "mount the secret there (compose: secrets), readable for root";
        Failure::new(format!("{variable}: {path} {why}"), hint)
    };
    let text = std::fs::read_to_string(root.join(path.trim_start_matches('/')))
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let line = text.lines().next().unwrap_or_default().trim_end_matches('\r');
    if line.is_empty() || line.len() > LONGEST || text.trim_end().lines().count() > 1 {
        return Err(wrong("does not hold one line with a secret".into()));
    }
    Ok(line.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_pairs(pairs.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    #[test]
    fn secrets_leave_the_environment() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("secret"), "from the file\n").unwrap();
        let mut from = environment(&[("PASSWORD_FILE", "/secret"), ("HASHED_PASSWORD", "$argon"), ("X", "y")]);
        let taken = take(&mut from, root.path()).unwrap();
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        assert_eq!(taken, [pair("PASSWORD", "from the file"), pair("HASHED_PASSWORD", "$argon")]);
        assert_eq!(from, environment(&[("X", "y")]));
    }

    #[test]
    fn a_secret_that_is_none_is_refused_and_not_told() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("empty"), "\n").unwrap();
        std::fs::write(root.path().join("two"), "hunter2\nhunter3\n").unwrap();
        for pairs in [
            &[("PASSWORD_FILE", "/none")][..],
            &[("PASSWORD_FILE", "/empty")],
            &[("HASHED_PASSWORD_FILE", "/two")],
            &[("PASSWORD_FILE", "/two"), ("PASSWORD", "hunter2")],
        ] {
            let failure = take(&mut environment(pairs), root.path()).unwrap_err();
            assert!(!format!("{failure:?}").contains("hunter"), "{failure:?}");
        }
    }
}
