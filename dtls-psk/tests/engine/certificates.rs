//! Handshakes with certificates: what is asked of the owners, and what does not fit.
//!
//! The files hold a chain for each owner's key, made once by OpenSSL: whether it is to be trusted is not this crate's question.

use crate::owner::Owner;
use crate::pair::{SERVER_NAME, extensions_of, server_hello_of};
use crate::support::*;
use dtls_psk::{
    Accepted, CertificateTypes, ClientCertificate, Config, CookieJar, Handshake, Reason, SERVER_NAME_MAX,
    SetUpError, Suite, Suites,
};

const DEVICE: &[u8] = include_bytes!("certificates/device.der");
const SERVER: &[u8] = include_bytes!("certificates/server.der");
const ISSUER: &[u8] = include_bytes!("certificates/issuer.der");

const CERTIFICATE: u8 = 11;

fn config() -> Config {
    let types = CertificateTypes { raw_public_key: true, x509: true };
    let suites = Suites::new(&[Suite::EcdheEcdsaAes128Ccm8]).unwrap();
    Config::DEFAULT.with_suites(suites).with_certificate_types(types)
}

fn client(certificate: ClientCertificate<'_>) -> Result<Client, SetUpError> {
    let mut random = Random(1);
    let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
    // Its memory is 512 bytes, which a chain and ServerKeyExchange need not fit into together.
    Client::certificate_client(at(0), &config(), certificate, rng, Handshake::new())
}

fn owners(device: &[&[u8]], server: &[&[u8]]) -> (Owner, Server) {
    let chain = |chain: &[&[u8]]| chain.iter().map(|certificate| certificate.to_vec()).collect();
    let mut of_device = Owner::new(0xc1);
    of_device.chain = chain(device);
    let mut of_server = Server { config: config(), ..Server::new(2) };
    of_server.owner.chain = chain(server);
    (of_device, of_server)
}

fn talk_of(client: &mut Client, owner: &mut Owner, server: &mut Server) -> Talk {
    talk_answering(client, server, at(0), |_, _| true, |client| owner.answer(client, at(0)))
}

#[test]
fn both_sides_present_their_chains_and_see_the_others() {
    let (mut owner, mut server) = owners(&[DEVICE], &[SERVER]);
    let mut client = client(ClientCertificate::X509 { server_name: Some("server.example") }).unwrap();
    let talk = talk_of(&mut client, &mut owner, &mut server);
    assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
    assert_eq!((owner.seen, server.owner.seen), (vec![SERVER.to_vec()], vec![DEVICE.to_vec()]));
}

#[test]
fn a_chain_goes_over_in_pieces() {
    // A server has 1,024 bytes for what the client says.
    let (mut owner, mut server) = owners(&[DEVICE], &[SERVER]);
    server.mtu = 150;
    let mut client = client(ClientCertificate::X509 { server_name: None }).unwrap();
    let talk = talk_of(&mut client, &mut owner, &mut server);
    assert_eq!((talk.client, talk.server), (vec![Event::Established], vec![Event::Established]));
    assert!(talk.from_server.len() > 6);
}

#[test]
fn a_chain_that_is_too_long_for_the_memory_of_either_side_ends_with_that_reason() {
    // What we cannot send is known at once.
    let (mut owner, mut server) = owners(&[DEVICE, ISSUER, DEVICE, ISSUER], &[SERVER]);
    let mut of_long = client(ClientCertificate::X509 { server_name: None }).unwrap();
    let talk = talk_of(&mut of_long, &mut owner, &mut server);
    assert_eq!(talk.client, [Event::Closed(Reason::TooLong)]);
    // What we cannot take might be a forgery: nothing comes of it, until the deadline.
    let (mut owner, mut server) = owners(&[DEVICE], &[SERVER, ISSUER]);
    let mut client = client(ClientCertificate::X509 { server_name: None }).unwrap();
    assert_eq!(talk_of(&mut client, &mut owner, &mut server).client, []);
    assert!(client.counters().too_large > 0);
    assert_eq!(client.handle_timeout(at(90_000)).map(Event::of), Some(Event::Closed(Reason::TooLong)));
}

