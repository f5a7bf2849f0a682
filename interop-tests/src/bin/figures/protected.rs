//! The OSCORE end of a device of [`traffic`](crate::traffic): a peer and a session, and nothing else.

use std::time::Duration;

use dtls_psk::{Aead, Crypto as _, RustCrypto};
use lwm2m_coap::{
    Delivery, Exchange, Header, Input, Instant, Message, Parameters as Timing, Peer, TokenPolicy, Writer, udp,
};
use lwm2m_server::credentials::{OscoreKey, OscoreParts};
use oscore::{Binding, KeyId, MasterSecret, Observation, Parameters, Protection, Saved, Session};

use crate::security::{least, random};
use crate::server::KEY;

/// The Sender ID of the server.
const SERVER: [u8; 1] = *b"s";

/// What protects the messages of one device.
pub(crate) struct Protected {
    session: Session,
    peer: Peer<heapless::Vec<u8, 256>, 1, 4, 0, Binding>,
    observations: heapless::Vec<Observation, 0>,
    /// The request of the server that is not answered yet.
    asked: Option<Exchange<Binding>>,
}

/// The context of a device, as the server has it.
pub(crate) fn context(device: usize) -> OscoreKey {
    let parts = OscoreParts {
        master_secret: secret(device).into(),
        sender_id: SERVER.to_vec(),
        recipient_id: id(device).to_vec(),
        ..OscoreParts::default()
    };
    OscoreKey::new(parts).expect("a usual context")
}

/// With one secret for all of them the server's Sender Keys would be one, and its numbers come twice.
fn secret(device: usize) -> Vec<u8> {
    [&KEY[..], &id(device)].concat()
}

/// Three bytes are enough for all of them.
fn id(device: usize) -> [u8; 3] {
    let [.., a, b, c] = device.to_be_bytes();
    [a, b, c]
}

impl Protected {
    pub(crate) fn new(device: usize) -> Self {
        let [own, server] = [&id(device)[..], &SERVER].map(|id| KeyId::new(id).expect("a short id"));
        let secret = MasterSecret::new(&secret(device)).expect("a secret of a possible length");
        let parameters = Parameters::new(secret, own, server).expect("two ids");
        let mut drawn = [0; Session::RANDOM];
        random(&mut drawn);
        let mut session = Session::new(&parameters, drawn);
        // All numbers there are.
        session.saved(&Saved::parse(&[1, 0, 0, 0, 0, 0]).expect("a bound"));
        let peer = Peer::new(&Timing::DEFAULT, TokenPolicy::SECURED, &mut random);
        Self { session, peer, observations: heapless::Vec::new(), asked: None }
    }

    /// A message as it is sent: the answer to what the server asked last, or a request.
    pub(crate) fn protect(&mut self, plain: &[u8]) -> Vec<u8> {
        let (_, message) = udp::parse(plain).expect("a message");
        let mut out = [0; 256];
        let mut writer = Writer::new(&mut out, self.session.room(), message.code);
        for (number, value) in message.options {
            writer.option(number, value).expect("a short message");
        }
        writer.payload(message.payload).expect("a short message");
        let mut protection = Protection::new(&mut self.session, &mut self.observations, None);
        let range = match self.asked.take() {
            Some(mut asked) => self
                .peer
                .respond(NOW, &mut asked, writer, &mut protection, &mut random)
                .expect("keys that the server has"),
            None => {
                let token = self.peer.next_token(&mut random, |_| false);
                let sent = self.peer.request(
                    NOW,
                    Delivery::Confirmable,
                    token,
                    writer,
                    &mut protection,
                    &mut random,
                );
                sent.expect("the last one was answered, and it is short").1
            }
        };
        out.get(range).expect("it was written").to_vec()
    }

    /// Reads what came.
    pub(crate) fn take<T>(
        &mut self,
        datagram: &mut [u8],
        read: impl FnOnce(Header, Message<'_>) -> T,
    ) -> Option<T> {
        let (header, _) = udp::parse(datagram).ok()?;
        let mut protection = Protection::new(&mut self.session, &mut self.observations, None);
        match self.peer.handle(NOW, datagram, &mut protection) {
            Input::Request { exchange, message } => {
                self.asked = Some(exchange);
                Some(read(header, message))
            }
            Input::Response { message, .. } => Some(read(header, message)),
            _ => None,
        }
    }
}

/// The processor time to open an Update and to seal its answer, by the bare AEAD.
pub(crate) fn aead(effort: u32) -> Duration {
    let (key, nonce, aad) = (KEY, [1; 12], [5; 24]);
    // Code and path; code alone.
    let (mut update, mut tag) = ([0x55; 9], [0; 8]);
    RustCrypto::seal(Aead::Ccm8, key, &nonce, &aad, &mut update, &mut tag).expect("it fits");
    least(effort, || {
        let (mut text, mut answer, mut made) = (update, [0x44], [0; 8]);
        let opened = RustCrypto::open(Aead::Ccm8, key, &nonce, &aad, &mut text, &tag);
        assert!(opened.is_some());
        RustCrypto::seal(Aead::Ccm8, key, &nonce, &aad, &mut answer, &mut made).expect("it fits");
        std::hint::black_box((text, answer, made));
    })
}

const NOW: Instant = Instant::from_millis(0);
