//! What a peer does with messages (RFC 7252 §4 and §5, RFC 7641), one rule a test.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Random, Side, parsed};
use lwm2m_coap::protect::Plain;
use lwm2m_coap::{
    Code, Delivery, Event, Failure, Instant, Kind, MessageId, Parameters, Peer, Room, SendError, Sent,
    Stored, Token, TokenPolicy, Writer,
};

use Delivery::{Confirmable, NonConfirmable};

type Remote = Side<2, 4>;

fn empty(kind: Kind, id: MessageId) -> Vec<u8> {
    lwm2m_coap::udp::empty(kind, id).to_vec()
}

/// A request as bytes: CON or NON, code, message id, token 0x07.
fn raw(kind: u8, code: Code, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![0x41 | kind << 4, code.as_u8(), high, low, 7]
}

// --- Requests of ours

#[test]
fn a_request_is_sent_again_four_times_and_then_fails() {
    let mut client = Remote::new(1);
    let (id, first) = client.request(Confirmable, Code::GET);
    let start = client.now;
    let mut gaps = Vec::new();
    let mut last = start;
    for _ in 0..4 {
        assert_eq!((client.transmit(), client.event()), (None, None));
        client.now = client.peer.poll_timeout().unwrap().as_millis();
        gaps.push(client.now - last);
        last = client.now;
        assert_eq!(client.event(), None);
        assert_eq!(client.transmit().unwrap(), first);
    }
    // RFC 7252 §4.2: 2 to 3 s, doubled each time.
    assert!((2000..=3000).contains(&gaps[0]), "{gaps:?}");
    assert!(gaps.windows(2).all(|pair| pair[1] == 2 * pair[0]), "{gaps:?}");
    client.now = client.peer.poll_timeout().unwrap().as_millis();
    assert_eq!(client.transmit(), None);
    assert_eq!(client.event(), Some(Event::Failed { sent: Sent::Request(id), failure: Failure::TimedOut }));
    assert_eq!((client.event(), client.peer.poll_timeout()), (None, None));
    // MAX_TRANSMIT_WAIT is 93 s.
    assert!((62_000..=93_000).contains(&(client.now - start)));
    assert!(client.peer.is_idle());
}

#[test]
fn the_first_timeout_is_spread_over_its_whole_range() {
    let mut timeouts: Vec<_> = (0..200)
        .map(|seed| {
            let mut client = Remote::new(seed);
            client.request(Confirmable, Code::GET);
            client.peer.poll_timeout().unwrap().as_millis() - client.now
        })
        .collect();
    timeouts.sort_unstable();
    assert!(timeouts[0] < 2050 && timeouts[100] > 2300 && timeouts[100] < 2700 && timeouts[199] > 2950);
}

#[test]
fn a_timeout_below_a_tenth_of_a_second_is_spread_too() {
    static SHORT: Parameters = Parameters { ack_timeout: Duration::from_millis(99), ..Parameters::DEFAULT };
    let timeouts = (0..200).map(|seed| {
        let mut client = Remote::with(seed, &SHORT, TokenPolicy::Random);
        client.request(Confirmable, Code::GET);
        client.peer.poll_timeout().unwrap().as_millis() - client.now
    });
    let timeouts: Vec<_> = timeouts.collect();
    // RFC 7252 §4.2: between ACK_TIMEOUT and one and a half of it.
    assert!(timeouts.iter().all(|timeout| (99..=148).contains(timeout)));
    assert!(timeouts.iter().any(|timeout| *timeout < 105) && timeouts.iter().any(|timeout| *timeout > 142));
}

#[test]
fn a_piggybacked_response_must_have_message_id_and_token() {
    let mut client = Remote::new(1);
    let mut server = Remote::new(2);
    let (id, request) = client.request(Confirmable, Code::GET);
    let (mut exchange, _) = server.hears_request(&request);
    let response = server.respond(&mut exchange, Code::CONTENT, b"21");
    assert_eq!(parsed(&response), (Kind::Acknowledgement, Code::CONTENT, parsed(&request).2));
    let mut wrong_id = response.clone();
    wrong_id[3] ^= 1;
    assert_eq!(client.hears(&wrong_id), "Ignored(Unknown)");
    let mut wrong_token = response.clone();
    wrong_token[4] ^= 1;
    assert_eq!(client.hears(&wrong_token), "Ignored(Unknown)");
    assert_eq!(
        client.hears_response(&response),
        (id, common::Owned { code: Code::CONTENT, token: exchange.token(), payload: b"21".to_vec() })
    );
    // A duplicate is nobody's any more.
    assert_eq!(client.hears(&response), "Ignored(Unknown)");
    assert_eq!((client.transmit(), client.peer.poll_timeout()), (None, None));
}

