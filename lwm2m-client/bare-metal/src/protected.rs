//! Object security at the server's end of a line: messages in the clear for the script, protected for the device.

use heapless::Vec;
use lwm2m_coap::{
    Code, Delivery, Exchange, Input, Instant, Message, Parameters, Peer, Room, TokenPolicy, Writer, udp,
};
use oscore::{Binding, KeyId, MasterSecret, Observation, Protection, Rederivation, Session, Standing};

use crate::application::CONTEXT;
use crate::scenario::{Answers, Bytes, random};

static PARAMETERS: Parameters = Parameters::DEFAULT;
const NOW: Instant = Instant::from_millis(1000);

/// The server's end.
pub struct Protected {
    parameters: oscore::Parameters,
    session: Session,
    observations: Vec<Observation, 2>,
    peer: Peer<Bytes, 1, 4, 0, Binding>,
    exchange: Option<Exchange<Binding>>,
    plain: Bytes,
}

impl Protected {
    /// An end that never sent anything.
    #[must_use]
    pub fn new() -> Option<Self> {
        let id = |bytes| KeyId::new(bytes);
        let secret = MasterSecret::new(CONTEXT.master_secret)?;
        let parameters =
            oscore::Parameters::new(secret, id(CONTEXT.recipient_id)?, id(CONTEXT.sender_id)?).ok()?;
        let mut session = Session::new(&parameters, [0x5e; 16]);
        session.saved(&session.wanted()?);
        let peer = Peer::new(&PARAMETERS, TokenPolicy::SECURED, &mut random);
        Some(Self {
            parameters,
            session,
            observations: Vec::new(),
            peer,
            exchange: None,
            plain: Bytes::new(),
        })
    }

    /// The message in a datagram of the device; what brings it to use fresh keys goes out at once.
    pub fn receive(&mut self, datagram: &mut Bytes, out: &mut Answers) -> Option<&[u8]> {
        let Self { parameters, session, observations, peer, exchange, plain } = self;
        let head = *datagram.first_chunk::<4>()?;
        let rederivation = Rederivation { parameters, now: NOW, random: [7; 8], durable: false };
        let mut hook = Protection::new(session, observations, Some(rederivation));
        match peer.handle(NOW, datagram, &mut hook) {
            Input::Request { exchange: mut asked, message } => {
                if asked.binding().standing() != Standing::Fresh {
                    let mut space = [0; 128];
                    let writer = Writer::new(&mut space, room(), Code::UNAUTHORIZED);
                    let mut hook = Protection::new(session, observations, Some(rederivation));
                    let range = peer.respond(NOW, &mut asked, writer, &mut hook, &mut random).ok()?;
                    out.push(Bytes::from_slice(space.get(range)?).ok()?).ok()?;
                    return None;
                }
                *plain = in_the_clear(head, &message)?;
                *exchange = Some(asked);
            }
            Input::Response { message, .. } => *plain = in_the_clear(head, &message)?,
            Input::Unsolicited { header, message } => {
                *plain = in_the_clear(head, &message)?;
                peer.accept(header);
            }
            _ => return None,
        }
        let mut space = [0; 64];
        while let Some(length) = peer.poll_transmit(NOW, &mut space) {
            out.push(Bytes::from_slice(space.get(..length)?).ok()?).ok()?;
        }
        Some(plain)
    }

    /// The datagram of a message; acknowledgements have gone before.
    pub fn send(&mut self, message: &[u8]) -> Option<Bytes> {
        let Self { session, observations, peer, exchange, .. } = self;
        let (_, message) = udp::parse(message).ok()?;
        if message.code == Code::EMPTY {
            return None;
        }
        let mut space = [0; 256];
        let mut writer = Writer::new(&mut space, room(), message.code);
        copy(&message, &mut writer)?;
        let mut hook = Protection::new(session, observations, None);
        let range = if message.code.is_request() {
            let delivery = Delivery::Confirmable;
            peer.request(NOW, delivery, message.token, writer, &mut hook, &mut random).ok()?.1
        } else {
            peer.respond(NOW, exchange.as_mut()?, writer, &mut hook, &mut random).ok()?
        };
        Bytes::from_slice(space.get(range)?).ok()
    }
}

const fn room() -> Room {
    Room { head: 64, tail: 8 }
}

fn copy(message: &Message<'_>, writer: &mut Writer<'_>) -> Option<()> {
    for (number, value) in message.options {
        writer.option(number, value).ok()?;
    }
    writer.payload(message.payload).ok().map(|_| ())
}

/// A message as it would have come without protection, behind the header that it came with.
fn in_the_clear([first, _, high, low]: [u8; 4], message: &Message<'_>) -> Option<Bytes> {
    let mut space = [0; 512];
    let mut writer = Writer::new(&mut space, Room::NONE, message.code);
    copy(message, &mut writer)?;
    let draft = writer.finish().ok()?;
    let mut bytes = Bytes::from_slice(&[first, message.code.as_u8(), high, low]).ok()?;
    bytes.extend_from_slice(message.token.bytes()).ok()?;
    bytes.extend_from_slice(draft.bytes()).ok()?;
    Some(bytes)
}
