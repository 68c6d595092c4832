//! The readers of `/proc/PID/mountinfo`, `/proc/PID/cgroup` and `/proc/cgroups`: mount points, options and group names
//! are chosen by whoever made them.
#![no_main]

use std::path::Path;

use dindctl::probe::{cgroup_path, controllers, mountinfo};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("input");
    if let Ok(mounts) = mountinfo::parse(bytes, path) {
        for mount in &mounts {
            assert!(mountinfo::at(&mounts, &mount.point).is_some());
            assert!(mountinfo::holding(&mounts, &mount.point).is_some());
        }
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(lines) = cgroup_path::parse(&text, path) {
        assert!(lines.iter().all(|line| line.path.is_absolute()));
    }
    if let Ok(controllers) = controllers::parse(&text, path) {
        assert!(controllers.iter().all(|known| !known.name.is_empty()));
    }
});
