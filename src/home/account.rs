/*!
What is asked of an account (`PUID`, `PGID`, `DOCKER_USER`), and whether it can be had: decided on the accounts as they are.
*/
use crate::probe::users::{Group, User, find_user};

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The account of the image.
    pub base: String,
    /// Another name for it (`DOCKER_USER`).
    pub name: Option<String>,
    /// Another user id (`PUID`).
    pub uid: Option<u32>,
    /// Another group id (`PGID`).
    pub gid: Option<u32>,
}

/// Why it cannot be had. Nothing has been changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// A number that is none, or root's.
    #[error("{variable} {value:?} is not a number from 1 to 4294967294")]
    Number {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// A name that no account can have.
    #[error("DOCKER_USER {0:?} is no name for an account")]
    Name(String),
    /// A name that another account has.
    #[error("DOCKER_USER {name:?} is an account of its own in this image, beside {base:?}")]
    Taken {
        /// The name.
        name: String,
        /// The account of the image.
        base: String,
    },
    /// An id that another account has.
    #[error("PUID {uid} is the id of the account {name:?}")]
    IdTaken {
        /// The id.
        uid: u32,
        /// Whose it is.
        name: String,
    },
    /// Neither account is there.
    #[error("there is no user {0:?} in /etc/passwd")]
    Missing(String),
}

impl WishError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::Number { variable, .. } => format!("give the id of an ordinary user: {variable}=$(id -u)"),
            Self::Name(_) => "letters, digits, - and _, beginning with a letter or _, at most 32".into(),
            Self::Taken { .. } => "choose another name".into(),
            Self::IdTaken { .. } => "choose an id that nobody has, or --user that account".into(),
            Self::Missing(_) => "create the user in the image, or leave --user out".into(),
        }
    }
}

/// What has to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The account as it is called now.
    pub from: User,
    /// As it is to be.
    pub to: User,
    /// Name of its primary group now; `None`: it has no name.
    pub group: Option<String>,
}

impl Change {
    /// Whether there is anything to do.
    pub fn is_needed(&self) -> bool {
        self.from != self.to
    }
}

/// Reads an id from a variable.
pub fn id(variable: &'static str, value: &str) -> Result<u32, WishError> {
    let wrong = || WishError::Number { variable, value: value.to_owned() };
    value.parse().ok().filter(|id| (1..u32::MAX).contains(id)).ok_or_else(wrong)
}

/// A name as Debian's `usermod --login` takes it, which the official image of code-server asks; of what that takes, letters, digits and the
/// signs of directories (`john.doe`, `John`, `j@corp`), as the name becomes that of files as well. Words that mean more than a user in
/// sudoers(5) are none: `ALL` would be everybody.
pub fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let mut bytes = name.bytes();
    // All words of its own, and its aliases, are in capitals, but for Defaults.
    let capitals =
        name.bytes().any(|byte| byte.is_ascii_uppercase()) && !name.bytes().any(|byte| byte.is_ascii_lowercase());
    (1..=32).contains(&name.len())
        && !name.starts_with("Defaults")
        && !capitals
        && bytes.next().is_some_and(letter)
        && bytes.all(|byte| letter(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'@'))
}