#[test]
fn an_acknowledged_request_waits_for_its_separate_response() {
    let mut client = Remote::new(1);
    let mut server = Remote::new(2);
    let (id, request) = client.request(Confirmable, Code::POST);
    let (mut exchange, _) = server.hears_request(&request);
    server.peer.defer(&mut exchange, Confirmable);
    let acknowledgement = server.transmit().unwrap();
    assert_eq!(acknowledgement, empty(Kind::Acknowledgement, parsed(&request).2));
    assert_eq!(client.hears(&acknowledgement), format!("Acknowledged({:?})", Sent::Request(id)));
    assert_eq!(client.hears(&acknowledgement), "Ignored(Unknown)");
    // While the request is deferred, and after, its duplicates are acknowledged again.
    assert_eq!(server.hears(&request), "Duplicate");
    assert_eq!(server.transmit().unwrap(), acknowledgement);

    let response = server.respond(&mut exchange, Code::CHANGED, b"");
    assert_eq!(parsed(&response).0, Kind::Confirmable);
    assert_eq!(client.hears_response(&response).0, id);
    let acknowledgement = client.transmit().unwrap();
    assert_eq!(acknowledgement, empty(Kind::Acknowledgement, parsed(&response).2));
    // A late duplicate of the response is acknowledged again.
    assert_eq!(client.hears(&response), "Duplicate");
    assert_eq!(client.transmit().unwrap(), acknowledgement);
    assert_eq!(server.hears(&request), "Duplicate");
    assert_eq!(server.transmit().unwrap(), empty(Kind::Acknowledgement, parsed(&request).2));

    assert_eq!(
        server.hears(&acknowledgement),
        format!("Acknowledged({:?})", Sent::Response(exchange.token()))
    );
    assert!(server.peer.is_idle() && client.peer.is_idle());
}

#[test]
fn an_acknowledged_request_without_response_fails() {
    let mut client = Remote::new(1);
    let (id, request) = client.request(Confirmable, Code::GET);
    client.hears(&empty(Kind::Acknowledgement, parsed(&request).2));
    client.now += 93_000 - 1;
    assert_eq!((client.transmit(), client.event()), (None, None));
    client.now += 1;
    assert_eq!(client.transmit(), None);
    assert_eq!(client.event(), Some(Event::Failed { sent: Sent::Request(id), failure: Failure::TimedOut }));
}

#[test]
fn a_separate_response_before_the_acknowledgement_settles_the_request() {
    let mut client = Remote::new(1);
    let mut server = Remote::new(2);
    let (id, request) = client.request(Confirmable, Code::GET);
    let (mut exchange, _) = server.hears_request(&request);
    server.peer.defer(&mut exchange, Confirmable);
    let acknowledgement = server.transmit().unwrap();
    let response = server.respond(&mut exchange, Code::CONTENT, b"1");
    assert_eq!(client.hears_response(&response).0, id);
    assert!(client.transmit().is_some());
    assert_eq!(client.hears(&acknowledgement), "Ignored(Unknown)");
    client.now += 100_000;
    assert_eq!((client.transmit(), client.event()), (None, None));
}

#[test]
fn a_separate_response_is_sent_again_until_it_is_acknowledged() {
    let mut client = Remote::new(1);
    let mut server = Remote::new(2);
    let (_, request) = client.request(Confirmable, Code::GET);
    let (mut exchange, _) = server.hears_request(&request);
    server.peer.defer(&mut exchange, Confirmable);
    server.transmit();
    let response = server.respond(&mut exchange, Code::CONTENT, b"1");
    server.now += 3000;
    assert_eq!(server.transmit().unwrap(), response);
    client.hears_response(&response);
    server.hears(&client.transmit().unwrap());
    server.now += 100_000;
    assert_eq!((server.transmit(), server.event()), (None, None));
}

#[test]
fn a_separate_response_may_be_non_confirmable() {
    let mut client = Remote::new(1);
    let mut server = Remote::new(2);
    let (id, request) = client.request(Confirmable, Code::GET);
    let (mut exchange, _) = server.hears_request(&request);
    server.peer.defer(&mut exchange, NonConfirmable);
    server.transmit();
    let response = server.respond(&mut exchange, Code::CONTENT, b"1");
    assert_eq!(parsed(&response).0, Kind::NonConfirmable);
    assert!(server.peer.is_idle());
    assert_eq!(client.hears_response(&response).0, id);
    assert_eq!(client.transmit(), None);
}

#[test]
fn a_reset_settles_a_request() {
    let mut client = Remote::new(1);
    for delivery in [Confirmable, NonConfirmable] {
        let (id, request) = client.request(delivery, Code::GET);
        let reset = empty(Kind::Reset, parsed(&request).2);
        assert_eq!(client.hears(&reset), format!("Reset({:?})", Sent::Request(id)));
        assert_eq!(client.hears(&reset), "Ignored(Unknown)");
        assert!(client.peer.is_idle());
    }
}

#[test]
fn a_non_confirmable_request_is_sent_once_and_may_be_answered() {
    let mut client = Remote::new(1);
    let mut server = Remote::new(2);
    let (id, request) = client.request(NonConfirmable, Code::POST);
    let (mut exchange, _) = server.hears_request(&request);
    // RFC 7252 §4.3, §4.5: a duplicate is ignored.
    assert_eq!((server.hears(&request), server.transmit()), ("Duplicate".into(), None));
    let response = server.respond(&mut exchange, Code::CHANGED, b"");
    assert_eq!(parsed(&response).0, Kind::NonConfirmable);
    assert_eq!((server.hears(&request), server.transmit()), ("Duplicate".into(), None));
    assert_eq!(client.hears_response(&response).0, id);

    let (id, _) = client.request(NonConfirmable, Code::POST);
    client.now += 93_000;
    assert_eq!(client.transmit(), None);
    assert_eq!(client.event(), Some(Event::Failed { sent: Sent::Request(id), failure: Failure::TimedOut }));
}

