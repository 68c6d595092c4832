/*!
`container=docker`, which the official image exports as well.
*/
use super::facts::Facts;
use super::plan::{Action, Step};

/// The `AppArmor` support of containerd and BuildKit looks for an empty `container` (`pkg/apparmor` of containerd): exported,
/// inner containers run without a profile. That is wanted, because a nested daemon could not load one.
pub fn steps(facts: &Facts) -> Vec<Step> {
    let step = Step::nothing(
        "env.container",
        "environment variable container",
        facts.container.as_deref().map_or("unset".into(), |value| format!("container={value}")),
        "programs see that they run in a container, and the inner engine leaves AppArmor alone, whose profiles cannot \
         be loaded from inside",
    );
    // Exported even when it is there already: what is started gets its environment from the plan's result.
    vec![step.does(Action::SetEnv { name: "container".into(), value: "docker".into() })]
}
