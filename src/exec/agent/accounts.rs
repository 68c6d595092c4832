/*!
Who the program runs as: the job's user looked up in the sandbox's own `/etc/passwd` and `/etc/group`.

The rules are those of `docker run --user` (`GetExecUser` of github.com/moby/sys/user): a name or number, then
optionally `:` and a group name or number. The files come from an untrusted image, so lines that make no sense are
passed over and nothing in them can make the parser fail.
*/
use crate::exec::protocol::RunAs;
use crate::probe::users::{Group, User, parse_group, parse_passwd};
use crate::sys::spawn::Identity;

/// Highest id that docker accepts in `--user`.
const MAX_ID: u32 = i32::MAX as u32;

/// The answer: ids for the kernel, and where the user lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What the child becomes.
    pub identity: Identity,
    /// Home directory from `/etc/passwd`, if the user has a line there that names one.
    pub home: Option<String>,
}

/// Why a user cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// No such name in `/etc/passwd`.
    #[error("user {0:?} has no entry in the image's /etc/passwd")]
    UnknownUser(String),
    /// No such name in `/etc/group`.
    #[error("group {0:?} has no entry in the image's /etc/group")]
    UnknownGroup(String),
    /// The kernel would take it, docker does not.
    #[error("id {0:?} is not between 0 and {MAX_ID}")]
    OutOfRange(String),
}

/// Resolves a job's user against the text of the two files (empty where the image has none).
pub fn resolve(run_as: &RunAs, passwd: &str, group: &str) -> Result<Account, AccountError> {
    match run_as {
        RunAs::Ids { uid, gid } => Ok(Account {
            identity: Identity { uid: *uid, gid: *gid, groups: Vec::new() },
            home: parse_passwd(passwd).into_iter().find(|user| user.uid == *uid).and_then(home_of),
        }),
        RunAs::Spec(spec) => resolve_spec(spec, passwd, group),
    }
}

fn resolve_spec(spec: &str, passwd: &str, group: &str) -> Result<Account, AccountError> {
    let (user_word, group_word) = spec.split_once(':').unwrap_or((spec, ""));
    let number = user_word.parse::<u32>().ok();
    let wanted = if user_word.is_empty() { Some(0) } else { number };
    // A name may consist of digits, so the name is compared first in each line, as docker does.
    let found = parse_passwd(passwd).into_iter().find(|user| user.name == user_word || Some(user.uid) == wanted);
    let uid = match (&found, wanted) {
        (Some(user), _) => user.uid,
        (None, Some(uid)) => uid,
        (None, None) if is_digits(user_word) => return Err(AccountError::OutOfRange(user_word.to_owned())),
        (None, None) => return Err(AccountError::UnknownUser(user_word.to_owned())),
    };
    let (gid, groups) = if group_word.is_empty() {
        let name = found.as_ref().map(|user| user.name.as_str());
        let is_member = |entry: &Group| name.is_some_and(|name| entry.members.iter().any(|member| member == name));
        let groups = parse_group(group).into_iter().filter(is_member).map(|entry| entry.gid).collect();
        (found.as_ref().map_or(0, |user| user.gid), groups)
    } else {
        (resolve_group(group_word, group)?, Vec::new())
    };
    for id in [uid, gid] {
        if id > MAX_ID {
            return Err(AccountError::OutOfRange(id.to_string()));
        }
    }
    Ok(Account { identity: Identity { uid, gid, groups }, home: found.and_then(home_of) })
}

fn resolve_group(word: &str, group: &str) -> Result<u32, AccountError> {
    let number = word.parse::<u32>().ok();
    match parse_group(group).into_iter().find(|entry| entry.name == word || Some(entry.gid) == number) {
        Some(entry) => Ok(entry.gid),
        None if is_digits(word) => number.ok_or_else(|| AccountError::OutOfRange(word.to_owned())),
        None => Err(AccountError::UnknownGroup(word.to_owned())),
    }
}

fn is_digits(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

fn home_of(user: User) -> Option<String> {
    (!user.home.is_empty()).then_some(user.home)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n# comment\nbroken:x:one:2\nnode:x:1000:1001:,,,:/home/node:/bin/sh\n\
        2000:x:77:78::/seven:\nhomeless:x:5:5::\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:node,root\nvideo:x:44:x,node\n:x:9:node\nbad:x:no:node\n900:x:901:\n";

    #[rstest]
    #[case("", 0, 0, &[50], Some("/root"))]
    #[case("root", 0, 0, &[50], Some("/root"))]
    #[case("node", 1000, 1001, &[50, 44], Some("/home/node"))]
    #[case("1000", 1000, 1001, &[50, 44], Some("/home/node"))]
    #[case("node:video", 1000, 44, &[], Some("/home/node"))]
    #[case("node:7", 1000, 7, &[], Some("/home/node"))]
    #[case("node:", 1000, 1001, &[50, 44], Some("/home/node"))]
    #[case("4242", 4242, 0, &[], None)]
    #[case("4242:staff", 4242, 50, &[], None)]
    #[case(":staff", 0, 50, &[], Some("/root"))]
    #[case("homeless", 5, 5, &[], None)]
    #[case("2000", 77, 78, &[], Some("/seven"))] // a name of digits wins over the number
    #[case("node:900", 1000, 901, &[], Some("/home/node"))]
    fn names_and_numbers_resolve_as_docker_resolves_them(
        #[case] spec: &str,
        #[case] uid: u32,
        #[case] gid: u32,
        #[case] groups: &[u32],
        #[case] home: Option<&str>,
    ) {
        let account = resolve(&RunAs::Spec(spec.into()), PASSWD, GROUP).unwrap();
        assert_eq!(account.identity, Identity { uid, gid, groups: groups.to_vec() });
        assert_eq!(account.home.as_deref(), home);
    }

    #[rstest]
    #[case("nobody", AccountError::UnknownUser("nobody".into()))]
    #[case("broken", AccountError::UnknownUser("broken".into()))]
    #[case("-1", AccountError::UnknownUser("-1".into()))]
    #[case("node:none", AccountError::UnknownGroup("none".into()))]
    #[case("3000000000", AccountError::OutOfRange("3000000000".into()))]
    #[case("99999999999", AccountError::OutOfRange("99999999999".into()))]
    #[case("1:99999999999", AccountError::OutOfRange("99999999999".into()))]
    fn what_docker_refuses_is_refused(#[case] spec: &str, #[case] expected: AccountError) {
        assert_eq!(resolve(&RunAs::Spec(spec.into()), PASSWD, GROUP), Err(expected));
    }

    #[test]
    fn plain_numbers_need_no_files() {
        let account = resolve(&RunAs::Ids { uid: 65534, gid: 65534 }, "", "").unwrap();
        assert_eq!(account, Account { identity: Identity { uid: 65534, gid: 65534, groups: vec![] }, home: None });
    }

    proptest! {
        #[test]
        fn any_text_is_survived(spec in "\\PC{0,20}", passwd in "[\\PC\n:]{0,200}", group in "[\\PC\n:,]{0,200}") {
            if let Ok(account) = resolve(&RunAs::Spec(spec), &passwd, &group) {
                prop_assert!(account.identity.uid <= MAX_ID && account.identity.gid <= MAX_ID);
            }
        }
    }
}
