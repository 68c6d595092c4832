/*!
Which addresses the API gets: the operator's, else those of the official image, and always those that stand in
dockerd's own arguments and daemon.json.
*/

/// Where the official image puts the socket.
pub const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";

/// Who has a say.
#[derive(Debug, Clone, Copy)]
pub struct Wishes<'a> {
    /// `DINDCTL_LISTEN`; empty when unset.
    pub setting: &'a str,
    /// `DOCKER_HOST`; only a unix socket counts, as in the official image.
    pub docker_host: Option<&'a str>,
    /// What the TCP port of the defaults carries.
    pub tcp: Tcp,
    /// `--host` arguments.
    pub flags: &'a [String],
    /// `hosts` of daemon.json.
    pub file: &'a [String],
}

/// What a TCP port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tcp {
    /// The API without TLS.
    Plain,
    /// The API with mutual TLS.
    Tls,
}

/// The addresses in the order in which they are bound, each once.
pub fn addresses(wishes: Wishes<'_>) -> Vec<String> {
    let mut found: Vec<String> = if wishes.setting.trim().is_empty() {
        let socket = wishes.docker_host.filter(|host| host.starts_with("unix://")).unwrap_or(DEFAULT_SOCKET);
        // The ports that IANA and the official image have for the API with and without TLS.
        let tcp = match wishes.tcp {
            Tcp::Plain => "tcp://0.0.0.0:2375",
            Tcp::Tls => "tcp://0.0.0.0:2376",
        };
        vec![socket.to_owned(), tcp.to_owned()]
    } else {
        let separator = |letter: char| letter == ',' || letter.is_whitespace();
        wishes.setting.split(separator).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    for more in wishes.flags.iter().chain(wishes.file) {
        if !found.contains(more) {
            found.push(more.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Wishes<'static> = Wishes { setting: "", docker_host: None, tcp: Tcp::Plain, flags: &[], file: &[] };

    #[test]
    fn the_defaults_are_those_of_the_official_image() {
        assert_eq!(addresses(NOBODY), [DEFAULT_SOCKET, "tcp://0.0.0.0:2375"]);
        assert_eq!(addresses(Wishes { tcp: Tcp::Tls, ..NOBODY }), [DEFAULT_SOCKET, "tcp://0.0.0.0:2376"]);
        let own = Wishes { docker_host: Some("unix:///my.sock"), ..NOBODY };
        assert_eq!(addresses(own), ["unix:///my.sock", "tcp://0.0.0.0:2375"]);
        let tcp = Wishes { docker_host: Some("tcp://elsewhere:1"), ..NOBODY };
        assert_eq!(addresses(tcp), [DEFAULT_SOCKET, "tcp://0.0.0.0:2375"]);
    }

    #[test]
    fn the_operators_list_replaces_them_and_arguments_add_to_it() {
        let flags = ["tcp://127.0.0.1:1".to_owned(), "unix:///a".to_owned()];
        let wishes = Wishes { setting: "unix:///a, unix:///b", flags: &flags, ..NOBODY };
        assert_eq!(addresses(wishes), ["unix:///a", "unix:///b", "tcp://127.0.0.1:1"]);
    }
}
