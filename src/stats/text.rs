/*!
The files of control groups and procfs that tell what is used. All of them are pure functions of the text; what is not in it is `None`.

Sources: `Documentation/admin-guide/cgroup-v2.rst`, `Documentation/admin-guide/cgroup-v1/`, `Documentation/accounting/psi.rst` of
the kernel.
*/
use super::number;
use super::reading::{Flow, Pressure};

/// From here on a limit of version 1 is none: its largest is that of the kernel's page counter, in whole pages of up to 64 KiB.
const NO_LIMIT: u64 = (i64::MAX as u64) & !0xffff;

/// A file of one number: `memory.current`, `pids.current`, `cpuacct.usage`.
pub fn count(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A file of one limit: `memory.max`, `pids.max`, `memory.limit_in_bytes`. `None` for none.
pub fn limit(text: &str) -> Option<u64> {
    count(text).filter(|limit| *limit < NO_LIMIT)
}

/// The number behind a word: `cpu.stat`, `memory.stat`.
pub fn key(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(known, _)| *known == name).and_then(|(_, value)| count(value))
}

/// `cpu.max`: CPU time in each period, both microseconds. In CPUs; `None` for no limit.
pub fn cpu_max(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    share(words.next()?, words.next()?)
}

/// `cpu.cfs_quota_us` (-1: no limit) and `cpu.cfs_period_us` of version 1. In CPUs.
pub fn share(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (count(quota)?, count(period)?);
    (period > 0).then(|| number(quota) / number(period))
}

/// `io.stat`: a line `MAJOR:MINOR rbytes=1 wbytes=2 …` for each device.
pub fn io_stat(text: &str) -> Flow {
    let of = |name: &str| {
        let words = text.lines().flat_map(str::split_whitespace);
        let values = words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('=').and_then(count));
        values.fold(0_u64, u64::saturating_add)
    };
    Flow { incoming: of("rbytes"), outgoing: of("wbytes") }
}

/// `blkio.*.io_service_bytes_recursive` of version 1: lines `MAJOR:MINOR Read 1` for each device.
pub fn blkio(text: &str) -> Flow {
    let of = |kind: &str| {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let values = lines.filter_map(|words| match words.as_slice() {
            [_, operation, bytes] if *operation == kind => count(bytes),
            _ => None,
        });
        values.fold(0_u64, u64::saturating_add)
    };
    Flow { incoming: of("Read"), outgoing: of("Write") }
}

/// `memory.pressure`: `some avg10=0.00 avg60=… total=…` and the same for `full`.
pub fn pressure(text: &str) -> Option<Pressure> {
    let of = |kind: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let value: f64 = line.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()?;
        (0.0..=100.0).contains(&value).then_some(value / 100.0)
    };
    Some(Pressure { some: of("some")?, full: of("full") })
}

/// A line of `/proc/meminfo`, bytes.
pub fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB").and_then(count)?.checked_mul(1024)
}

/// `/proc/net/dev`: what each interface has received and sent, bytes.
pub fn interfaces(text: &str) -> Vec<(&str, Flow)> {
    text.lines().filter_map(interface).collect()
}

