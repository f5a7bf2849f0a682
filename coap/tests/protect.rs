//! The place of object security in the path, shown with a toy that only has its shape: it grows messages in front, hides
//! code, options and payload, refuses replays, and ties responses to requests.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use lwm2m_coap::protect::{Incoming, Protect, Refused, Unprotectable};
use lwm2m_coap::{
    Code, Delivery, Draft, Ignored, Input, Instant, Message, OptionNumber, Options, Parameters, Peer, Room,
    TokenPolicy, Writer, udp,
};

const KEY: u8 = 0x5a;
/// Outer option (number 9, no value), payload marker, sequence number, inner code.
const GROWTH: usize = 4;
const ROOM: Room = Room { head: GROWTH, tail: 0 };

#[derive(Default)]
struct Toy {
    sequence: u8,
    seen: Option<u8>,
    opened: usize,
}

impl Toy {
    fn open<'m>(&mut self, incoming: Incoming<'m>) -> Result<(Message<'m>, u8), Refused> {
        self.opened = self.opened.saturating_add(1);
        let token = incoming.token();
        let (datagram, _, payload) = incoming.into_parts();
        let [sequence, inner @ ..] = datagram.get_mut(payload).ok_or(Refused::Silent)? else {
            return Err(Refused::Silent);
        };
        inner.iter_mut().for_each(|byte| *byte ^= KEY);
        let [code, rest @ ..] = &*inner else { return Err(Refused::Silent) };
        let (options, payload) = Options::parse(rest).map_err(|_| Refused::Silent)?;
        Ok((Message { code: Code::from_u8(*code), token, options, payload }, *sequence))
    }

    fn seal(&mut self, draft: &mut Draft<'_>, outer: Code, sequence: u8) -> Result<(), Unprotectable> {
        let inner = draft.code().as_u8();
        let (buffer, place) = draft.parts_mut();
        let start = place.start.checked_sub(GROWTH).ok_or(Unprotectable::Full)?;
        buffer[start..place.start].copy_from_slice(&[0x90, 0xff, sequence, inner]);
        buffer[place.start.saturating_sub(1)..place.end].iter_mut().for_each(|byte| *byte ^= KEY);
        draft.replace(outer, start..place.end).map_err(|_| Unprotectable::Full)
    }
}

impl Protect for Toy {
    type Binding = u8;

    fn protects(&self) -> bool {
        true
    }

    fn unprotect_request<'m>(
        &mut self,
        incoming: Incoming<'m>,
        repeated: bool,
    ) -> Result<(Message<'m>, u8), Refused> {
        let (message, sequence) = self.open(incoming)?;
        if self.seen.is_some_and(|seen| seen >= sequence) && !repeated {
            return Err(Refused::Silent);
        }
        self.seen = Some(sequence);
        Ok((message, sequence))
    }

    fn unprotect_response<'m>(
        &mut self,
        binding: &u8,
        incoming: Incoming<'m>,
    ) -> Result<Message<'m>, Refused> {
        let (message, sequence) = self.open(incoming)?;
        if sequence == *binding { Ok(message) } else { Err(Refused::Silent) }
    }

    fn unprotect_notification<'m>(&mut self, _: Incoming<'m>) -> Result<Message<'m>, Refused> {
        Err(Refused::Reset)
    }

    fn protect_request(&mut self, draft: &mut Draft<'_>) -> Result<u8, Unprotectable> {
        self.sequence = self.sequence.saturating_add(1);
        self.seal(draft, Code::POST, self.sequence)?;
        Ok(self.sequence)
    }

    fn protect_response(
        &mut self,
        binding: &u8,
        _: bool,
        draft: &mut Draft<'_>,
    ) -> Result<(), Unprotectable> {
        self.seal(draft, Code::CHANGED, *binding)
    }
}

static PARAMETERS: Parameters =
    Parameters { known: &[OptionNumber::OSCORE, OptionNumber::URI_PATH], ..Parameters::DEFAULT };

type Remote = Peer<heapless::Vec<u8, 64>, 1, 2, 0, u8>;

