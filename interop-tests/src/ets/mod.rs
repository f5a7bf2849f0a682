//! OMA enabler test cases as data, and their runner: the server's side against any client.
//!
//! A [`Case`] is a list of steps; [`run()`] starts the client for it and judges every message. Each case is a device of its
//! own on one [`Bench`], so that cases can run beside each other.

mod bench;
mod bootstrap;
mod case;
mod management;
mod message;
mod registration;
mod report;
mod reporting;
mod run;
mod subject;
mod table;

pub use bench::{Bench, BenchError};
pub use case::{Case, Entry, Expected, Is, Literal, Step, Verdict};
pub use report::{list, table};
pub use run::{Outcome, Plan, run};
pub use subject::{PLACEHOLDERS, Template, TemplateError, Values};
pub use table::CASES;
