//! `dindctl exec --network egress`: the internet, and nothing private.
//!
//! The internet is a container with an address of TEST-NET-3 (RFC 5737), to which only the dind has a route. The same
//! container and the dind have private addresses as well, and the dind a public one too.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use super::docker::{Container, Said, docker, image};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("egress::the_internet_and_nothing_private", the_internet_and_nothing_private),
    ("egress::what_cannot_be_filtered_does_not_run", what_cannot_be_filtered_does_not_run),
];

/// Address of the internet's one server, and the dind's own.
const SERVER: &str = "203.0.113.16";
const DIND: &str = "203.0.113.17";
const PYTHON: &str = "python:3.13-slim";

struct World {
    /// Kept for its life.
    _server: Container,
    private: String,
    dind: Container,
}

impl World {
    fn new() -> Self {
        let program = include_str!("egress/internet.py");
        let server = Container::of(PYTHON, "internet", &["--stop-timeout=0"], &["python", "-c", program, SERVER]);
        let private = server.address();
        let into = format!("--network=container:{}", server.name);
        let add = ["addr", "add", &format!("{SERVER}/32"), "dev", "lo"];
        docker(&[&["run", "--rm", "--cap-add=NET_ADMIN", &into, "--entrypoint=ip", &image()], &add[..]].concat()).ok();
        let dind = Container::dind("egress", &["--dns", &private]);
        dind.sh(&format!("ip route add {SERVER}/32 via {private} && ip addr add {DIND}/32 dev lo")).ok();
        dind.load(PYTHON);
        Self { _server: server, private, dind }
    }

    fn exec(&self, options: &[&str], program: &[&str]) -> Said {
        self.dind.exec(&[&["dindctl", "exec"], options, &["python"], program].concat())
    }

    /// What a sandbox with these options can reach.
    fn probe(&self, options: &[&str], neighbour: &str) -> Value {
        let code = include_str!("egress/probe.py");
        let (own, private) = (self.dind.address(), &self.private);
        let gateway = "docker network inspect bridge --format '{{(index .IPAM.Config 0).Gateway}}'";
        let gateway = self.dind.sh(gateway).ok();
        let places = [
            format!("internet={SERVER}:80"),
            "by name=fake.example:80".to_owned(),
            format!("private={private}:80"),
            format!("udp private={private}:53"),
            format!("gateway={gateway}:2375"),
            format!("daemon={own}:2375"),
            format!("daemon in public={DIND}:2375"),
            format!("neighbour={neighbour}:8000"),
            "metadata=169.254.169.254:80".to_owned(),
            format!("mapped=::ffff:{gateway}:2375"),
        ];
        let arguments: Vec<&str> = ["-c", code, "--"].into_iter().chain(places.iter().map(String::as_str)).collect();
        let said = self.exec(options, &arguments).ok();
        serde_json::from_str(&said).expect(&said)
    }
}

fn open(said: &Value) -> Vec<&str> {
    let all = said.as_object().into_iter().flatten();
    all.filter(|(_, outcome)| *outcome == "open").map(|(name, _)| name.as_str()).collect()
}

fn the_internet_and_nothing_private() -> Result<(), Failed> {
    let world = World::new();
    let bridge = world.probe(&["--network=bridge"], "127.0.0.1");
    let reached = open(&bridge);
    for place in ["private", "udp private", "gateway", "daemon", "daemon in public"] {
        assert!(reached.contains(&place), "the test cannot fail at {place}: {bridge}");
    }

    // A neighbour that listens for as long as the others are tried.
    let neighbour = "import socket,time; s=socket.create_server(('',8000)); print(flush=True); time.sleep(100)";
    let (name, listen) = ("egress-neighbour", ["exec", "--network=egress", "--name=egress-neighbour", "--timeout=2m"]);
    let start = [&["sh", "-c", "dindctl \"$@\" >/dev/null 2>&1 &", "sh"], &listen[..], &["python", "-c", neighbour]];
    world.dind.exec(&start.concat()).ok();
    let address = "docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'";
    let begun = Instant::now();
    let address = loop {
        let said = world.dind.sh(&format!("{address} {name}"));
        if said.code == 0 && said.out.starts_with("172.") {
            break said.ok();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{said:?}");
        std::thread::sleep(Duration::from_millis(200));
    };

    let begun = Instant::now();
    let egress = world.probe(&["--network=egress"], &address);
    assert_eq!(open(&egress), ["by name", "by name, bound", "internet", "internet, bound", "itself"], "{egress}");
    assert_eq!(egress["forget"], -libc::EPERM, "{egress}");
    assert_eq!(egress["raw"], "closed");
    // What is refused is refused at once, not by waiting.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    // What the operator opens is open, but for the daemon's own machine.
    let nets = [world.private.clone(), world.dind.address(), "172.16.0.0/12".into(), "203.0.113.0/24".into()];
    let nets = nets.map(|net| format!("--egress-allow={net}"));
    let allow: Vec<&str> = ["--network=egress"].into_iter().chain(nets.iter().map(String::as_str)).collect();
    let opened = world.probe(&allow, &address);
    let expected = [
        "by name",
        "by name, bound",
        "internet",
        "internet, bound",
        "itself",
        "private",
        "private, bound",
        "udp private",
    ];
    assert_eq!(open(&opened), expected, "{opened}");
    let by_variable = ["--env=DINDCTL_EXEC_EGRESS_ALLOW=10.0.0.1/8", &world.dind.name, "dindctl"];
    let said = docker(&[&["exec"], &by_variable[..], &["exec", "--network=egress", "python", "-c", "1"]].concat());
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.err.contains("DINDCTL_EXEC_EGRESS_ALLOW") && said.err.contains("10.0.0.0/8"), "{said:?}");
    Ok(())
}

fn what_cannot_be_filtered_does_not_run() -> Result<(), Failed> {
    let dind = Container::dind("egress-not", &[]);
    dind.load(PYTHON);
    // Somebody else's network of that name.
    dind.exec(&["docker", "network", "create", "dindctl-egress"]).ok();
    let run = ["dindctl", "exec", "--network=egress", "python", "-c", "print('ran')"];
    let said = dind.exec(&run);
    assert_eq!((said.code, said.out.as_str()), (125, ""), "{said:?}");
    assert!(said.err.contains("is not dindctl's") && said.err.contains("hint: "), "{said:?}");
    dind.exec(&["docker", "network", "rm", "dindctl-egress"]).ok();
    assert_eq!(dind.exec(&run).ok(), "ran");
    // Removed while nobody uses it, it comes back; asked for twice at once, it is made once.
    let begun = Instant::now();
    while dind.exec(&["docker", "network", "rm", "dindctl-egress"]).code != 0 {
        // The last container is removed behind the caller's back.
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", dind.sh("docker ps --all").out);
        std::thread::sleep(Duration::from_millis(100));
    }
    let twice = format!("{0} & {0} & wait", "dindctl exec --network=egress python -c 'print(1)'");
    assert_eq!(dind.sh(&twice).ok(), "1\n1");
    assert_eq!(dind.sh("docker network ls --quiet --filter label=io.dindctl.network").ok().lines().count(), 1);
    // Root inside keeps the filter as well.
    let root = dind.exec(&[
        "dindctl",
        "exec",
        "--network=egress",
        "--user=0",
        "python",
        "-c",
        include_str!("egress/probe.py"),
    ]);
    let said: Value = serde_json::from_str(&root.ok())?;
    assert_eq!(said["forget"], -libc::EPERM, "{said}");
    assert_eq!(open(&said), ["itself"], "{said}");
    Ok(())
}
