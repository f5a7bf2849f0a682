//! What the engine must be told by its owner before it goes on: who an identity belongs to, who may come in, what a
//! bootstrap writes. The engine parks and resumes; it never calls out.
//!
//! Invariant: an answer to a question whose association is gone, or that was answered, changes nothing.

use core::fmt;

use crate::credentials::{Authenticated, BootstrapPlan, Role};

use super::Address;
use super::association::Who;
use super::slab::Key;

/// Names a question until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuestionId {
    pub(crate) association: Key,
    pub(crate) number: u32,
}

/// A question of the engine; answer it with [`Endpoint::provide`](super::Endpoint::provide).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which key does this PSK identity have, and whose is it?
    LookUp {
        /// Which server is asked for.
        role: Role,
        /// The identity as it came; it is not proven.
        identity: Vec<u8>,
        /// Where it came from, for the event when it is refused.
        from: Address,
    },
    /// May this device register?
    Admit {
        /// Who it is, or says it is.
        who: Who,
    },
    /// May this device be bootstrapped, and what is to be written?
    Plan {
        /// Who it is, or says it is.
        who: Who,
    },
}

/// The answer to a [`Question`].
#[derive(Clone)]
pub enum Verdict {
    /// The key, and who proves to be that by it.
    Key {
        /// The pre-shared key.
        key: zeroize::Zeroizing<Vec<u8>>,
        /// Who it belongs to.
        who: Authenticated,
    },
    /// It may.
    Admitted,
    /// What to write.
    Plan(Box<BootstrapPlan>),
    /// No; the reason is for events, never for the wire.
    Refused {
        /// Why, in words.
        reason: String,
    },
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { who, .. } => f.debug_struct("Key").field("who", who).finish_non_exhaustive(),
            Self::Admitted => f.write_str("Admitted"),
            Self::Plan(_) => f.write_str("Plan"),
            Self::Refused { reason } => f.debug_struct("Refused").field("reason", reason).finish(),
        }
    }
}
