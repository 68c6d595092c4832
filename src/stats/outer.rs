//! What the whole container uses, from the files of its control group, of version 1, version 2 or both.

use std::path::Path;
use std::time::Duration;

use super::interfaces;
use super::place::{Place, Places};
use super::reading::{Reading, without_cache};
use super::row::Subject;
use super::text;
use crate::probe::{ProbeError, Roots};

/// Reads it, and tells who it is.
pub fn read(roots: &Roots) -> Result<(Subject, Reading), ProbeError> {
    let places = Places::find(roots)?;
    let meminfo = file(&roots.proc, "meminfo").unwrap_or_default();
    let total = text::meminfo(&meminfo, "MemTotal");
    let mut reading = Reading { net: interfaces::traffic(roots), ..Reading::default() };
    cpu(&places, &mut reading);
    memory(&places, &mut reading);
    tasks(&places, &mut reading);
    blocks(&places, &mut reading);
    if places.machine() {
        // The root of the machine counts no memory of its own in version 2, and only that of processes without a group in version 1.
        reading.memory = total.zip(text::meminfo(&meminfo, "MemAvailable")).map(|(all, free)| all.saturating_sub(free));
        reading.pressure = file(&roots.proc, "pressure/memory").as_deref().and_then(text::pressure);
    }
    reading.memory_limit = [reading.memory_limit, total].into_iter().flatten().min();
    let name = file(&roots.proc, "sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let state = if places.machine() { "machine" } else { "running" };
    Ok((Subject { id: None, name, state: state.to_owned() }, reading))
}

fn file(folder: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(folder.join(name)).ok()
}

fn cpu(places: &Places, reading: &mut Reading) {
    if let Some(place) = places.v1("cpuacct") {
        reading.cpu = file(&place.folder, "cpuacct.usage").as_deref().and_then(text::count).map(Duration::from_nanos);
    } else if let Some(place) = &places.unified {
        let used = file(&place.folder, "cpu.stat").and_then(|text| text::key(&text, "usage_usec"));
        reading.cpu = used.map(Duration::from_micros);
    }
    if let Some(place) = places.v1("cpu") {
        let limit = (file(&place.folder, "cpu.cfs_quota_us"), file(&place.folder, "cpu.cfs_period_us"));
        reading.cpu_limit = limit.0.zip(limit.1).and_then(|(quota, period)| text::share(&quota, &period));
    } else if let Some(place) = &places.unified {
        let limits = above(place).filter_map(|folder| file(folder, "cpu.max").as_deref().and_then(text::cpu_max));
        reading.cpu_limit = limits.min_by(f64::total_cmp);
    }
}

fn memory(places: &Places, reading: &mut Reading) {
    if let Some(place) = places.v1("memory") {
        let stat = file(&place.folder, "memory.stat").unwrap_or_default();
        let used = file(&place.folder, "memory.usage_in_bytes").as_deref().and_then(text::count);
        // All groups below are in the totals and in the usage, and all limits above in the hierarchical one.
        reading.memory = used.map(|used| without_cache(used, text::key(&stat, "total_inactive_file")));
        let own = file(&place.folder, "memory.limit_in_bytes").as_deref().and_then(text::limit);
        let all = stat.lines().find_map(|line| line.strip_prefix("hierarchical_memory_limit ")).and_then(text::limit);
        reading.memory_limit = [own, all].into_iter().flatten().min();
    } else if let Some(place) = &places.unified {
        let stat = file(&place.folder, "memory.stat").unwrap_or_default();
        let used = file(&place.folder, "memory.current").as_deref().and_then(text::count);
        reading.memory = used.map(|used| without_cache(used, text::key(&stat, "inactive_file")));
        reading.memory_limit =
            above(place).filter_map(|folder| file(folder, "memory.max").as_deref().and_then(text::limit)).min();
        reading.pressure = file(&place.folder, "memory.pressure").as_deref().and_then(text::pressure);
    }
}

fn tasks(places: &Places, reading: &mut Reading) {
    if let Some(place) = places.v1("pids").or(places.unified.as_ref()) {
        reading.pids = file(&place.folder, "pids.current").as_deref().and_then(text::count);
        reading.pids_limit = file(&place.folder, "pids.max").as_deref().and_then(text::limit);
    }
}

fn blocks(places: &Places, reading: &mut Reading) {
    if let Some(place) = places.v1("blkio") {
        // The first is there with every scheduler but only below a limit in some kernels, the others are of one scheduler each.
        let names =
            ["throttle.io_service_bytes_recursive", "bfq.io_service_bytes_recursive", "io_service_bytes_recursive"];
        let mut found = names.iter().filter_map(|name| file(&place.folder, &format!("blkio.{name}")));
        reading.block = found.next().map(|text| text::blkio(&text));
    } else if let Some(place) = &places.unified {
        reading.block = file(&place.folder, "io.stat").map(|text| text::io_stat(&text));
    }
}

/// The group and all above it that can be seen: the narrowest limit of them holds.
fn above(place: &Place) -> impl Iterator<Item = &Path> {
    place.folder.ancestors().take_while(|folder| folder.starts_with(&place.top))
}
