/*!
Which of the kernel's two packet filters can do what dockerd needs, found out by doing it: chains of `filter` and `nat`,
connection tracking, address types and masquerading, for IPv4 and IPv6.

For `nf_tables` the kernel gets a table with such chains and rules and its removal in one batch, so it checks (and
loads) everything, and nobody ever sees the table. (A batch that is refused at its end would do as well, but the kernel waits
for all its CPUs before it forgets one: 10 ms instead of 0.1.) The older filter is only asked, and only when it matters: to ask
makes its tables come into being.
*/
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{Roots, host, read};
use crate::sys::module;
use crate::sys::nfnetlink::{Attributes, Batch, Chain, Filters, Refused, expression};
use crate::sys::spawn::find_program;
use crate::sys::xtables::{self, Extension, Family};

/// Why a filter cannot do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// What it cannot do.
    pub what: &'static str,
    /// What the kernel says.
    pub errno: Errno,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no {}: {}", self.what, self.errno.desc())
    }
}

/// What came of trying one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// IPv4.
    pub v4: Result<(), Problem>,
    /// IPv6.
    pub v6: Result<(), Problem>,
}

/// The operator's choice (`DOCKER_IPTABLES_LEGACY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Whatever works.
    Any,
    /// The older filter.
    Legacy,
    /// `nf_tables`.
    Nft,
}

/// The programs that speak to the filters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Programs {
    /// `iptables`, which dockerd runs.
    pub iptables: Option<PathBuf>,
    /// `iptables-legacy`, under its own name.
    pub legacy: Option<PathBuf>,
    /// Whether [`LEGACY_FOLDER`] has an `iptables`.
    pub folder: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// What the operator chose.
    pub choice: Choice,
    /// `nf_tables`; `None` when it was not tried.
    pub nft: Option<Trial>,
    /// The older filter; `None` when it was not tried.
    pub legacy: Option<Trial>,
    /// Whether the older filter has rules in this network namespace.
    pub legacy_rules: bool,
    /// Whether the kernel is gVisor's, which has no filter that dockerd could use and is not asked.
    pub gvisor: bool,
    /// The programs.
    pub programs: Programs,
    /// `PATH`, in which they were looked for.
    pub path: String,
}

/// Where images keep links named `iptables`, … to the older programs, as the official one does.
pub const LEGACY_FOLDER: &str = "/usr/local/sbin/.iptables-legacy";

/// What the messages of the trial are about.
const PARTS: [&str; 7] = [
    "nf_tables",
    "nat chain",
    "address types (nft_compat, xt_addrtype)",
    "masquerading (nft_masq)",
    "filter chain",
    "connection tracking (nft_compat, xt_conntrack)",
    "removal of a table",
];

/// Tries what has to be tried.
pub fn look(roots: &Roots, choice: Choice, path: &OsStr) -> Firewall {
    let release = read(&roots.proc.join("sys/kernel/osrelease")).unwrap_or_default();
    let gvisor = host::is_gvisor(roots, &release);
    // What dockerd asks modprobe for, and finds in few containers: the filter of what crosses a bridge.
    if !gvisor && !roots.proc.join("sys/net/bridge").exists() {
        let _ = module::request("br_netfilter");
    }
    let legacy_rules = has_legacy_rules(roots);
    let nft = (!gvisor && choice != Choice::Legacy).then(|| {
        let trial = || nft(has_room_for_chains(&release));
        let first = trial();
        if first.v4.is_ok() { first } else { after(&["nf_tables", "nft_compat"], trial) }
    });
    let nft_works = nft.is_some_and(|trial| trial.v4.is_ok());
    let older = choice == Choice::Legacy || legacy_rules || (choice == Choice::Any && !nft_works);
    let legacy = (!gvisor && older).then(|| {
        let first = legacy();
        match (&first.v4, &first.v6) {
            (Err(_), _) => after(&["ip_tables", "iptable_nat", "ip6_tables", "ip6table_nat"], legacy),
            // Where there is no IPv6 at all, no module brings its tables.
            (Ok(()), Err(_)) if roots.proc.join("sys/net/ipv6").exists() => {
                after(&["ip6_tables", "ip6table_nat"], legacy)
            }
            (Ok(()), _) => first,
        }
    });
    let find = |name: &str| find_program(OsStr::new(name), Some(path)).filter(|file| roots.resolve(file).exists());
    let programs = Programs {
        iptables: find("iptables"),
        legacy: find("iptables-legacy"),
        folder: roots.resolve(&Path::new(LEGACY_FOLDER).join("iptables")).exists(),
    };
    Firewall { choice, nft, legacy, legacy_rules, gvisor, programs, path: path.to_string_lossy().into_owned() }
}

/// Once more, when the modules have been asked for. What they are for shows in the trial.
fn after(modules: &[&str], trial: impl Fn() -> Trial) -> Trial {
    for name in modules {
        if module::request(name).is_err() {
            break;
        }
    }
    trial()
}

/// Rules beyond the policies that every table has. Its tables are listed only where somebody has used them.
fn has_legacy_rules(roots: &Roots) -> bool {
    let tables = [(Family::V4, "ip_tables_names"), (Family::V6, "ip6_tables_names")];
    tables.iter().any(|(family, list)| {
        let names = read(&roots.own.join("net").join(list)).unwrap_or_default();
        names.lines().any(|table| xtables::entries(*family, table).is_ok_and(|count| count > policies(table)))
    })
}

