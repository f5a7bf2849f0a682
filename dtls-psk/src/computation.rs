//! Arithmetic on elliptic curves that a handshake waits for: it takes longer than a packet may wait, and is done wherever its owner
//! likes (invariant: what came of it is good for its handshake alone).

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::crypto::Crypto;
#[cfg(feature = "rpk")]
use crate::crypto::POINT;
use crate::ecdhe::{Group, Share};
use crate::error::Reason;
use crate::event::PendingId;
#[cfg(feature = "rpk")]
use crate::signature::SIGNATURE;

/// What is to be computed on an elliptic curve, which [`Computation::run`] does wherever it is called.
pub struct Computation {
    id: PendingId,
    /// Of this side's half of the agreement.
    secret: [u8; 32],
    task: Task,
}

/// What a [`Computation`] is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Purpose {
    /// This side's half of the agreement.
    Share,
    /// What both sides agree on.
    Agreement,
    /// Whether the peer has its key, and what both sides agree on.
    Proof,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Task {
    #[cfg(feature = "server")]
    Share(Group),
    #[cfg(feature = "server")]
    Agree(Share),
    #[cfg(feature = "rpk")]
    Prove(Share, Signed),
}

/// What the peer signed, and the key that it says it has.
#[cfg(feature = "rpk")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) key: [u8; POINT],
    pub(crate) digest: [u8; 32],
    pub(crate) signature: [u8; SIGNATURE],
}

/// What came of a [`Computation`]; good for its handshake alone. It is wiped when it is dropped; a clone leaves nothing behind where
/// a move would.
#[derive(Clone)]
pub struct Computed {
    id: PendingId,
    result: Result<Product, Reason>,
}

#[derive(Clone)]
pub(crate) enum Product {
    #[cfg(feature = "server")]
    Share(Share),
    Shared(Zeroizing<[u8; 32]>),
}

impl Computation {
    pub(crate) const fn new(id: PendingId, secret: &[u8; 32], task: Task) -> Self {
        Self { id, secret: *secret, task }
    }

    /// Computes it.
    #[must_use]
    pub fn run<C: Crypto>(&self) -> Computed {
        let Self { id, secret, task } = self;
        let result = match task {
            // The secret was drawn so that it has a share.
            #[cfg(feature = "server")]
            Task::Share(group) => {
                Share::of::<C>(*group, secret).map(Product::Share).ok_or(Reason::OperationUnanswered)
            }
            #[cfg(feature = "server")]
            Task::Agree(share) => agree::<C>(share, secret),
            #[cfg(feature = "rpk")]
            Task::Prove(share, Signed { key, digest, signature }) => {
                if C::p256_verify(key, digest, signature) {
                    agree::<C>(share, secret)
                } else {
                    Err(Reason::BadSignature)
                }
            }
        };
        Computed { id: *id, result }
    }

    /// What it is for.
    pub const fn purpose(&self) -> Purpose {
        match self.task {
            #[cfg(feature = "server")]
            Task::Share(_) => Purpose::Share,
            #[cfg(feature = "server")]
            Task::Agree(_) => Purpose::Agreement,
            #[cfg(feature = "rpk")]
            Task::Prove(..) => Purpose::Proof,
        }
    }

    /// In which group both sides agree.
    pub const fn group(&self) -> Group {
        match &self.task {
            #[cfg(feature = "server")]
            Task::Share(group) => *group,
            #[cfg(feature = "server")]
            Task::Agree(share) => share.group(),
            #[cfg(feature = "rpk")]
            Task::Prove(share, _) => share.group(),
        }
    }
}

fn agree<C: Crypto>(share: &Share, secret: &[u8; 32]) -> Result<Product, Reason> {
    let mut shared = Zeroizing::new([0; 32]);
    share.agree::<C>(secret, &mut shared).ok_or(Reason::InvalidShare)?;
    Ok(Product::Shared(shared))
}

impl Computed {
    /// Whether it answers this operation.
    pub(crate) fn is_of(&self, id: PendingId) -> bool {
        self.id == id
    }

    pub(crate) fn product(self) -> Result<Product, Reason> {
        self.result
    }
}

impl Drop for Computation {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl ZeroizeOnDrop for Computation {}

// What is secret in it is.
impl ZeroizeOnDrop for Computed {}

impl PartialEq for Computation {
    fn eq(&self, other: &Self) -> bool {
        // What is secret belongs to what is not.
        (self.id, &self.task) == (other.id, &other.task)
    }
}

impl Eq for Computation {}

impl core::fmt::Debug for Computation {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_tuple("Computation").field(&self.purpose()).finish()
    }
}

impl core::fmt::Debug for Computed {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_tuple("Computed").field(&self.result.as_ref().err()).finish()
    }
}
