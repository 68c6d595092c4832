//! The reader of `DOCKER_TLS_SAN`: what passes is written and read again as the same names.
#![no_main]

use dindctl::prepare::tls::san::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(names) = parse(text) {
        let again: Vec<String> = names.iter().map(ToString::to_string).collect();
        assert_eq!(parse(&again.join(",")), Ok(names));
    }
});
