//! The hand that strikes: finds its victims in the container, signals them, and notes what it did.

use std::time::{Duration, Instant};

use dindctl::init::state::{Phase, SupervisorState};

use super::schedule::{Action, Blow, RIPE, Victim};
use super::shell::Shell;
use crate::docker::Container;

/// Longest time for the daemons to be back.
const BACK: Duration = Duration::from_secs(90);

/// Processes below shims, one line each: `shim PID ID` and `init PID ID`.
const NESTED: &str = r#"
for folder in /proc/[0-9]*; do
    read -r name <"$folder/comm" && [ "$name" = containerd-shim ] || continue
    id=$(tr '\0' ' ' <"$folder/cmdline" | sed -n 's/.* -id \([0-9a-f]\{64\}\).*/\1/p')
    [ -n "$id" ] || continue
    echo "shim ${folder#/proc/} $id"
    for child in $(cat "$folder"/task/*/children); do echo "init $child $id"; done
done 2>/dev/null
:
"#;

/// A blow that fell.
#[derive(Debug, Clone)]
pub struct Struck {
    pub action: Action,
    /// Just before the signal.
    pub from: Instant,
    /// When what it was meant to do was done: the signal sent, dockerd gone, the frozen woken.
    pub until: Instant,
    /// Id of the nested container that was hit.
    pub nested: Option<String>,
}

/// Blows in their order, one line each, for a failure's report.
pub fn story(struck: &[Struck]) -> String {
    let first = struck.first().map(|hit| hit.from);
    let line = |hit: &Struck| {
        let since = |moment: Instant| moment.duration_since(first.unwrap_or(moment)).as_secs_f64();
        let Action { victim, blow, hasty, .. } = hit.action;
        let nested = hit.nested.as_deref().unwrap_or_default();
        format!("{:8.3}-{:8.3} {victim:?} {blow:?} hasty={hasty} {nested}\n", since(hit.from), since(hit.until))
    };
    struck.iter().map(line).collect()
}

/// The hand.
pub struct Hand<'a> {
    dind: &'a Container,
    shell: Shell,
    /// Ids of nested containers that are left alone.
    spared: Vec<String>,
    pub struck: Vec<Struck>,
    /// Blows whose victim was not there.
    pub missed: usize,
}

/// Process id of a service, while it has one.
pub fn pid_of(state: &SupervisorState, service: &str) -> Option<i32> {
    state.services.iter().find(|known| known.name == service)?.pid
}

fn all_ready(state: &SupervisorState) -> bool {
    state.services.iter().all(|service| service.phase == Phase::Ready)
}

impl<'a> Hand<'a> {
    pub fn new(dind: &'a Container, spared: Vec<String>) -> Self {
        Self { dind, shell: Shell::inside(dind), spared, struck: Vec::new(), missed: 0 }
    }

    /// The supervisor's state.
    pub fn state(&self) -> SupervisorState {
        let (_, text) = self.shell.run("cat /run/dindctl/state.json");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Sends a signal; `false`: one of the processes was not there.
    pub fn signal(&self, name: &str, pids: &[i32]) -> bool {
        let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
        self.shell.run(&format!("kill -{name} {}", pids.join(" "))).0 == 0
    }

    /// Does what the action says, after its pause.
    pub fn strike(&mut self, action: Action) {
        std::thread::sleep(action.pause);
        if !action.hasty {
            self.wait_until_ripe();
        }
        let (pids, nested) = self.find(action.victim);
        let dockerd = pid_of(&self.state(), "dockerd");
        let from = Instant::now();
        let name = match action.blow {
            Blow::Kill => "KILL",
            Blow::Term => "TERM",
            Blow::Freeze(_) => "STOP",
        };
        if pids.is_empty() || !self.signal(name, &pids) {
            self.missed += 1;
        }
        if let Blow::Freeze(time) = action.blow {
            std::thread::sleep(time);
            self.signal("CONT", &pids);
        }
        if let Some(pid) = dockerd.filter(|pid| pids.contains(pid) && action.ends_a_daemon()) {
            self.wait_until("dockerd has another process", |state| pid_of(state, "dockerd") != Some(pid));
        }
        self.struck.push(Struck { action, from, until: Instant::now(), nested });
    }

    fn find(&self, victim: Victim) -> (Vec<i32>, Option<String>) {
        let services = |names: &[&str]| {
            let state = self.state();
            (names.iter().filter_map(|name| pid_of(&state, name)).collect(), None)
        };
        match victim {
            Victim::Containerd => services(&["containerd"]),
            Victim::Dockerd => services(&["dockerd"]),
            Victim::Both => services(&["containerd", "dockerd"]),
            Victim::Command => services(&["command"]),
            Victim::Shim(which) => self.nested("shim", which),
            Victim::Nested(which) => self.nested("init", which),
        }
    }

    fn nested(&self, kind: &str, which: usize) -> (Vec<i32>, Option<String>) {
        let (_, listed) = self.shell.run(NESTED);
        let found: Vec<(i32, String)> = listed
            .lines()
            .filter_map(|line| {
                let (pid, id) = line.strip_prefix(kind)?.trim().split_once(' ')?;
                Some((pid.parse().ok()?, id.to_owned()))
            })
            .filter(|(_, id)| !self.spared.contains(id))
            .collect();
        match found.get(which % found.len().max(1)) {
            Some((pid, id)) => (vec![*pid], Some(id.clone())),
            None => (Vec::new(), None),
        }
    }

    fn wait_until_ripe(&self) {
        loop {
            let before = self.wait_until("containerd, dockerd and the command are ready", all_ready);
            std::thread::sleep(RIPE);
            let after = self.state();
            let same = |name| pid_of(&before, name) == pid_of(&after, name);
            if all_ready(&after) && same("dockerd") && same("containerd") {
                return;
            }
        }
    }

    fn wait_until(&self, what: &str, reached: impl Fn(&SupervisorState) -> bool) -> SupervisorState {
        let end = Instant::now() + BACK;
        loop {
            let state = self.state();
            if reached(&state) {
                return state;
            }
            assert!(Instant::now() < end, "waited {BACK:?} until {what}: {state:?}\n{}", super::told(self.dind));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
