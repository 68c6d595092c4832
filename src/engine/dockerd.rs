/*!
dockerd's command line.
*/
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::arguments::DaemonArguments;
use super::daemon_json::DaemonJson;
use super::tls::ServerCertificates;

/// Where dockerd keeps its data unless it is told otherwise.
pub const DEFAULT_DATA_ROOT: &str = "/var/lib/docker";

/// Where its data is, by flag or file.
pub fn data_root(arguments: &DaemonArguments, file: &DaemonJson) -> PathBuf {
    arguments
        .data_root
        .clone()
        .or_else(|| file.text("data-root").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_ROOT))
}

/// The arguments of a dockerd that gets its sockets from us (`-H fd://`), the name of the program first.
///
/// The user's own arguments come last, so that they win wherever dockerd takes the last one.
pub fn command_line(
    arguments: &DaemonArguments,
    file: &DaemonJson,
    merged_config: &Path,
    containerd_socket: Option<&Path>,
    certificates: Option<&ServerCertificates>,
) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec!["dockerd".into(), "--config-file".into(), merged_config.into()];
    line.push("--host=fd://".into());
    if let Some(socket) = containerd_socket {
        line.push("--containerd".into());
        line.push(socket.into());
    }
    if let Some(certificates) = certificates {
        let taken = |name: &str| arguments.flags.contains(name) || file.sets(name);
        if !taken("tlsverify") {
            line.push("--tlsverify".into());
        }
        let files = [("tlscacert", &certificates.ca), ("tlscert", &certificates.cert), ("tlskey", &certificates.key)];
        for (name, path) in files {
            if !taken(name) {
                line.push(format!("--{name}").into());
                line.push(path.into());
            }
        }
    }
    line.extend(arguments.rest.iter().cloned());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_arguments_come_last_and_nothing_is_said_twice() {
        let arguments = DaemonArguments::parse(["--tlskey", "/own/key", "--debug"].map(OsString::from));
        let file = DaemonJson::parse("x".into(), r#"{"tlscert":"/own/cert"}"#).unwrap();
        let certificates =
            ServerCertificates { ca: "/c/ca.pem".into(), cert: "/c/cert.pem".into(), key: "/c/key.pem".into() };
        let line =
            command_line(&arguments, &file, Path::new("/m.json"), Some(Path::new("/c.sock")), Some(&certificates));
        let line: Vec<_> = line.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(
            line.join(" "),
            "dockerd --config-file /m.json --host=fd:// --containerd /c.sock --tlsverify --tlscacert /c/ca.pem \
             --tlskey /own/key --debug"
        );
    }

    #[test]
    fn the_data_root_is_found_in_flag_file_and_default() {
        let flag = DaemonArguments::parse(["--data-root=/flag"].map(OsString::from));
        let file = DaemonJson::parse("x".into(), r#"{"data-root":"/file"}"#).unwrap();
        assert_eq!(data_root(&flag, &file), Path::new("/flag"));
        assert_eq!(data_root(&DaemonArguments::default(), &file), Path::new("/file"));
        assert_eq!(data_root(&DaemonArguments::default(), &DaemonJson::default()), Path::new(DEFAULT_DATA_ROOT));
    }
}
