//! A DTLS peer that has the key, or a certificate, and keeps to no rule. Nothing is encrypted here and every code is zero, so that whatever a
//! script says is authentic: what it reaches lies behind the handshake, and behind the record layer.

use std::cell::Cell;

use dtls_psk::{
    Accepted, Aead, Answer, Computation, Connection, CookieJar, Crypto, Datagram, HEADROOM, Handshake,
    IDENTITY_MAX, Input, Instant, Operation, PendingId, REPLY_MAX, Refusal, Resumption, RunningHash,
    RunningMac, SAVED_MAX, SIGNATURE, SealError, Session, Suite, TAILROOM, TicketKey,
};

use crate::dtls::{ADDRESS, KEY, PSK, Setup};
use crate::forgery::client_hello;
use crate::script::{Script, random};

type Side = Connection<512, Handshake<512, Nothing>, Nothing>;

/// Primitives that do nothing.
pub(crate) enum Nothing {}

#[derive(Clone)]
pub(crate) struct Zeros;

impl RunningHash for Zeros {
    fn new() -> Self {
        Self
    }

    fn update(&mut self, _: &[u8]) {}

    fn finish(self) -> [u8; 32] {
        [0; 32]
    }
}

impl RunningMac for Zeros {
    fn new(_: &[u8]) -> Self {
        Self
    }

    fn update(&mut self, _: &[u8]) {}

    fn finish(self) -> [u8; 32] {
        [0; 32]
    }
}

impl Crypto for Nothing {
    type Sha256 = Zeros;
    type Hmac = Zeros;

    fn seal(_: Aead, _: &[u8; 16], _: &[u8; 12], _: &[u8], _: &mut [u8], tag: &mut [u8]) -> Option<()> {
        tag.fill(0);
        Some(())
    }

    fn open(_: Aead, _: &[u8; 16], _: &[u8; 12], _: &[u8], _: &mut [u8], tag: &[u8]) -> Option<()> {
        tag.iter().all(|byte| *byte == 0).then_some(())
    }

    fn cbc_encrypt(_: &[u8; 16], _: &[u8; 16], buffer: &mut [u8]) -> Option<()> {
        buffer.len().is_multiple_of(16).then_some(())
    }

    fn cbc_decrypt(_: &[u8; 16], _: &[u8; 16], buffer: &mut [u8]) -> Option<()> {
        buffer.len().is_multiple_of(16).then_some(())
    }

    fn p256_public(_: &[u8; 32]) -> Option<[u8; 65]> {
        Some([4; 65])
    }

    fn p256_shared(_: &[u8; 32], public: &[u8; 65], _: &mut [u8; 32]) -> Option<()> {
        (public[0] == 4).then_some(())
    }

    fn x25519_public(_: &[u8; 32]) -> Option<[u8; 32]> {
        Some([9; 32])
    }

    fn x25519_shared(_: &[u8; 32], public: &[u8; 32], _: &mut [u8; 32]) -> Option<()> {
        (public[0] != 0).then_some(())
    }

    /// A signature is wrong where its first byte says so.
    fn p256_verify(_: &[u8; 65], _: &[u8; 32], signature: &[u8; SIGNATURE]) -> bool {
        LAST_SIGNATURE.set(*signature);
        signature[0] == 0
    }
}

thread_local! {
    static LAST_SIGNATURE: Cell<[u8; SIGNATURE]> = const { Cell::new([0; SIGNATURE]) };
}

/// The signature that was verified last.
pub(crate) fn last_signature() -> [u8; SIGNATURE] {
    LAST_SIGNATURE.get()
}

