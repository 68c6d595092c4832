/*!
Transactions of `nf_tables`, spoken with the kernel directly.

A batch is taken whole or not at all, so rules that have been acknowledged are all there. Layout and numbers are those
of `linux/netlink.h`, `linux/netfilter/nfnetlink.h` and `linux/netfilter/nf_tables.h`.
*/
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// Length of a message's header.
const HEADER: usize = 16;
/// `NLMSG_ERROR`: an acknowledgement, or what was wrong.
const ERROR: u16 = 2;
/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
const BATCH: [u16; 2] = [0x10, 0x11];
/// `NFNL_SUBSYS_NFTABLES`, in whose name a batch is.
const NF_TABLES: u16 = 10;
/// `NLM_F_REQUEST`, `NLM_F_ACK`.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// The kernel answers at once; without an answer something else is wrong with it.
const PATIENCE_SECONDS: i64 = 5;

/// Room for what the kernel says at once, bytes: no answer of a page is longer (`NLMSG_GOODSIZE`), and one that quotes a message
/// that it refuses has no more than that to quote.
const ANSWERS: usize = 16 * 1024;

/// Attributes of a message.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds bytes as they are.
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        // No value here comes near 64 KiB.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a name.
    #[must_use]
    pub fn name(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds a number, in network order as all of `nf_tables`.
    #[must_use]
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds attributes of their own.
    #[must_use]
    pub fn nested(self, kind: u16, value: &Self) -> Self {
        self.bytes(kind | NESTED, &value.0)
    }
}

/// One expression of a rule.
pub fn expression(name: &str, data: &Attributes) -> Attributes {
    Attributes::default().name(1, name).nested(2, data)
}

/// A chain that packets come through.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// Its name.
    pub name: &'a str,
    /// `filter` or `nat`.
    pub kind: &'a str,
    /// Where: `NF_INET_…`.
    pub hook: u32,
    /// Its place among the chains there.
    pub priority: u32,
}

/// Messages that take effect together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    messages: u32,
}

impl Default for Batch {
    fn default() -> Self {
        let mut batch = Self { bytes: Vec::new(), messages: 0 };
        batch.message(BATCH[0], REQUEST, [0, 0], NF_TABLES, &Attributes::default());
        batch
    }
}

impl Batch {
    /// Adds a new table; one of that name is an error.
    pub fn table(&mut self, family: u8, name: &str) {
        self.new_table(family, name, 0);
    }

    /// Adds a new table to whose chains no packets come.
    pub fn dormant_table(&mut self, family: u8, name: &str) {
        // NFT_TABLE_F_DORMANT.
        self.new_table(family, name, 1);
    }

    fn new_table(&mut self, family: u8, name: &str, flags: u32) {
        // NFT_MSG_NEWTABLE with NLM_F_CREATE and NLM_F_EXCL.
        self.push(0, 0x600, family, &Attributes::default().name(1, name).number(2, flags));
    }

    /// Removes a table with all that is in it.
    pub fn remove_table(&mut self, family: u8, name: &str) {
        // NFT_MSG_DELTABLE.
        self.push(2, 0, family, &Attributes::default().name(1, name));
    }

    /// Adds a chain that accepts what no rule of it decides.
    pub fn chain(&mut self, family: u8, table: &str, chain: &Chain<'_>) {
        let hook = Attributes::default().number(1, chain.hook).number(2, chain.priority);
        let named = Attributes::default().name(1, table).name(3, chain.name);
        // NFT_MSG_NEWCHAIN with NLM_F_CREATE.
        self.push(3, 0x400, family, &named.nested(4, &hook).number(5, 1).name(7, chain.kind));
    }

    /// Adds a rule behind those that are there.
    pub fn rule(&mut self, family: u8, table: &str, chain: &str, expressions: &[Attributes]) {
        let list = expressions.iter().fold(Attributes::default(), |list, expression| list.nested(1, expression));
        let rule = Attributes::default().name(1, table).name(2, chain).nested(4, &list);
        // NFT_MSG_NEWRULE with NLM_F_CREATE and NLM_F_APPEND.
        self.push(6, 0xc00, family, &rule);
    }

    /// Adds a message of `nf_tables` (`NFT_MSG_…`) for a family (`NFPROTO_…`).
    fn push(&mut self, kind: u16, flags: u16, family: u8, attributes: &Attributes) {
        self.messages += 1;
        self.message(NF_TABLES << 8 | kind, REQUEST | ACK | flags, [family, 0], 0, attributes);
    }

    fn message(&mut self, kind: u16, flags: u16, family_and_version: [u8; 2], resource: u16, attributes: &Attributes) {
        let length = u32::try_from(HEADER + 4 + attributes.0.len()).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.messages.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(family_and_version);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(&attributes.0);
    }
}

/// A socket to the packet filters of the network namespace it was opened in.
#[derive(Debug)]
pub struct Filters(OwnedFd);