#[test]
fn each_side_has_the_kind_of_certificate_that_was_agreed() {
    // Who has certificates is not answered with a raw public key, and the other way round.
    for (types, certificate) in [
        (
            CertificateTypes { raw_public_key: true, x509: false },
            ClientCertificate::X509 { server_name: None },
        ),
        (CertificateTypes { raw_public_key: false, x509: true }, ClientCertificate::RawPublicKey),
    ] {
        let (mut owner, mut server) = owners(&[DEVICE], &[SERVER]);
        server.config = config().with_certificate_types(types);
        let talk = talk_of(&mut client(certificate).unwrap(), &mut owner, &mut server);
        assert_eq!((talk.client, talk.server), (vec![], vec![]));
        assert_eq!(server.refused, [Reason::NoCommonSuite]);
    }
    // Nor is a message of the one kind read as one of the other.
    let key = Owner::new(0x51).raw_public_key();
    let (mut owner, mut server) = owners(&[DEVICE], &[SERVER]);
    let mut client = client(ClientCertificate::X509 { server_name: None }).unwrap();
    let talk = talk_answering(
        &mut client,
        &mut server,
        at(0),
        |is_up, datagram| {
            if !is_up {
                change_messages(datagram, CERTIFICATE, |body| *body = [&[0, 0, 91][..], &key].concat());
            }
            true
        },
        |client| owner.answer(client, at(0)),
    );
    assert_eq!((talk.client, talk.server, owner.asked), (vec![], vec![], vec![]));
}

#[test]
fn the_name_of_the_server_is_told_and_has_its_length() {
    fn of(server_name: Option<&str>) -> Result<Client, SetUpError> {
        client(ClientCertificate::X509 { server_name })
    }
    for (length, refused) in [(0, true), (1, false), (SERVER_NAME_MAX, false), (SERVER_NAME_MAX + 1, true)] {
        let name = "n".repeat(length);
        assert_eq!(of(Some(&name)).err(), refused.then_some(SetUpError::ServerName), "{length}");
    }
    for name in [None, Some("server.example")] {
        let mut client = of(name).unwrap();
        let mut random = Random(3);
        let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
        let (mut jar, mut out) = (CookieJar::new(at(0), rng), [0; dtls_psk::REPLY_MAX]);
        let first = transmit(&mut client, at(0), 1200).remove(0);
        let Accepted::Reply(length) = jar.accept(at(0), &config(), rng, ADDRESS, &first, &mut out) else {
            panic!()
        };
        receive(&mut client, at(0), &out[..length]);
        let second = transmit(&mut client, at(0), 1200).remove(0);
        let Accepted::Verified(hello) = jar.accept(at(0), &config(), rng, ADDRESS, &second, &mut out) else {
            panic!()
        };
        assert_eq!(hello.server_name(), name.map(str::as_bytes));
        assert_eq!(hello.suite(), Suite::EcdheEcdsaAes128Ccm8);
    }
}

#[test]
fn a_client_means_one_server_at_most() {
    // RFC 6066 §3: no two names of one type, no empty one, no empty list.
    let name = |kind: u8, name: &[u8]| [&[kind, 0, name.len() as u8], name].concat();
    let (one, other) = (name(0, b"a.example"), name(0, b"b.example"));
    for (names, is_refused) in [
        (vec![&one], false),
        (vec![&one, &name(7, b"what")], false),
        (vec![&name(7, b"what"), &one], false),
        (vec![&one, &other], true),
        (vec![&one, &one], true),
        (vec![&one, &name(7, b"what"), &other], true),
        (vec![&name(0, b"")], true),
        (vec![&name(0, b""), &one], true),
        (vec![], true),
    ] {
        let list = names.iter().flat_map(|name| name.iter().copied()).collect::<Vec<u8>>();
        let length = list.len() as u8;
        let extensions = [&[0, 0, 0, length + 2, 0, length][..], &list].concat();
        let mut server = Server { config: config(), ..Server::new(2) };
        let (suites, extensions) = (vec![0xc0, 0xae, 0x00, 0xff], Some(extensions));
        Hello { suites, extensions, ..Hello::new() }.send(&mut server, at(0));
        let expected: &[Reason] = if is_refused { &[Reason::ProtocolViolation] } else { &[] };
        assert_eq!(server.refused, expected, "{names:?}");
    }
}

