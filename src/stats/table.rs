//! A sample for people.

use bytesize::ByteSize;

use super::reading::Pressure;
use super::row::Row;
use super::sampler::Sample;

const HEAD: [&str; 10] = ["name", "cpu %", "memory", "limit", "%", "net rx", "net tx", "read", "written", "pids"];

/// The table, line by line, and what is to be said below it.
pub fn lines(sample: &Sample) -> Vec<String> {
    let outer = sample.outer.iter().map(|row| cells(row, &outer_name(row)));
    let nested = sample.containers.iter().map(|row| {
        let name = if row.state == "running" { row.name.clone() } else { format!("{} ({})", row.name, row.state) };
        cells(row, &name)
    });
    let rows: Vec<[String; 10]> = std::iter::once(HEAD.map(str::to_owned)).chain(outer).chain(nested).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |row: &[String; 10]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            // Names begin, numbers end where the others of their column do.
            if column == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).chain(notes(sample)).collect()
}

fn outer_name(row: &Row) -> String {
    let what = if row.state == "machine" { "this machine" } else { "this container" };
    if row.name.is_empty() { format!("({what})") } else { format!("({what}: {})", row.name) }
}

fn cells(row: &Row, name: &str) -> [String; 10] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let bytes = |count: Option<u64>| or_dash(count.map(|count| ByteSize(count).display().iec().to_string()));
    let percent = |share: Option<f64>| or_dash(share.map(|share| format!("{:.1}", share * 100.0)));
    let pids = row.pids.map(|pids| match row.pids_limit {
        Some(limit) => format!("{pids}/{limit}"),
        None => pids.to_string(),
    });
    [
        // Of a daemon that is not ours, perhaps.
        name.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect(),
        percent(row.cpu),
        bytes(row.memory_bytes),
        bytes(row.memory_limit_bytes),
        percent(row.memory),
        bytes(row.net_rx_bytes),
        bytes(row.net_tx_bytes),
        bytes(row.block_read_bytes),
        bytes(row.block_written_bytes),
        or_dash(pids),
    ]
}

fn notes(sample: &Sample) -> Vec<String> {
    let pressure = sample.outer.as_ref().and_then(|row| row.memory_pressure).map(|Pressure { some, full }| {
        let full = full.map(|full| format!(", all tasks {:.1} %", full * 100.0)).unwrap_or_default();
        format!("waiting for memory in the last 10 s: some task {:.1} %{full}", some * 100.0)
    });
    let absent = sample.outer_absent.as_ref().map(|why| format!("no line for this container: {why}"));
    let daemon = sample.daemon.problem.as_ref().map(|problem| format!("no nested containers: {problem}"));
    let missing = (!sample.missing.is_empty()).then(|| format!("no such container: {}", sample.missing.join(", ")));
    [pressure, absent, daemon, missing].into_iter().flatten().collect()
}

/// What fits into so many columns and lines; what does not is counted.
pub fn fit(lines: Vec<String>, columns: usize, rows: usize) -> Vec<String> {
    let cut = |line: String| line.chars().take(columns).collect::<String>();
    let all = lines.len();
    let mut shown: Vec<String> = lines.into_iter().map(cut).collect();
    if all > rows && rows > 0 {
        shown.truncate(rows - 1);
        shown.push(cut(format!("… and {} lines more", all - (rows - 1))));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sampler::DaemonState;

    fn sample() -> Sample {
        let outer = Row {
            name: "4ed5".into(),
            state: "running".into(),
            cpu: Some(0.7512),
            memory_bytes: Some(300 << 20),
            memory_limit_bytes: Some(2 << 30),
            memory: Some(0.146),
            memory_pressure: Some(Pressure { some: 0.125, full: Some(0.0) }),
            pids: Some(70),
            pids_limit: Some(4096),
            ..Row::default()
        };
        let nested = Row {
            id: Some("i".into()),
            name: "web".into(),
            state: "running".into(),
            cpu: Some(0.5),
            memory_bytes: Some(32 << 20),
            net_rx_bytes: Some(1024),
            pids: Some(1),
            ..Row::default()
        };
        let stopped = Row { name: "job\u{1b}[31m".into(), state: "exited".into(), ..Row::default() };
        Sample { outer: Some(outer), containers: vec![nested, stopped], ..Sample::default() }
    }

    #[test]
    fn people_read_a_table() {
        let want = "\
name                    cpu %     memory    limit     %   net rx  net tx  read  written     pids
(this container: 4ed5)   75.1  300.0 MiB  2.0 GiB  14.6        -       -     -        -  70/4096
web                      50.0   32.0 MiB        -     -  1.0 KiB       -     -        -        1
job?[31m (exited)           -          -        -     -        -       -     -        -        -
waiting for memory in the last 10 s: some task 12.5 %, all tasks 0.0 %";
        assert_eq!(lines(&sample()).join("\n"), want);
    }

    #[test]
    fn what_is_missing_is_said() {
        let daemon = DaemonState { problem: Some("no daemon".into()), ..DaemonState::default() };
        let sample =
            Sample { daemon, missing: vec!["x".into()], outer_absent: Some("far".into()), ..Sample::default() };
        let lines = lines(&sample);
        assert_eq!(
            lines[1..],
            ["no line for this container: far", "no nested containers: no daemon", "no such container: x"]
        );
    }

    #[test]
    fn a_small_window_shows_what_fits() {
        let all: Vec<String> = (0..5).map(|number| format!("line {number}")).collect();
        assert_eq!(fit(all.clone(), 4, 5), vec!["line"; 5]);
        assert_eq!(fit(all.clone(), 80, 3), ["line 0", "line 1", "… and 3 lines more"]);
        assert_eq!(fit(all, 80, 0).len(), 5);
    }
}
