//! The states of the folder and how each is left, with real keys and certificates.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::probe::certificates::look;

const NOW: i64 = 1_800_000_000;

fn wishes(directory: &Path) -> TlsWishes {
    TlsWishes { directory: directory.into(), names: BTreeSet::new(), key: KeyKind::Ecdsa, days: DAYS, now: NOW }
}

fn names(list: &str) -> BTreeSet<Name> {
    parse_san(list).unwrap()
}

fn facts(directory: &Path, list: &str) -> TlsFacts {
    TlsFacts { folder: look(directory), names: names(list) }
}

/// The parts that are made now, and what is decided afterwards.
fn make(wishes: &TlsWishes, list: &str) -> Vec<Part> {
    let work = issue(wishes, &names(list)).unwrap();
    let after = decide(&facts(&wishes.directory, list), wishes);
    assert!(matches!(after, Decision::Keep { .. }), "{after:?}");
    work.map(|work| work.parts.into_iter().map(|(part, _)| part).collect()).unwrap_or_default()
}

fn refusal(wishes: &TlsWishes) -> String {
    match decide(&facts(&wishes.directory, "docker"), wishes) {
        Decision::Refuse { cause, .. } => cause,
        other => format!("{other:?}"),
    }
}

fn read(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap()
}

/// A key that is mounted read-only, or readable for a group, is somebody's decision.
#[test]
fn kept_keys_keep_their_modes_but_for_the_clients() {
    let folder = tempfile::tempdir().unwrap();
    make(&wishes(folder.path()), "docker");
    let key = |name: &str| folder.path().join(format!("{name}/key.pem"));
    for name in ["ca", "server", "client"] {
        std::fs::set_permissions(key(name), std::fs::Permissions::from_mode(0o640)).unwrap();
        std::fs::remove_file(folder.path().join(format!("{name}/cert.pem"))).unwrap();
    }
    assert_eq!(make(&wishes(folder.path()), "docker").len(), 3);
    let modes =
        ["ca", "server", "client"].map(|name| std::fs::metadata(key(name)).unwrap().permissions().mode() & 0o777);
    assert_eq!(modes, [0o640, 0o640, 0o644]);
}

/// Of `DC=com, DC=example, CN=Docker CA`, by OpenSSL, as rcgen writes no such name; valid for a hundred years. The key is of this test alone.
const TWICE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBujCCAWCgAwIBAgIUJTvDyNZep/8Xd2OQF0HChvL2jDAwCgYIKoZIzj0EAwIw\n\
QjETMBEGCgmSJomT8ixkARkWA2NvbTEXMBUGCgmSJomT8ixkARkWB2V4YW1wbGUx\n\
EjAQBgNVBAMMCURvY2tlciBDQTAgFw0yNjExMjgwMzQ4MDdaGA8yMTI2MTEwNDAz\n\
NDgwN1owQjETMBEGCgmSJomT8ixkARkWA2NvbTEXMBUGCgmSJomT8ixkARkWB2V4\n\
YW1wbGUxEjAQBgNVBAMMCURvY2tlciBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEH\n\
A0IABJhgHWnDi4XD/Hbg0UdEDMopSBmALz3+sAl/WtOR5APET/jQmdEs7cakqo89\n\
iRhXRx47xwmCGe/CwFw8fJg/VqyjMjAwMA8GA1UdEwEB/wQFMAMBAf8wHQYDVR0O\n\
BBYEFBFQmLhVweHYPh4YvILmd3q/zhpqMAoGCCqGSM49BAMCA0gAMEUCIQD9m8Eh\n\
dOmQvnbtW20p2sM4lhKNYgjpumZqf2pO2LyRUAIgFB2hOi5GZMVja9ptRBXK5QUi\n\
Z611WYDU4soO6ZPKrik=\n\
-----END CERTIFICATE-----\n\
";
const TWICE_KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgKGtnqnDw6mEJ3Je3\n\
T4gi09Hl6NzSC2gbBDXobZ/acS+hRANCAASYYB1pw4uFw/x24NFHRAzKKUgZgC89\n\
/rAJf1rTkeQDxE/40JnRLO3GpKqPPYkYV0ceO8cJghnvwsBcPHyYP1as\n\
-----END PRIVATE KEY-----\n\
";

