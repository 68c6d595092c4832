/*!
`/etc/passwd` and `/etc/group`, read directly: a static binary has no NSS modules, and a container image has nothing
else to ask.
*/
use std::path::Path;

use super::{ProbeError, Roots, read};

/// A line of `/etc/passwd` (passwd(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home folder.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// A line of `/etc/group` (group(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Login names of those who have it as a supplementary group.
    pub members: Vec<String>,
}

/// Parses `/etc/passwd`. Lines that are no entries (comments, NIS `+`) are passed over, as libc does; the fields behind
/// the numbers may be missing, because the file may come from an image that nobody vouches for.
pub fn parse_passwd(text: &str) -> Vec<User> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = entry_name(fields.next()?)?;
            let _password = fields.next()?;
            let uid = fields.next()?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            let home = fields.nth(1).unwrap_or_default().to_string();
            let shell = fields.next().unwrap_or_default().to_string();
            Some(User { name, uid, gid, home, shell })
        })
        .collect()
}

/// Parses `/etc/group`.
pub fn parse_group(text: &str) -> Vec<Group> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = entry_name(fields.next()?)?;
            let _password = fields.next()?;
            let gid = fields.next()?.parse().ok()?;
            let members = fields.next().unwrap_or_default();
            let members = members.split(',').filter(|member| !member.is_empty()).map(String::from).collect();
            Some(Group { name, gid, members })
        })
        .collect()
}

fn entry_name(field: &str) -> Option<String> {
    (!field.is_empty() && !field.starts_with(['#', '+', '-'])).then(|| field.to_string())
}

/// All users; none when there is no file (an image from scratch).
pub fn users(roots: &Roots) -> Result<Vec<User>, ProbeError> {
    Ok(parse_passwd(&read_or_empty(&roots.resolve(Path::new("/etc/passwd")))?))
}

/// All groups; none when there is no file.
pub fn groups(roots: &Roots) -> Result<Vec<Group>, ProbeError> {
    Ok(parse_group(&read_or_empty(&roots.resolve(Path::new("/etc/group")))?))
}

/// The user of that name, or of that number when it is written as one.
pub fn find_user<'a>(users: &'a [User], name_or_uid: &str) -> Option<&'a User> {
    let by_name = users.iter().find(|user| user.name == name_or_uid);
    by_name.or_else(|| {
        let uid: u32 = name_or_uid.parse().ok()?;
        users.iter().find(|user| user.uid == uid)
    })
}

/// The number of the group of that name; a number stands for itself, whether or not it has a name.
pub fn find_gid(groups: &[Group], name_or_gid: &str) -> Option<u32> {
    let by_name = groups.iter().find(|group| group.name == name_or_gid).map(|group| group.gid);
    by_name.or_else(|| name_or_gid.parse().ok())
}

/// The groups a user has besides the primary one, lowest number first.
pub fn supplementary(groups: &[Group], user: &User) -> Vec<u32> {
    let mut gids: Vec<u32> = groups
        .iter()
        .filter(|group| group.gid != user.gid && group.members.contains(&user.name))
        .map(|group| group.gid)
        .collect();
    gids.sort_unstable();
    gids.dedup();
    gids
}

fn read_or_empty(path: &Path) -> Result<String, ProbeError> {
    match read(path) {
        Err(ProbeError::Read { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# remark\n+nis\ncoder:x:1000:1000::/home/coder:/bin/bash\n\
                          bad:x:y:0::/:/\n1234:x:77:77::/n:\nshort:x:1\n";
    const GROUP: &str = "root:x:0:\ndocker:x:2375:coder,other\nusers:x:100:coder\ncoder:x:1000:coder\n5:x:42:\n";

    #[test]
    fn only_whole_entries_count() {
        let names: Vec<String> = parse_passwd(PASSWD).into_iter().map(|user| user.name).collect();
        assert_eq!(names, ["root", "coder", "1234"]);
    }

    #[test]
    fn a_name_made_of_digits_wins_over_the_number() {
        let users = parse_passwd(PASSWD);
        assert_eq!(find_user(&users, "1234").unwrap().uid, 77);
        assert_eq!(find_user(&users, "1000").unwrap().name, "coder");
        assert!(find_user(&users, "nobody").is_none());
        let groups = parse_group(GROUP);
        assert_eq!(find_gid(&groups, "5"), Some(42));
        assert_eq!(find_gid(&groups, "docker"), Some(2375));
        assert_eq!(find_gid(&groups, "999"), Some(999));
        assert_eq!(find_gid(&groups, "wheel"), None);
    }

    #[test]
    fn supplementary_groups_leave_the_primary_one_out() {
        let users = parse_passwd(PASSWD);
        let coder = find_user(&users, "coder").unwrap();
        assert_eq!(supplementary(&parse_group(GROUP), coder), [100, 2375]);
    }

    #[test]
    fn an_image_without_the_files_has_no_users() {
        let folder = tempfile::tempdir().unwrap();
        assert!(users(&Roots::below(folder.path())).unwrap().is_empty());
        assert!(groups(&Roots::below(folder.path())).unwrap().is_empty());
    }
}
