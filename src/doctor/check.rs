/*!
One check and its verdict.
*/
use serde::Serialize;

/// The answer. The worst of all is that of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It cannot be told here.
    Skipped,
    /// All is well, or `entrypoint` sees to it.
    Ok,
    /// The daemon works, but not as well as it could.
    Warn,
    /// The daemon could not work.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable name; its part before `:` has a section in `docs/checks.md`.
    pub id: String,
    /// The answer.
    pub verdict: Verdict,
    /// What was found.
    pub finding: String,
    /// Why it matters.
    pub reason: String,
    /// What to do.
    pub hint: Option<String>,
    /// Where more is written.
    pub docs: String,
}

impl Check {
    /// One where all is well.
    pub fn ok(id: impl Into<String>, finding: impl Into<String>, reason: impl Into<String>) -> Self {
        let id = id.into();
        let docs = super::docs::link(&id);
        Self { id, verdict: Verdict::Ok, finding: finding.into(), reason: reason.into(), hint: None, docs }
    }

    /// The same with another verdict.
    #[must_use]
    pub fn is(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }

    /// The same with something to do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// The worst verdict.
pub fn worst(checks: &[Check]) -> Verdict {
    checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Skipped)
}
