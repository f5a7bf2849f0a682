//! Connections that are saved and restored.

use crate::support::*;
use dtls_psk::{Handshake, SAVED_MAX};

/// Saves the server's connection and restores it.
fn saved(server: &mut Server) -> Vec<u8> {
    let mut bytes = vec![0; SAVED_MAX];
    let length = server.peers.remove(0).save(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

fn restored(bytes: &[u8], skip: u64) -> Peer {
    Peer::restore(bytes, skip).unwrap()
}

/// The sequence number of a record without a Connection ID.
fn sequence(record: &[u8]) -> u64 {
    let [a, b, c, d, e, f] = *record[5..].first_chunk().unwrap();
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

#[test]
fn a_restored_connection_goes_on_both_ways_and_knows_what_it_received() {
    let (mut client, mut server) = established();
    let (early, late) = (seal(&mut client, b"early"), seal(&mut client, b"late"));
    assert_eq!(server.handle(at(1), &late).0, [Event::Application(b"late".to_vec())]);
    let before = seal(server.peer(), b"down");
    let mut peer = restored(&saved(&mut server), 0);
    assert_eq!(receive(&mut peer, at(2), &late), [], "a replay");
    assert_eq!(receive(&mut peer, at(2), &early), [Event::Application(b"early".to_vec())]);
    let after = seal(&mut peer, b"down again");
    assert_eq!(sequence(&after), sequence(&before) + 1);
    assert_eq!(receive(&mut client, at(3), &before), [Event::Application(b"down".to_vec())]);
    assert_eq!(receive(&mut client, at(3), &after), [Event::Application(b"down again".to_vec())]);
    assert_eq!(peer.suite(), client.suite());
    assert_eq!((peer.poll_timeout(), transmit(&mut peer, at(9_000), 1200)), (None, vec![]));
}

#[test]
fn what_is_skipped_is_never_sent() {
    let (mut client, mut server) = established();
    let bytes = saved(&mut server);
    let first = restored(&bytes, 0);
    let sent = [first].iter_mut().map(|peer| sequence(&seal(peer, b"x"))).next().unwrap();
    let mut second = restored(&bytes, 1000);
    let record = seal(&mut second, b"y");
    assert_eq!(sequence(&record), sent + 1000);
    assert_eq!(receive(&mut client, at(1), &record), [Event::Application(b"y".to_vec())]);
    assert!(Peer::restore(&bytes, (1 << 48) - 1).is_none(), "there are no more numbers");
    assert!(Peer::restore(&bytes, u64::MAX).is_none());
}

#[test]
fn a_restored_connection_says_good_bye_under_its_keys() {
    let (mut client, mut server) = established();
    let mut peer = restored(&saved(&mut server), 5);
    peer.close();
    let alert = transmit(&mut peer, at(1), 1200).remove(0);
    assert_eq!(receive(&mut client, at(1), &alert), [Event::Closed(dtls_psk::Reason::PeerClosed)]);
}

#[cfg(feature = "connection-id")]
#[test]
fn connection_ids_are_kept() {
    let (mut client, mut server) = with_connection_ids(&dtls_psk::Config::DEFAULT, b"to-us", b"to-srv");
    talk(&mut client, &mut server);
    let is_checkable = server.peer().is_path_checkable();
    let mut peer = restored(&saved(&mut server), 0);
    assert_eq!((peer.own_connection_id(), peer.peer_connection_id()), (&b"to-srv"[..], &b"to-us"[..]));
    assert_eq!(peer.is_path_checkable(), is_checkable);
    let up = seal(&mut client, b"up");
    assert_eq!(receive(&mut peer, at(1), &up), [Event::Application(b"up".to_vec())]);
    let down = seal(&mut peer, b"down");
    assert_eq!(receive(&mut client, at(1), &down), [Event::Application(b"down".to_vec())]);
}

#[test]
fn only_an_established_connection_is_saved_and_only_whole_bytes_are_restored() {
    let mut out = [0; SAVED_MAX];
    assert_eq!(new_client().save(&mut out), None);
    let (_, mut server) = established();
    server.peer().close();
    assert_eq!(server.peers.remove(0).save(&mut out), None);
    let (_, mut server) = established();
    assert_eq!(server.peers.remove(0).save(&mut out[..40]), None);

    let (_, mut server) = established();
    let bytes = saved(&mut server);
    for length in 0..bytes.len() {
        assert!(Peer::restore(&bytes[..length], 0).is_none());
    }
    assert!(Peer::restore(&[&bytes[..], &[0]].concat(), 0).is_none());
    // Another format, an unknown suite, and the keys of another build.
    for (index, value) in [(0, 1), (2, 0xff), (1, bytes[1] ^ 8)] {
        let mut other = bytes.clone();
        other[index] = value;
        assert!(Peer::restore(&other, 0).is_none(), "{index}");
    }
}

#[test]
fn a_client_is_saved_as_well() {
    let (client, mut server) = established();
    let mut bytes = vec![0; SAVED_MAX];
    let length = client.save(&mut bytes).unwrap();
    let client = dtls_psk::Connection::<1024, Handshake<1024>>::restore(&bytes[..length], 0);
    let mut client = client.unwrap();
    let up = seal(&mut client, b"up");
    assert_eq!(server.handle(at(1), &up).0, [Event::Application(b"up".to_vec())]);
}
