//! Ring of one question: can PID 1 panic? `DINDCTL_TEST_OBJECT` names the object file of the library (`scripts/test panics` makes
//! it), without optimisation, so that every function is a section of its own and what it calls stands in its relocations.
//!
//! No function of PID 1's rooms may call what panics: the panics of the language (an index, a division, `unwrap`), and
//! functions of the standard library that panic on a bad argument, which no lint knows. Running out of memory is left out: there is no
//! answer to it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind};

/// Rooms whose functions run in PID 1.
const ROOMS: [&str; 4] = ["init", "prepare", "probe", "sys"];

/// Beginnings of functions that panic.
const BEGINNINGS: [&str; 14] = [
    "core::panicking::",
    "core::result::unwrap_failed",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
    "core::slice::index::slice_",
    "core::slice::copy_from_slice_impl::",
    "core::str::slice_error_fail",
    "core::cell::panic_",
    "core::time::Duration as core::ops::arith::",
    "std::time::Instant as core::ops::arith::",
    "std::time::SystemTime as core::ops::arith::",
    // `println!` and `eprintln!`, where nobody reads.
    "std::io::stdio::_print",
    "std::io::stdio::_eprint",
    // No more threads.
    "std::thread::functions::spawn",
];

/// Whole names of those whose names begin others: they panic at words that are not UTF-8.
const NAMES: [&str; 2] = ["std::env::args", "std::env::vars"];

/// Parts of their names, for what is generic.
const PARTS: [&str; 12] = [
    "core::ops::index::Index",
    "::split_at",
    "::copy_from_slice",
    "::clone_from_slice",
    "::copy_within",
    "::chunks",
    "::windows",
    "::step_by",
    "::drain",
    "::split_off",
    "::swap_remove",
    "scoped::Scope::spawn",
];

/// The same with words that others have as well: the type, which may be generic, and its function.
const OF_TYPES: [(&str, &str); 6] = [
    ("alloc::vec::Vec", "::remove"),
    ("alloc::vec::Vec", "::insert"),
    ("alloc::collections::vec_deque::VecDeque", "::insert"),
    ("alloc::string::String", "::remove"),
    ("alloc::string::String", "::insert"),
    ("core::cell::RefCell", "::borrow"),
];

/// Calls that are as they should be: caller, part of the called name, and why.
const ALLOWED: [(&str, &str, &str); 6] = [
    ("dindctl::init::lines::take_front", "::drain", "the range ends within the queue"),
    ("dindctl::init::lines::LineSplitter::push", "::chunks", "at least 1"),
    ("dindctl::prepare::tls::decide::span", "panic_const_div_overflow", "the divisors are constants"),
    ("dindctl::prepare::tls::decide::renewal", "panic_const_div_overflow", "the divisor is a constant"),
    ("dindctl::sys::inheritance::note", "panic_cannot_unwind", "the guard around what C calls, for a panic inside"),
    ("", "core::panicking::panic_in_cleanup", "a second panic; there is no first one"),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let object = std::env::var_os("DINDCTL_TEST_OBJECT");
    if object.is_none() {
        println!("SKIP pid_one_cannot_panic: DINDCTL_TEST_OBJECT is not set (scripts/test panics makes the file)");
    }
    let missing = object.is_none();
    let pid_one = move || {
        let bytes = std::fs::read(object.ok_or("no object file")?)?;
        Ok(judge(&calls(&bytes)?)?)
    };
    let trials = vec![
        Trial::test("pid_one_cannot_panic", pid_one).with_ignored_flag(missing),
        Trial::test("a_panic_would_be_found", || Ok(finds()?)),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What every function of the file calls, by their names without hashes.
fn calls(bytes: &[u8]) -> Result<BTreeMap<String, BTreeSet<String>>, object::Error> {
    let file = object::File::parse(bytes)?;
    let mut functions = BTreeMap::new();
    for section in file.sections() {
        let Some(name) = section.name()?.strip_prefix(".text.") else { continue };
        let called: &mut BTreeSet<String> = functions.entry(clean(name.trim_start_matches("unlikely."))).or_default();
        for (_, relocation) in section.relocations() {
            if let RelocationTarget::Symbol(index) = relocation.target() {
                let symbol = file.symbol_by_index(index)?;
                // A function of the same file is meant by its section.
                let name = match (symbol.kind(), symbol.section_index()) {
                    (SymbolKind::Section, Some(section)) => {
                        file.section_by_index(section)?.name()?.trim_start_matches(".text.").to_owned()
                    }
                    _ => symbol.name()?.to_owned(),
                };
                called.insert(clean(&name));
            }
        }
    }
    Ok(functions)
}

/// The path of a function without what it is generic over: `dindctl::init::lines::take_front`, `alloc::vec::Vec::drain`,
/// `dindctl::sys::signal::SignalPipe as core::ops::drop::Drop::drop`.
fn clean(name: &str) -> String {
    let text = format!("{:#}", rustc_demangle::demangle(name));
    // What stands in the first brackets is the type, and the trait, that the function is of.
    let (outer, rest) = match text.strip_prefix('<').and_then(|inner| Some(inner.split_at(closing(inner)?))) {
        Some((inner, rest)) => (plain(inner), plain(rest.trim_start_matches('>'))),
        None => (String::new(), plain(&text)),
    };
    outer + &rest
}

/// Where the bracket closes that was open before the text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    let mut last = ' ';
    text.char_indices().find_map(|(place, letter)| {
        match letter {
            '<' => depth += 1,
            // Not the arrow of a function's type.
            '>' if last != '-' => depth -= 1,
            _ => {}
        }
        last = letter;
        (depth == 0).then_some(place)
    })
}

/// The text without everything in brackets.
fn plain(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, inner)) = rest.split_once('<') {
        kept.push_str(before.strip_suffix("::").unwrap_or(before));
        rest = closing(inner).map_or("", |place| inner[place..].trim_start_matches('>'));
    }
    kept + rest
}

