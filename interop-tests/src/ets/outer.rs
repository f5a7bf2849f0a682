//! What a hop without keys sees of a case under OSCORE (RFC 8613): it stands between the device and the server.
//!
//! Invariant: what it passes on is what it judges.

use std::sync::{Arc, Mutex, PoisonError};

use lwm2m_coap::{Code, Message, OptionNumber, udp};

use crate::relay::Relay;
use crate::sniffer::From;

use super::run::{Outcomes, Stop};

/// The hop; it passes on what comes until the case ends.
#[derive(Debug)]
pub(crate) struct Outer {
    relay: Relay,
    passed: Arc<Mutex<Passed>>,
}

/// What was passed on.
#[derive(Debug, Default)]
struct Passed {
    requests: usize,
    responses: usize,
    /// The first message that is not protected, in words.
    open: Option<String>,
}

impl Outer {
    /// A hop in front of the server at this URI.
    pub(crate) fn before(uri: &str) -> Self {
        let passed = Arc::new(Mutex::new(Passed::default()));
        let seen = Arc::clone(&passed);
        let relay = Relay::start(uri, move |from, datagram| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).take(from, datagram);
        });
        Self { relay, passed }
    }

    /// The URI that stands for the server's.
    pub(crate) fn uri(&self) -> String {
        format!("coap://127.0.0.1:{}", self.relay.port())
    }

    /// Whether there were messages, and every one of them was protected.
    pub(crate) fn judge(&self) -> Outcomes {
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = "POST, FETCH, 2.04 and 2.05 with the OSCORE option, and nothing else in the clear";
        match &passed.open {
            Some(open) => Err(Stop::failed(expected, open)),
            None if passed.requests == 0 || passed.responses == 0 => Err(Stop::failed(expected, "nothing")),
            None => Ok(()),
        }
    }
}

impl Passed {
    fn take(&mut self, from: From, datagram: &[u8]) {
        let Ok((_, message)) = udp::parse(datagram) else {
            self.open.get_or_insert_with(|| format!("{from:?} sent what is no CoAP message"));
            return;
        };
        if message.code == Code::EMPTY {
            return;
        }
        let count = if message.code.is_request() { &mut self.requests } else { &mut self.responses };
        *count = count.saturating_add(1);
        if let Some(what) = open(&message) {
            let code = (message.code.class(), message.code.detail());
            self.open.get_or_insert_with(|| format!("{from:?} sent {}.{:02} with {what}", code.0, code.1));
        }
    }
}

/// What of a message is in the clear that must not be (§4.1, §4.2).
fn open(message: &Message<'_>) -> Option<String> {
    const CODES: [Code; 4] = [Code::POST, Code::FETCH, Code::CHANGED, Code::CONTENT];
    // Those of class U.
    const OUTSIDE: [OptionNumber; 9] = [
        OptionNumber::OSCORE,
        OptionNumber::URI_HOST,
        OptionNumber::URI_PORT,
        OptionNumber::OBSERVE,
        OptionNumber::MAX_AGE,
        OptionNumber::HOP_LIMIT,
        OptionNumber::PROXY_URI,
        OptionNumber::PROXY_SCHEME,
        OptionNumber::NO_RESPONSE,
    ];
    if !CODES.contains(&message.code) {
        return Some("its own code".to_owned());
    }
    if message.options.get(OptionNumber::OSCORE).is_none() {
        return Some("no OSCORE option".to_owned());
    }
    let shown = message.options.into_iter().find(|(number, _)| !OUTSIDE.contains(number));
    shown.map(|(number, _)| format!("option {}", number.0)).or_else(|| {
        // A code and a tag of 8 bytes at least.
        (message.payload.len() < 9).then(|| "no ciphertext".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use lwm2m_coap::{Header, Kind, MessageId, Room, Token, Writer};

    use super::*;

    fn message(code: Code, options: &[(OptionNumber, &[u8])], payload: &[u8]) -> Vec<u8> {
        let mut out = [0; 128];
        let mut writer = Writer::new(&mut out, Room::NONE, code);
        for (number, value) in options {
            writer.option(*number, value).expect("it fits");
        }
        writer.payload(payload).expect("it fits");
        let header = Header { kind: Kind::Confirmable, id: MessageId(1) };
        let range = writer.finish().expect("it is whole").emit(header, Token::EMPTY);
        out.get(range).expect("it was written").to_vec()
    }

    #[test]
    fn a_message_in_the_clear_is_found_among_protected_ones() {
        let oscore = (OptionNumber::OSCORE, &[9, 1, 2][..]);
        let protected = message(Code::POST, &[oscore], &[7; 12]);
        let open = [
            (message(Code::POST, &[], &[7; 12]), "no OSCORE option"),
            (message(Code::GET, &[oscore], &[7; 12]), "its own code"),
            (message(Code::POST, &[oscore, (OptionNumber::URI_PATH, b"rd")], &[7; 12]), "option 11"),
            (message(Code::POST, &[oscore], &[7; 8]), "no ciphertext"),
        ];
        for (datagram, what) in open {
            let mut passed = Passed::default();
            passed.take(From::Client, &protected);
            assert_eq!((passed.requests, &passed.open), (1, &None));
            passed.take(From::Client, &datagram);
            assert!(passed.open.is_some_and(|open| open.ends_with(what)), "{what}");
        }
    }
}
