//! Records of AES-CBC whose padding or code is wrong.

use std::sync::atomic::Ordering;

use dtls_psk::{Answer, Reason, Suite};

use crate::Findings;
use crate::cases::{EXTENDED_MASTER_SECRET, rename};
use crate::parties::*;
use crate::secret::IS_VERIFIED_FIRST;

/// AES-CBC without encrypt-then-mac: how long the padding is must not be seen before the code was verified, nor which of the
/// two was wrong (Lucky Thirteen).
pub(crate) fn unpadding(findings: &mut Findings) {
    IS_VERIFIED_FIRST.store(false, Ordering::Relaxed);
    let right = key(1);
    let mut party = client(Suite::EcdhePskAes128CbcSha256, IDENTITY, &right);
    // Both extensions are renamed on the way. The keys agree without them, and the transcripts do not.
    let mut server = server_of(&mut party, None, |hello| {
        rename(hello, EXTENDED_MASTER_SECRET);
        rename(hello, ENCRYPT_THEN_MAC);
    });
    assert_eq!(receive(&mut party, &sent(&mut server)), None);
    let mut flight = sent(&mut party);
    let finished = flight.split_off(flight.len() - 13 - 16 - 64);
    receive(&mut server, &flight);
    let id = asked(&mut server).expect("the identity is looked up");
    server.provide(NOW, id, Answer::Psk { key: &right }).expect("it is pending");
    let end = finished.len();
    for (what, at, bits) in [
        ("the code wrong", 13 + 16 + 1, 1),
        // A change in a block of ciphertext is one in the same place of the next plaintext.
        ("the length of the padding 0", end - 16 - 1, 7),
        ("the length of the padding 1", end - 16 - 1, 7 ^ 1),
        ("the length of the padding 255", end - 16 - 1, 7 ^ 255),
        ("the first byte of the padding wrong", end - 16 - 8, 1),
        ("the last byte of the padding wrong", end - 16 - 2, 1),
    ] {
        let mut forged = finished.clone();
        if let Some(byte) = forged.get_mut(at) {
            *byte ^= bits;
        }
        let case = format!("AES-CBC without encrypt-then-mac: {what}");
        assert_eq!(findings.case(&case, 1, || receive(&mut server, &forged)), None);
    }
    // So far the records were as they should be but for that.
    assert_eq!(receive(&mut server, &finished), Some(Came::Closed(Reason::BadFinished)));
    IS_VERIFIED_FIRST.store(true, Ordering::Relaxed);
}

const ENCRYPT_THEN_MAC: [u8; 4] = [0, 0x16, 0, 0];
