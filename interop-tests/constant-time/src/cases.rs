//! The engine: cookies, Finished, records, sessions, and what an unknown identity leads to.

use std::hint::black_box;

use dtls_psk::{Answer, Crypto as _, Reason, RustCrypto, Suite, Suites};

use crate::Findings;
use crate::parties::*;
use crate::secret::{hide, show};

pub(crate) fn run(findings: &mut Findings) {
    cookies(findings);
    x25519(findings);
    #[cfg(feature = "cbc")]
    crate::unpadding::unpadding(findings);
    // The one that is left out is a server's only; its records are those of the suite with ECDHE.
    for suite in Suites::PSK.as_slice() {
        proofs(findings, *suite);
        refusals(findings, *suite);
        sessions(findings, *suite);
        records(findings, *suite);
    }
}

/// The agreement on x25519 by itself; only whether all of it is zero shows, which the peer's point decides.
fn x25519(findings: &mut Findings) {
    let mut secrets = [[0x5a; 32], [0xa5; 32]];
    secrets.iter_mut().for_each(|secret| hide(secret));
    let publics = secrets.each_ref().map(|secret| {
        let public = findings.case("x25519: a public value", 0, || RustCrypto::x25519_public(secret));
        let mut public = public.expect("there is one");
        show(&mut public);
        public
    });
    let [mut one, mut other] = [[0; 32]; 2];
    let [first, second] = &secrets;
    let [of_first, of_second] = &publics;
    let agreed = findings.case("x25519: what both compute", 2, || {
        [
            RustCrypto::x25519_shared(first, of_second, &mut one),
            RustCrypto::x25519_shared(second, of_first, &mut other),
        ]
    });
    assert_eq!(agreed, [Some(()); 2]);
    show(&mut one);
    show(&mut other);
    assert_eq!(one, other);
}

fn cookies(findings: &mut Findings) {
    let mut client = client(Suite::default(), IDENTITY, &key(1));
    let mut jar = jar();
    let hello = sent(&mut client);
    let request = findings.case("cookie: none in the ClientHello", 0, || accept(&mut jar, &hello, None));
    receive(&mut client, &request.expect_err("a cookie is asked for"));
    let hello = sent(&mut client);
    // Where the cookie lies: behind the headers, version, random, an empty session id, and its own length.
    let cookie = 13 + 12 + 2 + 32 + 1 + 1;
    // It is compared under the current secret, and then under the one before.
    for (case, at) in [("cookie: its first byte wrong", 0), ("cookie: its last byte wrong", 15)] {
        let hello = changed(&hello, cookie + at);
        assert!(findings.case(case, 2, || accept(&mut jar, &hello, None)).is_err());
    }
    // That the key of nobody is not all zeros, which would be a broken random source, is public too.
    let case = "cookie: right, and a server is made";
    assert!(findings.case(case, 2, || accept(&mut jar, &hello, None)).is_ok());
}

/// Handshakes in which the peer has the key: the tag of the Finished is public, and whether it holds what it must.
fn proofs(findings: &mut Findings, suite: Suite) {
    let name = suite.name();
    let right = key(1);
    let mut party = client(suite, IDENTITY, &right);
    let mut server = server_of(&mut party, None, |_| {});
    let answer = || Answer::Psk { key: &right };
    let case = format!("{name}, server: the right key");
    let came = findings.case(&case, 2 + agreement(suite), || prove(&mut party, &mut server, answer()));
    assert_eq!(came, Some(Came::Established));
    let flight = sent(&mut server);
    let case = format!("{name}, client: the server's Finished");
    let came = findings.case(&case, 2, || receive(&mut party, &flight));
    assert_eq!(came, Some(Came::Established));

    let mut party = client(suite, IDENTITY, &right);
    let mut server = server_of(&mut party, None, |_| {});
    prove(&mut party, &mut server, answer());
    let flight = sent(&mut server);
    let flight = changed(&flight, flight.len() - 1);
    let case = format!("{name}, client: the last byte of the Finished's tag wrong");
    assert_eq!(findings.case(&case, 1, || receive(&mut party, &flight)), None);

    // An extension is renamed on the way: the keys agree and the transcripts do not.
    let mut party = client(suite, IDENTITY, &right);
    let mut server = server_of(&mut party, None, |hello| rename(hello, EXTENDED_MASTER_SECRET));
    let case = format!("{name}, server: an authentic Finished of another transcript");
    let came = findings.case(&case, 2 + agreement(suite), || prove(&mut party, &mut server, answer()));
    assert_eq!(came, Some(Came::Closed(Reason::BadFinished)));
}

