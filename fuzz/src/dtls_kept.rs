//! What DTLS gives out of its hands to have it back later: saved connections, sessions, tickets.

use dtls_psk::{Connection, Datagram, HEADROOM, SAVED_MAX, Session, Suite, TAILROOM, TicketKey, choose};

use crate::dtls_insider::Nothing;
use crate::script::Script;

type Side = Connection<512>;

/// Whatever comes back: what is taken is given out again as it was, and can be worked with.
pub fn kept(script: &[u8]) {
    let mut script = Script(script);
    match script.byte() {
        Some(0) => connection(script.0),
        Some(1) => session(script.0),
        Some(2) => ticket(script.0),
        _ => {}
    }
}

fn connection(bytes: &[u8]) {
    let saved = |side: Side| {
        let mut out = [0; SAVED_MAX];
        side.save(&mut out).map(|length| out[..length].to_vec())
    };
    let Some(side) = Side::restore(bytes, 0) else { return };
    let again = saved(side).expect("what was restored is established");
    assert_eq!(again.len(), bytes.len());
    assert_eq!(Side::restore(&again, 0).and_then(saved).as_ref(), Some(&again));
    let Some(mut side) = Side::restore(bytes, 1) else { return };
    let mut record = [0; HEADROOM + 5 + TAILROOM];
    let sealed = side.seal(&mut record, HEADROOM..HEADROOM + 5);
    let Ok(range) = sealed else { return };
    let copy = record[range.clone()].to_vec();
    choose(std::iter::once(&side), &copy, &mut [0; HEADROOM + 5 + TAILROOM]);
    let _ = side.open_into(&copy, &mut [0; HEADROOM + 5 + TAILROOM]);
    // Its own keys for the other direction may be the same.
    let now = dtls_psk::Instant::from_millis(0);
    let _ = side.handle(now, &mut Datagram::new(&mut record[range]));
    assert!(side.detach().1.is_none(), "nothing is left of a handshake");
}

fn session(bytes: &[u8]) {
    let Some(session) = Session::parse(bytes) else { return };
    let mut out = [0; Session::LONGEST];
    assert_eq!(session.emit(&mut out), Some(bytes.len()));
    assert_eq!(&out[..bytes.len()], bytes);
    assert_eq!(Suite::from_code(session.suite().code()), Some(session.suite()));
}

fn ticket(bytes: &[u8]) {
    assert!(
        TicketKey::<dtls_psk::RustCrypto>::derive(&[7; 32], 1).open(bytes).is_none(),
        "nobody has the key"
    );
    // Everybody has this one.
    let key = TicketKey::<Nothing>::derive(&[0; 32], 1);
    let Some((session, context)) = key.open(bytes) else { return };
    let ticket = key.seal(&session, &context, 60).expect("what fitted once fits again");
    let again = key.open(ticket.bytes()).expect("what was sealed opens");
    assert!(again.1 == context && again.0.suite() == session.suite());
}
