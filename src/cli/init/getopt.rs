/*!
Options in the manner of `getopt_long(3)`, because tini and dumb-init read theirs with it: letters in one word (`-vg`),
values in the same word or the next (`-e3`, `-e 3`, `--rewrite=15:2`), abbreviated long names, errors in the C library's
words. What is not taken over is its search for options behind the first word that is none: that word is the command,
and everything behind it belongs to the command.
*/
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// One option. A long name is optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its letter, by which it is told.
    pub letter: u8,
    /// Its long name.
    pub long: Option<&'static str>,
    /// Whether it needs a value.
    pub value: bool,
}

/// One option as it was found: its letter, and its value when it needs one.
pub type Found = (u8, Option<OsString>);

/// Why the words are no options. The texts are those of the C library, which the originals print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// No option has this letter.
    #[error("invalid option -- '{0}'")]
    Letter(String),
    /// No option has this long name.
    #[error("unrecognized option '--{0}'")]
    Name(String),
    /// An abbreviation that means several options.
    #[error("option '--{given}' is ambiguous; possibilities:{possibilities}")]
    Ambiguous {
        /// What was typed.
        given: String,
        /// Each as ` '--name'`.
        possibilities: String,
    },
    /// A letter's value is missing.
    #[error("option requires an argument -- '{0}'")]
    LetterWithoutValue(char),
    /// A long option's value is missing.
    #[error("option '--{0}' requires an argument")]
    NameWithoutValue(&'static str),
    /// A long option got a value and takes none.
    #[error("option '--{0}' doesn't allow an argument")]
    Value(&'static str),
}

/// Reads options one by one, so that what stands behind `-h` need not be right.
#[derive(Debug)]
pub struct Options<'a> {
    known: &'a [Known],
    words: &'a [OsString],
    next: usize,
    letters: VecDeque<u8>,
}

impl<'a> Options<'a> {
    /// Reads from `words`, the program's name not among them.
    pub fn new(known: &'a [Known], words: &'a [OsString]) -> Self {
        Self { known, words, next: 0, letters: VecDeque::new() }
    }

    /// What is left when the options have ended: the command.
    pub fn command(&self) -> &'a [OsString] {
        self.words.get(self.next..).unwrap_or_default()
    }

    fn take_word(&mut self) -> Option<OsString> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        Some(word.clone())
    }

    fn letter(&mut self, letter: u8) -> Result<Found, Misfit> {
        let Some(known) = self.known.iter().find(|known| known.letter == letter) else {
            return Err(Misfit::Letter(String::from_utf8_lossy(&[letter]).into_owned()));
        };
        if !known.value {
            return Ok((letter, None));
        }
        let value = if self.letters.is_empty() {
            self.take_word().ok_or(Misfit::LetterWithoutValue(char::from(letter)))?
        } else {
            OsString::from_vec(std::mem::take(&mut self.letters).into())
        };
        Ok((letter, Some(value)))
    }

    fn long(&mut self, text: &[u8]) -> Result<Found, Misfit> {
        let (name, value) = match text.iter().position(|byte| *byte == b'=') {
            Some(place) => (text.get(..place).unwrap_or_default(), text.get(place + 1..)),
            None => (text, None),
        };
        let known = self.named(name)?;
        let long = known.long.unwrap_or_default();
        match (known.value, value) {
            (false, None) => Ok((known.letter, None)),
            (false, Some(_)) => Err(Misfit::Value(long)),
            (true, Some(value)) => Ok((known.letter, Some(OsStr::from_bytes(value).to_owned()))),
            (true, None) => {
                let value = self.take_word().ok_or(Misfit::NameWithoutValue(long))?;
                Ok((known.letter, Some(value)))
            }
        }
    }

    fn named(&self, name: &[u8]) -> Result<Known, Misfit> {
        let given = || String::from_utf8_lossy(name).into_owned();
        let begins = |known: &&Known| known.long.is_some_and(|long| long.as_bytes().starts_with(name));
        let candidates: Vec<&Known> = self.known.iter().filter(begins).collect();
        let exact = candidates.iter().find(|known| known.long.is_some_and(|long| long.as_bytes() == name));
        match (exact, candidates.as_slice()) {
            (Some(known), _) | (None, [known]) => Ok(**known),
            (None, []) => Err(Misfit::Name(given())),
            (None, several) => {
                let names = several.iter().filter_map(|known| known.long);
                let possibilities = names.fold(String::new(), |text, name| text + " '--" + name + "'");
                Err(Misfit::Ambiguous { given: given(), possibilities })
            }
        }
    }
}