#[test]
fn nstart_limits_what_is_in_flight() {
    let mut client = Remote::new(1);
    let (_, request) = client.request(Confirmable, Code::GET);
    assert!(!client.peer.can_request(client.now()));
    assert_eq!(client.try_request(Confirmable, Code::GET, b"").unwrap_err(), SendError::Busy);
    // Acknowledged, it is not in flight any more, but it takes its place.
    client.hears(&empty(Kind::Acknowledgement, parsed(&request).2));
    client.request(NonConfirmable, Code::GET);
    assert_eq!(client.try_request(Confirmable, Code::GET, b"").unwrap_err(), SendError::Full);
    let mut client = Side::<4, 4>::new(1);
    client.request(NonConfirmable, Code::GET);
    assert_eq!(client.try_request(Confirmable, Code::GET, b"").unwrap_err(), SendError::Busy);
    // The response to a NON request is not expected for ever.
    client.now += 2000;
    client.request(Confirmable, Code::GET);

    static TWO: Parameters = Parameters { nstart: 2, ..Parameters::DEFAULT };
    let mut client = Side::<4, 4>::with(1, &TWO, TokenPolicy::Random);
    client.request(Confirmable, Code::GET);
    client.request(Confirmable, Code::GET);
    assert_eq!(client.try_request(Confirmable, Code::GET, b"").unwrap_err(), SendError::Busy);
}

#[test]
fn a_request_too_long_to_be_kept_is_refused_and_leaves_nothing() {
    let mut client = Remote::new(1);
    assert_eq!(client.try_request(Confirmable, Code::PUT, &[0; 200]).unwrap_err(), SendError::TooLong);
    assert!(client.peer.is_idle());
    client.try_request(NonConfirmable, Code::PUT, &[0; 200]).unwrap();
}

#[test]
fn a_cancelled_request_awaits_nothing() {
    let mut client = Remote::new(1);
    let mut server = Remote::new(2);
    let (id, request) = client.request(Confirmable, Code::GET);
    let (mut exchange, _) = server.hears_request(&request);
    client.peer.cancel(id);
    assert_eq!(client.peer.poll_timeout(), None);
    let response = server.respond(&mut exchange, Code::CONTENT, b"");
    assert_eq!(client.hears(&response), "Ignored(Unknown)");
}

#[test]
fn a_replaced_association_fails_what_is_outstanding_and_forgets_what_came() {
    let mut client = Remote::new(1);
    let (id, request) = client.request(Confirmable, Code::GET);
    let (mut exchange, _) = client.hears_request(&raw(0, Code::POST, 5));
    client.respond(&mut exchange, Code::CHANGED, b"");
    client.peer.fail_all();
    assert_eq!(client.hears(&empty(Kind::Acknowledgement, parsed(&request).2)), "Ignored(Unknown)");
    assert!(client.peer.poll_timeout().is_some());
    assert_eq!(client.transmit(), None);
    assert_eq!(client.event(), Some(Event::Failed { sent: Sent::Request(id), failure: Failure::Replaced }));
    assert_eq!(client.peer.poll_timeout(), None);
    // Message ids of the remote begin anew.
    client.hears_request(&raw(0, Code::POST, 5));
}

// --- Requests of the remote

#[test]
fn a_duplicate_con_replays_the_stored_answer() {
    let mut server = Remote::new(2);
    let request = raw(0, Code::POST, 100);
    let (mut exchange, _) = server.hears_request(&request);
    // Before there is an answer, a duplicate is ignored.
    assert_eq!((server.hears(&request), server.transmit()), ("Duplicate".into(), None));
    let response = server.respond(&mut exchange, Code::CREATED, b"x");
    for _ in 0..3 {
        assert_eq!(server.hears(&request), "Duplicate");
        assert_eq!(server.transmit().unwrap(), response);
        assert_eq!(server.transmit(), None);
    }
    // EXCHANGE_LIFETIME, rounded up to whole seconds.
    server.now += 246_999;
    assert_eq!(server.hears(&request), "Duplicate");
    server.now += 1000;
    server.hears_request(&request);
}

#[test]
fn a_peer_that_is_taken_up_again_repeats_its_answers_and_no_number() {
    let mut server = Side::<2, 4>::with(2, &Parameters::DEFAULT, TokenPolicy::SECURED);
    let (answered, suppressed, open) = (raw(0, Code::POST, 1), raw(0, Code::POST, 2), raw(0, Code::POST, 3));
    let (mut exchange, _) = server.hears_request(&answered);
    let response = server.respond(&mut exchange, Code::CREATED, b"x");
    let (mut exchange, _) = server.hears_request(&suppressed);
    server.peer.suppress(&mut exchange);
    server.transmit();
    server.hears_request(&open);
    let token = server.peer.next_token(&mut |_| (), |_| false);
    let (id, tokens) = server.peer.numbers();

    let mut peer = Peer::restored(&Parameters::DEFAULT, (id, tokens));
    for settled in server.peer.settled() {
        peer.remember(server.now(), &settled);
    }
    server.peer = peer;
    assert_eq!((server.hears(&answered), server.transmit()), ("Duplicate".into(), Some(response)));
    let acknowledgement = empty(Kind::Acknowledgement, MessageId(2));
    assert_eq!((server.hears(&suppressed), server.transmit()), ("Duplicate".into(), Some(acknowledgement)));
    server.hears_request(&open);
    assert_ne!(server.peer.next_token(&mut |_| (), |_| false), token);
    assert_eq!(server.peer.numbers().0, id);
    server.now += 248_000;
    server.hears_request(&answered);
}

