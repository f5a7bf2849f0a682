//! The command line: exit codes and their reasons, over real sockets on loopback.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::UdpSocket;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use lwm2m_coap::{Code, Kind, MessageId, OptionNumber, udp};

fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lwm2m-client"));
    command.args(["--endpoint", "cli"]).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn refused(arguments: &[&str], reason: &str) {
    let Output { status, stderr, .. } = client(arguments).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{arguments:?}: {stderr}");
    assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
}

fn server() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let uri = format!("coap://{}", socket.local_addr().unwrap());
    (socket, uri)
}

/// Answers the next request; its code and path.
fn answer(socket: &UdpSocket, code: Code, location: &[&str]) -> (Code, String) {
    let mut buffer = [0; 1500];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    let (header, message) = udp::parse(&buffer[..length]).unwrap();
    assert_eq!(header.kind, Kind::Confirmable);
    let path =
        message.options.uri_path().map(|segment| format!("/{}", String::from_utf8_lossy(segment))).collect();
    let MessageId(id) = header.id;
    let mut response = vec![0x60 | message.token.length(), code.as_u8()];
    response.extend_from_slice(&id.to_be_bytes());
    response.extend_from_slice(message.token.bytes());
    let mut delta = OptionNumber::LOCATION_PATH.0;
    for segment in location {
        response.push(u8::try_from(delta).unwrap() << 4 | u8::try_from(segment.len()).unwrap());
        response.extend_from_slice(segment.as_bytes());
        delta = 0;
    }
    socket.send_to(&response, from).unwrap();
    (message.code, path)
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn bad_arguments_end_with_2_and_say_why() {
    let server = ["--server", "coap://127.0.0.1"];
    refused(&[], "--server");
    refused(&["--server", "http://127.0.0.1"], "coap://host");
    refused(&["--server", "coaps://127.0.0.1"], "--psk-identity");
    refused(&[&server[..], &["--psk-identity", "a", "--psk-key", "00"]].concat(), "coaps://");
    refused(&["--server", "coaps://127.0.0.1", "--psk-identity", "a", "--psk-key", "0g"], "--psk-key");
    refused(&["--server", "coaps://127.0.0.1", "--psk-identity", "a"], "--psk-key");
    refused(&[&server[..], &["--lwm2m", "1.3"]].concat(), "1.3");
    refused(&[&server[..], &["--binding", "T"]].concat(), "binding");
    refused(&[&server[..], &["--lifetime", "soon"]].concat(), "lifetime");
    // Options of later versions are not accepted in silence.
    refused(&[&server[..], &["--cid", "9"]].concat(), "--cid");
    refused(&[&server[..], &["--record-size-limit", "63"]].concat(), "--record-size-limit");
    #[cfg(feature = "alternate-path")]
    for path in ["lwm2m", "/3", "/lwm2m/"] {
        refused(&[&server[..], &["--alternate-path", path]].concat(), "a path such as /lwm2m");
    }
    refused(&[&server[..], &["--oscore-secret", "00"]].concat(), "--oscore-sender");
    #[cfg(feature = "oscore")]
    for (secret, sender, more, reason) in [
        ("", "01", &[][..], "--oscore-secret must have 1 to 64 bytes"),
        ("0", "01", &[], "--oscore-secret: "),
        ("00", "0102030405060708", &[], "--oscore-sender must have 0 to 7 bytes"),
        ("00", "02", &[], "each end needs an id of its own"),
        ("00", "01", &["--oscore-aead", "9"], "--oscore-aead"),
        ("00", "01", &["--oscore-hmac", "4"], "--oscore-hmac"),
        ("00", "0101", &["--oscore-aead", "12"], "shorter ids"),
        ("00", "01", &["--oscore-salt", ""], "--oscore-salt"),
        ("00", "01", &["--oscore-rederivation", "maybe"], "--oscore-rederivation"),
        ("00", "01", &["--bootstrap-server", "coap://127.0.0.1"], "--bootstrap-server"),
    ] {
        let context = ["--oscore-secret", secret, "--oscore-sender", sender, "--oscore-recipient", "02"];
        refused(&[&server[..], &context, more].concat(), reason);
    }
    refused(&[&server[..], &["--state", "/dev/null/x"]].concat(), "--state");
}

/// A file with that content, and its path.
#[cfg(feature = "x509-path")]
fn file(folder: &tempfile::TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A key on this curve, and a certificate for it that it signed itself.
#[cfg(feature = "x509-path")]
fn made(algorithm: &'static rcgen::SignatureAlgorithm) -> (rcgen::KeyPair, rcgen::Certificate) {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let params = rcgen::CertificateParams::new(vec!["lwm2m.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (key, certificate)
}

#[cfg(feature = "x509-path")]
#[test]
fn files_that_are_of_no_use_end_with_2_and_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = made(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (other_key, other) = made(&rcgen::PKCS_ECDSA_P384_SHA384);
    let private = file(&folder, "private.pem", key.serialize_pem());
    let public = file(&folder, "public.pem", key.public_key_pem());
    let own = file(&folder, "own.pem", certificate.pem());
    let p384 = file(&folder, "p384.pem", other_key.serialize_pem());
    let p384_public = file(&folder, "p384-public.der", other_key.public_key_raw());
    let text = file(&folder, "text", "nothing");
    let broken = file(&folder, "broken.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    let long = file(&folder, "long.pem", other.pem().repeat(6));
    let (stranger, _) = made(&rcgen::PKCS_ECDSA_P256_SHA256);
    let stranger = file(&folder, "stranger.der", stranger.serialize_der());
    let server = ["--server", "coaps://127.0.0.1"];
    let raw = |own: &str, server_key: &str, reason: &str| {
        let keys = ["--rpk-private-key", own, "--server-public-key", server_key];
        refused(&[&server[..], &keys].concat(), reason);
    };
    raw("/nowhere", &public, "--rpk-private-key /nowhere: No such file");
    raw(&private, "/nowhere", "--server-public-key /nowhere");
    raw(&public, &public, "no private key on P-256");
    raw(&p384, &public, "no private key on P-256");
    raw(&text, &public, "no private key on P-256");
    raw(&private, &p384_public, "no public key on P-256");
    raw(&private, &private, "no public key on P-256");
    let x509 = |own: &str, key: &str, trust: &str, more: &[&str], reason: &str| {
        let files = ["--certificate", own, "--private-key", key, "--trust", trust];
        refused(&[&server[..], &files, more].concat(), reason);
    };
    x509(&text, &private, &own, &[], "no certificate in PEM or DER");
    x509(&private, &private, &own, &[], "no certificate in PEM or DER");
    x509(&broken, &private, &own, &[], "--certificate");
    x509(&long, &private, &own, &[], "more than 5 certificates");
    x509(&own, &stranger, &own, &[], "is not the key of the first certificate");
    x509(&own, &p384, &own, &[], "no private key on P-256");
    x509(&own, &private, &text, &[], "--trust");
    x509(&own, &private, &public, &["--certificate-usage", "2"], "no certificate in PEM or DER");
    x509(&own, &private, &own, &["--certificate-usage", "4"], "--certificate-usage");
    x509(&own, &private, &text, &["--certificate-usage", "0"], "--trust");
    x509(&own, &private, &long, &["--certificate-usage", "1"], "--trust: more than 4");
    x509(&own, &private, &own, &["--trust-anchor", &text], "--trust-anchor");
    x509(&own, &private, &own, &["--trust-anchor", &long], "more than 4");
    x509(&own, &private, &own, &["--server-name", "192.0.2.1"], "--server-name");
    // One credential at a time, and each of its parts.
    let keys = ["--psk-identity", "a", "--psk-key", "00"];
    x509(&own, &private, &own, &keys, "cannot be used with");
    refused(&[&server[..], &["--rpk-private-key", &private]].concat(), "--server-public-key");
    refused(&[&server[..], &["--certificate", &own, "--trust", &own]].concat(), "--private-key");
    refused(&[&server[..], &["--trust", &own]].concat(), "--certificate");
    let raw = ["--server", "coap://127.0.0.1", "--rpk-private-key", &private, "--server-public-key", &public];
    refused(&raw, "coaps://");
}

/// The first datagram of a client that goes to a server with security.
#[cfg(feature = "x509-path")]
fn hello(credential: &[&str]) -> Vec<u8> {
    let (socket, _) = server();
    let uri = format!("coaps://{}", socket.local_addr().unwrap());
    let mut child = client(&[&["--server", &uri], credential].concat()).spawn().unwrap();
    let mut hello = vec![0; 1500];
    let (length, _) = socket.recv_from(&mut hello).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    hello.truncate(length);
    hello
}

#[cfg(feature = "x509-path")]
#[test]
fn keys_and_certificates_in_pem_and_der_begin_a_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = made(&rcgen::PKCS_ECDSA_P256_SHA256);
    let private = [
        file(&folder, "private.pem", key.serialize_pem()),
        file(&folder, "private.der", key.serialize_der()),
    ];
    let public = file(&folder, "public.pem", key.public_key_pem());
    let own = [file(&folder, "own.pem", certificate.pem()), file(&folder, "own.der", certificate.der())];
    let has = |hello: &[u8], bytes: &[u8]| hello.windows(bytes.len()).any(|window| window == bytes);
    // TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, and client_certificate_type with RawPublicKey (RFC 7250 §3).
    let (suite, raw) = ([0xc0, 0xae], [0, 19, 0, 2, 1, 2]);
    for (private, own) in private.iter().zip(&own) {
        let offered = hello(&["--rpk-private-key", private, "--server-public-key", &public]);
        assert!(has(&offered, &suite) && has(&offered, &raw));
        let files = ["--certificate", own, "--private-key", private];
        for (trust, more) in [
            (own, &[][..]),
            (&public, &["--server-name", "lwm2m.example"]),
            (own, &["--certificate-usage", "2", "--server-name", "lwm2m.example"]),
            (own, &["--certificate-usage", "0", "--trust-anchor", own, "--server-name", "lwm2m.example"]),
            // With nothing else, --trust has the anchors.
            (own, &["--certificate-usage", "0", "--server-name", "lwm2m.example"]),
            (own, &["--certificate-usage", "1", "--server-name", "lwm2m.example"]),
        ] {
            let offered = hello(&[&files[..], &["--trust", trust], more].concat());
            assert!(has(&offered, &suite) && !has(&offered, &raw), "{more:?}");
            assert_eq!(has(&offered, b"lwm2m.example"), !more.is_empty(), "{more:?}");
        }
    }
}

#[test]
fn help_names_every_credential() {
    let Output { status, stdout, .. } = client(&["--help"]).output().unwrap();
    let help = String::from_utf8(stdout).unwrap();
    assert!(status.success());
    let mut options = vec!["--psk-identity <TEXT>", "--psk-key <HEX>"];
    if cfg!(feature = "rpk") {
        options.extend(["--rpk-private-key <FILE>", "--server-public-key <FILE>"]);
    }
    if cfg!(feature = "x509") {
        options.extend(["--certificate <FILE>", "--private-key <FILE>", "--trust <FILE>"]);
        options.extend(["--certificate-usage <0..3>", "--server-name <NAME>", "--trust-anchor <FILE>"]);
    }
    if cfg!(feature = "oscore") {
        options.extend(["--oscore-secret <HEX>", "--oscore-sender <HEX>", "--oscore-recipient <HEX>"]);
        options.extend(["--oscore-salt <HEX>", "--oscore-context <HEX>", "--oscore-aead <N>"]);
        options.extend(["--oscore-hmac <N>", "--oscore-rederivation <WHEN>"]);
    }
    for option in options {
        assert!(help.contains(option), "{option}: {help}");
    }
}

#[test]
fn the_limit_for_records_is_offered() {
    let (socket, _) = server();
    let uri = format!("coaps://{}", socket.local_addr().unwrap());
    for (limit, is_offered) in [(&[][..], false), (&["--record-size-limit", "300"], true)] {
        let credential = ["--server", &uri, "--psk-identity", "a", "--psk-key", "00"];
        let mut child = client(&[&credential[..], limit].concat()).spawn().unwrap();
        let mut hello = [0; 1500];
        let (length, _) = socket.recv_from(&mut hello).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // RFC 8449 §4: record_size_limit, two bytes.
        let extension = [0, 28, 0, 2, 1, 44];
        let found = hello[..length].windows(extension.len()).any(|bytes| bytes == extension);
        assert_eq!(found, is_offered, "{limit:?}");
    }
}

#[cfg(feature = "alternate-path")]
#[test]
fn an_alternate_path_is_announced() {
    let (socket, uri) = server();
    let mut child = client(&["--server", &uri, "--alternate-path", "/lwm2m"]).spawn().unwrap();
    let mut register = [0; 1500];
    let (length, _) = socket.recv_from(&mut register).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, message) = udp::parse(&register[..length]).unwrap();
    let links = std::str::from_utf8(message.payload).unwrap();
    assert!(links.starts_with("</lwm2m>;rt=\"oma.lwm2m\",</lwm2m/1/0>,"), "{links}");
}

#[test]
fn an_unanswered_registration_ends_with_3() {
    let (_silent, uri) = server();
    let Output { status, stderr, .. } = client(&["--server", &uri, "--give-up", "1"]).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("no answer for 1 s"), "{stderr}");
}

