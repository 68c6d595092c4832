/*!
Who has a TCP port: `/proc/net/tcp` names the socket's inode, and whoever has that inode open is the one.
*/
use std::path::Path;

use crate::probe::Roots;
use crate::probe::process::identify;

/// State `TCP_LISTEN` in `/proc/net/tcp` (`include/net/tcp_states.h`).
const LISTEN: &str = "0A";

/// Name and pid of a process of this pid namespace that listens on the port; `None` when none can be seen.
pub(super) fn of_port(roots: &Roots, port: u16) -> Option<String> {
    let tables =
        ["net/tcp", "net/tcp6"].map(|table| std::fs::read_to_string(roots.proc.join(table)).unwrap_or_default());
    let inodes: Vec<u64> = tables.iter().flat_map(|table| listening(table, port)).collect();
    let pids = std::fs::read_dir(&roots.proc).ok()?.flatten();
    let mut pids: Vec<i32> = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let pid = pids.into_iter().find(|pid| inodes.iter().any(|inode| has_open(roots, *pid, *inode)))?;
    let process = identify(roots, pid)?;
    Some(format!("{} (pid {pid})", process.name()))
}

/// The inodes of the sockets that listen on the port.
fn listening(table: &str, port: u16) -> Vec<u64> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (local, state) = (fields.nth(1)?, fields.nth(1)?);
            let (_, hex) = local.rsplit_once(':')?;
            let inode = fields.nth(5)?.parse().ok()?;
            (state == LISTEN && u16::from_str_radix(hex, 16) == Ok(port)).then_some(inode)
        })
        .collect()
}

fn has_open(roots: &Roots, pid: i32, inode: u64) -> bool {
    let folder = roots.proc.join(pid.to_string()).join("fd");
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let wanted = format!("socket:[{inode}]");
    entries.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(&wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_of_that_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 00000000:0947 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0\n\
            1: 0100007F:0947 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 20 4 30 10 -1\n\
            2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0\n";
        assert_eq!(listening(table, 2375), [111]);
        assert_eq!(listening(table, 22), [333]);
        assert!(listening(table, 80).is_empty() && listening("", 80).is_empty());
    }

    #[test]
    fn this_process_is_found_by_its_port() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = of_port(&Roots::system(), socket.local_addr().unwrap().port()).unwrap();
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
    }
}
