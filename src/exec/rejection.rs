//! A request that is refused before anything runs.

/// One bad value: which option, what was typed, why it cannot be used, what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} {value:?}: {why}")]
pub struct Rejection {
    option: String,
    value: String,
    why: String,
    hint: Option<String>,
}

impl Rejection {
    /// `value` of `option` cannot be used because of `why`.
    pub fn new(option: &str, value: impl Into<String>, why: impl Into<String>) -> Self {
        Self { option: option.to_owned(), value: value.into(), why: why.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to do, if there is something.
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }

    /// Names the option anew, for a parser that serves several.
    #[must_use]
    pub fn of(mut self, option: &str) -> Self {
        option.clone_into(&mut self.option);
        self
    }
}

/// The nearest of `known` to `typed`, if one is near enough to be meant.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&typed.to_lowercase(), name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_option_value_and_reason() {
        let rejection = Rejection::new("--memory", "12q", "is no size").with_hint("write 512m");
        assert_eq!(rejection.to_string(), "--memory \"12q\": is no size");
        assert_eq!(rejection.hint().as_deref(), Some("write 512m"));
    }

    #[test]
    fn nearest_is_near_or_nothing() {
        let known = ["bash", "node", "python", "sh"];
        assert_eq!(nearest("pyton", known), Some("python"));
        assert_eq!(nearest("Python3", known), Some("python"));
        assert_eq!(nearest("cobol", known), None);
    }
}