/// Either side, and a script that is the other one.
pub fn insider(script: &[u8]) {
    let mut script = Script(script);
    let Some(role) = script.byte() else { return };
    let setup = Setup::read(&mut script);
    let session = if role & 2 == 0 { None } else { session(&setup, role >> 2 & 7) };
    let client = || {
        let (rng, memory) = (&mut random(1), Handshake::default());
        let now = Instant::from_millis(0);
        match setup.certificate {
            Some(certificate) => {
                let session = session.as_ref();
                Side::resuming_certificate_client(now, &setup.client, certificate, session, rng, memory)
            }
            None => Side::resuming_client(now, &setup.client, PSK, session.as_ref(), rng, memory),
        }
        .expect("identity, key and name are of a possible length")
    };
    let side = (role & 1 == 0).then(client);
    let jar = CookieJar::with_crypto(Instant::from_millis(0), &mut random(2));
    let mut insider =
        Insider { setup, session, jar, now: Instant::from_millis(0), side, number: 0, pending: None };
    insider.settle();
    while let Some(act) = script.byte() {
        if insider.act(act, &mut script).is_none() {
            break;
        }
        insider.settle();
    }
    insider.rest();
}

/// A session under the suite that comes first, with this max_fragment_length.
fn session(setup: &Setup, length: u8) -> Option<Session> {
    let suite = setup.client.suites.as_slice().first()?.code().to_be_bytes();
    Session::parse(&[&[2][..], &suite, &[0; 48], &[length, 1, 0x5e]].concat())
}

struct Insider {
    setup: Setup,
    session: Option<Session>,
    jar: CookieJar<Nothing>,
    now: Instant,
    side: Option<Side>,
    /// Of the next record.
    number: u64,
    pending: Option<(PendingId, Question)>,
}

/// What the side asked.
enum Question {
    Psk,
    IsTrusted,
    Computation(Box<Computation>),
    Certificates,
    Signature,
}

impl Question {
    fn of(operation: Operation<'_>) -> Self {
        match operation {
            Operation::LookUpPsk { .. } => Self::Psk,
            Operation::CheckPeer { certificate } => {
                assert!(certificate.public_key().is_some(), "what is judged has a key");
                Self::IsTrusted
            }
            Operation::Compute(computation) => Self::Computation(Box::new(computation)),
            Operation::Present { .. } => Self::Certificates,
            Operation::Sign { .. } => Self::Signature,
            other => panic!("{other:?} is not known here"),
        }
    }
}

impl Insider {
    fn act(&mut self, act: u8, script: &mut Script<'_>) -> Option<()> {
        match act & 0x0f {
            0 => self.hear(script.bytes()?),
            1 => {
                let (content_type, body) = (script.byte()?, script.bytes()?);
                self.hear_plain(content_type, body);
            }
            2 => {
                let (content_type, body) = (script.byte()?, script.bytes()?);
                self.hear_sealed(act, content_type, body);
            }
            3 => {
                let message = message(script.byte()?, script.byte()?, script.bytes()?);
                self.hear_plain(22, &message);
            }
            4 => {
                let message = message(script.byte()?, script.byte()?, script.bytes()?);
                self.hear_sealed(act, 22, &message);
            }
            5 => {
                let [code, length, seq, offset] = [(); 4].map(|()| script.byte().unwrap_or_default());
                let bytes = script.bytes()?;
                let front = [code, 0, 0, length, 0, seq, 0, 0, offset, 0, 0, bytes.len() as u8];
                self.hear_plain(22, &[&front, bytes].concat());
            }
            6 => {
                let [session_id, suites, extensions] = [script.bytes()?, script.bytes()?, script.bytes()?];
                // A cookie is as good as any other here.
                let hello = client_hello(session_id, &[0; 16], suites, extensions);
                self.serve(&hello, act);
            }
            7 => self.answer(Some(act >> 4)),
            8 => self.answer(None),
            9 => self.later(),
            10 => self.now = Instant::from_millis(self.now.as_millis() + script.millis()?),
            11 => self.say(script.byte()?),
            12 => self.side.iter_mut().for_each(Side::close),
            13 => {
                let mut out = [0; 100];
                let cookie = [script.byte()?; 8];
                self.side.as_mut().and_then(|side| side.challenge_path(cookie, &mut out));
            }
            14 => {
                if let Some(side) = self.side.take_if(|side| side.is_established()) {
                    let mut saved = [0; SAVED_MAX];
                    let length = side.save(&mut saved).expect("an established one is saved");
                    self.side = Side::restore(&saved[..length], script.millis()?);
                }
            }
            _ => {
                if let Some(session) = self.side.as_mut().and_then(Side::take_session) {
                    let mut bytes = [0; Session::LONGEST];
                    let length = session.emit(&mut bytes).expect("any session fits");
                    assert_eq!(Session::parse(&bytes[..length]), Some(session), "what was emitted is parsed");
                }
            }
        }
        Some(())
    }