/// Whether a function belongs to PID 1: by its own path, or by that of the type it is of.
fn is_ours(function: &str) -> bool {
    // A clone of many is made by the standard library, whatever is cloned.
    ROOMS.iter().any(|room| function.starts_with(&format!("dindctl::{room}::"))) && !function.contains("::ConvertVec::")
}

fn panics(called: &str) -> bool {
    let foreign = !called.starts_with("dindctl::") && !called.contains("drop_in_place");
    let of_type = |(kind, function): &(&str, &str)| called.starts_with(kind) && called.ends_with(function);
    foreign
        && (NAMES.contains(&called)
            || BEGINNINGS.iter().any(|beginning| called.starts_with(beginning))
            || PARTS.iter().any(|part| called.contains(part))
            || OF_TYPES.iter().any(of_type))
}

fn is_allowed(from: &str, called: &str) -> bool {
    ALLOWED.iter().any(|(known, part, _)| (known.is_empty() || from.starts_with(known)) && called.contains(part))
}

fn violations(functions: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let ours = functions.iter().filter(|(function, _)| is_ours(function));
    ours.flat_map(|(from, called)| {
        let bad = called.iter().filter(|called| panics(called) && !is_allowed(from, called));
        bad.map(move |called| format!("{from} calls {called}"))
    })
    .collect()
}

fn judge(functions: &BTreeMap<String, BTreeSet<String>>) -> Result<(), String> {
    let ours = functions.keys().filter(|function| is_ours(function)).count();
    if ours < 500 {
        return Err(format!("only {ours} functions of PID 1 are in the file: it is another one"));
    }
    // What is asked of the file has an answer: these do call such functions, for the reasons above.
    for (from, part, why) in ALLOWED.iter().filter(|(from, ..)| !from.is_empty()) {
        let found =
            functions.iter().any(|(name, called)| name.starts_with(from) && called.iter().any(|it| it.contains(part)));
        if !found {
            return Err(format!(
                "{from} does not call {part} ({why}): the list is out of date, or the search is broken"
            ));
        }
    }
    let found = violations(functions);
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}

fn finds() -> Result<(), String> {
    let function = |caller: &str, called: &[&str]| {
        (caller.to_owned(), called.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>())
    };
    for (name, short) in [
        ("<alloc::vec::Vec<u8>>::drain::<core::ops::range::RangeFull>", "alloc::vec::Vec::drain"),
        ("<a::B<fn(u8) -> c::D> as e::F<G>>::h::{closure#0}", "a::B as e::F::h::{closure#0}"),
        ("<dindctl::init::lines::LineSplitter>::push", "dindctl::init::lines::LineSplitter::push"),
    ] {
        if clean(name) != short {
            return Err(format!("{name} became {}", clean(name)));
        }
    }
    let functions = BTreeMap::from([
        function(
            "dindctl::init::unit::Unit::start",
            &["core::panicking::panic_bounds_check", "dindctl::sys::signal::drain"],
        ),
        function("dindctl::sys::x::Y as core::ops::drop::Drop::drop", &["alloc::vec::Vec::drain"]),
        function("dindctl::exec::run::run", &["core::option::unwrap_failed"]),
        function("dindctl::init::lines::take_front", &["alloc::collections::vec_deque::VecDeque::drain"]),
    ]);
    let found = violations(&functions);
    let want = [
        "dindctl::init::unit::Unit::start calls core::panicking::panic_bounds_check",
        "dindctl::sys::x::Y as core::ops::drop::Drop::drop calls alloc::vec::Vec::drain",
    ];
    if found == want { Ok(()) } else { Err(format!("{found:#?}")) }
}
