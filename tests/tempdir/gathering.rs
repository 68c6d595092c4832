/*!
Reading the facts: what must be there, and what is said when it is not.
*/
use dindctl::prepare::{Facts, Wants};
use dindctl::probe::{ProbeError, Roots};

use crate::fake_root::private_v2;

#[test]
fn a_missing_procfs_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Facts::gather(&Roots::below(folder.path()), &Wants::default(), None).unwrap_err();
    assert!(error.to_string().contains("proc/self/mountinfo"), "{error}");
    let real = ProbeError::Read {
        path: "/proc/self/mountinfo".into(),
        error: std::io::Error::from(std::io::ErrorKind::NotFound),
    };
    assert!(real.hint().unwrap().contains("mount procfs"));
}

#[test]
fn the_real_system_can_be_read_and_planned() {
    let wants = Wants::default();
    let facts = Facts::gather(&Roots::system(), &wants, Some("docker".into())).unwrap();
    let plan = dindctl::prepare::plan(&facts, &wants);
    assert!(plan.steps.len() > 5);
    assert!(plan.step("env.container").unwrap().found.contains("container=docker"));
}

#[test]
fn every_step_says_what_was_found_and_why() {
    for step in private_v2().plan().steps {
        assert!(!step.title.is_empty() && !step.found.is_empty() && !step.reason.is_empty(), "{step:?}");
        let changes =
            !matches!(step.action, dindctl::prepare::Action::Nothing | dindctl::prepare::Action::SetEnv { .. });
        let trivial = matches!(step.action, dindctl::prepare::Action::SetOpenFiles { .. });
        assert!(!changes || trivial || step.hint.is_some(), "a step that can fail has a hint: {step:?}");
    }
}