/// Handshakes in which the peer has not got the key: only the tag is public, and it is the same for both.
fn refusals(findings: &mut Findings, suite: Suite) {
    let name = suite.name();
    let (right, wrong) = (key(1), key(2));
    for (who, identity, answer) in [
        ("the wrong key", IDENTITY, Answer::Psk { key: &right }),
        ("an unknown identity", b"nobody", Answer::Unknown),
    ] {
        let mut party = client(suite, identity, &wrong);
        let mut server = server_of(&mut party, None, |_| {});
        let case = format!("{name}, server: {who}");
        let came = findings.case(&case, 1 + agreement(suite), || prove(&mut party, &mut server, answer));
        assert_eq!(came, None);
    }
}

/// The results of an agreement on P-256, which both sides compute from fresh secrets: that each of three factors is between
/// zero and the order of the group, and that no product is the neutral element. Nobody ever sees it otherwise.
fn agreement(suite: Suite) -> usize {
    if suite.name().contains("ECDHE") { 6 } else { 0 }
}

fn sessions(findings: &mut Findings, suite: Suite) {
    let name = suite.name();
    let key = key(1);
    let (mut first, mut first_server) = established(suite, &key);
    let case = format!("{name}: a session is kept");
    let session = findings.case(&case, 0, || first.take_session());
    let kept = first_server.take_session();
    let (session, kept) = (session.expect("the client has it"), kept.expect("the server has it"));
    let mut party = resuming_client(suite, IDENTITY, &key, Some(&session));
    let mut server = server_of(&mut party, Some(&kept), |_| {});
    let flight = sent(&mut server);
    let case = format!("{name}, client: the server's Finished in a session taken up");
    let came = findings.case(&case, 2, || receive(&mut party, &flight));
    assert_eq!(came, Some(Came::Established));
    let flight = sent(&mut party);
    let case = format!("{name}, server: the client's Finished in a session taken up");
    let came = findings.case(&case, 2, || receive(&mut server, &flight));
    assert_eq!(came, Some(Came::Established));
}

fn records(findings: &mut Findings, suite: Suite) {
    let name = suite.name();
    let key = key(1);
    let (mut client, mut server) = established(suite, &key);
    for length in [0, 1, 16, 64, 500] {
        let payload = vec![7; length];
        let case = format!("{name}, {length} bytes: seal");
        let record = findings.case(&case, 0, || sealed(&mut client, &payload));
        for (what, at) in [
            ("first byte of the nonce", 13),
            ("byte 32 from the end", record.len().saturating_sub(32)),
            ("byte 16 from the end", record.len() - 16),
            ("byte 8 from the end", record.len() - 8),
            ("last byte", record.len() - 1),
        ] {
            let forged = changed(&record, at);
            let case = format!("{name}, {length} bytes: the {what} wrong");
            assert_eq!(findings.case(&case, 1, || receive(&mut server, &forged)), None);
        }
        let case = format!("{name}, {length} bytes: open");
        let came = findings.case(&case, 1, || receive(&mut server, &record));
        assert_eq!(came, Some(Came::Application));
    }
    client.close();
    let close = findings.case(&format!("{name}: close_notify"), 0, || sent(&mut client));
    let came = findings.case(&format!("{name}: a close_notify arrives"), 1, || receive(&mut server, &close));
    assert_eq!(came, Some(Came::Closed(Reason::PeerClosed)));
    findings.case(&format!("{name}: the parties are dropped"), 0, || drop(black_box((client, server))));
}

pub(crate) const EXTENDED_MASTER_SECRET: [u8; 4] = [0, 0x17, 0, 0];

/// Makes an extension without content one that nobody knows.
pub(crate) fn rename(hello: &mut Vec<u8>, extension: [u8; 4]) {
    let at = hello.windows(4).rposition(|window| window == extension).expect("it is offered");
    hello.splice(at..at + 1, [0x77]);
}

/// The same with one bit wrong in the byte at `at`.
pub(crate) fn changed(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes
}