/// Decides. A name that the account has had since an earlier start of the same container is no change.
pub fn decide(wish: &Wish, users: &[User], groups: &[Group]) -> Result<Change, WishError> {
    let base = find_user(users, &wish.base);
    let named = wish.name.as_deref().filter(|name| *name != wish.base);
    let user = match (base, named) {
        (_, Some(name)) if !is_name(name) => return Err(WishError::Name(name.to_owned())),
        (Some(base), None) => base,
        (Some(base), Some(name)) => match find_user(users, name) {
            Some(_) => return Err(WishError::Taken { name: name.to_owned(), base: base.name.clone() }),
            None => base,
        },
        (None, Some(name)) => find_user(users, name).ok_or_else(|| WishError::Missing(wish.base.clone()))?,
        (None, None) => return Err(WishError::Missing(wish.base.clone())),
    };
    let uid = wish.uid.unwrap_or(user.uid);
    if let Some(other) = users.iter().find(|other| other.uid == uid && other.name != user.name) {
        return Err(WishError::IdTaken { uid, name: other.name.clone() });
    }
    let name = named.map_or_else(|| user.name.clone(), str::to_owned);
    let to = User { name, uid, gid: wish.gid.unwrap_or(user.gid), ..user.clone() };
    let group = groups.iter().find(|group| group.gid == user.gid).map(|group| group.name.clone());
    Ok(Change { from: user.clone(), to, group })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn user(name: &str, uid: u32) -> User {
        User { name: name.into(), uid, gid: uid, home: "/home/coder".into(), shell: "/bin/bash".into() }
    }

    fn decided(wish: &Wish, users: &[User]) -> Result<User, WishError> {
        let groups = [Group { name: "coder".into(), gid: 1000, members: vec![] }];
        decide(wish, users, &groups).map(|change| change.to)
    }

    fn wish(name: Option<&str>, uid: Option<u32>) -> Wish {
        Wish { base: "coder".into(), name: name.map(str::to_owned), uid, gid: None }
    }

    #[test]
    fn what_is_asked_for_is_given() {
        let users = [user("root", 0), user("coder", 1000)];
        assert_eq!(decided(&wish(None, None), &users).unwrap(), users[1]);
        let asked = Wish { gid: Some(100), ..wish(Some("ada"), Some(1234)) };
        let ada = User { gid: 100, ..user("ada", 1234) };
        assert_eq!(decided(&asked, &users).unwrap(), ada);
        assert_eq!(decided(&wish(Some("coder"), None), &users).unwrap(), users[1], "its own name");
    }

    /// Names that contain the old one are the official entrypoint's trouble at the second start.
    #[test]
    fn a_second_start_finds_the_name_that_the_first_gave() {
        for name in ["ada", "coder2", "mycoder"] {
            let renamed = [user("root", 0), user(name, 1000)];
            assert_eq!(decided(&wish(Some(name), None), &renamed).unwrap(), renamed[1]);
        }
    }

    #[test]
    fn what_cannot_be_had_is_told() {
        let users = [user("root", 0), user("games", 5), user("coder", 1000)];
        assert!(matches!(decided(&wish(Some("games"), None), &users), Err(WishError::Taken { .. })));
        assert!(matches!(decided(&wish(None, Some(5)), &users), Err(WishError::IdTaken { uid: 5, .. })));
        assert!(matches!(decided(&wish(Some("a:b"), None), &users), Err(WishError::Name(_))));
        assert!(matches!(decided(&wish(None, None), &users[..2]), Err(WishError::Missing(_))));
        assert!(decided(&wish(None, Some(1000)), &users).is_ok(), "its own id");
    }

    #[rstest]
    #[case("1000", true)]
    #[case("0", false)]
    #[case("-1", false)]
    #[case("4294967295", false)]
    #[case("", false)]
    #[case("coder", false)]
    fn ids_are_numbers_of_ordinary_users(#[case] text: &str, #[case] good: bool) {
        assert_eq!(id("PUID", text).is_ok(), good);
    }

    #[rstest]
    #[case("ada", true)]
    #[case("_x-1", true)]
    #[case("john.doe", true)]
    #[case("John", true)]
    #[case("j@corp", true)]
    #[case("ALL", false)]
    #[case("NOPASSWD", false)]
    #[case("DEV_1", false)]
    #[case("_1", true)]
    #[case("Defaults", false)]
    #[case("Defaults@host", false)]
    #[case("1a", false)]
    #[case(".a", false)]
    #[case("a:b", false)]
    #[case("a/b", false)]
    #[case("a b", false)]
    #[case("a\nb", false)]
    #[case("../x", false)]
    #[case("", false)]
    fn names_are_those_of_accounts(#[case] name: &str, #[case] good: bool) {
        assert_eq!(is_name(name), good);
    }
}
