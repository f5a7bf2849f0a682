//! Object security: keys derived, messages protected, forgeries refused, Echo values compared.

use std::hint::black_box;

use lwm2m_coap::{
    Code, Delivery, Header, Input, Instant, Kind, MessageId, OptionNumber, Parameters as Timing, Peer, Room,
    Token, TokenPolicy, Writer, udp,
};
use oscore::{
    AeadAlgorithm, Binding, HmacAlgorithm, KeyId, MasterSecret, Observation, Parameters, Protection, Saved,
    Session, Standing,
};

use crate::Findings;
use crate::cases::changed;
use crate::secret::{hide, show};

const NOW: Instant = Instant::from_millis(0);

struct End {
    session: Session,
    peer: Peer<heapless::Vec<u8, 256>, 1, 4, 1, Binding>,
    observations: heapless::Vec<Observation, 1>,
}

pub(crate) fn run(findings: &mut Findings) {
    for aead in AeadAlgorithm::ALL {
        messages(findings, *aead);
    }
    for hmac in [HmacAlgorithm::Sha256, HmacAlgorithm::Sha384, HmacAlgorithm::Sha512] {
        let name = format!("OSCORE, {hmac:?}: keys are derived");
        findings.case(&name, 0, || {
            black_box(Session::new(&parameters(AeadAlgorithm::default(), hmac, 1, 2), random()))
        });
    }
    freshness(findings);
}

/// What is protected shows nothing; of what came only whether its tag is right is public, and what is inside is the receiver's, which
/// may branch on it.
fn messages(findings: &mut Findings, aead: AeadAlgorithm) {
    let mut near = findings.case(&format!("OSCORE, {aead:?}: keys are derived"), 0, || End::new(aead, 1, 2));
    let mut far = End::new(aead, 2, 1);
    // The package of AES-GCM hands the result on, and it is looked at again.
    let looks = if format!("{aead:?}").ends_with("Gcm") { 2 } else { 1 };
    for length in [0, 16, 100] {
        let case = format!("OSCORE, {aead:?}, {length} bytes: protect");
        let mut request = findings.case(&case, 0, || near.request(&vec![7; length]));
        show(&mut request);
        for (what, back) in [("first byte of the tag", aead.tag_length()), ("last byte", 1)] {
            let forged = changed(&request, request.len().saturating_sub(back));
            let case = format!("OSCORE, {aead:?}, {length} bytes: the {what} wrong");
            assert!(findings.case(&case, looks, || far.receive(forged)).is_none());
        }
        assert!(far.receive(request).is_some());
    }
}

/// An Echo value proves that a request is new: whether it is right is public.
fn freshness(findings: &mut Findings) {
    let aead = AeadAlgorithm::default();
    let (mut near, mut far) = (End::new(aead, 1, 2), End::restarted(aead, 2, 1));
    let mut challenge = findings.case("OSCORE: an Echo value is made", 0, || far.challenge());
    show(&mut challenge);
    let last = challenge.len().saturating_sub(1);
    // It lies behind the time that it was made at.
    for (what, at) in [("first byte", last.saturating_sub(7)), ("last byte", last)] {
        let request = far.unproven(&mut near);
        let forged = changed(&challenge, at);
        let case = format!("OSCORE: an Echo value, its {what} wrong");
        assert!(findings.case(&case, 1, || far.session.recover(request, NOW, Some(&forged))).is_none());
    }
    let request = far.unproven(&mut near);
    let case = "OSCORE: the right Echo value";
    assert!(findings.case(case, 1, || far.session.recover(request, NOW, Some(&challenge))).is_some());
}

fn parameters(aead: AeadAlgorithm, hmac: HmacAlgorithm, sender: u8, recipient: u8) -> Parameters {
    let mut secret = [0x5a; 16];
    hide(&mut secret);
    let secret = MasterSecret::new(&secret).expect("16 bytes");
    let id = |id: u8| KeyId::new(&[id]).expect("a byte");
    let parameters = Parameters::new(secret, id(sender), id(recipient)).expect("two ids");
    parameters.with_algorithms(aead, hmac).expect("short ids")
}

/// What a session draws: the number of its keys is public, what Echo values are made with is not.
fn random() -> [u8; Session::RANDOM] {
    let mut random = [0xa5; Session::RANDOM];
    let (_, key) = random.split_at_mut(4);
    hide(key);
    random
}

impl End {
    fn new(aead: AeadAlgorithm, sender: u8, recipient: u8) -> Self {
        Self::with(Session::new(&parameters(aead, HmacAlgorithm::default(), sender, recipient), random()))
    }

    /// One that does not know what it got before.
    fn restarted(aead: AeadAlgorithm, sender: u8, recipient: u8) -> Self {
        let parameters = parameters(aead, HmacAlgorithm::default(), sender, recipient);
        let saved = Saved::parse(&[0, 0, 0, 0, 1, 0]).expect("a bound");
        Self::with(Session::restored(&parameters, &saved, random()))
    }

    fn with(mut session: Session) -> Self {
        if let Some(wanted) = session.wanted() {
            session.saved(&wanted);
        }
        let peer = Peer::new(&Timing::DEFAULT, TokenPolicy::SECURED, &mut |bytes| bytes.fill(1));
        Self { session, peer, observations: heapless::Vec::new() }
    }

    fn request(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut out = [0; 256];
        let mut writer = Writer::new(&mut out, self.session.room(), Code::POST);
        writer.option(OptionNumber::URI_PATH, b"3").expect("it fits");
        writer.payload(payload).expect("it fits");
        let rng = &mut |bytes: &mut [u8]| bytes.fill(1);
        let token = self.peer.next_token(rng, |_| false);
        let mut protection = Protection::new(&mut self.session, &mut self.observations, None);
        let sent = self.peer.request(NOW, Delivery::NonConfirmable, token, writer, &mut protection, rng);
        let (id, range) = sent.expect("it is protected");
        self.peer.cancel(id);
        out.get(range).expect("it was written").to_vec()
    }

    /// What ties an answer to a request, if it is authentic.
    fn receive(&mut self, mut datagram: Vec<u8>) -> Option<Binding> {
        let mut protection = Protection::new(&mut self.session, &mut self.observations, None);
        match self.peer.handle(NOW, &mut datagram, &mut protection) {
            Input::Request { exchange, .. } => Some(*exchange.binding()),
            _ => None,
        }
    }

    /// A request of the other end that may be an old one.
    fn unproven(&mut self, other: &mut Self) -> Binding {
        let mut request = other.request(b"");
        show(&mut request);
        let binding = self.receive(request).expect("it is authentic");
        assert_eq!(binding.standing(), Standing::Unproven);
        binding
    }

    /// An Echo value for it.
    fn challenge(&self) -> Vec<u8> {
        let mut out = [0; 64];
        let mut writer = Writer::new(&mut out, Room::NONE, Code::UNAUTHORIZED);
        self.session.challenge(NOW, &mut writer).expect("it fits");
        let header = Header { kind: Kind::NonConfirmable, id: MessageId(1) };
        let range = writer.finish().expect("it is whole").emit(header, Token::EMPTY);
        let bytes = out.get(range).expect("it was written");
        let (_, message) = udp::parse(bytes).expect("it is a message");
        message.options.echo().expect("there is one").to_vec()
    }
}
