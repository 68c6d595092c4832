//! The words of tini and dumb-init: whatever is typed, reading ends, and the command is what stands last.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use dindctl::cli::init::Dialect;
use dindctl::cli::init::getopt::{Known, Options};
use libfuzzer_sys::fuzz_target;

const KNOWN: [Known; 3] = [
    Known { letter: b'c', long: Some("single-child"), value: false },
    Known { letter: b'r', long: Some("rewrite"), value: true },
    Known { letter: b'e', long: None, value: true },
];

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<OsString> = bytes.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
    let mut options = Options::new(&KNOWN, &words);
    let found = options.by_ref().take_while(Result::is_ok).count();
    assert!(found <= bytes.len());
    assert!(words.ends_with(options.command()));
    Dialect::Tini.understands(&words);
    Dialect::DumbInit.understands(&words);
});
