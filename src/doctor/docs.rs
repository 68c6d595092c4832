/*!
Where each step and check is explained.
*/

/// The file with one section for each, at the place that the package names.
const FILE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/checks.md");

/// The sections, in their order in the file: everything that steps and checks are named after, without what follows a colon
/// (a path), and one name for what belongs together.
pub const SECTIONS: [&str; 52] = [
    "host",
    "host.machine",
    "daemon",
    "privilege",
    "env.container",
    "proc.sys",
    "limit.open_files",
    "limit.keys",
    "tls",
    "firewall",
    "firewall.ip6",
    "firewall.gvisor",
    "network.mtu",
    "network.bridge",
    "network.dns",
    "run-dir",
    "data-root",
    "data-root.overlay",
    "data-root.driver",
    "data-root.lock",
    "containerd-root",
    "pidfiles",
    "cgroup",
    "cgroup.namespace",
    "cgroup.v1",
    "cgroup.v1.parent",
    "cgroup.v2",
    "cgroup.v2.writable",
    "cgroup.v2.group",
    "cgroup.v2.threaded",
    "cgroup.v2.evacuate",
    "cgroup.v2.delegate",
    "cgroup.v2.absent",
    "cgroup.v2.parent",
    "securityfs",
    "tmp",
    "propagation",
    "rootless.kit",
    "rootless.namespaces",
    "rootless.ids",
    "rootless.runtime-dir",
    "rootless.data",
    "rootless.network",
    "rootless.cgroup",
    "kernel.config",
    "sysctl.ip_forward",
    "sysctl.bridge",
    "sysctl.keys",
    "sysctl.namespaces",
    "sysctl.inotify",
    "apparmor",
    "devices",
];

/// Sections of the programs, which are named after them.
pub const PROGRAMS: [&str; 3] = ["engine.dockerd", "engine.containerd", "engine.runc"];

/// The section of an id: the longest that it is, or is a part of.
pub fn section(id: &str) -> Option<&'static str> {
    let name = id.split_once(':').map_or(id, |(name, _)| name);
    let name = if name == "pidfile" { "pidfiles" } else { name };
    let holds =
        |section: &&&str| name.strip_prefix(**section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    SECTIONS.iter().chain(&PROGRAMS).filter(holds).max_by_key(|section| section.len()).copied()
}

/// Its address. Headings become anchors as GitHub makes them: dots are left out.
pub fn link(id: &str) -> String {
    section(id).map_or_else(|| FILE.to_owned(), |section| format!("{FILE}#{}", section.replace('.', "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_section_counts() {
        assert_eq!(section("cgroup.v2.delegate"), Some("cgroup.v2.delegate"));
        assert_eq!(section("cgroup.v1.cpuset"), Some("cgroup.v1"));
        assert_eq!(section("cgroup.namespace:/sys/fs/cgroup"), Some("cgroup.namespace"));
        assert_eq!(section("pidfile:/run/docker.pid"), Some("pidfiles"));
        assert_eq!(section("limit.open_files.hard"), Some("limit.open_files"));
        assert_eq!(section("cgroups"), None);
        assert!(link("cgroup.v2.delegate").ends_with("docs/checks.md#cgroupv2delegate"));
    }

    #[test]
    fn every_section_is_written_and_none_is_left_over() {
        let text = include_str!("../../docs/checks.md");
        let written: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let wanted: Vec<&str> = SECTIONS.iter().chain(&PROGRAMS).copied().collect();
        assert_eq!(written, wanted);
    }
}