impl Filters {
    /// Opens one for the network namespace of this thread.
    pub fn open() -> Result<Self, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
        Ok(Self(socket))
    }

    /// Hands the batch to the kernel. `Ok` means that every message took effect; with an error none did. Needs
    /// `CAP_NET_ADMIN` in the user namespace that owns the network.
    pub fn commit(&self, mut batch: Batch) -> Result<(), Refused> {
        let messages = batch.messages as usize;
        batch.message(BATCH[1], REQUEST, [0, 0], NF_TABLES, &Attributes::default());
        let answers = self.exchange(&batch.bytes, messages).map_err(|errno| Refused { message: 0, errno })?;
        match answers.into_iter().filter(|answer| answer.code != 0).min_by_key(|answer| answer.message) {
            None => Ok(()),
            Some(Answer { message, code }) => {
                Err(Refused { message: message.saturating_sub(1) as usize, errno: Errno::from_raw(code) })
            }
        }
    }

    /// Whether rules of `nf_tables` can be made with a target of the older filter, of that revision.
    pub fn compatible_target(&self, family: u8, name: &str, revision: u32) -> Result<(), Errno> {
        let mut question = Batch { bytes: Vec::new(), messages: 1 };
        // NFNL_SUBSYS_NFT_COMPAT, NFNL_MSG_COMPAT_GET: name, revision, 1 for a target.
        let attributes = Attributes::default().name(1, name).number(2, revision).number(3, 1);
        question.message(11 << 8, REQUEST | ACK, [family, 0], 0, &attributes);
        match self.exchange(&question.bytes, 1)?.first() {
            Some(Answer { code: 0, .. }) => Ok(()),
            Some(Answer { code, .. }) => Err(Errno::from_raw(*code)),
            None => Err(Errno::EBADMSG),
        }
    }

    /// Leaves the socket to the end of the process. To close one waits until the kernel has buried every table that was
    /// removed, whoever removed it: some 20 ms (`nft_rcv_nl_event` in `net/netfilter/nf_tables_api.c`).
    pub fn leave_open(self) {
        let _ = self.0.into_raw_fd();
    }

    /// Sends messages, and collects an answer to each, or the one to the whole.
    fn exchange(&self, bytes: &[u8], messages: usize) -> Result<Vec<Answer>, Errno> {
        sendto(self.0.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut buffer = [0_u8; ANSWERS];
        let mut all: Vec<Answer> = Vec::new();
        while all.len() < messages && all.iter().all(|answer| answer.message > 0) {
            let count = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
                other => other?,
            };
            all.extend(answers(buffer.get(..count).unwrap_or_default())?);
        }
        Ok(all)
    }
}

/// A batch that was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The first message, from 0, that could not be done; 0 as well when it is the batch as a whole.
    pub message: usize,
    /// Why.
    pub errno: Errno,
}

/// What the kernel says to one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    /// Its number, from 1; 0 is the batch as a whole.
    message: u32,
    /// 0, or errno.
    code: i32,
}

/// Reads what has come in one piece.
fn answers(mut piece: &[u8]) -> Result<Vec<Answer>, Errno> {
    let mut all = Vec::new();
    while let Some(length) = word(piece, 0) {
        let length = length as usize;
        let Some(message) = piece.get(..length).filter(|_| length >= HEADER) else {
            return Err(Errno::EBADMSG);
        };
        let kind =
            message.get(4..6).and_then(|field| field.first_chunk()).map_or(0, |field| u16::from_ne_bytes(*field));
        if kind == ERROR {
            let (number, code) = word(message, 8).zip(word(message, HEADER)).ok_or(Errno::EBADMSG)?;
            all.push(Answer { message: number, code: code.cast_signed().saturating_neg() });
        }
        piece = piece.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(all)
}

/// The four bytes at `offset`, in the order of this machine.
fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|field| u32::from_ne_bytes(*field))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(message: u32, code: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(36_u32.to_ne_bytes());
        bytes.extend(ERROR.to_ne_bytes());
        bytes.resize(8, 0);
        bytes.extend(message.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(code.to_ne_bytes());
        bytes.resize(36, 0);
        bytes
    }

    #[test]
    fn answers_are_told_apart() {
        let read = answers(&[answer(1, 0), answer(2, -libc::EPERM)].concat()).unwrap();
        assert_eq!(read, [Answer { message: 1, code: 0 }, Answer { message: 2, code: libc::EPERM }]);
        assert_eq!(answers(&[]), Ok(Vec::new()));
        assert_eq!(answers(&answer(1, 0)[..30]), Err(Errno::EBADMSG));
    }

    #[test]
    fn a_batch_is_framed_as_the_kernel_wants_it() {
        let mut batch = Batch::default();
        batch.push(0, 0x400, 1, &expression("t", &Attributes::default().number(1, 7)));
        let message = batch.bytes.get(20..).unwrap();
        assert_eq!(u32::from_ne_bytes(*message.first_chunk().unwrap()) as usize, message.len());
        assert_eq!(message.get(4..6).unwrap(), (0x0a00_u16).to_ne_bytes());
        // A name of two bytes fills up to eight; the nested number has two headers.
        assert_eq!(message.len(), HEADER + 4 + 8 + 12);
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd(bytes: Vec<u8>) {
            let _ = answers(&bytes);
        }
    }
}
