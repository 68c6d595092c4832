/*!
Text without secrets, line by line.
*/
use std::ops::Range;

use super::masks::Masks;
use super::rules;

/// What stands where something was taken out.
pub const GAP: &str = "(left out)";

/// Longest private key in lines; one whose end never comes hides no more than this.
const KEY_LINES: usize = 120;

/// Takes secrets out of text.
#[derive(Debug, Default)]
pub struct Redactor {
    masks: Masks,
    /// Lines that may still belong to a private key.
    key_lines: usize,
}

impl Redactor {
    /// One that knows these secrets besides the rules.
    pub fn new(masks: Masks) -> Self {
        Self { masks, key_lines: 0 }
    }

    /// A text of any number of lines.
    pub fn text(&mut self, text: &str) -> String {
        self.key_lines = 0;
        let masked = self.masked(text);
        let mut out = String::with_capacity(masked.len());
        for line in masked.split_inclusive('\n') {
            let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
            out.push_str(&self.line(body));
            out.push_str(end);
        }
        out
    }

    /// Secrets of several lines are found in the whole.
    fn masked(&self, text: &str) -> String {
        let mut found = Vec::new();
        self.masks.find(text, &mut found);
        cut(text, found)
    }

    fn line(&mut self, line: &str) -> String {
        let mut found = Vec::new();
        if self.key_lines > 0 {
            self.key_lines -= 1;
            let end = rules::key_end(line);
            if end.is_some() {
                self.key_lines = 0;
            }
            found.push(0..end.unwrap_or(line.len()));
        }
        if rules::private_keys(line, &mut found) {
            self.key_lines = KEY_LINES;
        }
        rules::all(line, &mut found);
        cut(line, found)
    }
}

/// What the rules alone would take out: the secrets of a text that nobody else has named.
pub fn secrets(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    for line in text.lines() {
        let mut found = Vec::new();
        rules::all(line, &mut found);
        all.extend(merge(found).into_iter().filter_map(|range| line.get(range)).map(str::to_owned));
    }
    all
}

/// The text without these places, which may overlap.
pub fn cut(text: &str, found: Vec<Range<usize>>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for range in merge(found) {
        out.push_str(text.get(from..range.start).unwrap_or_default());
        out.push_str(GAP);
        from = range.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// In order, without overlaps, and none of them empty.
fn merge(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.retain(|range| !range.is_empty());
    found.sort_unstable_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in found {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
