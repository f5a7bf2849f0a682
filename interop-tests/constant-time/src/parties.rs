//! A client and a server in memory whose keys are secret.

use dtls_psk::{
    Accepted, Answer, CertificateTypes, Config, Connection, CookieJar, Datagram, HEADROOM, Handshake, Input,
    Instant, Operation, PendingId, Psk, Reason, Resumption, Session, Suite, Suites, TAILROOM,
};

use crate::secret::{Watched, hide, show};

pub(crate) const IDENTITY: &[u8] = b"urn:dev:1";
pub(crate) const NOW: Instant = Instant::from_millis(0);

pub(crate) type Party = Connection<512, Handshake<512, Watched>, Watched>;

/// What came of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Came {
    Established,
    Application,
    Closed(Reason),
}

pub(crate) fn key(first: u8) -> [u8; 16] {
    let mut key = [0x5a; 16];
    key[0] = first;
    hide(&mut key);
    key
}

/// Randoms are public; what has another length than they, the key of nobody, is secret.
pub(crate) fn rng(seed: u8) -> impl FnMut(&mut [u8]) {
    move |bytes| {
        bytes.fill(seed);
        if bytes.len() != 32 {
            hide(bytes);
        }
    }
}

pub(crate) fn config(suite: Suite) -> Config {
    let config = Config::DEFAULT.with_certificate_types(CertificateTypes::RAW_PUBLIC_KEY);
    config.with_suites(Suites::new(&[suite]).expect("one suite"))
}

pub(crate) fn client(suite: Suite, identity: &[u8], key: &[u8]) -> Party {
    resuming_client(suite, identity, key, None)
}

/// A client that keeps sessions.
pub(crate) fn resuming_client(suite: Suite, identity: &[u8], key: &[u8], session: Option<&Session>) -> Party {
    let psk = Psk { identity, key };
    Party::resuming_client(NOW, &config(suite), psk, session, &mut rng(3), Handshake::default())
        .expect("a client can be made")
}

/// A jar with secrets that only it knows.
pub(crate) fn jar() -> CookieJar<Watched> {
    CookieJar::with_crypto(NOW, &mut |bytes: &mut [u8]| {
        bytes.fill(9);
        hide(bytes);
    })
}

/// What the jar makes of a datagram: an answer, or a server that keeps sessions.
pub(crate) fn accept(
    jar: &mut CookieJar<Watched>,
    datagram: &[u8],
    session: Option<&Session>,
) -> Result<Party, Vec<u8>> {
    let mut out = [0; dtls_psk::REPLY_MAX];
    let config = Config::DEFAULT.with_suites(Suites::ALL);
    let config = config.with_certificate_types(CertificateTypes::RAW_PUBLIC_KEY);
    match jar.accept(NOW, &config, &mut rng(0), b"address", datagram, &mut out) {
        Accepted::Verified(hello) => {
            let resumption = session.map_or(Resumption::Offer(b"session"), Resumption::Accept);
            let handshake = Handshake::default();
            Ok(Party::resuming_server(NOW, &config, &hello, resumption, &mut rng(4), handshake)
                .expect("a server can be made"))
        }
        Accepted::Reply(length) => {
            show(&mut out);
            Err(out.get(..length).unwrap_or_default().to_vec())
        }
        other => panic!("{other:?}"),
    }
}

/// The server that a client's hello leads to. `tamper` may change the hello with the cookie.
pub(crate) fn server_of(
    client: &mut Party,
    session: Option<&Session>,
    tamper: impl FnOnce(&mut Vec<u8>),
) -> Party {
    let mut jar = jar();
    let request = accept(&mut jar, &sent(client), None).expect_err("a cookie is asked for");
    assert_eq!(receive(client, &request), None);
    let mut hello = sent(client);
    tamper(&mut hello);
    let mut server = accept(&mut jar, &hello, session).expect("the cookie is good");
    if !server.has_certificates() {
        assert_eq!(asked(&mut server), None, "nothing but its share");
    }
    server
}

/// What a server waits for when everything is computed.
pub(crate) fn asked(server: &mut Party) -> Option<PendingId> {
    loop {
        let pending = server.poll_pending()?;
        let (id, Operation::Compute(computation)) = (pending.id, pending.operation) else {
            return server.pending().map(|pending| pending.id);
        };
        let computed = Answer::Computed(computation.run::<Watched>());
        assert_eq!(server.provide(NOW, id, computed), Ok(None));
    }
}

/// The next datagram of a party, which anyone may see.
pub(crate) fn sent(party: &mut Party) -> Vec<u8> {
    let mut out = vec![0; 1200];
    let length = party.poll_transmit(NOW, &mut out).unwrap_or(0);
    out.truncate(length);
    show(&mut out);
    out
}

pub(crate) fn receive(party: &mut Party, datagram: &[u8]) -> Option<Came> {
    let mut bytes = datagram.to_vec();
    let mut datagram = Datagram::new(&mut bytes);
    let mut last = None;
    while let Some(input) = party.handle(NOW, &mut datagram) {
        last = match input {
            Input::Established { .. } => Some(Came::Established),
            Input::Application(_) => Some(Came::Application),
            Input::Closed(reason) => Some(Came::Closed(reason)),
            other => panic!("{other:?}"),
        };
    }
    last
}

/// Gives the client's flight to the server and `answer` to its question; returns what came of it.
pub(crate) fn prove(client: &mut Party, server: &mut Party, answer: Answer<'_>) -> Option<Came> {
    assert_eq!(receive(client, &sent(server)), None);
    assert_eq!(receive(server, &sent(client)), None);
    let id = asked(server).expect("the identity is looked up");
    match server.provide(NOW, id, answer).expect("it is pending")? {
        Input::Established { .. } => Some(Came::Established),
        Input::Closed(reason) => Some(Came::Closed(reason)),
        other => panic!("{other:?}"),
    }
}

/// A client and a server that trust each other.
pub(crate) fn established(suite: Suite, key: &[u8]) -> (Party, Party) {
    let mut client = client(suite, IDENTITY, key);
    let mut server = server_of(&mut client, None, |_| {});
    let proven = prove(&mut client, &mut server, Answer::Psk { key });
    assert_eq!(proven, Some(Came::Established));
    assert_eq!(receive(&mut client, &sent(&mut server)), Some(Came::Established));
    (client, server)
}

pub(crate) fn sealed(party: &mut Party, payload: &[u8]) -> Vec<u8> {
    let mut buffer = [&[0; HEADROOM], payload, &[0; TAILROOM]].concat();
    let record = party.seal(&mut buffer, HEADROOM..HEADROOM + payload.len()).expect("it can be sealed");
    let record = buffer.get_mut(record).unwrap_or_default();
    show(record);
    record.to_vec()
}