fn interface(line: &str) -> Option<(&str, Flow)> {
    let (name, numbers) = line.rsplit_once(':')?;
    let mut numbers = numbers.split_whitespace();
    // Eight numbers of what was received, the first of them bytes, then the same of what was sent.
    let incoming = numbers.next().and_then(count)?;
    let outgoing = numbers.nth(7).and_then(count)?;
    Some((name.trim(), Flow { incoming, outgoing }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_limit_may_be_none() {
        assert_eq!(limit("67108864\n"), Some(64 << 20));
        for none in ["max\n", "9223372036854771712\n", "9223372036854710272", "18446744073709551615", "", "-1"] {
            assert_eq!(limit(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_word_is_found_whole() {
        let text = "inactive_file 1\ntotal_inactive_file 4096\ntotal_inactive_file_x 9\n";
        assert_eq!((key(text, "total_inactive_file"), key(text, "inactive_file")), (Some(4096), Some(1)));
        assert_eq!(key(text, "file"), None);
    }

    #[test]
    fn cpu_limits_are_cpus() {
        assert_eq!(cpu_max("50000 100000\n"), Some(0.5));
        assert_eq!(cpu_max("max 100000\n"), None);
        assert_eq!(share("150000\n", "100000\n"), Some(1.5));
        assert_eq!(share("-1\n", "100000\n"), None);
        assert_eq!(share("1", "0"), None);
    }

    #[test]
    fn disks_are_summed_up() {
        let two = "254:0 rbytes=1 wbytes=100 rios=1 wios=3 dbytes=7\n8:0 rbytes=2 wbytes=11\n";
        assert_eq!(io_stat(two), Flow { incoming: 3, outgoing: 111 });
        let one = "254:0 Read 1\n254:0 Write 100\n254:0 Sync 5\n254:0 Total 101\n8:0 Read 2\nTotal 103\n";
        assert_eq!(blkio(one), Flow { incoming: 3, outgoing: 100 });
        assert_eq!((io_stat(""), blkio("Total 0\n")), (Flow::default(), Flow::default()));
    }

    #[test]
    fn pressure_is_a_fraction() {
        let text = "some avg10=12.50 avg60=1.00 avg300=0.10 total=9\nfull avg10=3.00 avg60=0.00 avg300=0.00 total=5\n";
        assert_eq!(pressure(text), Some(Pressure { some: 0.125, full: Some(0.03) }));
        assert_eq!(pressure("some avg10=0.00 total=1\n"), Some(Pressure { some: 0.0, full: None }));
        assert_eq!((pressure(""), pressure("some avg10=nan"), pressure("some avg60=1")), (None, None, None));
    }

    #[test]
    fn interfaces_have_a_heading_and_aliases() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n    \
                    lo:     10       1    0    0    0     0          0         0       20       1    0\n  \
                    eth0:0:123 1 0 0 0 0 0 0 456 1 0 0 0 0 0 0\n";
        let want = [("lo", Flow { incoming: 10, outgoing: 20 }), ("eth0:0", Flow { incoming: 123, outgoing: 456 })];
        assert_eq!(interfaces(text), want);
    }

    #[test]
    fn the_memory_of_the_machine_is_in_kibibytes() {
        let text = "MemTotal:       2048 kB\nMemAvailable:   1024 kB\nHugePages_Total:       3\n";
        assert_eq!((meminfo(text, "MemTotal"), meminfo(text, "MemAvailable")), (Some(2 << 20), Some(1 << 20)));
        assert_eq!((meminfo(text, "HugePages_Total"), meminfo(text, "Mem")), (None, None));
    }

    proptest! {
        #[test]
        fn what_the_kernel_prints_is_read_back(values in prop::collection::vec((any::<u32>(), any::<u32>()), 0..8)) {
            let line = |(number, (read, written)): (usize, &(u32, u32))| format!("8:{number} rbytes={read} wbytes={written} rios=1\n");
            let two: String = values.iter().enumerate().map(line).collect();
            let line = |(number, (read, written)): (usize, &(u32, u32))| format!("8:{number} Read {read}\n8:{number} Write {written}\n");
            let one: String = values.iter().enumerate().map(line).collect();
            let line = |(number, (read, sent)): (usize, &(u32, u32))| format!("  eth{number}: {read} 1 2 3 4 5 6 7 {sent} 1 2 3 4 5 6 7\n");
            let net: String = values.iter().enumerate().map(line).collect();
            let sum = |of: fn(&(u32, u32)) -> u32| values.iter().map(|pair| u64::from(of(pair))).sum::<u64>();
            let want = Flow { incoming: sum(|pair| pair.0), outgoing: sum(|pair| pair.1) };
            prop_assert_eq!(io_stat(&two), want);
            prop_assert_eq!(blkio(&one), want);
            let all = interfaces(&net);
            prop_assert_eq!(all.len(), values.len());
            prop_assert_eq!(all.iter().fold(Flow::default(), |sum, (_, flow)| sum.plus(*flow)), want);
        }

        #[test]
        fn keys_and_limits_are_read_back(word in "[a-z_]{1,12}", value in 0..NO_LIMIT) {
            prop_assert_eq!(key(&format!("other 1\n{word} {value}\n"), &word).is_some(), true);
            prop_assert_eq!(limit(&format!("{value}\n")), Some(value));
        }

        #[test]
        fn nothing_is_too_odd_to_be_read(text: String, word: String) {
            count(&text);
            limit(&text);
            key(&text, &word);
            cpu_max(&text);
            io_stat(&text);
            blkio(&text);
            meminfo(&text, &word);
            interfaces(&text);
            if let Some(found) = pressure(&text) {
                prop_assert!((0.0..=1.0).contains(&found.some));
            }
        }
    }
}
