use super::*;

fn clean(text: &str) -> String {
    Redactor::default().text(text)
}

#[test]
fn secrets_go_and_what_is_around_them_stays() {
    for (text, want) in [
        ("PASSWORD=hunter2 next=1", "PASSWORD=(left out) next=1"),
        ("db.password: correct horse battery", "db.password: (left out)"),
        (r#"{"password":"a\"b","port":1}"#, r#"{"password":"(left out)","port":1}"#),
        (r#"msg="{\"token\":\"abc\",\"n\":1}""#, r#"msg="{\"token\":\"(left out)\",\"n\":1}""#),
        ("run --api-key s3cr3t --debug", "run --api-key (left out) --debug"),
        (r#"["--api-key","s3cr3t","--debug"]"#, r#"["--api-key","(left out)","--debug"]"#),
        ("[--token s3cr3t --debug]", "[--token (left out) --debug]"),
        ("PASSWORD=it's\"one\" x", "PASSWORD=(left out) x"),
        ("env \"PASSWORD=one\" x", "env \"PASSWORD=(left out)\" x"),
        ("'PASSWORD=it is'", "'PASSWORD=(left out) is'"),
        ("Authorization: Basic dXNlcjpw", "Authorization: (left out)"),
        ("curl -H 'authorization: token abc' x", "curl -H 'authorization: (left out)' x"),
        (r#""X-Registry-Auth":["abc"]"#, r#""X-Registry-Auth":["(left out)"]"#),
        ("sent bearer a1b2c3d4 to it", "sent bearer (left out) to it"),
        ("proxy http://user:pa@ss@proxy:3128/ used", "proxy http://(left out)@proxy:3128/ used"),
        ("proxy http://user:pa/ss@proxy:3128", "proxy http://(left out)@proxy:3128"),
        ("https://onlyatoken@host/x", "https://(left out)@host/x"),
        ("HTTP_PROXY=me:pw@proxy:3128", "HTTP_PROXY=(left out)@proxy:3128"),
        ("GET /x?token=abc HTTP/1.1", "GET /x?token=(left out) HTTP/1.1"),
        ("curl -u admin:geheim http://x", "curl -u (left out) http://x"),
        ("docker login -u me -p geheim host", "docker login -u me -p (left out) host"),
        ("mysql -pgeheim -h db", "mysql -p(left out) -h db"),
        ("id eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln end", "id (left out) end"),
        ("pull with dckr_pat_abcdefghijklmnop", "pull with (left out)"),
        ("TLS_KEY=abcdef", "TLS_KEY=(left out)"),
        ("PASSWORD_FILE=hunter2", "PASSWORD_FILE=(left out)"),
    ] {
        assert_eq!(clean(text), want, "{text}");
    }
}

#[test]
fn what_a_reader_needs_stays() {
    for text in [
        "2026-11-27T06:43:53.123456789Z dindctl: dockerd is ready after 365 ms",
        r#"level=error msg="failed to start daemon: Error initializing network controller: no such file""#,
        "DINDCTL_PASSWORD_FILE=/run/secrets/password",
        "--tlskey=/certs/server/key.pem --tlscert /certs/server/cert.pem",
        "open /etc/passwd: no such file or directory",
        "debian@sha256:91bcd4b27a33f0e1d2c3b4a5968778695a4b3c2d1e0f91bcd4b27a33f0e1d2c3",
        "registry:5000/image@sha256:91bcd4b27a33f0e1d2c3b4a5968778695a4b3c2d1e0f91bcd4b27a33f0e1d2c3",
        "25 24 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw",
        "tcp://dind:2376 and unix:///var/run/docker.sock",
        "user@1000.service started, author: somebody",
        "--user 1000:1000",
        "a basic authentication was asked for",
        r#"{"key":"daemon.listen","value":"unix:///var/run/docker.sock"}"#,
        "Error response from daemon: pull access denied, repository does not exist or may require 'docker login'",
        "-----BEGIN CERTIFICATE-----",
    ] {
        assert_eq!(clean(text), text);
    }
}

#[test]
fn a_private_key_goes_in_lines_and_in_one() {
    let key = "a\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4\nMIIE\nshort==\n-----END RSA PRIVATE KEY----- b\nc\n";
    let gone = clean(key);
    assert!(gone.starts_with("a\n(left out)\n") && gone.ends_with("(left out) b\nc\n"), "{gone}");
    assert!(!gone.contains("MIIE") && !gone.contains("short") && !gone.contains("Proc"), "{gone}");
    let one = r#"{"key":"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n","n":1}"#;
    assert_eq!(clean(one), r#"{"key":"(left out)\n","n":1}"#);
    let prefixed = "t1 -----BEGIN EC PRIVATE KEY-----\nt2 MHcC\nt3 -----END EC PRIVATE KEY-----\nt4 goes on";
    assert_eq!(clean(prefixed), "t1 (left out)\n(left out)\n(left out)\nt4 goes on");
    // One without an end hides no more than a key can be long.
    let endless = format!("-----BEGIN PRIVATE KEY-----\n{}last", "x\n".repeat(KEY_LINES));
    assert!(clean(&endless).ends_with("\nlast"), "{}", clean(&endless));
}

#[test]
fn known_secrets_go_wherever_they_are_also_over_lines() {
    let mut redactor = Redactor::new(Masks::new(["plain-word", "two\nlines", "word"]));
    assert_eq!(redactor.text("a plain-word, two\nlines, word"), "a (left out), (left out), word");
}

#[test]
fn the_secrets_of_a_text_can_be_named() {
    assert_eq!(secrets("X=1 --password hunter2\nhttp://u:p@h/"), ["hunter2", "u:p"]);
}

/// A log line has no bound of its own.
#[test]
fn a_long_line_takes_time_by_its_length_alone() {
    // Of this thread alone, whatever else the machine does.
    let now = || {
        let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
        std::time::Duration::from(nix::time::clock_gettime(clock).unwrap())
    };
    let time = |count: usize| {
        let line = "token: a \"auth\": x http://u:p@h/ -----BEGIN CERTIFICATE----- ".repeat(count);
        let begun = now();
        assert!(!clean(&line).contains("u:p@"));
        now().saturating_sub(begun)
    };
    let (short, long) = (time(1_000), time(20_000));
    // By the square it would be four hundred times as long.
    assert!(long < short * 100, "{short:?} and {long:?}");
}

proptest::proptest! {
    /// No text breaks it, and no line goes.
    #[test]
    fn any_text_is_fine(text in "(?s).{0,200}") {
        let once = clean(&text);
        proptest::prop_assert_eq!(once.matches('\n').count(), text.matches('\n').count());
    }

    /// Whatever is assigned to a name of secrets is gone, alone and in JSON.
    #[test]
    fn an_assigned_secret_is_gone(value in "[!#-&(-\\[\\]-~]{6,40}") {
        let secret = format!("q7{value}");
        let line = format!("x API_TOKEN={secret} y");
        proptest::prop_assert!(!clean(&line).contains(&secret), "{}", clean(&line));
        let json = serde_json::json!({ "a": 1, "token": secret }).to_string();
        proptest::prop_assert!(!clean(&json).contains(&secret), "{}", clean(&json));
    }
}