#[cfg(feature = "oscore")]
#[test]
fn keys_of_oscore_that_nobody_remembers_are_warned_of() {
    let (_silent, uri) = server();
    let context = ["--oscore-secret", "42", "--oscore-sender", "01", "--oscore-recipient", "02"];
    for (policy, is_warned) in [("never", true), ("offered", true), ("required", false)] {
        let more = ["--server", &uri, "--give-up", "1", "--oscore-rederivation", policy];
        let Output { status, stderr, .. } = client(&[&context[..], &more].concat()).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(3), "{stderr}");
        assert_eq!(stderr.contains("nothing is remembered"), is_warned, "{policy}: {stderr}");
    }
}

#[test]
fn a_refused_registration_ends_with_3_and_the_code() {
    let (socket, uri) = server();
    let child = client(&["--server", &uri]).spawn().unwrap();
    assert_eq!(answer(&socket, Code::FORBIDDEN, &[]), (Code::POST, "/rd".into()));
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("4.03"), "{stderr}");
}

#[test]
fn a_server_that_says_not_now_is_no_refusal_before_the_time_is_over() {
    let (socket, uri) = server();
    let child = client(&["--server", &uri, "--give-up", "1"]).spawn().unwrap();
    assert_eq!(answer(&socket, Code::SERVICE_UNAVAILABLE, &[]), (Code::POST, "/rd".into()));
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("no success for 1 s: the server answered 5.03"), "{stderr}");
}

