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
    refused(&[&server[..], &["--oscore-secret", "00"]].concat(), "--oscore-secret");
    refused(&[&server[..], &["--state", "/dev/null/x"]].concat(), "--state");
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

#[test]
fn an_unanswered_registration_ends_with_3() {
    let (_silent, uri) = server();
    let Output { status, stderr, .. } = client(&["--server", &uri, "--give-up", "1"]).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("no answer for 1 s"), "{stderr}");
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
