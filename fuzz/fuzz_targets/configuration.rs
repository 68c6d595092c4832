//! daemon.json, dockerd's arguments and the settings between them, as an operator may write them.
#![no_main]

use std::ffi::OsString;
use std::path::PathBuf;

use dindctl::engine::arguments::DaemonArguments;
use dindctl::engine::daemon_json::{DaemonJson, Decided};
use dindctl::engine::settings;
use dindctl::prepare::sockets;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (file, line) = text.split_once('\u{1}').unwrap_or((text, text));
    let arguments = DaemonArguments::parse(line.split_whitespace().map(OsString::from));
    if let Ok(file) = DaemonJson::parse(PathBuf::from("daemon.json"), file) {
        let _ = settings::contradiction(&file, &arguments, &[]);
        if let Ok(merged) = file.merge(&arguments, &Decided::default()) {
            let again = DaemonJson::parse(PathBuf::from("daemon.json"), &merged.text());
            assert!(again.is_ok_and(|again| !again.sets("hosts")));
        }
    }
    let _ = sockets::parse(line);
    for word in line.split_whitespace() {
        let _ = (settings::mirror(word), settings::insecure_registry(word), settings::name_server(word));
        let _ = (settings::bridge(word), settings::pool(word), settings::mtu(word));
    }
});