#[test]
fn the_same_message_id_with_another_token_is_another_request() {
    let mut server = Remote::new(2);
    let mut request = raw(0, Code::POST, 1);
    let (mut exchange, _) = server.hears_request(&request);
    server.respond(&mut exchange, Code::CREATED, b"old");
    request[4] = 8;
    let (mut exchange, _) = server.hears_request(&request);
    let response = server.respond(&mut exchange, Code::CREATED, b"new");
    assert_eq!(server.hears(&request), "Duplicate");
    assert_eq!(server.transmit().unwrap(), response);
    request[0] = 0x40;
    request.pop();
    server.hears_request(&request);
}

#[test]
fn an_answer_is_given_once() {
    let mut server = Remote::new(2);
    let (mut exchange, _) = server.hears_request(&raw(0, Code::GET, 1));
    server.respond(&mut exchange, Code::CONTENT, b"x");
    assert_eq!(server.try_respond(&mut exchange, Code::CONTENT, b"x"), Err(SendError::Answered));
    server.peer.defer(&mut exchange, Confirmable);
    assert_eq!(server.transmit(), None);
}

#[test]
fn an_answer_that_cannot_be_written_can_be_given_in_another_way() {
    let mut server = Remote::new(2);
    let (mut exchange, _) = server.hears_request(&raw(0, Code::GET, 1));
    assert!(matches!(server.try_respond(&mut exchange, Code::CONTENT, &[0; 300]), Err(SendError::Write(_))));
    server.respond(&mut exchange, Code::INTERNAL_SERVER_ERROR, b"");
}

#[test]
fn a_full_memory_forgets_the_oldest_answered() {
    let mut server = Remote::new(2);
    let (mut pending, _) = server.hears_request(&raw(0, Code::POST, 1));
    for id in 2..=5 {
        let (mut exchange, _) = server.hears_request(&raw(0, Code::POST, id));
        server.respond(&mut exchange, Code::CHANGED, b"");
    }
    // 1 is in process and stays, 2 was the oldest answered one.
    assert_eq!(server.hears(&raw(0, Code::POST, 1)), "Duplicate");
    for id in 3..=5 {
        assert_eq!(server.hears(&raw(0, Code::POST, id)), "Duplicate");
    }
    server.hears_request(&raw(0, Code::POST, 2));
    server.respond(&mut pending, Code::CHANGED, b"");
}

#[test]
fn what_cannot_be_remembered_is_refused_unless_it_may_be_executed_twice() {
    let mut server = Remote::new(2);
    let mut exchanges: Vec<_> = (1..=4).map(|id| server.hears_request(&raw(0, Code::POST, id)).0).collect();
    assert_eq!(server.hears(&raw(0, Code::POST, 5)), "Ignored(Busy)");
    let refusal = server.transmit().unwrap();
    assert_eq!(parsed(&refusal), (Kind::Acknowledgement, Code::SERVICE_UNAVAILABLE, MessageId(5)));
    assert_eq!(refusal[4..], [7]);
    assert_eq!((server.hears(&raw(1, Code::POST, 6)), server.transmit()), ("Ignored(Busy)".into(), None));
    // A GET needs no memory; deferring does not make room.
    let (mut get, _) = server.hears_request(&raw(0, Code::GET, 7));
    server.respond(&mut get, Code::CONTENT, b"");
    let (mut again, _) = server.hears_request(&raw(0, Code::GET, 7));
    server.peer.defer(&mut again, NonConfirmable);
    assert!(server.transmit().is_some());
    server.peer.defer(&mut exchanges[0], NonConfirmable);
    server.transmit();
    assert_eq!(server.hears(&raw(0, Code::POST, 8)), "Ignored(Busy)");
    server.respond(&mut exchanges[0], Code::CHANGED, b"");
    server.hears_request(&raw(0, Code::POST, 8));
}

#[test]
fn a_repeated_request_of_any_method_is_executed_once_while_its_answer_is_remembered() {
    // RFC 7252 §4.5: the recipient may be relaxed for idempotent methods; here it is so only without memory.
    for code in [
        Code::GET,
        Code::POST,
        Code::PUT,
        Code::DELETE,
        Code::FETCH,
        Code::PATCH,
        Code::IPATCH,
        Code::from_u8(8),
    ] {
        let mut server = Remote::new(2);
        let request = raw(0, code, 1);
        let (mut exchange, _) = server.hears_request(&request);
        let response = server.respond(&mut exchange, Code::CHANGED, b"x");
        assert_eq!(
            (server.hears(&request), server.transmit()),
            ("Duplicate".into(), Some(response)),
            "{code}"
        );
        // Non-confirmable, it is not even answered again.
        let request = raw(1, code, 2);
        let (mut exchange, _) = server.hears_request(&request);
        server.respond(&mut exchange, Code::CHANGED, b"x");
        assert_eq!((server.hears(&request), server.transmit()), ("Duplicate".into(), None), "{code}");
    }
}