/// Entries of an empty table: one for each of its chains, and the end.
fn policies(table: &str) -> u32 {
    match table {
        "mangle" => 6,
        "nat" => 5,
        "raw" => 3,
        // filter and security.
        _ => 4,
    }
}

/// Both families at once, as a batch that follows the removal of a table waits 15 ms for the kernel to have buried it; each
/// on its own where one of them fails.
fn nft(dormant: bool) -> Trial {
    if perform(&[Family::V4, Family::V6], dormant).is_ok() {
        return Trial { v4: Ok(()), v6: Ok(()) };
    }
    Trial { v4: perform(&[Family::V4], dormant), v6: perform(&[Family::V6], dormant) }
}

/// Whether the kernel takes another chain of `nat` where there is one, of either filter: since 4.18. Then nothing can refuse
/// to have packets sent through a chain that is otherwise right, and the trial leaves that out: where no other chain is
/// in that place, the kernel rewrites its own code for it on all CPUs, milliseconds on a busy machine.
fn has_room_for_chains(release: &str) -> bool {
    let mut numbers = release.split(|other: char| !other.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    numbers.next().flatten().zip(numbers.next().flatten()).is_some_and(|version| version >= (4, 18))
}

fn perform(families: &[Family], dormant: bool) -> Result<(), Problem> {
    let refused = |refused: Refused| {
        let what = PARTS.get(refused.message % PARTS.len()).copied().unwrap_or("answer that can be understood");
        Problem { what, errno: refused.errno }
    };
    let mut batch = Batch::default();
    for family in families {
        add(&mut batch, family_number(*family), dormant);
    }
    let filters = Filters::open().map_err(|errno| Problem { what: PARTS[0], errno })?;
    // A rule with MASQUERADE is accepted only in a table named nat, which may be somebody's.
    let masquerade = || {
        families
            .iter()
            .try_for_each(|family| filters.compatible_target(family_number(*family), "MASQUERADE", 0))
            .map_err(|errno| Problem { what: "masquerading (nft_compat, xt_MASQUERADE)", errno })
    };
    let tried = filters.commit(batch).map_err(refused).and_then(|()| masquerade());
    filters.leave_open();
    tried
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// What `iptables` makes of dockerd's rules, and its removal: one message for each of [`PARTS`].
fn add(batch: &mut Batch, family: u8, dormant: bool) {
    const TABLE: &str = "dindctl-trial";
    // Revision 1: the destination is an address of this machine (`--dst-type LOCAL`).
    let local = [0_u16, 1 << 2, 0, 0].map(u16::to_ne_bytes).concat();
    if dormant {
        batch.dormant_table(family, TABLE);
    } else {
        batch.table(family, TABLE);
    }
    // NF_INET_POST_ROUTING at the priority of source NAT, NF_INET_FORWARD at that of a filter.
    batch.chain(family, TABLE, &Chain { name: "nat", kind: "nat", hook: 4, priority: 100 });
    batch.rule(family, TABLE, "nat", &[match_of("addrtype", 1, &local)]);
    batch.rule(family, TABLE, "nat", &[expression("masq", &Attributes::default())]);
    batch.chain(family, TABLE, &Chain { name: "forward", kind: "filter", hook: 2, priority: 0 });
    // Revision 3 with nothing to compare.
    batch.rule(family, TABLE, "forward", &[match_of("conntrack", 3, &[0; 168])]);
    batch.remove_table(family, TABLE);
}

/// A match of the older filter, lent to `nf_tables`.
fn match_of(name: &str, revision: u32, data: &[u8]) -> Attributes {
    expression("match", &Attributes::default().name(1, name).number(2, revision).bytes(3, data))
}

fn legacy() -> Trial {
    Trial { v4: ask(Family::V4), v6: ask(Family::V6) }
}

fn ask(family: Family) -> Result<(), Problem> {
    let problem = |what| move |errno| Problem { what, errno };
    for (table, what) in [("filter", "filter table"), ("nat", "nat table")] {
        xtables::entries(family, table).map_err(problem(what))?;
    }
    for (kind, name, revision, what) in [
        (Extension::Match, "addrtype", 1, "address types (xt_addrtype)"),
        (Extension::Match, "conntrack", 3, "connection tracking (xt_conntrack)"),
        (Extension::Target, "MASQUERADE", 0, "masquerading (xt_MASQUERADE)"),
    ] {
        xtables::extension(family, kind, name, revision).map_err(problem(what))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("6.18.44-fc", true)]
    #[case("4.18.0-553.el8_10.x86_64", true)]
    #[case("5.15.167.4-microsoft-standard-WSL2\n", true)]
    #[case("10.0", true)]
    #[case("4.17.19", false)]
    #[case("3.10.0-1160.el7.x86_64", false)]
    #[case("4", false)]
    #[case("", false)]
    #[case("6", false)]
    #[case("next-6.18", false)]
    fn old_kernels_are_tried_in_full(#[case] release: &str, #[case] room: bool) {
        assert_eq!(has_room_for_chains(release), room);
    }
}
