//! The readers of the system's small tables: routes, name servers, capabilities, limits, users, groups, subordinate ids,
//! pid files.
#![no_main]

use std::path::Path;

use dindctl::probe::{capabilities, limits, network, process, subids, users};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for route in network::routes(text) {
        assert_eq!(route.network.trunc(), route.network);
    }
    let _ = network::name_servers(text);
    let _ = capabilities::parse(text, Path::new("status"));
    let _ = limits::parse(text, "Max open files", Path::new("limits"));
    let _ = users::parse_passwd(text);
    let _ = users::parse_group(text);
    let _ = subids::parse(text);
    if let Some(pid) = process::parse_pid_file(text) {
        assert!(pid > 0);
    }
});