impl Iterator for Options<'_> {
    type Item = Result<Found, Misfit>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(letter) = self.letters.pop_front() {
            return Some(self.letter(letter));
        }
        let word = self.words.get(self.next)?.as_bytes();
        match word {
            b"--" => {
                self.next += 1;
                None
            }
            [b'-', b'-', name @ ..] if self.known.iter().any(|known| known.long.is_some()) => {
                self.next += 1;
                Some(self.long(name))
            }
            [b'-', letter, more @ ..] => {
                self.next += 1;
                self.letters = more.iter().copied().collect();
                Some(self.letter(*letter))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: [Known; 5] = [
        Known { letter: b'h', long: Some("help"), value: false },
        Known { letter: b'c', long: Some("single-child"), value: false },
        Known { letter: b'r', long: Some("rewrite"), value: true },
        Known { letter: b'v', long: Some("verbose"), value: false },
        Known { letter: b'V', long: Some("version"), value: false },
    ];

    /// Options as text (`c`, `r=15:2`), then the command.
    fn read(words: &[&str]) -> Result<(Vec<String>, Vec<OsString>), String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let mut options = Options::new(&KNOWN, &words);
        let mut found = Vec::new();
        for option in options.by_ref() {
            let (letter, value) = option.map_err(|misfit| misfit.to_string())?;
            let value = value.map(|value| format!("={}", value.display())).unwrap_or_default();
            found.push(format!("{}{value}", char::from(letter)));
        }
        Ok((found, options.command().to_vec()))
    }

    #[test]
    fn letters_share_a_word_and_values_stand_in_it_or_behind_it() {
        let (options, command) = read(&["-cv", "-r15:2", "-r", "1:0", "-vr3:4", "--", "-x"]).unwrap();
        assert_eq!(options, ["c", "v", "r=15:2", "r=1:0", "v", "r=3:4"]);
        assert_eq!(command, ["-x"]);
    }

    #[test]
    fn long_names_may_be_shortened_and_have_values() {
        let (options, command) = read(&["--rewrite=15:2", "--rew", "1:0", "--single", "--verb", "sh"]).unwrap();
        assert_eq!(options, ["r=15:2", "r=1:0", "c", "v"]);
        assert_eq!(command, ["sh"]);
    }

    #[test]
    fn the_first_word_that_is_no_option_ends_them() {
        for words in [&["sh", "-c", "x"][..], &["--", "sh", "-c", "x"]] {
            assert_eq!(read(words).unwrap(), (vec![], vec!["sh".into(), "-c".into(), "x".into()]));
        }
        assert_eq!(read(&["-", "-v"]).unwrap().1, ["-", "-v"], "a lone dash is a program's name");
        assert_eq!(read(&["sh", "--", "x"]).unwrap().1, ["sh", "--", "x"]);
        assert_eq!(read(&["--"]).unwrap().1, [] as [&str; 0]);
        assert_eq!(read(&["", "-v"]).unwrap().1, ["", "-v"]);
    }

    #[test]
    fn misfits_are_told_in_the_words_of_the_c_library() {
        for (words, text) in [
            (&["-x"][..], "invalid option -- 'x'"),
            (&["-r"], "option requires an argument -- 'r'"),
            (&["--rewrite"], "option '--rewrite' requires an argument"),
            (&["--yolo"], "unrecognized option '--yolo'"),
            (&["--verbose=1"], "option '--verbose' doesn't allow an argument"),
            (&["--ver"], "option '--ver' is ambiguous; possibilities: '--verbose' '--version'"),
        ] {
            assert_eq!(read(words).unwrap_err(), text);
        }
    }

    #[test]
    fn without_long_names_two_dashes_are_letters() {
        let words = [OsString::from("--version"), "x".into()];
        let known = [Known { letter: b'v', long: None, value: false }];
        assert_eq!(Options::new(&known, &words).next(), Some(Err(Misfit::Letter("-".into()))));
    }

    proptest! {
        /// Whatever is typed, the command is a tail of the words, and reading ends.
        #[test]
        fn the_command_is_what_stands_last(words in proptest::collection::vec("-{0,2}[a-zV:=0-9]{0,4}", 0..6)) {
            let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
            let mut options = Options::new(&KNOWN, &words);
            let count = options.by_ref().take(100).take_while(Result::is_ok).count();
            prop_assert!(count < 100);
            prop_assert!(words.ends_with(options.command()));
        }

        /// What follows the first word that is no option is never looked at.
        #[test]
        fn words_behind_the_program_do_not_matter(rest in proptest::collection::vec(any::<String>(), 0..5)) {
            let mut words = vec![OsString::from("-v"), "program".into()];
            words.extend(rest.into_iter().map(OsString::from));
            let mut options = Options::new(&KNOWN, &words);
            prop_assert_eq!(options.by_ref().collect::<Vec<_>>(), vec![Ok((b'v', None))]);
            prop_assert_eq!(options.command(), &words[1..]);
        }
    }
}
