/*!
What must not leave a machine: text and JSON for somebody else, without what opens doors.

[`shape`] keeps of a document the [`fields`] that are known to be harmless, and nothing else. [`text`] is for what nobody chose: log lines, messages,
the strings that are kept. It takes out what [`rules`] recognise by its looks ([`names`] has those of settings, [`random`] what no person
types) and what is [`known`] to be secret, wherever it turns up ([`masks`]).

Decides over plain text; nothing here reads a file. In doubt it takes out too much.
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod fields;
pub mod known;
pub mod masks;
pub mod names;
pub mod random;
pub mod rules;
pub mod shape;
pub mod text;