#[test]
fn messages_are_unprotected_behind_duplicates_and_tokens_and_protected_before_the_copy() {
    let now = Instant::from_millis(0);
    let mut rng = |bytes: &mut [u8]| bytes.fill(3);
    let (mut client, mut server) =
        [(); 2].map(|()| Remote::new(&PARAMETERS, TokenPolicy::SECURED, &mut rng)).into();
    let (mut near, mut far) = (Toy::default(), Toy::default());
    let mut buffer = [0; 128];

    let token = client.next_token(&mut rng, |_| false);
    let mut writer = Writer::new(&mut buffer, ROOM, Code::GET);
    writer.option(OptionNumber::URI_PATH, b"3").unwrap();
    let (request, range) =
        client.request(now, Delivery::Confirmable, token, writer, &mut near, &mut rng).unwrap();
    let asked = buffer[range].to_vec();
    let (_, outer) = udp::parse(&asked).unwrap();
    assert_eq!((outer.code, outer.options.uri_path().count()), (Code::POST, 0));

    // What does not verify is not remembered: the genuine request still gets through.
    let mut forged = asked.clone();
    let last = forged.last_mut().unwrap();
    *last ^= 0xff;
    forged.truncate(forged.len().saturating_sub(3));
    assert!(matches!(server.handle(now, &mut forged, &mut far), Input::Ignored(Ignored::Refused)));
    assert_eq!(server.next_expiry(), None);

    let mut datagram = asked.clone();
    let Input::Request { mut exchange, message } = server.handle(now, &mut datagram, &mut far) else {
        panic!("no request")
    };
    assert_eq!((message.code, message.options.uri_path().next()), (Code::GET, Some(&b"3"[..])));
    let mut writer = Writer::new(&mut buffer, ROOM, Code::CONTENT);
    writer.payload(b"21.5").unwrap();
    let range = server.respond(now, &mut exchange, writer, &mut far, &mut rng).unwrap();
    let mut answer = buffer[range].to_vec();
    assert_eq!(udp::parse(&answer).unwrap().1.code, Code::CHANGED);

    // A genuine duplicate is answered with the protected copy, before the replay check would refuse it.
    let opened = far.opened;
    assert!(matches!(server.handle(now, &mut asked.clone(), &mut far), Input::Duplicate));
    let length = server.poll_transmit(now, &mut buffer).unwrap();
    assert_eq!((&buffer[..length], far.opened), (&answer[..], opened));
    // Under another message id it is a replay.
    let mut replay = asked.clone();
    replay[3] ^= 1;
    assert!(matches!(server.handle(now, &mut replay, &mut far), Input::Ignored(Ignored::Refused)));

    // A response that does not verify leaves the request outstanding; retransmissions are the same protected message.
    let mut forged = answer.clone();
    let sequence = forged.iter().position(|byte| *byte == 0xff).unwrap().saturating_add(1);
    forged[sequence] ^= 1;
    assert!(matches!(client.handle(now, &mut forged, &mut near), Input::Ignored(Ignored::Refused)));
    let later = Instant::from_millis(3000);
    let length = client.poll_transmit(later, &mut buffer).unwrap();
    assert_eq!(buffer[..length], asked);
    let Input::Response { request: answered, message } = client.handle(now, &mut answer, &mut near) else {
        panic!("no response")
    };
    assert_eq!((answered, message.code, message.payload), (request, Code::CONTENT, &b"21.5"[..]));
}

#[test]
fn too_little_room_is_an_error() {
    let now = Instant::from_millis(0);
    let mut rng = |bytes: &mut [u8]| bytes.fill(3);
    let mut client = Remote::new(&PARAMETERS, TokenPolicy::SECURED, &mut rng);
    let token = client.next_token(&mut rng, |_| false);
    let mut buffer = [0; 128];
    let writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
    assert!(
        client
            .request(now, Delivery::Confirmable, token, writer, &mut Toy::default(), &mut rng)
            .is_err_and(|error| error == Unprotectable::Full.into())
    );
    assert!(client.is_idle());
}
