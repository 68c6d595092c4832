//! The files of the accounts of a foreign image, changed by text: lines of others stay, and a second start finds what the first made.
#![no_main]

use dindctl::home::account::{Wish, decide, is_name};
use dindctl::home::accounts_file::FILES;
use dindctl::probe::users::{parse_group, parse_passwd};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str, &str, u32, u32)| {
    let (passwd, group, base, name, uid, gid) = input;
    if !is_name(base) {
        return;
    }
    let wish = Wish {
        base: base.to_owned(),
        name: (!name.is_empty()).then(|| name.to_owned()),
        uid: (uid > 0).then_some(uid),
        gid: (gid > 0).then_some(gid),
    };
    let Ok(change) = decide(&wish, &parse_passwd(passwd), &parse_group(group)) else { return };
    for (path, edit) in FILES {
        let text = if path.contains("group") { group } else { passwd };
        let changed = edit(text, &change);
        assert_eq!(changed.lines().count(), text.lines().count(), "{path}");
        if path == "/etc/passwd" {
            let users = parse_passwd(&changed);
            assert!(users.contains(&change.to), "{change:?}");
            let again = decide(&wish, &users, &parse_group(group)).expect("a second start finds the account");
            assert!(!again.is_needed(), "{again:?}");
        }
    }
});
