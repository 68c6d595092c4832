/*!
The files of the accounts, changed by text: passwd(5), group(5), shadow(5), gshadow(5), subuid(5) and rules of sudoers(5). Lines
and fields that are not concerned stay as they are, comments included.
*/
use super::account::Change;

/// One file, and how it changes.
pub type Edit = fn(&str, &Change) -> String;

/// The files below the root of the container, in the order in which they are written: the account itself last, so that a
/// change that was cut off is made again.
pub const FILES: [(&str, Edit); 7] = [
    ("/etc/sudoers.d/nopasswd", sudoers),
    ("/etc/subuid", first_field),
    ("/etc/subgid", first_field),
    ("/etc/shadow", first_field),
    ("/etc/gshadow", group),
    ("/etc/group", group),
    ("/etc/passwd", passwd),
];

/// Space before an entry is no part of it, for the C library and sudo as for our own readers.
fn by_line(text: &str, mut change: impl FnMut(&str) -> Option<String>) -> String {
    let line = |line: &str| {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        let (space, entry) = line.split_at(line.len() - line.trim_start().len());
        format!("{space}{}{end}", change(entry).unwrap_or_else(|| entry.to_owned()))
    };
    text.split_inclusive('\n').map(line).collect()
}

fn passwd(text: &str, change: &Change) -> String {
    by_line(text, |line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, password, _uid, _gid, rest @ ..] = fields.as_slice() else { return None };
        let to = &change.to;
        (*name == change.from.name)
            .then(|| [&[to.name.as_str(), password, &to.uid.to_string(), &to.gid.to_string()], rest].concat().join(":"))
    })
}

/// The group of the account is renamed with it where it has its name, and gets its id unless another group has that; the account
/// is renamed among the members of all. gshadow has another field in the place of the id, and no id to set.
fn group(text: &str, change: &Change) -> String {
    let (from, to) = (&change.from, &change.to);
    let taken = text.lines().any(|line| {
        let mut fields = line.trim_start().split(':');
        fields.next() != change.group.as_deref() && fields.nth(1) == Some(to.gid.to_string().as_str())
    });
    by_line(text, |line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, password, id, members] = fields.as_slice() else { return None };
        let own = Some(*name) == change.group.as_deref();
        let new_name = if own && *name == from.name { to.name.as_str() } else { name };
        let numeric = *id == from.gid.to_string();
        let new_id = if own && numeric && !taken { to.gid.to_string() } else { (*id).to_owned() };
        let renamed = |member| if member == from.name { to.name.as_str() } else { member };
        let members: Vec<&str> = members.split(',').map(renamed).collect();
        Some([new_name, password, &new_id, &members.join(",")].join(":"))
    })
}

fn first_field(text: &str, change: &Change) -> String {
    by_line(text, |line| {
        let rest = line.strip_prefix(change.from.name.as_str())?.strip_prefix(':')?;
        Some(format!("{}:{rest}", change.to.name))
    })
}

fn sudoers(text: &str, change: &Change) -> String {
    by_line(text, |line| {
        let rest = line.strip_prefix(change.from.name.as_str()).filter(|rest| rest.starts_with([' ', '\t']))?;
        Some(format!("{}{rest}", change.to.name))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::probe::users::{User, parse_group, parse_passwd};

    const PASSWD: &str = "# head\nroot:x:0:0:root:/root:/bin/bash\ncoder:x:1000:1000:,,,:/home/coder:/bin/bash\ncoder2:x:7:7::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\ndocker:x:2375:ada,coder,coder2\ncoder:x:1000:\n";

    fn change(name: &str, uid: u32, gid: u32) -> Change {
        let user = |name: &str, uid, gid| User {
            name: name.into(),
            uid,
            gid,
            home: "/home/coder".into(),
            shell: "/bin/bash".into(),
        };
        Change { from: user("coder", 1000, 1000), to: user(name, uid, gid), group: Some("coder".into()) }
    }

    #[test]
    fn only_the_own_line_changes() {
        let text = passwd(PASSWD, &change("eve", 1234, 100));
        assert_eq!(text, PASSWD.replace("coder:x:1000:1000", "eve:x:1234:100"));
        let text = group(GROUP, &change("eve", 1234, 4321));
        assert_eq!(text, "root:x:0:\nusers:x:100:\ndocker:x:2375:ada,eve,coder2\neve:x:4321:\n");
        let rules = "# coder\ncoder ALL=(ALL) NOPASSWD:ALL\ncoder2 ALL=ALL\n";
        assert_eq!(sudoers(rules, &change("eve", 1, 1)), "# coder\neve ALL=(ALL) NOPASSWD:ALL\ncoder2 ALL=ALL\n");
        assert_eq!(first_field("coder:!:1\ncoder2:!:1\n", &change("eve", 1, 1)), "eve:!:1\ncoder2:!:1\n");
        assert_eq!(group("coder:!::\nx:!:coder:coder\n", &change("eve", 1, 1)), "eve:!::\nx:!:coder:eve\n");
    }

    /// Found by the fuzz target `renaming`: the account was found on such a line, and then not changed there.
    #[test]
    fn an_entry_behind_space_is_changed_as_well() {
        let change = change("eve", 1234, 4321);
        assert_eq!(passwd("  coder:x:1000:1000::/:\n", &change), "  eve:x:1234:4321::/:\n");
        assert_eq!(group("\tcoder:x:1000:\n other:x:7:coder\n", &change), "\teve:x:4321:\n other:x:7:eve\n");
        let foreign = " other:x:4321:\ncoder:x:1000:\n";
        assert_eq!(group(foreign, &change), " other:x:4321:\neve:x:1000:\n", "the id has another owner");
    }

    #[test]
    fn an_id_of_another_group_is_left_to_it() {
        let text = group(GROUP, &change("coder", 1000, 100));
        assert_eq!(text, GROUP, "the account has users as its group");
    }

    proptest! {
        /// What is there of others is there afterwards, and a second time changes nothing.
        #[test]
        fn any_file_keeps_what_is_not_the_accounts(text in "([a-z#:0-9, ]{0,30}\n?){0,6}", uid in 1_u32..70000) {
            let change = change("eve", uid, uid);
            for (_, edit) in FILES {
                let once = edit(&text, &change);
                prop_assert_eq!(once.lines().count(), text.lines().count());
                prop_assert_eq!(&edit(&once, &change), &once);
            }
            let others = |text: &str| parse_passwd(text).into_iter().filter(|it| !["coder", "eve"].contains(&it.name.as_str())).collect::<Vec<_>>();
            prop_assert_eq!(others(&passwd(&text, &change)), others(&text));
            let names = |text: &str| parse_group(text).into_iter().map(|it| it.name).filter(|it| it != "coder" && it != "eve").collect::<Vec<_>>();
            prop_assert_eq!(names(&group(&text, &change)), names(&text));
        }
    }
}
