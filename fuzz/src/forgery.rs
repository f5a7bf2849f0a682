//! What somebody on the path makes of datagrams, or makes up.

use dtls_psk::Suite;

/// Changes bytes: pairs of a place and what is added there.
pub(crate) fn change(datagram: &mut [u8], changes: &[u8]) {
    let length = datagram.len();
    for pair in changes.chunks_exact(2) {
        if length > 0 {
            datagram[usize::from(pair[0]) % length] ^= pair[1];
        }
    }
}

/// A well-formed record of epoch 0 with a handshake message.
pub(crate) fn forge(number: u8, code: u8, message_seq: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u8;
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, number, 0, length.saturating_add(12)];
    record.extend([code, 0, 0, length, 0, message_seq, 0, 0, 0, 0, 0, length]);
    record.extend(&body[..usize::from(length.min(243))]);
    record
}

/// A ClientHello that offers `suites` (all there are if it names none), as somebody may make it up.
pub(crate) fn client_hello(session_id: &[u8], cookie: &[u8], suites: &[u8], extensions: &[u8]) -> Vec<u8> {
    let all: Vec<u8> = Suite::ALL.iter().flat_map(|suite| suite.code().to_be_bytes()).collect();
    let suites = if suites.is_empty() { &all } else { suites };
    let mut body = [&[0xfe, 0xfd][..], &[7; 32], &[session_id.len() as u8], session_id].concat();
    body.extend([&[cookie.len() as u8], cookie, &[0, suites.len() as u8], suites, &[1, 0]].concat());
    if !extensions.is_empty() {
        body.extend([&[0, extensions.len() as u8], extensions].concat());
    }
    let length = (body.len() as u16).to_be_bytes();
    let seq = u8::from(!cookie.is_empty());
    let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, seq];
    datagram.extend((body.len() as u16 + 12).to_be_bytes());
    datagram.extend([1, 0, length[0], length[1], 0, seq, 0, 0, 0, 0, length[0], length[1]]);
    datagram.extend(body);
    datagram
}
