//! The readers of what is used: files of control groups and procfs, and the daemon's account of its disk.
#![no_main]

use dindctl::clean::inventory::Usage;
use dindctl::stats::text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let content = String::from_utf8_lossy(bytes);
    let _ = text::limit(&content);
    let _ = text::key(&content, "inactive_file");
    let _ = text::cpu_max(&content);
    let _ = text::io_stat(&content);
    let _ = text::blkio(&content);
    let _ = text::meminfo(&content, "MemTotal");
    if let Some(pressure) = text::pressure(&content) {
        assert!((0.0..=1.0).contains(&pressure.some));
    }
    for (name, _) in text::interfaces(&content) {
        assert_eq!(name, name.trim());
    }
    if let Ok(usage) = Usage::parse(bytes) {
        let inventory = usage.inventory();
        assert!(inventory.images.iter().flat_map(|image| &image.tags).all(|tag| !tag.contains("<none>")));
    }
});
