//! The readers of certificates, keys and bundles, which lie on volumes that others write.
#![no_main]

use dindctl::probe::certificates::{Certificate, Key, authorities};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Certificate::parse(bytes);
    let _ = Certificate::parse_der(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = Key::parse(&text);
    if let Ok(count) = authorities(&text) {
        assert!(count > 0);
    }
});