    /// A ClientHello with a good cookie came.
    fn serve(&mut self, hello: &[u8], act: u8) {
        let (now, mut out) = (self.now, [0; REPLY_MAX]);
        let rng = &mut random(3);
        if let Accepted::Verified(hello) =
            self.jar.accept(now, &self.setup.server, rng, ADDRESS, hello, &mut out)
        {
            let tickets = TicketKey::<Nothing>::derive(&[0; 32], 1);
            let opened = hello.session_ticket().and_then(|ticket| tickets.open(ticket));
            let session = opened.map(|(session, _)| session).or(self.session.clone());
            let renewed = session.as_ref().and_then(|session| tickets.seal(session, &[], 1));
            let resumption = match (act >> 4 & 7, &session) {
                (1, _) => Resumption::Offer(b"id"),
                (2, Some(session)) => Resumption::Accept(session),
                (3, _) => Resumption::OfferTicket,
                (4, Some(session)) => Resumption::AcceptTicket { session, renewed: renewed.as_ref() },
                (5, Some(session)) => Resumption::AcceptTicket { session, renewed: None },
                _ => Resumption::No,
            };
            let memory = Handshake::default();
            let made = Side::resuming_server(now, &self.setup.server, &hello, resumption, rng, memory);
            assert!(
                hello.offers_connection_id()
                    || made.as_ref().is_ok_and(|side| side.peer_connection_id().is_empty())
            );
            self.side = made.ok();
            self.number = 2;
            self.listen();
        }
    }

    fn hear_plain(&mut self, content_type: u8, body: &[u8]) {
        let record = self.record(content_type, 0, &[], body);
        self.hear(&record);
    }

    /// A record of the protected epoch; `act` says how long the padding is, and whether the code stands behind it.
    fn hear_sealed(&mut self, act: u8, content_type: u8, body: &[u8]) {
        let Some(side) = &self.side else { return };
        let (own, suite) = (side.own_connection_id().to_vec(), side.suite().unwrap_or_default());
        let mut content = body.to_vec();
        if !own.is_empty() {
            content.push(content_type);
        }
        let sealed = match suite {
            Suite::PskAes128CbcSha256 | Suite::EcdhePskAes128CbcSha256 | Suite::EcdheEcdsaAes128CbcSha256 => {
                let is_behind = act & 0x10 != 0;
                let covered = content.len() + if is_behind { 0 } else { 32 };
                let padding = 16 * usize::from(act >> 5 & 1) + 15 - covered % 16;
                let padding = vec![padding as u8; padding + 1];
                let [first, second] =
                    if is_behind { [&padding[..], &[0; 32]] } else { [&[0; 32], &padding[..]] };
                [&[0; 16][..], &content, first, second].concat()
            }
            Suite::PskAes128Ccm8 | Suite::EcdhePskAes128Ccm8 | Suite::EcdheEcdsaAes128Ccm8 => {
                [&[0; 8][..], &content, &[0; 8]].concat()
            }
            _ => [&[0; 8][..], &content, &[0; 16]].concat(),
        };
        let outer = if own.is_empty() { content_type } else { 25 };
        let record = self.record(outer, 1, &own, &sealed);
        self.hear(&record);
    }

    fn record(&mut self, content_type: u8, epoch: u16, own: &[u8], body: &[u8]) -> Vec<u8> {
        let number = u64::from(epoch) << 48 | self.number;
        self.number += 1;
        let length = (body.len() as u16).to_be_bytes();
        [&[content_type, 0xfe, 0xfd][..], &number.to_be_bytes(), own, &length, body].concat()
    }

