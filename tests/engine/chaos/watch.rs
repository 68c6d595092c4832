//! A look at every process of a container five times a second, for zombies that nobody buries.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::{JoinHandle, spawn};

use crate::docker::Container;

/// Nothing but shell built-ins: what forks would add to what it looks at. Ends when its input does. A parent that is stopped
/// cannot bury anybody, and the parent 0 of `docker exec` is outside.
const SCRIPT: &str = r#"
declare -A since told
looks=0
while :; do
    read -r -t 0.2 _
    (($? > 128)) || break
    now=${EPOCHREALTIME/./}
    declare -A seen=()
    for file in /proc/[0-9]*/stat; do
        { read -r line <"$file"; } 2>/dev/null || continue
        rest=${line##*) }
        [[ ${rest:0:1} == Z ]] || continue
        set -- $rest
        key=${line%% *}.${20} parent=$2
        seen[$key]=1
        if ((parent == 0)); then continue; fi
        { read -r above <"/proc/$parent/stat"; } 2>/dev/null || continue
        state=${above##*) }
        if [[ ${state:0:1} == T ]]; then since[$key]=$now; fi
        since[$key]=${since[$key]:-$now}
        age=$(((now - since[$key]) / 1000))
        if ((age > 1000)) && [[ -z ${told[$key]} ]]; then
            told[$key]=1
            echo "ZOMBIE ${line%% (*} ${line#* } for $age ms, child of ${above%) *})"
        fi
    done
    for key in "${!since[@]}"; do
        if [[ -z ${seen[$key]} ]]; then unset "since[$key]" "told[$key]"; fi
    done
    looks=$((looks + 1))
done
echo "LOOKS $looks"
"#;

/// The looking, from outside of the container.
pub struct Watch {
    child: Child,
    said: JoinHandle<String>,
}

impl Watch {
    /// Begins.
    pub fn over(container: &Container) -> Self {
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive", &container.name, "bash", "-c", SCRIPT]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("docker CLI");
        let mut out = child.stdout.take().expect("piped");
        let said = spawn(move || {
            let mut text = String::new();
            let _ = out.read_to_string(&mut text);
            text
        });
        Self { child, said }
    }

    /// Ends, and gives a line for each zombie that was older than a second, and the number of looks.
    #[track_caller]
    pub fn end(mut self) -> (Vec<String>, u32) {
        drop(self.child.stdin.take());
        self.child.wait().expect("docker CLI");
        let text = self.said.join().expect("reader");
        let looks = text.lines().find_map(|line| line.strip_prefix("LOOKS ")?.parse().ok());
        let looks = looks.unwrap_or_else(|| panic!("the watch ended before its time:\n{text}"));
        (text.lines().filter(|line| line.starts_with("ZOMBIE")).map(str::to_owned).collect(), looks)
    }

    /// Ends, and fails if there was one, or if nobody looked.
    #[track_caller]
    pub fn saw_none(self) {
        let (zombies, looks) = self.end();
        assert!(zombies.is_empty(), "zombies older than a second:\n{}", zombies.join("\n"));
        assert!(looks > 2, "{looks} looks");
    }
}
