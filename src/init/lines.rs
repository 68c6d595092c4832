/*!
Cutting a stream of bytes into lines, and keeping the last of them for the report of a crash.
*/
use std::collections::VecDeque;

/// Cuts bytes into lines as they come.
#[derive(Debug, Clone)]
pub struct LineSplitter {
    partial: Vec<u8>,
    longest: usize,
}

impl LineSplitter {
    /// A line longer than `longest` bytes is handed over in pieces of that size.
    pub const fn new(longest: usize) -> Self {
        Self { partial: Vec::new(), longest }
    }

    /// Hands every line that `bytes` completes to `each`, without its newline.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, complete) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            for piece in text.chunks(self.longest.max(1)) {
                if self.partial.len() + piece.len() > self.longest {
                    each(&self.partial);
                    self.partial.clear();
                }
                self.partial.extend_from_slice(piece);
            }
            if complete {
                each(&self.partial);
                self.partial.clear();
            }
        }
    }

    /// Hands over what came after the last newline.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            each(&self.partial);
            self.partial.clear();
        }
    }
}

/// Takes so many bytes off the front of a queue, or all that there are.
pub fn take_front(queue: &mut VecDeque<u8>, count: usize) -> impl Iterator<Item = u8> {
    // The only drain of PID 1: a range beyond the end would be a panic.
    queue.drain(..count.min(queue.len()))
}

/// The last lines of a stream, bounded in number and in bytes.
#[derive(Debug, Clone)]
pub struct LastLines {
    lines: VecDeque<String>,
    bytes: usize,
    most_lines: usize,
    most_bytes: usize,
}

impl LastLines {
    /// Keeps at most so many lines and so many bytes of text.
    pub const fn new(most_lines: usize, most_bytes: usize) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, most_lines, most_bytes }
    }

    /// Adds a line; what is not UTF-8 in it is replaced.
    pub fn push(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).into_owned();
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > self.most_lines || self.bytes > self.most_bytes {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// The lines, oldest first.
    pub fn to_vec(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    /// Forgets them: a new process begins.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(parts: &[&[u8]], longest: usize) -> Vec<String> {
        let (mut splitter, mut lines) = (LineSplitter::new(longest), Vec::new());
        for part in parts {
            splitter.push(part, |line| lines.push(String::from_utf8_lossy(line).into_owned()));
        }
        splitter.finish(|line| lines.push(String::from_utf8_lossy(line).into_owned()));
        lines
    }

    #[test]
    fn lines_are_put_together_over_reads() {
        assert_eq!(split(&[b"a", b"b\n\nc\nd"], 10), ["ab", "", "c", "d"]);
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        assert_eq!(split(&[b"abcdefgh\nij"], 3), ["abc", "def", "gh", "ij"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_the_bytes_arrive(text in "[ab\n]{0,60}", cuts in prop::collection::vec(0_usize..60, 0..5)) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= text.len()).collect();
            cuts.sort_unstable();
            let (mut parts, mut start) = (Vec::new(), 0);
            for cut in cuts.into_iter().chain([text.len()]) {
                parts.push(&text.as_bytes()[start..cut]);
                start = cut;
            }
            let expected: Vec<&str> = text.lines().collect();
            prop_assert_eq!(split(&parts, 100), expected);
        }

        #[test]
        fn the_last_lines_stay_within_both_bounds(lines in prop::collection::vec("[a-z]{0,30}", 0..50)) {
            let mut last = LastLines::new(5, 60);
            for line in &lines {
                last.push(line.as_bytes());
            }
            let kept = last.to_vec();
            prop_assert!(kept.len() <= 5 && kept.iter().map(String::len).sum::<usize>() <= 60);
            prop_assert_eq!(&kept[..], &lines[lines.len() - kept.len()..], "the newest are kept");
        }
    }
}
