//! What the handshake waits for its owner to do (invariant: one operation at a time, and no message of the handshake is
//! processed while it is under way).

use core::borrow::BorrowMut;

#[cfg(feature = "ecdhe")]
use crate::computation::{Computation, Computed, Product, Task};
use crate::connection::Connection;
use crate::crypto::Crypto;
use crate::error::{ProvideError, Reason};
use crate::event::{Answer, Input, Operation, Pending, PendingId};
use crate::handshake::{Failure, Handshake, Step};
#[cfg(feature = "server")]
use crate::psk::PSK_MAX;
use crate::time::Instant;

/// The operation that is under way, if there is one.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    operation: Option<Wait>,
    /// Whether `poll_pending` reported it.
    is_asked: bool,
    /// What the next operation is called.
    id: PendingId,
}

/// The kinds of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    #[cfg(all(feature = "server", feature = "ecdhe"))]
    Share,
    #[cfg(all(feature = "server", feature = "ecdhe"))]
    Agree,
    #[cfg(feature = "server")]
    LookUp,
    #[cfg(feature = "rpk")]
    CheckPeer,
    #[cfg(feature = "rpk")]
    Prove,
    #[cfg(feature = "rpk")]
    Present,
    #[cfg(feature = "rpk")]
    Sign,
}

impl Waiting {
    pub(crate) const NONE: Self =
        Self { operation: None, is_asked: false, id: PendingId { handshake: [0; 8], count: 0 } };

    /// For the handshake in which this side has this random.
    pub(crate) fn of(random: &[u8; 32]) -> Self {
        let handshake = *random.first_chunk().unwrap_or(&[0; 8]);
        Self { id: PendingId { handshake, count: 0 }, ..Self::NONE }
    }

    pub(crate) const fn want(&mut self, operation: Wait) {
        self.operation = Some(operation);
        self.is_asked = false;
    }

    /// Whether there is one, reported or not.
    pub(crate) const fn is_for_any(&self) -> bool {
        self.operation.is_some()
    }

    /// Whether it is about the message whose turn it is, which stays where it was put together until then.
    #[cfg(feature = "rpk")]
    pub(crate) const fn is_for_message(&self) -> bool {
        matches!(self.operation, Some(Wait::CheckPeer))
    }

    /// Whether an owner does not do what it was asked, and that is not to find a pre-shared key.
    pub(crate) const fn is_for_more_than_a_key(&self) -> bool {
        #[cfg(feature = "server")]
        if matches!(self.operation, Some(Wait::LookUp)) {
            return false;
        }
        self.operation.is_some()
    }

    /// The operation, if it was not reported before.
    fn ask(&mut self) -> Option<Wait> {
        self.operation.filter(|_| !core::mem::replace(&mut self.is_asked, true))
    }

    fn under_way(&self) -> Option<(PendingId, Wait)> {
        self.operation.filter(|_| self.is_asked).map(|operation| (self.id, operation))
    }

    fn asked(&self, id: PendingId) -> Option<Wait> {
        self.operation.filter(|_| self.is_asked && id == self.id)
    }

    fn done(&mut self) {
        self.id.count = self.id.count.wrapping_add(1);
        self.operation = None;
    }
}

impl<const N: usize, C: Crypto> Handshake<N, C> {
    /// The same as [`Connection::pending`], of memory that is lent.
    pub fn pending(&self) -> Option<Pending<'_>> {
        let Self { core, reassembly: _reassembly, .. } = self;
        let (id, wait) = core.waiting.under_way()?;
        #[cfg(feature = "ecdhe")]
        let compute = |task| Operation::Compute(Computation::new(id, core.agreement.secret(), task));
        let operation = match wait {
            #[cfg(all(feature = "server", feature = "ecdhe"))]
            Wait::Share => compute(Task::Share(core.agreement.group())),
            #[cfg(all(feature = "server", feature = "ecdhe"))]
            Wait::Agree => compute(Task::Agree(core.agreement.peer())),
            #[cfg(feature = "server")]
            Wait::LookUp => Operation::LookUpPsk { identity: &core.identity },
            #[cfg(feature = "rpk")]
            Wait::CheckPeer => {
                let certificate = core.authentication.certificate(_reassembly.complete()?.body)?;
                Operation::CheckPeer { certificate }
            }
            #[cfg(feature = "rpk")]
            Wait::Prove => compute(Task::Prove(core.agreement.peer(), core.authentication.signed())),
            #[cfg(feature = "rpk")]
            Wait::Present => Operation::Present { certificate_type: core.authentication.own },
            #[cfg(feature = "rpk")]
            Wait::Sign => Operation::Sign { digest: &core.authentication.digest },
        };
        Some(Pending { id, operation })
    }
}

