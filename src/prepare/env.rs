/*!
`container=docker`, which the official image exports as well.
*/
use super::facts::Facts;
use super::plan::{Action, Step};
use super::wants::{ApparmorWish, Wants};

/// The `AppArmor` support of containerd and BuildKit looks for an empty `container` (`pkg/apparmor` of containerd): exported,
/// inner containers run without a profile. That is what works everywhere; where a profile has been loaded for trial, the variable may be
/// emptied by choice, and they get one.
pub fn steps(facts: &Facts, wants: &Wants) -> Vec<Step> {
    let found = facts.container.as_deref().map_or("unset".into(), |value| format!("container={value}"));
    let tried = match &facts.apparmor {
        None => String::new(),
        Some(Ok(())) => "; AppArmor took a profile for trial".into(),
        Some(Err(obstacle)) => format!("; no AppArmor for nested containers: {obstacle}"),
    };
    let reason = match &facts.apparmor {
        Some(Ok(())) => "the inner engine gives nested containers an AppArmor profile where it is empty",
        Some(Err(_)) | None => {
            "programs see that they run in a container, and the inner engine leaves AppArmor alone, whose profiles cannot \
             be loaded from inside"
        }
    };
    let step = Step::nothing("env.container", "environment variable container", format!("{found}{tried}"), reason);
    if let (ApparmorWish::On, Some(Err(obstacle))) = (wants.apparmor, &facts.apparmor) {
        return vec![
            step.fails(format!("AppArmor was asked for (prepare.apparmor=on), and {obstacle}"))
                .hint("DINDCTL_APPARMOR=auto takes it where it works; mount nothing over /sys/kernel/security, and install apparmor in the image"),
        ];
    }
    let value = if facts.apparmor == Some(Ok(())) { "" } else { "docker" };
    // Exported even when it is there already: what is started gets its environment from the plan's result.
    vec![step.does(Action::SetEnv { name: "container".into(), value: value.into() })]
}
