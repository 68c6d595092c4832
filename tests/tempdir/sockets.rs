/*!
Binding the API sockets for real, in a folder and on loopback.
*/
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use dindctl::prepare::sockets::{Bound, Openness, SocketError, SocketWishes, bind, insecure_warning, parse};
use dindctl::probe::Roots;

use crate::ports::free_port;

fn bind_in(root: &std::path::Path, list: &str, wishes: &SocketWishes) -> Result<Bound, SocketError> {
    bind(&parse(list).unwrap(), wishes, &Roots { root: root.into(), ..Roots::system() })
}

fn folder_with_group() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("etc")).unwrap();
    let gid = nix::unistd::getegid();
    std::fs::write(folder.path().join("etc/group"), format!("root:x:0:\ndocker:x:{gid}:\n")).unwrap();
    folder
}

#[test]
fn no_two_tests_are_given_the_same_port() {
    let ports: BTreeSet<u16> = (0..2000).map(|_| free_port()).collect();
    assert_eq!(ports.len(), 2000);
}

/// The start ended with "another daemon listens", which was our own socket of a moment ago.
#[test]
fn one_socket_under_two_names_is_bound_once() {
    let folder = folder_with_group();
    std::fs::create_dir_all(folder.path().join("run")).unwrap();
    std::fs::create_dir_all(folder.path().join("var")).unwrap();
    std::os::unix::fs::symlink("../run", folder.path().join("var/run")).unwrap();
    let list = "unix:///var/run/docker.sock,unix:///run/docker.sock,unix:///run/other.sock";
    let bound = bind_in(folder.path(), list, &SocketWishes::default()).unwrap();
    let addresses: Vec<String> = bound.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["unix:///var/run/docker.sock", "unix:///run/other.sock"]);
    drop(UnixStream::connect(folder.path().join("run/docker.sock")).unwrap());
}

#[test]
fn descriptors_are_high_and_close_on_exec() {
    let folder = folder_with_group();
    let list = format!("unix:///run/docker.sock tcp://127.0.0.1:{}", free_port());
    let bound = bind_in(folder.path(), &list, &SocketWishes::default()).unwrap();
    assert_eq!(bound.listeners.len(), 2);
    assert!(bound.warnings.is_empty());
    for listener in &bound.listeners {
        assert!(listener.fd.as_raw_fd() >= 64);
        let flags = nix::fcntl::fcntl(&listener.fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
    let mode = std::fs::metadata(folder.path().join("run/docker.sock")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o660);
}

#[test]
fn clients_wait_in_the_queue_and_are_served_later() {
    let folder = folder_with_group();
    let port = free_port();
    let mut bound = bind_in(folder.path(), &format!("tcp://127.0.0.1:{port}"), &SocketWishes::default()).unwrap();
    let mut clients: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let listener = TcpListener::from(bound.listeners.remove(0).fd);
    for _ in 0..clients.len() {
        listener.accept().unwrap().0.write_all(b"x").unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 2]).unwrap(), 1);
    }
}

#[test]
fn all_addresses_means_both_families() {
    let folder = folder_with_group();
    let port = free_port();
    let _bound = bind_in(folder.path(), &format!("tcp://0.0.0.0:{port}"), &SocketWishes::default()).unwrap();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    if std::path::Path::new("/proc/net/if_inet6").exists() {
        TcpStream::connect(("::1", port)).unwrap();
    }
}

#[test]
fn one_address_means_that_one() {
    let folder = folder_with_group();
    let port = free_port();
    let _bound = bind_in(folder.path(), &format!("tcp://127.0.0.1:{port}"), &SocketWishes::default()).unwrap();
    assert!(TcpStream::connect(("127.0.0.2", port)).is_err());
}

#[test]
fn a_taken_port_names_who_has_it() {
    let folder = folder_with_group();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let list = format!("unix:///run/docker.sock,tcp://127.0.0.1:{port}");
    let error = bind_in(folder.path(), &list, &SocketWishes::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("port {port} of 127.0.0.1 is taken by ")), "{text}");
    assert!(text.ends_with(&format!("(pid {})", std::process::id())), "{text}");
    assert!(error.hint().unwrap().contains("DINDCTL_LISTEN"));
    assert!(!folder.path().join("run/docker.sock").exists(), "what was bound before is undone");
}

#[test]
fn a_living_daemon_keeps_its_socket() {
    let folder = folder_with_group();
    let first = bind_in(folder.path(), "/run/docker.sock", &SocketWishes::default()).unwrap();
    let error = bind_in(folder.path(), "/run/docker.sock", &SocketWishes::default()).unwrap_err();
    assert_eq!(error.to_string(), "another daemon listens on unix:///run/docker.sock");
    assert!(error.hint().unwrap().contains("stop that daemon"));
    UnixStream::connect(folder.path().join("run/docker.sock")).unwrap();
    drop(first);
}

#[test]
fn without_the_group_only_root_may_connect_unless_everybody_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mode = |wishes: &SocketWishes| {
        let bound = bind_in(folder.path(), "/s", wishes).unwrap();
        let mode = std::fs::metadata(folder.path().join("s")).unwrap().mode() & 0o7777;
        (mode, bound.warnings)
    };
    let (bits, warnings) = mode(&SocketWishes::default());
    assert_eq!(bits, 0o600);
    assert_eq!(warnings, ["there is no group \"docker\": unix:///s is owned by group root with mode 0600"]);
    let (bits, warnings) = mode(&SocketWishes { mode: 0o666, ..SocketWishes::default() });
    assert_eq!((bits, warnings.len()), (0o666, 1));
    let gid = nix::unistd::getegid().to_string();
    let (bits, warnings) = mode(&SocketWishes { group: gid, mode: 0o660 });
    assert_eq!((bits, warnings.len()), (0o660, 0), "a number needs no name");
}

#[test]
fn only_what_is_open_to_others_without_tls_is_warned_of() {
    let all = parse("/run/docker.sock tcp://127.0.0.1:1 tcp://0.0.0.0:2375").unwrap();
    let open = Some(Openness { how: "without TLS", advice: "set it" });
    let warning = insecure_warning(&all, open).unwrap();
    assert!(warning.starts_with("tcp://0.0.0.0:2375 is open without TLS"), "{warning}");
    assert_eq!(insecure_warning(&all, None), None);
    assert_eq!(insecure_warning(&all[..2], open), None);
}
