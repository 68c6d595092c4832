/*!
The filter of `--network egress`, put into the sandbox's own network namespace before anything of the job runs.

Packets are filtered where they are sent, by `nf_tables`. Routes and routing rules would not do: a socket that is bound
to an interface (`SO_BINDTODEVICE`, which needs no privilege since Linux 5.7) takes every address that has no route for
a neighbour on the link, and the gateway answers for all its own. The program cannot take the filter away: that needs `CAP_NET_ADMIN` in
the user namespace that owns this network, which it can never get, and raw sockets, which pass the filter by, need
`CAP_NET_RAW`.
*/
use caps::{CapSet, Capability};
use ipnet::IpNet;
use nix::errno::Errno;

use super::refusal::Refusal;
use crate::exec::egress::{Policy, Verdict};
use crate::sys::nfnetlink::{Attributes, Batch, Chain, Filters, expression};
use crate::sys::spawn::Identity;

/// Name of the table, and of its one chain.
const TABLE: &str = "dindctl";
const CHAIN: &str = "egress";

/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `NFT_REG_1`.
const REGISTER: u32 = 1;

/// Closes what the policy closes, or refuses the job. Afterwards the agent has lost the power to open it again.
pub(super) fn close(policy: &Policy, identity: &Identity) -> Result<(), Refusal> {
    let filters = Filters::open().map_err(refusal)?;
    filters.commit(batch(policy, identity.uid)).map_err(|refused| refusal(refused.errno))?;
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::drop(None, set, Capability::CAP_NET_ADMIN)
            .map_err(|error| Refusal::internal("egress", format!("cannot drop CAP_NET_ADMIN: {error}")))?;
    }
    Ok(())
}

fn refusal(errno: Errno) -> Refusal {
    let message = format!("the network cannot be filtered, so the program was not started: {}", errno.desc());
    let hint = match errno {
        Errno::EPERM => {
            "the daemon did not give the sandbox CAP_NET_ADMIN: check its authorisation plugins and runtime"
        }
        _ => "the daemon's kernel needs nf_tables with nft_reject_inet; --network none and networks of your own work",
    };
    Refusal::rejected("egress_unavailable", message, Some(hint))
}

/// The whole filter; `uid` is the program's.
fn batch(policy: &Policy, uid: u32) -> Batch {
    let mut batch = Batch::default();
    batch.table(INET, TABLE);
    // NF_INET_LOCAL_OUT.
    batch.chain(INET, TABLE, &Chain { name: CHAIN, kind: "filter", hook: 3, priority: 0 });
    let mut rule = |expressions: &[Attributes]| batch.rule(INET, TABLE, CHAIN, expressions);
    // The sandbox itself, and with it the daemon's DNS server at 127.0.0.11.
    let mut loopback = [0_u8; 16];
    loopback.iter_mut().zip(b"lo").for_each(|(place, byte)| *place = *byte);
    rule(&[meta(Meta::OutputName), compare(&loopback), verdict(Verdict::Open)]);
    if uid != 0 {
        // That server asks its own servers from sockets in this namespace, which belong to root.
        for protocol in [libc::IPPROTO_UDP, libc::IPPROTO_TCP] {
            rule(&[
                meta(Meta::SocketUid),
                compare(&0_u32.to_ne_bytes()),
                meta(Meta::Protocol),
                compare(&[u8::try_from(protocol).unwrap_or_default()]),
                // The destination port.
                payload(Base::Transport, 2, 2),
                compare(&53_u16.to_be_bytes()),
                verdict(Verdict::Open),
            ]);
        }
    }
    // IPv6 finds its neighbours by messages 133 to 136, which only the kernel can send: programs have no raw sockets.
    for kind in 133..=136 {
        rule(&[
            meta(Meta::Protocol),
            compare(&[u8::try_from(libc::IPPROTO_ICMPV6).unwrap_or_default()]),
            payload(Base::Transport, 0, 1),
            compare(&[kind]),
            verdict(Verdict::Open),
        ]);
    }
    for (net, decision) in policy.decisions() {
        let [family, load, cut, equal] = destination(net);
        rule(&[meta(Meta::Family), family, load, cut, equal, verdict(decision)]);
    }
    batch
}

/// What [`meta`] can load: `NFT_META_…`.
#[derive(Clone, Copy)]
enum Meta {
    OutputName = 7,
    SocketUid = 10,
    Family = 15,
    Protocol = 16,
}

/// Where [`payload`] starts to count: `NFT_PAYLOAD_…`.
#[derive(Clone, Copy)]
enum Base {
    Network = 1,
    Transport = 2,
}

fn meta(key: Meta) -> Attributes {
    expression("meta", &Attributes::default().number(1, REGISTER).number(2, key as u32))
}

fn payload(base: Base, offset: u32, length: u32) -> Attributes {
    let place = Attributes::default().number(1, REGISTER).number(2, base as u32);
    expression("payload", &place.number(3, offset).number(4, length))
}

/// Goes on only when the register equals `value`.
fn compare(value: &[u8]) -> Attributes {
    let value = Attributes::default().bytes(1, value);
    // NFT_CMP_EQ is 0.
    expression("cmp", &Attributes::default().number(1, REGISTER).number(2, 0).nested(3, &value))
}

/// Family, load, mask and comparison of a packet's destination with a network.
fn destination(net: IpNet) -> [Attributes; 4] {
    let (family, offset, network, mask) = match net {
        IpNet::V4(net) => (IPV4, 16, net.network().octets().to_vec(), net.netmask().octets().to_vec()),
        IpNet::V6(net) => (IPV6, 24, net.network().octets().to_vec(), net.netmask().octets().to_vec()),
    };
    let length = if mask.len() == 4 { 4 } else { 16 };
    let nothing = Attributes::default().bytes(1, &vec![0; mask.len()]);
    let mask = Attributes::default().bytes(1, &mask);
    let cut = Attributes::default().number(1, REGISTER).number(2, REGISTER).number(3, length);
    [
        compare(&[family]),
        payload(Base::Network, offset, length),
        expression("bitwise", &cut.nested(4, &mask).nested(5, &nothing)),
        compare(&network),
    ]
}

fn verdict(verdict: Verdict) -> Attributes {
    match verdict {
        Verdict::Open => {
            // NFTA_DATA_VERDICT with NF_ACCEPT into the register of verdicts.
            let accept = Attributes::default().nested(2, &Attributes::default().number(1, 1));
            expression("immediate", &Attributes::default().number(1, 0).nested(2, &accept))
        }
        // NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_ADMIN_PROHIBITED: the program learns it at once.
        Verdict::Closed => expression("reject", &Attributes::default().number(1, 2).bytes(2, &[3])),
    }
}
