//! Corpus 38: whatever two ends do, in whatever order, with losses, replays and restarts, no message is protected with a key
//! and a nonce that protected another one.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests")]

mod common;

use std::collections::HashMap;

use common::{Came, End, get, observe, parameters, random, store, stored};
use lwm2m_coap::{Code, Delivery, Observer, OptionNumber, udp};
use oscore::{Binding, OscoreOption, SenderSequence, Session, Standing};
use proptest::prelude::*;

/// Everything that was protected: by the keys of which ID Context, by which end, and under whose number.
#[derive(Default)]
struct Ledger {
    sent: HashMap<Under, Vec<u8>>,
}

/// Which keys, of which end, and which nonce.
type Under = (Option<Vec<u8>>, usize, Nonce);

#[derive(Debug, PartialEq, Eq, Hash)]
enum Nonce {
    Own(u64),
    OfRequest(u64),
}

impl Ledger {
    /// Notes what `end` sent, of its own accord or as the answer to `request`.
    fn note(&mut self, id_context: Option<&[u8]>, end: usize, datagram: &[u8], request: Option<&[u8]>) {
        let nonce = match (number(datagram), request) {
            (Some(number), _) => Nonce::Own(number),
            (None, request) => Nonce::OfRequest(number(request.unwrap()).unwrap()),
        };
        let payload = udp::parse(datagram).unwrap().1.payload.to_vec();
        let before = self.sent.insert((id_context.map(<[u8]>::to_vec), end, nonce), payload.clone());
        assert!(before.is_none_or(|before| before == payload), "another message under the same nonce");
    }
}

fn number(datagram: &[u8]) -> Option<u64> {
    let (_, message) = udp::parse(datagram).unwrap();
    let option = message.options.get(OptionNumber::OSCORE).unwrap();
    OscoreOption::parse(option).unwrap().partial_iv.map(|partial_iv| partial_iv.sequence())
}

#[derive(Clone, Debug)]
enum Act {
    Request {
        by: usize,
        observes: bool,
        delivered: bool,
        answered: bool,
    },
    Notify {
        by: usize,
    },
    Replay {
        which: prop::sample::Index,
    },
    Restart {
        which: usize,
    },
    Rederive,
    Renew {
        which: usize,
    },
    /// What is wanted gets into storage.
    Store {
        which: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..2_usize, any::<bool>(), prop::bool::weighted(0.9), prop::bool::weighted(0.9))
            .prop_map(|(by, observes, delivered, answered)| Act::Request { by, observes, delivered, answered }),
        3 => (0..2_usize).prop_map(|by| Act::Notify { by }),
        3 => any::<prop::sample::Index>().prop_map(|which| Act::Replay { which }),
        1 => (0..2_usize).prop_map(|which| Act::Restart { which }),
        1 => Just(Act::Rederive),
        1 => (0..2_usize).prop_map(|which| Act::Renew { which }),
        6 => (0..2_usize).prop_map(|which| Act::Store { which }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_pair_of_key_and_nonce_comes_twice(acts in prop::collection::vec(act(), 1..60)) {
        let names = [parameters(&[1], &[2]), parameters(&[2], &[1])];
        let mut seed = 1;
        let mut ends = names.clone().map(|parameters| {
            seed += 1;
            let mut end = End::new(parameters, seed);
            end.rederives = true;
            end.is_durable = true;
            end
        });
        // What storage has of each.
        let mut storage = [stored(SenderSequence::STEP), stored(SenderSequence::STEP)];
        let mut observers: [Vec<Observer<Binding>>; 2] = Default::default();
        let mut ledger = Ledger::default();
        let mut requests: Vec<(usize, Vec<u8>)> = Vec::new();

        let answer = |ledger: &mut Ledger, end: &mut End, which: usize, observers: &mut Vec<Observer<Binding>>, datagram: &[u8], genuine: bool| {
            let Came::Request { mut exchange, .. } = end.handle(datagram) else { return None };
            let binding = *exchange.binding();
            let challenged = binding.standing() != Standing::Fresh;
            if binding.standing() == Standing::Unproven {
                // As if it came back with the right Echo, which a replayed one cannot have.
                if genuine {
                    let value = end.echo();
                    let proven = end.session.recover(binding, end.now, Some(&value));
                    exchange.set_binding(proven.unwrap_or(binding));
                }
            } else if !challenged {
                observers.push(exchange.observer());
            }
            let code = if challenged { Code::UNAUTHORIZED } else { Code::CONTENT };
            let payload = format!("{}", ledger.sent.len());
            if !end.session.is_current(exchange.binding()) || exhausted(end) {
                return None;
            }
            let sent = end.respond(&mut exchange, code, |writer| writer.payload(payload.as_bytes()).unwrap());
            let id = match binding.standing() == Standing::Rederiving {
                true => {
                    let (_, message) = udp::parse(&sent).unwrap();
                    let option = OscoreOption::parse(message.options.get(OptionNumber::OSCORE).unwrap()).unwrap();
                    // R2 is in no other answer.
                    Some(option.kid_context.unwrap().bytes().to_vec())
                }
                false => end.session.context().id_context().map(<[u8]>::to_vec),
            };
            ledger.note(id.as_deref(), which, &sent, Some(datagram));
            Some(sent)
        };

        for act in acts {
            match act {
                Act::Request { by, observes, delivered, answered } => {
                    let [one, other] = &mut ends;
                    let (near, far) = if by == 0 { (one, other) } else { (other, one) };
                    let write = if observes { observe } else { get };
                    let Ok((_, sent)) = near.request(Code::GET, write) else { continue };
                    ledger.note(near.session.context().id_context(), by, &sent, None);
                    requests.push((by, sent.clone()));
                    if delivered {
                        let back = answer(&mut ledger, far, 1 - by, &mut observers[1 - by], &sent, true);
                        if let (Some(back), true) = (back, answered) {
                            near.handle(&back);
                        }
                    }
                    near.peer.fail_all();
                    while near.peer.poll_event(near.now).is_some() {}
                }
                Act::Notify { by } => {
                    let end = &mut ends[by];
                    if exhausted(end) {
                        continue;
                    }
                    if let Some(observer) = observers[by].iter().rfind(|observer| end.session.is_current(&observer.binding)) {
                        let payload = format!("n{}", ledger.sent.len());
                        let sent = end.notify(observer, Delivery::NonConfirmable, payload.as_bytes());
                        ledger.note(end.session.context().id_context(), by, &sent, None);
                    }
                }
                Act::Replay { which } => {
                    if requests.is_empty() {
                        continue;
                    }
                    let (by, mut sent) = requests[which.index(requests.len())].clone();
                    // Another message id: not a duplicate of the message layer.
                    sent[2] ^= 0x55;
                    let far = 1 - by;
                    answer(&mut ledger, &mut ends[far], far, &mut observers[far], &sent, false);
                }
                Act::Restart { which } => {
                    seed += 1;
                    let session = Session::restored(&names[which], &storage[which], random(seed));
                    ends[which] = End::with(names[which].clone(), session, seed);
                    ends[which].rederives = true;
                    ends[which].is_durable = true;
                    observers[which].clear();
                }
                Act::Rederive => ends[0].rederive(),
                Act::Renew { which } => ends[which].session.renew(),
                Act::Store { which } => {
                    if let Some(saved) = store(&mut ends[which].session) {
                        storage[which] = saved;
                    }
                }
            }
        }
    }
}

fn exhausted(end: &End) -> bool {
    let sequence = end.session.context().sequence();
    sequence.wanted().is_some_and(|bound| sequence.next() + 2 + SenderSequence::STEP > bound)
}
