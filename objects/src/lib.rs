//! What LwM2M means, on the device and on the server: paths, values, objects and operations; without heap, clock or
//! sockets, and without the text formatting and float code of `core`.
//!
//! # A device maker
//!
//! describes an object by a table, one line for each resource as the registry has it ([`object!`], or a ready one of
//! [`defs`]), and implements [`Object`]: `read` for what servers read, `apply` for what they write, `execute` for what
//! they execute. What servers send is checked before the object sees it: operation, type, range. [`ready`] holds some
//! that are complete.
//!
//! ```
//! use lwm2m_objects::{Arguments, At, Change, Completion, Error, Object, ObjectDef, Value, object};
//!
//! object! {
//!     /// A door (private object 42769).
//!     DOOR = 42769 version 1.0, single, optional {
//!         0 R  S M Boolean;              // open
//!         1 RW S M Unsigned in 0, 600;   // seconds until it closes by itself
//!         2 E  S M Nothing;              // open it
//!     }
//! }
//!
//! struct Door { open: bool, closes_after: u64 }
//!
//! impl Object for Door {
//!     fn definition(&self) -> &'static ObjectDef {
//!         &DOOR
//!     }
//!
//!     fn read(&self, at: At) -> Option<Value<'_>> {
//!         match at.resource {
//!             0 => Some(Value::Boolean(self.open)),
//!             1 => Some(Value::Unsigned(self.closes_after)),
//!             _ => None,
//!         }
//!     }
//!
//!     fn apply(&mut self, _instance: u16, change: &Change<'_>) -> Result<(), Error> {
//!         match *change {
//!             Change::Set { resource: 1, value: Value::Unsigned(seconds), .. } => self.closes_after = seconds,
//!             Change::Reset { .. } => self.closes_after = 60,
//!             _ => return Err(Error::MethodNotAllowed),
//!         }
//!         Ok(())
//!     }
//!
//!     fn execute(&mut self, _: u16, _: u16, _: Arguments<'_>) -> Result<Completion, Error> {
//!         self.open = true;
//!         Ok(Completion::Done)
//!     }
//! }
//! ```
//!
//! # The owner of the objects
//!
//! (the client, as a rule) reads a message as an [`Operation`] with [`mapping`], performs it on the [`Tree`], and answers
//! with its [`Outcome`]:
//!
//! ```
//! # use lwm2m_objects::{At, Object, ObjectDef, Value, defs, ready::Sensor};
//! use lwm2m_coap::{Buffer, Code, Message, Writer};
//! use lwm2m_objects::{Context, Tree, mapping};
//!
//! fn answer(message: &Message<'_>, objects: &mut [&mut dyn Object], writer: &mut Writer<'_>) {
//!     let mut space = [0; 256];
//!     let mut body = Buffer::new(&mut space);
//!     let mut tree = Tree::new(&mut [], objects);
//!     let result = mapping::management(message, "")
//!         .and_then(|operation| tree.perform(&operation, &Context::default(), &mut body));
//!     let written = mapping::respond(&result, writer).and_then(|()| match result {
//!         Ok(_) => writer.payload(body.written()),
//!         Err(_) => Ok(()),
//!     });
//!     if written.is_err() {
//!         writer.restart(Code::INTERNAL_SERVER_ERROR);
//!     }
//! }
//! ```
//!
//! A body of any length is answered without holding it: perform the operation on a [window] for each block.
//!
//! [window]: lwm2m_coap::block::Window
//!
//! # A server
//!
//! writes operations with [`mapping::emit`], reads registrations with [`mapping::registration`] and [`Registered`], and
//! payloads with [`format::Items`] and [`format::encode`].
#![no_std]

mod arguments;
mod attributes;
mod bootstrap;
pub mod decimal;
mod definition;
pub mod defs;
mod float;
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
pub use attributes::{Attributes, AttributesChange, Decision, Progress, Samples, Sides};
pub use bootstrap::{Discovered, DiscoveredEntry};
pub use definition::{ObjectDef, Operations, ResourceDef, Version};
pub use object::{At, Change, Completion, Object};
pub use operation::{Content, Error, Format, Operation, Outcome, Paths, WriteMode};
pub use path::{InvalidPath, Level, Path, Target, UNASSIGNED};
pub use registration::{Entry, Location, Parameters, Registered, Root, implied_version};
pub use tree::{Access, Context, Right, Tree, Unrestricted};
pub use value::{Kind, ObjectLink, Value};
