//! The packet filter: chosen by trial or by word, named on stdout, and good for published ports.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::docker::Container;

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("firewall::by_trial", by_trial),
    ("firewall::legacy_by_word", legacy_by_word),
    ("firewall::nft_by_word", nft_by_word),
    ("firewall::an_explicit_dockerd_has_the_choice_as_well", an_explicit_dockerd_has_the_choice_as_well),
    ("firewall::none_where_none_is_wanted", none_where_none_is_wanted),
    ("firewall::modprobe_asks_the_kernel", modprobe_asks_the_kernel),
];

const IMAGE: &str = "debian:trixie-slim";

fn dind(options: &[&str]) -> Container {
    Container::dind("firewall", options)
}

/// The lines of iptables on stdout.
fn version(dind: &Container) -> Vec<String> {
    let logs = super::docker::docker(&["logs", &dind.name]).out;
    logs.lines().filter(|line| line.starts_with("iptables v")).map(str::to_owned).collect()
}

/// Publishes a port of a nested container and calls it from outside.
fn publish(dind: &Container) {
    dind.load(IMAGE);
    let serve = "use IO::Socket::INET; my $s = IO::Socket::INET->new(Listen => 5, LocalPort => 80, ReuseAddr => 1) or die; \
        while (my $c = $s->accept) { print $c qq(hello\\n); close $c }";
    dind.exec(&["docker", "run", "--detach", "--publish", "8080:80", IMAGE, "perl", "-e", serve]).ok();
    let address: SocketAddr = format!("{}:8080", dind.address()).parse().expect("address");
    let begun = Instant::now();
    loop {
        let mut said = String::new();
        let called = TcpStream::connect_timeout(&address, Duration::from_secs(2)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.read_to_string(&mut said)
        });
        if said == "hello\n" {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{called:?} {said:?}\n{}", dind.logs());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn by_trial() -> Result<(), Failed> {
    let dind = dind(&[]);
    let line = version(&dind);
    assert_eq!(line.len(), 1, "{line:?}\n{}", dind.logs());
    publish(&dind);
    let rules = dind.sh("iptables-save; ip6tables-save").ok();
    assert!(rules.contains("MASQUERADE") && !rules.contains("dindctl"), "{rules}");
    let plan: serde_json::Value = serde_json::from_str(&dind.exec(&["dindctl", "plan", "-o", "json"]).ok())?;
    let step = plan["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["id"] == "firewall"));
    assert!(step.is_some_and(|step| step["found"].as_str().is_some_and(|found| found.contains("works"))), "{plan}");
    Ok(())
}

fn legacy_by_word() -> Result<(), Failed> {
    let dind = dind(&["--env=DOCKER_IPTABLES_LEGACY=1"]);
    let line = version(&dind);
    assert!(line.len() == 1 && line[0].ends_with("(legacy)"), "{line:?}");
    publish(&dind);
    assert!(dind.sh("iptables-legacy-save -t nat").ok().contains("MASQUERADE"));
    assert!(!dind.sh("iptables-nft-save -t nat 2>/dev/null").out.contains("MASQUERADE"));
    Ok(())
}

fn nft_by_word() -> Result<(), Failed> {
    let dind = dind(&["--env=DOCKER_IPTABLES_LEGACY="]);
    let line = version(&dind);
    assert!(line.len() == 1 && line[0].ends_with("(nf_tables)"), "{line:?}");
    publish(&dind);
    assert!(dind.sh("iptables-nft-save -t nat").ok().contains("MASQUERADE"));
    Ok(())
}

fn an_explicit_dockerd_has_the_choice_as_well() -> Result<(), Failed> {
    let command = ["dockerd", "--host=unix:///var/run/docker.sock"];
    let dind = Container::start("firewall", &["--privileged", "--env=DOCKER_IPTABLES_LEGACY=1"], &command);
    dind.wait_healthy(Duration::from_secs(60));
    assert!(version(&dind).iter().all(|line| line.ends_with("(legacy)")), "{}", dind.logs());
    assert!(dind.sh("iptables-legacy-save -t nat").ok().contains("MASQUERADE"));
    Ok(())
}

fn modprobe_asks_the_kernel() -> Result<(), Failed> {
    let dind = dind(&[]);
    let which = dind.sh("readlink -f $(command -v modprobe)").ok();
    assert_eq!(which, "/usr/local/bin/dindctl");
    // What is there needs nothing, wherever the machine's module files are.
    let there = dind.sh("ls /sys/module | head -n 1").ok();
    assert_eq!(dind.exec(&["modprobe", "-va", &there]).code, 0, "{there}");
    let absent = dind.exec(&["modprobe", "-va", "dindctl_none"]);
    assert!(absent.code != 0 && absent.err.contains("dindctl_none"), "{absent:?}");
    // Those that dockerd asks for are no failure of its start.
    assert!(!dind.logs().contains("level=error"), "{}", dind.logs());
    Ok(())
}

fn none_where_none_is_wanted() -> Result<(), Failed> {
    let options = ["--privileged", "--env=DOCKER_TLS_CERTDIR="];
    let dind = Container::start("firewall", &options, &["--iptables=false", "--ip6tables=false"]);
    dind.wait_healthy(Duration::from_secs(60));
    assert_eq!(version(&dind), Vec::<String>::new());
    let rules = dind.sh("cat /proc/net/ip_tables_names; iptables-nft-save").out;
    assert!(!rules.contains("DOCKER"), "{rules}");
    Ok(())
}
