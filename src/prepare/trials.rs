/*!
The looks that the kernel takes its time for, as they try something out: packet filters and layers.

They have threads of their own where there are CPUs for them, beside the one that looks at everything else. But where a container
starts, the engine around it keeps the CPUs busy: a thread that has not got one yet when its answer is needed is not waited for,
and whoever needs it tries for itself.
*/
use std::sync::{Arc, OnceLock};

use super::wants::Wants;
use crate::probe::Roots;
use crate::probe::firewall::{self, Firewall};
use crate::probe::layers::{self, Layers};
use crate::sys::beside;

/// Both of them, done once.
#[derive(Debug)]
pub struct Trials {
    roots: Roots,
    wants: Wants,
    layers: OnceLock<Option<Layers>>,
    firewall: OnceLock<Option<Firewall>>,
}

impl Trials {
    /// Threads begin with them, the longest first, as long as there is one of `cpus` for each besides the caller's: another thread
    /// would only take a turn of theirs. The last one goes on with what none has begun; with no thread at all they are done when
    /// they are asked for.
    pub fn begin(roots: &Roots, wants: &Wants, cpus: usize) -> Arc<Self> {
        let (roots, wants) = (roots.clone(), wants.clone());
        let trials = Arc::new(Self { roots, wants, layers: OnceLock::new(), firewall: OnceLock::new() });
        let lend = |name: &str, work: fn(&Self)| {
            let theirs = Arc::clone(&trials);
            beside::lend(name, move || work(&theirs));
        };
        match cpus {
            0 | 1 => {}
            2 => lend("trials", |trials| {
                trials.layers();
                trials.firewall();
            }),
            _ => {
                lend("layers", |trials| _ = trials.layers());
                lend("firewall", |trials| _ = trials.firewall());
            }
        }
        trials
    }

    /// What the layers of images can be kept with, where a daemon of ours keeps any.
    pub fn layers(&self) -> Option<&Layers> {
        self.layers.get_or_init(|| self.try_layers()).as_ref()
    }

    /// The packet filters, where dockerd will make rules.
    pub fn firewall(&self) -> Option<&Firewall> {
        self.firewall.get_or_init(|| self.try_firewall()).as_ref()
    }

    fn try_layers(&self) -> Option<Layers> {
        let Self { roots, wants, .. } = self;
        let wishes = wants.layers.as_ref().filter(|_| wants.daemon)?;
        let matters = |found: &Layers| super::layers::asks_for_engine(found, wishes, wants);
        Some(layers::look(roots, &wants.data_root, &wants.containerd_root, &wishes.path, matters))
    }

    fn try_firewall(&self) -> Option<Firewall> {
        let wishes = self.wants.firewall.as_ref().filter(|_| super::firewall::makes_rules(&self.wants.told))?;
        Some(firewall::look(&self.roots, wishes.choice, &wishes.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_wants_is_not_tried() {
        let folder = tempfile::tempdir().unwrap();
        for cpus in 0..=4 {
            let trials = Trials::begin(&Roots::below(folder.path()), &Wants::default(), cpus);
            assert_eq!((trials.layers(), trials.firewall()), (None, None));
        }
    }

    #[test]
    fn layers_are_looked_for_where_they_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots::below(folder.path());
        let wants = Wants {
            daemon: true,
            layers: Some(crate::prepare::LayerWishes { driver: None, path: "/nonexistent".into() }),
            ..Wants::default()
        };
        std::fs::create_dir_all(roots.resolve(&wants.data_root).join("vfs/dir")).unwrap();
        // With a thread for it, and without.
        for cpus in [4, 1] {
            let trials = Trials::begin(&roots, &wants, cpus);
            assert_eq!(trials.layers().map(|found| found.earlier.clone()), Some(vec!["vfs"]));
            assert_eq!(trials.firewall(), None, "nobody wants that");
        }
    }
}