#[test]
fn a_refused_bootstrap_ends_with_3_and_the_code() {
    let (socket, uri) = server();
    let child = client(&["--server", &uri, "--bootstrap"]).spawn().unwrap();
    assert_eq!(answer(&socket, Code::BAD_REQUEST, &[]), (Code::POST, "/bs".into()));
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("bootstrap was refused") && stderr.contains("4.00"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_deregisters_and_ends_with_0_and_the_state_survives() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let (socket, uri) = server();
    let arguments = ["--server", &uri, "--state", state.to_str().unwrap()];
    let child = client(&arguments).spawn().unwrap();
    assert_eq!(answer(&socket, Code::CREATED, &["rd", "x1"]), (Code::POST, "/rd".into()));
    interrupt(&child);
    assert_eq!(answer(&socket, Code::DELETED, &[]), (Code::DELETE, "/rd/x1".into()));
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!(status.code(), Some(0), "{}", String::from_utf8_lossy(&stderr));
    // The account in the folder wins over the command line.
    let child =
        client(&["--server", "coap://127.0.0.1:9", "--state", state.to_str().unwrap()]).spawn().unwrap();
    assert_eq!(answer(&socket, Code::CREATED, &["rd", "x2"]), (Code::POST, "/rd".into()));
    interrupt(&child);
    assert_eq!(answer(&socket, Code::DELETED, &[]), (Code::DELETE, "/rd/x2".into()));
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

/// The end of a server that speaks OSCORE, without Appendix B.2 or with it.
#[cfg(feature = "oscore")]
struct Protected {
    socket: UdpSocket,
    parameters: oscore::Parameters,
    session: oscore::Session,
    rederives: bool,
}

#[cfg(feature = "oscore")]
impl Protected {
    /// Answers requests until one is carried out; its path, and the kid context and number of the last.
    fn answer(&mut self, code: Code, location: &[&str]) -> (String, Option<Vec<u8>>, u64) {
        use lwm2m_coap::{Input, Instant, Peer, TokenPolicy, Writer};
        use oscore::{Observation, OscoreOption, Protection, Rederivation, Standing};
        static KNOWN: lwm2m_coap::Parameters = lwm2m_coap::Parameters::DEFAULT;
        let mut rng = |bytes: &mut [u8]| bytes.fill(7);
        let mut peer: Peer<heapless::Vec<u8, 512>, 1, 4, 0, oscore::Binding> =
            Peer::new(&KNOWN, TokenPolicy::SECURED, &mut rng);
        let mut observations = heapless::Vec::<Observation, 1>::new();
        let now = Instant::from_millis(1000);
        loop {
            let mut buffer = [0; 1500];
            let (length, from) = self.socket.recv_from(&mut buffer).unwrap();
            let (_, message) = udp::parse(&buffer[..length]).unwrap();
            let option = message.options.get(OptionNumber::OSCORE).expect("nothing goes unprotected");
            let option = OscoreOption::parse(option).unwrap();
            let context = option.kid_context.map(|context| context.bytes().to_vec());
            let number = option.partial_iv.unwrap().sequence();
            if let Some(wanted) = self.session.wanted() {
                self.session.saved(&wanted);
            }
            let random = [9; 8];
            let rederivation = Rederivation { parameters: &self.parameters, now, random, durable: false };
            let rederivation = self.rederives.then_some(rederivation);
            let mut hook = Protection::new(&mut self.session, &mut observations, rederivation);
            let input = peer.handle(now, &mut buffer[..length], &mut hook);
            let Input::Request { mut exchange, message } = input else {
                let mut out = [0; 64];
                if let Some(length) = peer.poll_transmit(now, &mut out) {
                    self.socket.send_to(&out[..length], from).unwrap();
                }
                continue;
            };
            let path = message.options.uri_path();
            let path = path.map(|segment| format!("/{}", String::from_utf8_lossy(segment))).collect();
            let is_fresh = exchange.binding().standing() == Standing::Fresh;
            let mut out = [0; 256];
            let room = lwm2m_coap::Room { head: 80, tail: 8 };
            let mut writer = Writer::new(&mut out, room, if is_fresh { code } else { Code::UNAUTHORIZED });
            for segment in location.iter().filter(|_| is_fresh) {
                writer.option(OptionNumber::LOCATION_PATH, segment.as_bytes()).unwrap();
            }
            let mut hook = Protection::new(&mut self.session, &mut observations, rederivation);
            let range = peer.respond(now, &mut exchange, writer, &mut hook, &mut rng).unwrap();
            self.socket.send_to(&out[range], from).unwrap();
            if is_fresh {
                return (path, context, number);
            }
        }
    }
}

#[cfg(all(feature = "oscore", unix))]
#[test]
fn a_server_is_registered_with_under_oscore_and_the_state_folder_keeps_numbers() {
    let (socket, uri) = server();
    let id = |byte| oscore::KeyId::new(&[byte]).unwrap();
    let secret = oscore::MasterSecret::new(&[0x42; 16]).unwrap();
    let parameters = oscore::Parameters::new(secret, id(2), id(1)).unwrap().with_salt(&[0x5a]).unwrap();
    let session = oscore::Session::new(&parameters, [0; 16]);
    let mut other = Protected { socket, parameters, session, rederives: true };
    let secret = "42".repeat(16);
    let arguments = [
        "--server",
        &uri,
        "--oscore-secret",
        &secret,
        "--oscore-sender",
        "01",
        "--oscore-recipient",
        "02",
        "--oscore-salt",
        "5a",
        "--oscore-hmac",
        "-10",
    ];
    let stop = |child: Child, other: &mut Protected| {
        interrupt(&child);
        assert_eq!(other.answer(Code::DELETED, &[]).0, "/rd/x1");
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert!(!stderr.contains(&secret));
        stderr
    };
    // Without a folder only fresh keys are used.
    let child = client(&arguments).spawn().unwrap();
    let (path, context, _) = other.answer(Code::CREATED, &["rd", "x1"]);
    assert!(path == "/rd" && context.is_some());
    assert!(stop(child, &mut other).contains("fresh keys"));

    let folder = tempfile::tempdir().unwrap();
    let kept =
        [&arguments[..], &["--state", folder.path().to_str().unwrap(), "--oscore-rederivation", "never"]];
    other.session = oscore::Session::new(&other.parameters, [1; 16]);
    other.rederives = false;
    let mut last = None;
    for _ in 0..3 {
        let child = client(&kept.concat()).spawn().unwrap();
        let (path, context, number) = other.answer(Code::CREATED, &["rd", "x1"]);
        assert_eq!((path.as_str(), context), ("/rd", None));
        assert!(last < Some(number), "{last:?} {number}");
        assert!(stop(child, &mut other).contains("the keys of the account"));
        last = Some(number + 1);
    }
}
