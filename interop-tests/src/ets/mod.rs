//! OMA enabler test cases as data, and their runner: the server's side against any client.
//!
//! A [`Case`] is a list of steps; [`run()`] starts the client for it and judges every message. Each case is a device of its
//! own on one [`Bench`], so that cases can run beside each other.

mod bench;
mod bootstrap;
mod case;
mod certificates;
mod depot;
mod discovering;
mod field;
mod leshan;
mod management;
mod message;
mod operated;
mod operator;
mod outer;
mod registration;
mod report;
mod reporting;
mod run;
mod step;
mod subject;
mod table;
mod trace;

pub use bench::{Bench, BenchError, Images};
pub use case::{Case, Enabler, Image, Verdict};
pub use field::{Field, run_client};
pub use operator::{Operator, Rest};
pub use report::{Counts, html, junit, list, markdown, table, verdicts, versions};
pub use run::{Outcome, Plan, run};
pub use subject::{PLACEHOLDERS, Template, TemplateError, Values};
pub use table::cases;