#[test]
fn a_server_answers_a_name_with_nothing() {
    // RFC 6066 §3
    for (value, expected) in [
        (&[][..], vec![Event::Established]),
        (&[0, 4, 0, 0, 1, b'a'], vec![Event::Closed(Reason::ProtocolViolation)]),
        (&[0, 0], vec![Event::Closed(Reason::ProtocolViolation)]),
    ] {
        let (mut owner, mut server) = owners(&[DEVICE], &[SERVER]);
        let mut client = client(ClientCertificate::X509 { server_name: Some("server.example") }).unwrap();
        let mut answer = |client: &mut Client| owner.answer(client, at(0));
        let tamper = |is_up: bool, datagram: &mut Vec<u8>| {
            if !is_up {
                change_messages(datagram, 2, |body| {
                    let mut extensions = extensions_of(body);
                    let name = extensions.iter_mut().find(|(kind, _)| *kind == SERVER_NAME).unwrap();
                    assert!(name.1.is_empty());
                    name.1.extend_from_slice(value);
                    body.truncate(38);
                    body.extend(list_of(&extensions));
                });
            }
            true
        };
        let talk = talk_answering(&mut client, &mut server, at(0), tamper, &mut answer);
        assert_eq!(talk.client, expected, "{value:?}");
        assert_eq!(talk.server.contains(&Event::Established), expected == [Event::Established]);
    }
}

fn list_of(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let each = |(kind, value): &(u16, Vec<u8>)| {
        [&kind.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
    };
    let list: Vec<u8> = extensions.iter().flat_map(each).collect();
    [&(list.len() as u16).to_be_bytes()[..], &list].concat()
}

#[test]
fn a_server_answers_to_the_name_by_which_it_chooses_what_it_presents_and_to_no_other() {
    for (name, is_answered) in [(Some("server.example"), true), (None, false)] {
        let (mut owner, mut server) = owners(&[DEVICE], &[SERVER]);
        let mut client = client(ClientCertificate::X509 { server_name: name }).unwrap();
        let talk = talk_of(&mut client, &mut owner, &mut server);
        assert_eq!(talk.client, [Event::Established]);
        let answers = server_hello_of(&talk.from_server);
        assert_eq!(answers.contains(&(SERVER_NAME, vec![])), is_answered, "{answers:?}");
    }
}

#[test]
fn a_server_that_presents_nothing_answers_to_no_name() {
    let name = [0, 0, 0, 6, 0, 4, 0, 0, 1, b'a'];
    let extensions = Some([&name[..], &[0, 0x17, 0, 0]].concat());
    let answers = server_hello_of(&Hello { extensions, ..Hello::new() }.send(&mut Server::new(2), at(0)));
    assert!(answers.contains(&(0x17, vec![])) && answers.iter().all(|(kind, _)| *kind != SERVER_NAME));
}

#[test]
fn a_certificate_without_a_key_of_p_256_is_refused() {
    let at = DEVICE.windows(7).position(|bytes| bytes == [0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]).unwrap();
    let bent = |place: usize, byte: u8| {
        let mut bent = DEVICE.to_vec();
        bent[place] = byte;
        bent
    };
    let cut = [&[0x30, 0][..], &[0], &DEVICE[..40]].map(<[u8]>::to_vec);
    // The algorithm, the version, the outer length, and the outer tags.
    let bent = [(at + 3, 0), (8, 0x30), (3, 0), (0, 0x31), (4, 0x31)].map(|(place, byte)| bent(place, byte));
    for bent in bent.into_iter().chain(cut) {
        let (mut owner, mut server) = owners(&[&bent], &[SERVER]);
        let mut client = client(ClientCertificate::X509 { server_name: None }).unwrap();
        let talk = talk_of(&mut client, &mut owner, &mut server);
        assert_eq!(talk.server, [Event::Closed(Reason::UnsupportedKey)]);
    }
}

#[test]
fn a_name_that_does_not_fit_into_the_memory_is_refused() {
    let mut random = Random(1);
    let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
    let name = "n".repeat(SERVER_NAME_MAX);
    let certificate = ClientCertificate::X509 { server_name: Some(&name) };
    let refused =
        dtls_psk::Connection::<256>::certificate_client(at(0), &config(), certificate, rng, Handshake::new());
    assert_eq!(refused.err(), Some(SetUpError::Memory));
}