impl<const N: usize, C: Crypto, H: BorrowMut<Handshake<N, C>>> Connection<N, H, C> {
    /// An operation that the engine waits for, once for each. Answer it with [`Connection::provide`], at once or later.
    pub fn poll_pending(&mut self) -> Option<Pending<'_>> {
        self.handshake.as_mut()?.borrow_mut().core.waiting.ask()?;
        self.pending()
    }

    /// The operation that [`Connection::poll_pending`] returned, until it is answered: for who has fetched meanwhile what the
    /// answer takes, and does not want to keep a copy.
    pub fn pending(&self) -> Option<Pending<'_>> {
        self.handshake.as_ref()?.borrow().pending()
    }

    /// Answers a pending operation. Call [`Connection::poll_pending`] and [`Connection::poll_transmit`] afterwards.
    ///
    /// # Errors
    /// The operation is not pending (any more), the answer is one to another operation, or the key has an impossible length;
    /// an operation that is pending still is then.
    pub fn provide(
        &mut self,
        now: Instant,
        id: PendingId,
        answer: Answer<'_>,
    ) -> Result<Option<Input<'static>>, ProvideError> {
        self.provide_and(now, id, answer, |_step, _key| {
            #[cfg(all(feature = "server", feature = "resumption"))]
            _step.use_key_with_ticket(_key, |_| None);
            #[cfg(all(feature = "server", not(feature = "resumption")))]
            _step.use_key(_key, |_, _| ());
        })
    }

    /// The same; on a server `use_key` derives the keys of the connection.
    pub(crate) fn provide_and(
        &mut self,
        now: Instant,
        id: PendingId,
        answer: Answer<'_>,
        use_key: impl FnOnce(&mut Step<'_, N, C>, &[u8]),
    ) -> Result<Option<Input<'static>>, ProvideError> {
        let (mut step, _reassembly) = self.step(now).ok_or(ProvideError::NotPending)?;
        let wait = step.core.waiting.asked(id).ok_or(ProvideError::NotPending)?;
        step.check_answer(id, wait, &answer)?;
        step.core.waiting.done();
        let done = match (wait, answer) {
            #[cfg(feature = "server")]
            (Wait::LookUp, Answer::Psk { key }) => {
                use_key(&mut step, key);
                Ok(())
            }
            #[cfg(feature = "server")]
            (Wait::LookUp, _) => {
                step.use_decoy(Reason::UnknownIdentity);
                Ok(())
            }
            #[cfg(feature = "rpk")]
            (Wait::CheckPeer, Answer::Trusted) => {
                step.go_on_with_trusted();
                _reassembly.advance();
                Ok(())
            }
            #[cfg(feature = "rpk")]
            (Wait::CheckPeer, Answer::Refused(refusal)) => Err(Reason::UntrustedPeer(refusal).into()),
            #[cfg(feature = "ecdhe")]
            (wait, Answer::Computed(computed)) => step.go_on_with_computed(wait, computed, use_key),
            #[cfg(feature = "rpk")]
            (Wait::Present, Answer::Certificates(certificates @ [_, ..])) => {
                step.go_on_with_own(certificates)
            }
            #[cfg(feature = "rpk")]
            (Wait::Sign, Answer::Signature(signature)) => step.go_on_with_signature(signature),
            #[cfg(feature = "rpk")]
            (Wait::Present | Wait::Sign, _) => Err(Reason::NothingToPresent.into()),
            #[cfg(feature = "ecdhe")]
            _ => Err(Reason::OperationUnanswered.into()),
        };
        match done {
            Ok(()) => {}
            Err(Failure::Refused(reason)) => return Ok(Some(self.close_for(reason))),
            Err(Failure::Dropped(dropped)) => self.association.count(dropped),
        }
        let input = self.handle_complete(now);
        #[cfg(feature = "server")]
        let input = input.or_else(|| self.handle_early(now));
        Ok(input)
    }
}

impl<const N: usize, C: Crypto> Step<'_, N, C> {
    #[cfg(feature = "ecdhe")]
    fn go_on_with_computed(
        &mut self,
        wait: Wait,
        computed: Computed,
        _use_key: impl FnOnce(&mut Self, &[u8]),
    ) -> Result<(), Failure> {
        match (wait, computed.product()?) {
            #[cfg(feature = "server")]
            (Wait::Share, Product::Share(share)) => self.go_on_with_share(share),
            #[cfg(feature = "server")]
            (Wait::Agree, Product::Shared(shared)) => {
                self.go_on_with_agreed(&shared);
                Ok(())
            }
            #[cfg(feature = "rpk")]
            (Wait::Prove, Product::Shared(shared)) => self.go_on_with_proven(&shared, _use_key),
            _ => Err(Reason::OperationUnanswered.into()),
        }
    }

    /// Whether the answer is one to this operation, and a key may be one.
    fn check_answer(&self, id: PendingId, wait: Wait, answer: &Answer<'_>) -> Result<(), ProvideError> {
        #[cfg(not(feature = "ecdhe"))]
        let _ = id;
        match (wait, answer) {
            #[cfg(feature = "server")]
            (Wait::LookUp, Answer::Psk { key }) if key.is_empty() || key.len() > PSK_MAX => {
                Err(ProvideError::KeyLength)
            }
            #[cfg(feature = "server")]
            (Wait::LookUp, Answer::Psk { .. } | Answer::Unknown) => Ok(()),
            #[cfg(feature = "ecdhe")]
            (_, Answer::Computed(computed)) if computed.is_of(id) => Ok(()),
            #[cfg(feature = "rpk")]
            (Wait::CheckPeer, Answer::Trusted | Answer::Refused(_))
            | (Wait::Present, Answer::Certificates(_) | Answer::Unknown)
            | (Wait::Sign, Answer::Signature(_) | Answer::Unknown) => Ok(()),
            #[cfg(feature = "ecdhe")]
            _ => Err(ProvideError::OtherOperation),
        }
    }
}