/// What such an authority signs does not name it: the start, and each hour after it, made certificates that nobody could verify.
#[test]
fn an_authority_with_an_attribute_twice_is_refused_before_anything_is_signed() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("ca")).unwrap();
    std::fs::write(folder.path().join("ca/key.pem"), TWICE_KEY).unwrap();
    std::fs::write(folder.path().join("ca/cert.pem"), TWICE).unwrap();
    let key = KeyPair::from_pem(TWICE_KEY).unwrap();
    let error = issue(&wishes(folder.path()), &names("docker")).unwrap_err();
    assert!(error.to_string().contains("would not name it as it names itself"), "{error}");
    assert!(!folder.path().join("server").exists() && error.hint().contains("each attribute of its name once"));
    // One with a name that can be repeated signs.
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example");
    std::fs::write(folder.path().join("ca/cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    assert_eq!(make(&wishes(folder.path()), "docker"), [Part::Server, Part::Client]);
}

#[test]
fn an_empty_folder_gets_the_files_names_and_modes_of_the_official_image() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("certs");
    assert_eq!(make(&wishes(&directory), "docker"), [Part::Authority, Part::Server, Part::Client]);
    let mode = |name: &str| std::fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
    for (name, want) in [
        ("ca", 0o755),
        ("ca/key.pem", 0o600),
        ("ca/cert.pem", 0o644),
        ("server/key.pem", 0o600),
        ("server/cert.pem", 0o644),
        ("server/ca.pem", 0o644),
        ("client/key.pem", 0o644),
        ("client/cert.pem", 0o644),
        ("client/ca.pem", 0o644),
    ] {
        assert_eq!(mode(name), want, "{name}");
    }
    let found = look(&directory);
    let subjects =
        [&found.ca_cert, &found.server.cert, &found.client.cert].map(|cert| cert.good().unwrap().subject_text.clone());
    assert_eq!(subjects, ["CN=docker:dind CA", "CN=docker:dind server", "CN=docker:dind client"]);
    let server = found.server.cert.good().unwrap();
    assert_eq!((server.not_before, server.not_after), (NOW - DAY, NOW + i64::from(DAYS) * DAY));
    assert!(read(&directory, "ca/key.pem").starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!(read(&directory, "ca/cert.pem"), read(&directory, "client/ca.pem"));
}

#[test]
fn nothing_is_done_twice() {
    let folder = tempfile::tempdir().unwrap();
    let wishes = wishes(folder.path());
    make(&wishes, "docker");
    let before = read(folder.path(), "server/cert.pem");
    assert_eq!(make(&wishes, "docker"), []);
    assert_eq!(read(folder.path(), "server/cert.pem"), before);
}

#[test]
fn a_new_address_changes_the_servers_certificate_only_and_keeps_the_names_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let wishes = wishes(folder.path());
    make(&wishes, "docker,10.0.0.1");
    let key = read(folder.path(), "server/key.pem");
    assert_eq!(make(&wishes, "docker,10.0.0.2"), [Part::Server]);
    assert_eq!(read(folder.path(), "server/key.pem"), key);
    assert_eq!(make(&wishes, "docker,10.0.0.1"), [], "the first container must not issue it again");
    let many: Vec<String> = (0..70).map(|number| format!("10.1.0.{number}")).collect();
    assert_eq!(make(&wishes, &many.join(",")), [Part::Server]);
    let found = look(folder.path()).server.cert.good().unwrap().names.clone();
    assert_eq!(found.len(), 70, "names of containers that are gone are dropped some day");
}

#[test]
fn what_nears_its_end_is_issued_again_with_the_same_keys() {
    let folder = tempfile::tempdir().unwrap();
    let mut wishes = wishes(folder.path());
    make(&wishes, "docker");
    let keys = ["ca/key.pem", "server/key.pem", "client/key.pem"].map(|name| read(folder.path(), name));
    let old = look(folder.path()).client.cert.good().unwrap().clone();
    wishes.now += (i64::from(DAYS) - 31) * DAY;
    assert_eq!(make(&wishes, "docker"), []);
    wishes.now += 2 * DAY;
    assert_eq!(make(&wishes, "docker"), [Part::Authority, Part::Server, Part::Client]);
    assert_eq!(keys, ["ca/key.pem", "server/key.pem", "client/key.pem"].map(|name| read(folder.path(), name)));
    let authority = look(folder.path()).ca_cert.good().unwrap().clone();
    assert!(old.is_signed_by(&authority), "clients keep the certificates they have");
    // A clock that was wrong once.
    wishes.now -= 2000 * DAY;
    assert_eq!(make(&wishes, "docker"), [Part::Authority, Part::Server, Part::Client]);
}

