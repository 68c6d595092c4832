/*!
What must not leave a machine: text and JSON for somebody else, without what opens doors.

[`shape`] keeps of a document what is known to be harmless, by name, and nothing else. [`text`] is for what nobody chose: log lines, messages,
the strings that are kept. It takes out what [`rules`] recognise by its looks ([`names`] has those of settings, [`random`] what no person
types) and what is known to be secret ([`masks`]), wherever it turns up.

Decides over plain text; nothing here reads a file. In doubt it takes out too much.
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod masks;
pub mod names;
pub mod random;
pub mod rules;
pub mod shape;
pub mod text;
