//! The reader of archives against any bytes: as an archive, as the stream in a sealed one, and as the blocks of one entry. It
//! must neither panic nor read more than it is allowed to, and what it takes for an entry must be written as it was read.
#![no_main]

use std::io::Write;

use dindctl::archive::pax;
use dindctl::archive::read::{Limit, Nowhere, read};
use dindctl::archive::seal::Sealing;
use dindctl::archive::stop::Stop;
use libfuzzer_sys::fuzz_target;

const MOST: u64 = 1 << 20;

fn judge(archive: &[u8]) {
    let limit = Limit { stream: Some(MOST), disk: Some((MOST, "here".to_owned())) };
    if let Ok(verified) = read(archive, "input", &limit, &mut Nowhere, &Stop::default()) {
        assert_eq!(verified.bytes, archive.len() as u64);
        assert!(verified.summary.stream_bytes <= MOST && verified.need.bytes <= MOST);
    }
}

fuzz_target!(|bytes: &[u8]| {
    judge(bytes);
    let mut sealing = Sealing::new(Vec::new());
    let compressed = zstd::encode_all(bytes, 1).expect("memory");
    sealing.write_all(&compressed).expect("memory");
    judge(&sealing.finish(bytes.len() as u64).expect("memory").0);
    if let Ok(item) = pax::decode(bytes) {
        assert_eq!(pax::encode(&item).as_deref(), Ok(bytes));
    }
});
