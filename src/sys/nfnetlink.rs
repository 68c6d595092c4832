/*!
Transactions of `nf_tables`, spoken with the kernel directly.

A batch is taken whole or not at all, so rules that have been acknowledged are all there. Layout and numbers are those
of `linux/netlink.h`, `linux/netfilter/nfnetlink.h` and `linux/netfilter/nf_tables.h`.
*/
use std::os::fd::AsRawFd;

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
    /// Adds a message of `nf_tables` (`NFT_MSG_…`) for a family (`NFPROTO_…`).
    pub fn push(&mut self, kind: u16, flags: u16, family: u8, attributes: &Attributes) {
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

    /// Hands the batch to the kernel, for the network namespace of this thread. `Ok` means that every message took effect; with
    /// an error none did. Needs `CAP_NET_ADMIN` in the user namespace that owns the network.
    pub fn commit(mut self) -> Result<(), Errno> {
        let messages = self.messages;
        self.message(BATCH[1], REQUEST, [0, 0], NF_TABLES, &Attributes::default());
        let kernel = NetlinkAddr::new(0, 0);
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        bind(socket.as_raw_fd(), &kernel)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
        sendto(socket.as_raw_fd(), &self.bytes, &kernel, MsgFlags::empty())?;
        let mut answers = vec![0_u8; 64 * 1024];
        let mut acknowledged = 0;
        while acknowledged < messages {
            let count = match recv(socket.as_raw_fd(), &mut answers, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
                other => other?,
            };
            acknowledged += acknowledgements(answers.get(..count).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// Counts the acknowledgements of an answer, up to the first error.
fn acknowledgements(mut answer: &[u8]) -> Result<u32, Errno> {
    let mut count = 0;
    while let Some((header, _)) = answer.split_first_chunk::<HEADER>() {
        let [a, b, c, d, kind, kind2, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let Some(message) = answer.get(..length).filter(|_| length >= HEADER) else {
            return Err(Errno::EBADMSG);
        };
        if u16::from_ne_bytes([kind, kind2]) == ERROR {
            let code = message.get(HEADER..).and_then(|rest| rest.first_chunk()).ok_or(Errno::EBADMSG)?;
            match i32::from_ne_bytes(*code) {
                0 => count += 1,
                code => return Err(Errno::from_raw(code.saturating_neg())),
            }
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(code: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(36_u32.to_ne_bytes());
        bytes.extend(ERROR.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(code.to_ne_bytes());
        bytes.resize(36, 0);
        bytes
    }

    #[test]
    fn the_first_error_counts() {
        assert_eq!(acknowledgements(&[answer(0), answer(0)].concat()), Ok(2));
        assert_eq!(acknowledgements(&[answer(0), answer(-1), answer(-2)].concat()), Err(Errno::EPERM));
        assert_eq!(acknowledgements(&[]), Ok(0));
    }

    #[test]
    fn a_batch_is_framed_as_the_kernel_wants_it() {
        let mut batch = Batch::default();
        batch.push(0, 0x400, 1, &Attributes::default().name(1, "t").nested(2, &Attributes::default().number(1, 7)));
        let message = batch.bytes.get(20..).unwrap();
        assert_eq!(u32::from_ne_bytes(*message.first_chunk().unwrap()) as usize, message.len());
        assert_eq!(message.get(4..6).unwrap(), (0x0a00_u16).to_ne_bytes());
        // A name of two bytes fills up to eight; the nested number has two headers.
        assert_eq!(message.len(), HEADER + 4 + 8 + 12);
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd(bytes: Vec<u8>) {
            let _ = acknowledgements(&bytes);
        }
    }
}
