//! What LwM2M means, on the device and on the server: paths, values, objects and operations, free of transport, heap and
//! clock.
//!
//! A device maker describes an object by a table ([`object!`]) and implements [`Object`] for it.
#![no_std]

mod arguments;
mod attributes;
mod bootstrap;
pub mod decimal;
mod definition;
pub mod defs;
pub mod format;
pub mod mapping;
mod object;
mod operation;
mod path;
pub mod ready;
mod registration;
mod tree;
mod value;

pub use arguments::Arguments;
pub use attributes::{Attributes, AttributesChange, Decision, Progress, Samples};
pub use bootstrap::{Discovered, DiscoveredEntry};
pub use definition::{ObjectDef, Operations, ResourceDef, Version};
pub use object::{At, Change, Completion, Object};
pub use operation::{Content, Error, Format, Operation, Outcome, WriteMode};
pub use path::{InvalidPath, Level, Path, Target, UNASSIGNED};
pub use registration::{Entry, Location, Parameters, Registered, Root, implied_version};
pub use tree::{Access, Context, Right, Tree, Unrestricted};
pub use value::{Kind, ObjectLink, Value};
