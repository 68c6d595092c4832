/*!
All that is done about cgroups, in the order in which it has to be done: what only the machine's own namespace allows,
a namespace of our own, what is missing in it, and then what each version needs.
*/
use super::facts::Facts;
use super::plan::Step;
use super::wants::Wants;
use super::{namespace, v1, v1_missing, v2};

/// The steps.
pub fn steps(facts: &Facts, wants: &Wants) -> Vec<Step> {
    if wants.rootless {
        return Vec::new();
    }
    let mut steps = v1_missing::before(&facts.cgroup, &facts.mounts);
    let (enter, setup) = namespace::steps(&facts.cgroup, wants.cgroup_namespace);
    steps.extend(enter);
    steps.extend(v1_missing::after(&setup));
    steps.extend(v1::steps(&setup, &wants.told));
    steps.extend(v2::steps(&setup, &wants.told));
    steps
}
