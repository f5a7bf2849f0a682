//! Every algorithm of this build, in every combination.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{End, get, parameters};
use lwm2m_coap::Code;
use oscore::{AeadAlgorithm, HmacAlgorithm, KeyId};

// RFC 8613 §3.2.1: both algorithms are in the keys, so that no two combinations understand each other.
#[test]
fn ends_with_the_same_algorithms_understand_each_other_and_no_others() {
    let hmacs = (4..8).filter_map(HmacAlgorithm::from_cose);
    let all: Vec<_> =
        hmacs.flat_map(|hmac| AeadAlgorithm::ALL.iter().map(move |aead| (*aead, hmac))).collect();
    let end = |(aead, hmac), sender: u8, recipient: u8| {
        let parameters = parameters(&[sender], &[recipient]).with_algorithms(aead, hmac).unwrap();
        End::new(parameters, u64::from(sender))
    };
    for one in &all {
        let (_, request) = end(*one, 1, 2).request(Code::GET, get).unwrap();
        assert_eq!(request.len(), 4 + 1 + 4 + 1 + 1 + 6 + one.0.tag_length(), "{one:?}");
        for other in &all {
            let came = end(*other, 2, 1).handle(&request);
            assert_eq!(matches!(came, common::Came::Request { .. }), one == other, "{one:?} {other:?}");
        }
        let mut near = end(*one, 1, 2);
        let mut far = end(*one, 2, 1);
        let (_, request) = near.request(Code::GET, get).unwrap();
        let (mut exchange, _) = far.expect_request(&request);
        let answer = far.respond(&mut exchange, Code::CONTENT, |writer| writer.payload(b"20").unwrap());
        assert_eq!(near.expect_response(&answer), (Code::CONTENT, b"20".to_vec()));
    }
}

// RFC 8613 §3.3: ids as long as the nonce allows.
#[test]
fn the_longest_ids_of_each_algorithm_are_carried() {
    for aead in AeadAlgorithm::ALL {
        let longest = vec![7; aead.id_length()];
        let with = |sender: &[u8], recipient: &[u8]| {
            let parameters =
                parameters(sender, recipient).with_algorithms(*aead, HmacAlgorithm::default()).unwrap();
            End::new(parameters, 3)
        };
        let (_, request) = with(&longest, &[]).request(Code::GET, get).unwrap();
        with(&[], &longest).expect_request(&request);
        assert!(longest.len() <= KeyId::MAX_LENGTH);
    }
}