#[test]
fn a_patch_without_room_to_remember_it_is_refused_and_an_idempotent_request_is_not() {
    // RFC 8132 §2.2: iPATCH is idempotent, PATCH is not; §2: FETCH is.
    for (code, is_executed) in [
        (Code::GET, true),
        (Code::POST, false),
        (Code::PUT, true),
        (Code::DELETE, true),
        (Code::FETCH, true),
        (Code::PATCH, false),
        (Code::IPATCH, true),
        (Code::from_u8(8), false),
    ] {
        let mut server = Remote::new(2);
        for id in 1..=4 {
            server.hears_request(&raw(0, Code::POST, id));
        }
        for _ in 0..2 {
            let request = raw(0, code, 5);
            if is_executed {
                let (mut exchange, _) = server.hears_request(&request);
                let response = server.respond(&mut exchange, Code::CHANGED, b"x");
                assert_eq!(parsed(&response).0, Kind::Acknowledgement);
            } else {
                assert_eq!(server.hears(&request), "Ignored(Busy)", "{code}");
                let refusal = server.transmit().unwrap();
                assert_eq!(
                    parsed(&refusal),
                    (Kind::Acknowledgement, Code::SERVICE_UNAVAILABLE, MessageId(5))
                );
            }
        }
    }
}

/// A copy that counts what all copies together hold.
#[derive(Debug)]
struct Capped(Box<[u8]>);

static HELD: AtomicUsize = AtomicUsize::new(0);

