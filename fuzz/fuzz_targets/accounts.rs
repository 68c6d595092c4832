//! The readers of `/etc/passwd` and `/etc/group`, which come from an untrusted image.
#![no_main]

use dindctl::exec::agent::accounts::resolve;
use dindctl::exec::protocol::RunAs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str)| {
    let (spec, passwd, group) = input;
    if let Ok(account) = resolve(&RunAs::Spec(spec.to_owned()), passwd, group) {
        let limit = i32::MAX.cast_unsigned();
        assert!(account.identity.uid <= limit && account.identity.gid <= limit);
    }
});