#[test]
fn what_is_broken_or_gone_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let wishes = wishes(folder.path());
    make(&wishes, "docker");
    for (name, want) in [
        ("server/cert.pem", vec![Part::Server]),
        ("server/ca.pem", vec![Part::Server]),
        ("client/cert.pem", vec![Part::Client]),
        ("client/ca.pem", vec![Part::Client]),
        ("client/key.pem", vec![Part::Client]),
        ("server/key.pem", vec![Part::Server]),
        ("ca/cert.pem", vec![Part::Authority, Part::Server, Part::Client]),
    ] {
        std::fs::write(folder.path().join(name), if name.contains("key") { "" } else { "rubbish" }).unwrap();
        assert_eq!(make(&wishes, "docker"), want, "{name}");
    }
    // Another authority's key: nothing that the old one signed is worth anything.
    std::fs::write(folder.path().join("ca/key.pem"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert_eq!(make(&wishes, "docker"), [Part::Authority, Part::Server, Part::Client]);
}

#[test]
fn somebody_elses_certificates_are_only_looked_at() {
    let made = tempfile::tempdir().unwrap();
    let mut wishes = wishes(made.path());
    make(&wishes, "docker");
    std::fs::remove_dir_all(made.path().join("ca")).unwrap();
    std::fs::remove_dir_all(made.path().join("client")).unwrap();
    let keep = decide(&facts(made.path(), "another.name"), &wishes);
    assert!(matches!(&keep, Decision::Keep { found } if found.contains("somebody else")), "{keep:?}");
    assert_eq!(issue(&wishes, &names("another.name")).unwrap(), None);
    wishes.now += 900 * DAY;
    assert!(refusal(&wishes).contains("has expired"), "{}", refusal(&wishes));
    wishes.now = NOW - 10 * DAY;
    assert!(refusal(&wishes).contains("is not valid yet"), "{}", refusal(&wishes));
    wishes.now = NOW;
    std::fs::write(made.path().join("server/key.pem"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(refusal(&wishes).contains("is not the key of"), "{}", refusal(&wishes));
    std::fs::remove_file(made.path().join("server/key.pem")).unwrap();
    assert!(refusal(&wishes).contains("server/key.pem is missing or empty"), "{}", refusal(&wishes));
}

#[test]
fn an_authority_without_its_key_signs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let wishes = wishes(folder.path());
    make(&wishes, "docker");
    std::fs::remove_file(folder.path().join("ca/key.pem")).unwrap();
    std::fs::remove_dir_all(folder.path().join("server")).unwrap();
    assert!(refusal(&wishes).contains("without its key"), "{}", refusal(&wishes));
}

#[test]
fn a_key_that_cannot_be_used_is_named_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let wishes = wishes(folder.path());
    make(&wishes, "docker");
    for (name, text, want) in [
        ("ca/key.pem", "rubbish", "ca/key.pem cannot be used: it is no PEM file"),
        ("ca/key.pem", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", "cannot sign with"),
        (
            "client/key.pem",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "encrypted",
        ),
    ] {
        let good = read(folder.path(), name);
        std::fs::write(folder.path().join(name), text).unwrap();
        assert!(refusal(&wishes).contains(want), "{}", refusal(&wishes));
        assert!(matches!(issue(&wishes, &names("docker")), Err(IssueError::Refused { .. })));
        assert_eq!(read(folder.path(), name), text);
        std::fs::write(folder.path().join(name), good).unwrap();
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_no_reason_to_stop_while_its_certificates_last() {
    let folder = tempfile::tempdir().unwrap();
    let mut wishes = wishes(folder.path());
    make(&wishes, "docker");
    let decide_read_only = |wishes: &TlsWishes| {
        let mut facts = facts(folder.path(), "docker,other");
        facts.folder.unwritable = Some(nix::errno::Errno::EROFS);
        decide(&facts, wishes)
    };
    assert!(matches!(decide_read_only(&wishes), Decision::Postpone { .. }));
    wishes.now += 900 * DAY;
    let refused = decide_read_only(&wishes);
    assert!(matches!(&refused, Decision::Refuse { cause, .. } if cause.contains("EROFS")), "{refused:?}");
}

#[test]
fn containers_that_share_a_volume_end_with_one_set() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("certs");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let wishes = wishes(&directory);
            scope.spawn(move || issue(&wishes, &names(&format!("docker,10.0.0.{number}"))).unwrap());
        }
    });
    let all: Vec<String> = (0..8).map(|number| format!("10.0.0.{number}")).collect();
    let after = decide(&facts(&directory, &all.join(",")), &wishes(&directory));
    assert!(matches!(after, Decision::Keep { .. }), "{after:?}");
}

#[test]
fn short_lives_are_renewed_after_two_thirds() {
    let folder = tempfile::tempdir().unwrap();
    let wishes = TlsWishes { days: 2, ..wishes(folder.path()) };
    make(&wishes, "docker");
    let cert = look(folder.path()).server.cert.good().unwrap().clone();
    assert_eq!(renewal(&cert) - NOW, DAY, "a third of three days, one of them before now, is left");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever was done to the folder: afterwards all is in order, or it is refused and nothing was changed.
    #[test]
    fn every_folder_ends_in_order_or_untouched(
        steps in proptest::collection::vec((0_usize..9, prop_oneof![Just(""), Just("rubbish"), Just("gone")]), 0..6),
        days in 0_i64..1000,
    ) {
        const FILES: [&str; 9] = [
            "ca/cert.pem", "ca/key.pem", "server/ca.pem", "server/cert.pem", "server/key.pem", "client/ca.pem",
            "client/cert.pem", "client/key.pem", "client/other",
        ];
        let folder = tempfile::tempdir().unwrap();
        let mut wishes = wishes(folder.path());
        make(&wishes, "docker");
        for (file, what) in steps {
            let path = folder.path().join(FILES[file]);
            if what == "gone" { let _ = std::fs::remove_file(path); } else { std::fs::write(path, what).unwrap(); }
        }
        wishes.now += days * DAY;
        let before = facts(folder.path(), "docker");
        match issue(&wishes, &names("docker")) {
            Ok(_) => {
                let after = decide(&facts(folder.path(), "docker"), &wishes);
                prop_assert!(matches!(after, Decision::Keep { .. }), "{:?}", after);
            }
            Err(IssueError::Refused { .. }) => prop_assert_eq!(facts(folder.path(), "docker"), before),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