impl Stored for Capped {
    fn store(bytes: &[u8]) -> Option<Self> {
        let held = HELD.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        let copy = Self(bytes.into());
        (held <= 40).then_some(copy)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Capped {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

#[test]
fn an_answer_without_room_for_its_copy_is_never_executed_twice_unless_that_does_no_harm() {
    let mut random = Random(1);
    let mut rng = |bytes: &mut [u8]| random.fill(bytes);
    let mut peer = Peer::<Capped, 1, 4>::new(&Parameters::DEFAULT, TokenPolicy::Random, &mut rng);
    let now = Instant::from_millis(0);
    let mut executed = Vec::new();
    let mut answered = 0;
    for (code, id) in [(Code::POST, 1), (Code::POST, 2), (Code::POST, 2), (Code::GET, 3), (Code::GET, 3)] {
        let mut datagram = raw(0, code, id);
        if let lwm2m_coap::Input::Request { mut exchange, .. } = peer.handle(now, &mut datagram, &mut Plain) {
            executed.push(id);
            let mut buffer = [0; 64];
            let mut writer = Writer::new(&mut buffer, Room::NONE, Code::CONTENT);
            writer.payload(&[0; 24]).unwrap();
            peer.respond(now, &mut exchange, writer, &mut Plain, &mut rng).unwrap();
        }
        answered += usize::from(peer.poll_transmit(now, &mut [0; 64]).is_some());
    }
    // The copies of 2 and 3 are over the cap: 2 stays unanswered when it comes again, 3 is executed again.
    assert_eq!((executed, answered), (vec![1, 2, 3, 3], 0));
    assert_eq!(peer.next_expiry(), Some(Instant::from_millis(247_000)));
    peer.forget(Instant::from_millis(247_000));
    assert_eq!((peer.next_expiry(), HELD.load(Ordering::Relaxed)), (None, 0));
}

#[test]
fn a_client_that_wants_no_response_gets_an_acknowledgement_at_most() {
    let mut server = Remote::new(1);
    // RFC 7967 §2: a Confirmable request is acknowledged all the same, and so are its duplicates.
    let request = raw(0, Code::POST, 1);
    let (mut exchange, _) = server.hears_request(&request);
    server.peer.suppress(&mut exchange);
    for _ in 0..2 {
        assert_eq!(server.transmit().unwrap(), empty(Kind::Acknowledgement, MessageId(1)));
        assert_eq!(server.hears(&request), "Duplicate");
    }
    server.transmit();
    assert_eq!(server.try_respond(&mut exchange, Code::CHANGED, b""), Err(SendError::Answered));
    server.peer.suppress(&mut exchange);
    assert_eq!(server.transmit(), None);
    // A Non-confirmable one is left in silence.
    let request = raw(1, Code::POST, 2);
    let (mut exchange, _) = server.hears_request(&request);
    server.peer.suppress(&mut exchange);
    assert_eq!((server.transmit(), server.hears(&request)), (None, "Duplicate".into()));
    assert_eq!(server.transmit(), None);
    // What was deferred was acknowledged already.
    let (mut exchange, _) = server.hears_request(&raw(0, Code::POST, 3));
    server.peer.defer(&mut exchange, Confirmable);
    server.transmit();
    server.peer.suppress(&mut exchange);
    assert_eq!((server.transmit(), server.peer.is_idle()), (None, true));
    // None of them keeps its place: a full memory forgets them.
    for id in 4..=7 {
        server.hears_request(&raw(0, Code::POST, id));
    }
}

// --- Observations

#[test]
fn a_confirmable_notification_is_acknowledged_or_rejected() {
    let mut device = Remote::new(1);
    let mut server = Remote::new(2);
    let (_, request) = server.request(Confirmable, Code::GET);
    let (mut exchange, _) = device.hears_request(&request);
    let observer = exchange.observer();
    server.hears_response(&device.respond(&mut exchange, Code::CONTENT, b"1"));

    let notification = device.notify(Confirmable, &observer, 3);
    assert_eq!(device.try_notify(Confirmable, &observer, 4), Err(SendError::Busy));
    assert_eq!(device.try_notify(NonConfirmable, &observer, 4), Err(SendError::Busy));
    let (header, message) = server.hears_unsolicited(&notification);
    assert_eq!(message.token, exchange.token());
    server.peer.accept(header);
    let sent = Sent::Notification(observer.token);
    assert_eq!(device.hears(&server.transmit().unwrap()), format!("Acknowledged({sent:?})"));

    let notification = device.notify(Confirmable, &observer, 4);
    let (header, _) = server.hears_unsolicited(&notification);
    server.peer.reject(header);
    assert_eq!(device.hears(&server.transmit().unwrap()), format!("Reset({sent:?})"));
    assert!(device.peer.is_idle());

    device.notify(Confirmable, &observer, 5);
    device.now += 93_000;
    while device.transmit().is_some() {
        device.now += 93_000;
    }
    assert_eq!(device.event(), Some(Event::Failed { sent, failure: Failure::TimedOut }));
}

#[test]
fn a_reset_finds_the_last_non_confirmable_notification_of_each_observer() {
    let mut device = Remote::new(1);
    let observers: Vec<_> = (0..3)
        .map(|number| {
            let mut request = raw(0, Code::GET, number);
            request[4] = number.to_be_bytes()[1];
            device.hears_request(&request).0.observer()
        })
        .collect();
    let old = device.notify(NonConfirmable, &observers[0], 1);
    let zero = device.notify(NonConfirmable, &observers[0], 2);
    let one = device.notify(NonConfirmable, &observers[1], 1);
    let reset = |datagram: &[u8]| empty(Kind::Reset, parsed(datagram).2);
    assert_eq!(device.hears(&reset(&old)), "Ignored(Unknown)");
    let said = format!("Reset({:?})", Sent::Notification(observers[1].token));
    assert_eq!(device.hears(&reset(&one)), said);
    assert_eq!(device.hears(&reset(&one)), "Ignored(Unknown)");
    // There is room for two: the third pushes the oldest out.
    device.notify(NonConfirmable, &observers[1], 2);
    device.notify(NonConfirmable, &observers[2], 1);
    assert_eq!(device.hears(&reset(&zero)), "Ignored(Unknown)");
    assert!(device.peer.is_idle());
}

#[test]
fn notifications_and_requests_share_nstart() {
    let mut device = Remote::new(1);
    let observer = device.hears_request(&raw(0, Code::GET, 1)).0.observer();
    device.request(Confirmable, Code::POST);
    assert_eq!(device.try_notify(Confirmable, &observer, 1), Err(SendError::Busy));
    device.notify(NonConfirmable, &observer, 1);
}

#[test]
fn an_unexpected_response_is_the_owners_to_judge() {
    let mut client = Remote::new(1);
    for kind in [0, 1] {
        let (header, _) = client.hears_unsolicited(&raw(kind, Code::CONTENT, 77));
        client.peer.reject(header);
        assert_eq!(client.transmit().unwrap(), empty(Kind::Reset, MessageId(77)));
    }
    let (header, _) = client.hears_unsolicited(&raw(1, Code::CONTENT, 78));
    client.peer.accept(header);
    assert_eq!(client.transmit(), None);
    assert_eq!(client.hears(&raw(2, Code::CONTENT, 79)), "Ignored(Unknown)");
}

#[test]
fn a_response_whose_acknowledgement_is_lost_comes_again_and_is_acknowledged_again() {
    // RFC 7252 §4.2, §5.2.2: the separate response is sent until it is acknowledged, and reaches the owner once.
    let mut client = Remote::new(1);
    let mut server = Remote::new(2);
    let (id, request) = client.request(Confirmable, Code::POST);
    let (mut exchange, _) = server.hears_request(&request);
    server.peer.defer(&mut exchange, Confirmable);
    // The empty acknowledgement is lost: the request comes again and is acknowledged again, even when the answer is given.
    server.transmit();
    server.respond(&mut exchange, Code::CHANGED, b"1");
    client.now += 3000;
    assert_eq!(client.transmit().unwrap(), request);
    assert_eq!(server.hears(&request), "Duplicate");
    let acknowledgement = server.transmit().unwrap();
    assert_eq!(client.hears(&acknowledgement), format!("Acknowledged({:?})", Sent::Request(id)));
    server.now += 3000;
    let response = server.transmit().unwrap();
    assert_eq!(client.hears_response(&response).0, id);
    // So is the acknowledgement of the response.
    client.transmit();
    server.now += 6000;
    assert_eq!(server.transmit().unwrap(), response);
    assert_eq!(client.hears(&response), "Duplicate");
    server.hears(&client.transmit().unwrap());
    assert!(client.peer.is_idle() && server.peer.is_idle());
}

#[test]
fn the_token_of_a_former_request_matches_no_later_one() {
    // RFC 7252 §5.3.1, §5.3.2: a late response to a request that was given up is not the answer to the next one.
    let mut client = Remote::new(1);
    let mut server = Remote::new(2);
    let (id, request) = client.request(Confirmable, Code::GET);
    let (mut exchange, _) = server.hears_request(&request);
    client.peer.cancel(id);
    let (later, _) = client.request(Confirmable, Code::GET);
    server.peer.defer(&mut exchange, Confirmable);
    server.transmit();
    let (header, message) = client.hears_unsolicited(&server.respond(&mut exchange, Code::CONTENT, b"late"));
    assert_eq!(message.token, exchange.token());
    client.peer.reject(header);
    server.hears(&client.transmit().unwrap());
    assert!(server.peer.is_idle());
    assert_ne!(later, id);
    assert!(!client.peer.is_idle());
}

#[test]
fn a_response_from_another_endpoint_finds_no_request() {
    // RFC 7252 §5.3.2: the source must be the endpoint the request went to. A peer is that endpoint.
    let (mut asked, mut other, mut server) = (Remote::new(1), Remote::new(3), Remote::new(2));
    let (_, request) = asked.request(Confirmable, Code::GET);
    let (mut exchange, _) = server.hears_request(&request);
    let response = server.respond(&mut exchange, Code::CONTENT, b"forged");
    assert_eq!(other.hears(&response), "Ignored(Unknown)");
    assert!(!asked.peer.is_idle());
}

// --- What is no proper message

#[test]
fn a_ping_is_answered_with_a_reset() {
    let mut server = Remote::new(1);
    assert_eq!(server.hears(&empty(Kind::Confirmable, MessageId(9))), "Ignored(Ping)");
    assert_eq!(server.transmit().unwrap(), empty(Kind::Reset, MessageId(9)));
    assert_eq!(server.hears(&empty(Kind::NonConfirmable, MessageId(9))), "Ignored(Kind)");
    assert_eq!(server.transmit(), None);
}

#[test]
fn a_malformed_confirmable_message_is_rejected_and_others_are_silent() {
    let mut server = Remote::new(1);
    for (first, answer) in
        [(0x40, true), (0x50, false), (0x60, false), (0x70, false), (0x00, false), (0x80, false)]
    {
        for tail in [&[0xff][..], &[0xf0], &[0xb5, b'a'], &[0xe0, 0xff, 0xff]] {
            let mut datagram = vec![first, 1, 0x12, 0x34];
            datagram.extend(tail);
            assert!(server.hears(&datagram).starts_with("Ignored(Malformed"));
            assert_eq!(server.transmit(), answer.then(|| empty(Kind::Reset, MessageId(0x1234))));
        }
    }
    assert_eq!(server.hears(&[]), "Ignored(Malformed(Truncated))");
}

#[test]
fn types_and_codes_that_do_not_go_together_are_ignored() {
    let mut server = Remote::new(1);
    for datagram in [raw(2, Code::GET, 1), raw(3, Code::GET, 1), raw(3, Code::CONTENT, 1)] {
        assert_eq!((server.hears(&datagram), server.transmit()), ("Ignored(Kind)".into(), None));
    }
}

#[test]
fn an_unknown_critical_option_in_a_request_is_refused() {
    let mut server = Remote::new(1);
    // Option 2049 (critical), 9 (OSCORE), 35 (Proxy-Uri).
    for (option, code, text) in [
        (&[0xe0, 0x06, 0xf4][..], Code::BAD_OPTION, &b"\xffoption 2049"[..]),
        (&[0x90], Code::BAD_OPTION, b"\xffoption 9"),
        (&[0xe0, 0xfe, 0xf2], Code::BAD_OPTION, b"\xffoption 65535"),
        (&[0xd1, 22, b'u'], Code::PROXYING_NOT_SUPPORTED, b""),
    ] {
        let head = raw(0, Code::POST, 1);
        let mut datagram = [&head, option].concat();
        for payload in 0..20 {
            let body = [b"\xff", &[b'a'; 20][..payload]].concat();
            datagram = [&head[..], option, if payload == 0 { &[] } else { &body }].concat();
            assert!(server.hears(&datagram).starts_with("Ignored(BadOption"));
            let refusal = server.transmit().unwrap();
            assert_eq!(parsed(&refusal), (Kind::Acknowledgement, code, MessageId(1)));
            // A text that would make the refusal longer than what came is left out.
            let has_text = head.len() + text.len() <= datagram.len();
            assert_eq!(&refusal[head.len()..], if has_text { text } else { &[] }, "{payload}");
        }
        datagram[0] = 0x51;
        assert!(server.hears(&datagram).starts_with("Ignored(BadOption"));
        assert_eq!(server.transmit(), None);
    }
    // 2048 is elective.
    let mut datagram = raw(0, Code::GET, 2);
    datagram.extend([0xe0, 0x06, 0xf3]);
    server.hears_request(&datagram);
}

#[test]
fn elective_options_of_any_kind_change_nothing() {
    // RFC 7252 §5.4.1, §5.4.5; RFC 8768 §3: Hop-Limit is for proxies. RFC 7967, RFC 9175: an endpoint may ignore the
    // option. Over-long, empty and repeated ones are as absent.
    let mut server = Remote::new(1);
    for (id, options) in [
        &[0xd1, 3, 0][..],
        &[0xd2, 3, 1, 1],
        &[0xd1, 3, 16, 0x01, 16],
        &[0xd1, 239, 1],
        &[0xd1, 245, 26],
        &[0xe0, 0, 23],
        &[0x69, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    ]
    .into_iter()
    .enumerate()
    {
        let mut datagram = raw(0, Code::POST, u16::try_from(id).unwrap());
        datagram.extend(options);
        let (mut exchange, _) = server.hears_request(&datagram);
        server.respond(&mut exchange, Code::CHANGED, b"");
    }
}

#[test]
fn options_that_make_a_request_conditional_are_refused_rather_than_ignored() {
    // RFC 7252 §5.10.8, §5.4.1: If-Match and If-None-Match are critical, and nothing here is conditional.
    let mut server = Remote::new(1);
    for options in [&[0x11, 7][..], &[0x10], &[0x50]] {
        let mut datagram = raw(0, Code::PUT, 1);
        datagram.extend(options);
        assert!(server.hears(&datagram).starts_with("Ignored(BadOption"));
        assert_eq!(parsed(&server.transmit().unwrap()).1, Code::BAD_OPTION);
    }
}

#[test]
fn an_unknown_critical_option_in_a_response_fails_the_request() {
    for separate in [false, true] {
        let mut client = Remote::new(1);
        let (id, request) = client.request(Confirmable, Code::GET);
        let mut response = vec![if separate { 0x44 } else { 0x64 }, Code::CONTENT.as_u8()];
        response.extend(&request[2..8]);
        response.extend([0xe0, 0x06, 0xf4]);
        assert!(client.hears(&response).starts_with("Ignored(BadOption"));
        // A separate Confirmable response is rejected, an Acknowledgement cannot be.
        assert_eq!(client.transmit(), separate.then(|| empty(Kind::Reset, parsed(&response).2)));
        assert_eq!(
            client.event(),
            Some(Event::Failed { sent: Sent::Request(id), failure: Failure::BadOption })
        );
        assert!(client.peer.is_idle());
    }
}

#[test]
fn a_message_id_is_remembered_only_when_the_message_was_good() {
    let mut server = Remote::new(1);
    let mut bad = raw(0, Code::POST, 1);
    bad.extend([0x90]);
    for _ in 0..10 {
        server.hears(&bad);
    }
    assert_eq!(server.peer.next_expiry(), None);
    server.hears_request(&raw(0, Code::POST, 1));
}

// --- Tokens and sizes

#[test]
fn counted_tokens_are_short_and_skip_living_observations() {
    let mut random = Random(1);
    let mut rng = |bytes: &mut [u8]| random.fill(bytes);
    let mut peer = Peer::<common::Copy128, 1, 1>::new(&Parameters::DEFAULT, TokenPolicy::SECURED, &mut rng);
    let token = |bytes: &[u8]| Token::new(bytes).unwrap();
    assert_eq!(peer.next_token(&mut rng, |_| false), token(&[1]));
    assert_eq!(peer.next_token(&mut rng, |other| other == token(&[2])), token(&[3]));
    for _ in 4..=255 {
        assert_eq!(peer.next_token(&mut rng, |_| false).length(), 1);
    }
    assert_eq!(peer.next_token(&mut rng, |_| false), token(&[1, 0]));
    assert_eq!(Token::from_counter(u64::MAX).length(), 8);
    assert_eq!(Token::from_counter(0), Token::EMPTY);
}

#[test]
fn random_tokens_have_four_bytes_and_differ_even_with_a_broken_generator() {
    let mut rng = |bytes: &mut [u8]| bytes.fill(0);
    static MANY: Parameters = Parameters { nstart: 9, ..Parameters::DEFAULT };
    let mut peer = Peer::<common::Copy128, 4, 1>::new(&MANY, TokenPolicy::Random, &mut rng);
    let mut tokens = Vec::new();
    for _ in 0..4 {
        let token = peer.next_token(&mut rng, |_| false);
        assert!(token.length() == 4 && !tokens.contains(&token));
        tokens.push(token);
        let mut buffer = [0; 32];
        let writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
        peer.request(Instant::from_millis(0), Confirmable, token, writer, &mut Plain, &mut rng).unwrap();
    }
}

#[test]
fn an_idle_peer_of_a_server_is_small() {
    assert!(size_of::<Peer<Box<[u8]>, 1, 4>>() <= 200, "{}", size_of::<Peer<Box<[u8]>, 1, 4>>());
}

#[test]
fn a_datagram_that_does_not_fit_is_as_lost() {
    let mut client = Remote::new(1);
    client.request(Confirmable, Code::GET);
    client.now += 3000;
    let now = client.now();
    assert_eq!(client.peer.poll_transmit(now, &mut [0; 3]), None);
    assert!(client.peer.poll_timeout().unwrap() > now);
}
