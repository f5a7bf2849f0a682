//! Several associations on one address (RFC 6347 §4.2.8): which of them a datagram belongs to (invariant: the datagram is
//! left as it was, and a live association is never touched by what anyone can forge).

use core::borrow::BorrowMut;

use crate::client_hello::OfferedHello;
use crate::connection::Connection;
use crate::crypto::Crypto;
use crate::error::{Dropped, OpenError};
use crate::handshake::Handshake;
use crate::message::{Fragment, MessageType};
use crate::record::{ContentType, HEADER, Header};
use crate::wire::Reader;

/// Where a datagram belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// To the candidate at this position: hand it to its [`Connection::handle`].
    Candidate(usize),
    /// To none: it is a ClientHello, for [`CookieJar::accept`](crate::CookieJar::accept). A handshake that comes of it runs
    /// beside the candidates, and replaces the established one only when it is established itself.
    New,
    /// To none.
    Dropped(Dropped),
}

/// Chooses the connection that `datagram` belongs to among those of its sender's address, the newest first.
///
/// With one candidate that has keys nothing is decrypted; with several, the first record is tried into `scratch`, which
/// must be as long as the datagram.
pub fn choose<'c, const N: usize, H, C>(
    candidates: impl Iterator<Item = &'c Connection<N, H, C>> + Clone,
    datagram: &[u8],
    scratch: &mut [u8],
) -> Choice
where
    H: BorrowMut<Handshake<N, C>> + 'c,
    C: Crypto + 'c,
{
    if datagram.first() == Some(&(ContentType::ConnectionId as u8)) {
        // Its Connection ID says to whom it belongs; here it can only be a record that comes before it is known.
        return (candidates.clone())
            .position(|candidate| Header::parse(datagram, candidate.own_connection_id()).is_ok())
            .map_or(Choice::Dropped(Dropped::Unsupported), Choice::Candidate);
    }
    let (header, length) = match Header::parse(datagram, &[]) {
        Ok((header, _, length)) => (header, length),
        Err(dropped) => return Choice::Dropped(dropped),
    };
    if header.epoch == 0 {
        if header.content_type == ContentType::Handshake as u8
            && let Some(body) = datagram.get(HEADER..).and_then(|behind| behind.get(..length))
            && let Some(fragment) = Fragment::parse(&mut Reader::new(body))
            && fragment.header.code == MessageType::ClientHello as u8
        {
            let message_seq = fragment.header.message_seq;
            let hello = OfferedHello::parse(fragment.bytes);
            let repeated = hello.and_then(|hello| {
                candidates.clone().position(|candidate| candidate.started_from(hello.cookie, message_seq))
            });
            return repeated.map_or(Choice::New, Choice::Candidate);
        }
        return candidates
            .clone()
            .position(Connection::has_handshake)
            .map_or(Choice::Dropped(Dropped::Unsupported), Choice::Candidate);
    }
    let mut fitting = candidates
        .clone()
        .enumerate()
        .filter(|(_, candidate)| candidate.has_epoch(header.epoch) || candidate.awaits_keys())
        .map(|(index, _)| index);
    match (fitting.next(), fitting.next()) {
        (None, _) => Choice::Dropped(Dropped::Unsupported),
        (Some(only), None) => Choice::Candidate(only),
        (Some(_), Some(_)) => {
            for (index, candidate) in candidates.clone().enumerate() {
                match candidate.open_into(datagram, scratch) {
                    Ok(_) => return Choice::Candidate(index),
                    // It is this candidate's: no other one is to suspect a wrong key for it.
                    Err(OpenError::Refused(Dropped::Replayed)) => return Choice::Dropped(Dropped::Replayed),
                    Err(_) => {}
                }
            }
            // Or it is a Finished that overtook its keys, or one under another key, which is the handshake's to judge.
            candidates
                .clone()
                .position(Connection::is_handshaking)
                .map_or(Choice::Dropped(Dropped::Unauthenticated), Choice::Candidate)
        }
    }
}