    fn hear(&mut self, bytes: &[u8]) {
        let (now, mut bytes) = (self.now, bytes.to_vec());
        // What comes before there is a connection may start one.
        let Some(side) = &mut self.side else { return self.serve(&bytes, 0) };
        let mut was_established = side.is_established();
        let mut datagram = Datagram::new(&mut bytes);
        let mut inputs = 0;
        while let Some(input) = side.handle(now, &mut datagram) {
            inputs += 1;
            assert!(inputs < 200, "a datagram is used up");
            match input {
                Input::Application(_) | Input::PathResponse(_) | Input::PathDrop(_) => {
                    assert!(was_established)
                }
                Input::Established { .. } => assert!(!std::mem::replace(&mut was_established, true)),
                Input::Closed(reason) => assert!(side.is_closed() && !reason.to_string().is_empty()),
                _ => {}
            }
        }
        self.listen();
    }

    fn listen(&mut self) {
        if let Some(pending) = self.side.as_mut().and_then(Side::poll_pending) {
            self.pending = Some((pending.id, Question::of(pending.operation)));
        }
    }

    /// Answers what was asked, with `length` certificates where it was for those; or says no.
    fn answer(&mut self, length: Option<u8>) {
        let now = self.now;
        let (Some((id, question)), Some(side)) = (self.pending.take(), &mut self.side) else { return };
        let tickets = TicketKey::<Nothing>::derive(&[0; 32], 1);
        let certificates = vec![&[0; 91][..]; length.unwrap_or_default().into()];
        let answer = match question {
            Question::Computation(computation) => Answer::Computed(computation.run::<Nothing>()),
            Question::IsTrusted if length.is_none() => Answer::Refused(Refusal::Unknown),
            _ if length.is_none() => Answer::Unknown,
            Question::Psk => Answer::Psk { key: KEY },
            Question::IsTrusted => Answer::Trusted,
            Question::Certificates => Answer::Certificates(&certificates),
            Question::Signature => Answer::Signature(&[0; SIGNATURE]),
        };
        // It may belong to a connection that was replaced since.
        let _ = side.provide_with_ticket(now, id, answer, |session| tickets.seal(session, b"me", 60));
        self.listen();
    }

    fn say(&mut self, length: u8) {
        let Some(side) = &mut self.side else { return };
        let length = usize::from(length) * 65;
        let mut buffer = vec![0; HEADROOM + length + TAILROOM];
        match side.seal(&mut buffer, HEADROOM..HEADROOM + length) {
            Ok(_) => assert!(length <= side.longest_payload()),
            Err(SealError::NotEstablished) => assert!(!side.is_established()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }

    /// Sends what there is to be sent.
    fn settle(&mut self) {
        let mut out = [0; 600];
        let now = self.now;
        if let Some(side) = &mut self.side {
            let sent = (0..64).take_while(|_| side.poll_transmit(now, &mut out).is_some()).count();
            assert!(sent < 64, "the flight ends");
            assert!(side.identity().is_none_or(|identity| identity.len() <= IDENTITY_MAX));
        }
    }

    fn later(&mut self) {
        let Some(side) = &mut self.side else { return };
        if let Some(next) = side.poll_timeout() {
            self.now = self.now.max(next);
        }
        let now = self.now;
        if let Some(Input::Closed(reason)) = side.handle_timeout(now) {
            assert!(side.is_closed() && !reason.to_string().is_empty());
        }
        assert!(side.poll_timeout().is_none_or(|next| next > now), "a time-out is dealt with");
    }

    fn rest(mut self) {
        for _ in 0..400 {
            self.later();
            self.settle();
        }
        if let Some(side) = &self.side {
            assert!(side.is_established() || side.is_closed());
            assert_eq!(side.poll_timeout(), None);
        }
    }
}

fn message(code: u8, seq: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u8;
    [&[code, 0, 0, length, 0, seq, 0, 0, 0, 0, 0, length], body].concat()
}
