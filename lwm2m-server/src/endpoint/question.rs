//! What the engine must be told by its owner before it goes on: who an identity belongs to, who may come in, what a
//! bootstrap writes. The engine parks and resumes; it never calls out.
//!
//! Invariant: an answer to a question whose association is gone, or that was answered, changes nothing.

use core::fmt;

use lwm2m_coap::{Instant, Rng};

use crate::credentials::{Authenticated, BootstrapPlan, Context, Named, Role};

use super::association::{Admission, Who};
use super::slab::Key;
use super::{Address, Endpoint, Transmit};

/// Names a question until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuestionId(pub(crate) Asker);

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Asker {
    /// One association, by the number of its question.
    Association { key: Key, number: u32 },
    /// All handshakes or requests that named an identity, by the number of its look-up.
    LookUp(u64),
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
    /// Which OSCORE contexts may a request be protected with, and whose are they?
    LookUpContext {
        /// Which server is asked for.
        role: Role,
        /// How the request names its keys; nothing is proven.
        named: Named,
        /// Where it came from.
        from: Address,
    },
    /// May this device come in, or stay?
    Admit {
        /// Who it is, or says it is.
        who: Who,
    },
    /// May this device register?
    Register {
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
    /// The contexts, and who proves to be that by them.
    Contexts(Vec<Context>),
    /// It may.
    Admitted,
    /// It may, with this OSCORE context inside its session, and nothing without it.
    Protected(Box<Context>),
    /// What to write.
    Plan(Box<BootstrapPlan>),
    /// It may stay, but not register: told by 4.03, so that it bootstraps.
    Withheld {
        /// Why, in words.
        reason: String,
    },
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
            Self::Contexts(contexts) => f.debug_tuple("Contexts").field(contexts).finish(),
            Self::Admitted => f.write_str("Admitted"),
            Self::Protected(context) => f.debug_tuple("Protected").field(context).finish(),
            Self::Plan(_) => f.write_str("Plan"),
            Self::Withheld { reason } => f.debug_struct("Withheld").field("reason", reason).finish(),
            Self::Refused { reason } => f.debug_struct("Refused").field("reason", reason).finish(),
        }
    }
}

impl Endpoint {
    /// Takes the answer to a question. What is returned lies in `out` and is to be sent first; then drain the `poll_*`
    /// methods.
    pub fn provide(
        &mut self,
        now: Instant,
        id: QuestionId,
        verdict: Verdict,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let QuestionId(asker) = id;
        let (key, number) = match asker {
            Asker::Association { key, number } => (key, number),
            Asker::LookUp(number) => return self.looked_up(now, number, &verdict, rng, out),
        };
        let association = self.associations.get_mut(key)?;
        if association.questions != number {
            return None;
        }
        let (local, to) = (association.local, association.answer_address());
        let asked = core::mem::replace(&mut association.admission, Admission::Settled);
        if asked != Admission::Settled {
            match (verdict, asked) {
                (Verdict::Refused { reason }, _) => {
                    self.forget_session_of(key);
                    self.close(now, key, &reason);
                }
                (verdict, Admission::Asked { full, named }) => {
                    let former = self.enter_context(key, &verdict, rng);
                    self.adopt(now, key, full, named);
                    self.end_former(key, former);
                }
                (verdict, Admission::Overtaken) => {
                    let former = self.enter_context(key, &verdict, rng);
                    former.into_iter().for_each(|former| self.remove(former));
                    self.end_observations(key, "the keys of its device are new");
                }
                _ => {}
            }
            self.mark_ready(key);
            return None;
        }
        let range = self.resume(now, key, verdict, rng, out);
        self.mark_ready(key);
        self.transmit(key, local, to, range?)
    }

    /// The next question to the owner. Call until `None`.
    pub fn poll_question(&mut self) -> Option<(QuestionId, Question)> {
        self.questions.pop_front()
    }

    /// A session that a certificate opened goes on until it ends, however long; so it is asked at the first message of a minute
    /// whether that certificate is still good.
    pub(crate) fn review(&mut self, key: Key) {
        let Some(association) = self.associations.get_mut(key) else { return };
        let who =
            association.who.as_ref().filter(|who| who.proven().is_some_and(|who| who.validity.is_some()));
        if let Some(who) = who.cloned()
            && association.admission == Admission::Settled
            && !association.passing.is_parked()
        {
            association.admission = Admission::Reviewed;
            self.ask(key, Question::Admit { who });
        }
    }

    /// Asks the owner; a former question of this association is void.
    pub(crate) fn ask(&mut self, key: Key, question: Question) {
        if let Some(association) = self.associations.get_mut(key) {
            association.questions = association.questions.wrapping_add(1);
            let id = QuestionId(Asker::Association { key, number: association.questions });
            self.questions.push_back((id, question));
        }
    }
}
