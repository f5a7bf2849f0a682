//! A blocking CoAP client and server on `lwm2m-coap`, over any transport: what the tests put in front of foreign endpoints.
//!
//! The server has `/store` (PUT, GET, FETCH, block-wise in both directions, observable; iPATCH appends), `/echo` (POST) and
//! `/fresh` (POST, with an Echo value only).

mod oscore;
mod server;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant as Clock};

use lwm2m_coap::block::{
    Block, Download, Downloaded, Head, Portion, Receive, Received, Serve, Szx, Upload, Uploaded,
};
use lwm2m_coap::echo::Challenge;
use lwm2m_coap::observe::{DEREGISTER, REGISTER, Sequence};
use lwm2m_coap::{
    Code, ContentFormat, Delivery, Exchange, Input, Instant, Message, Observer, OptionNumber, Parameters,
    Peer, RequestId, Sink, Stored, Token, TokenPolicy, Writer,
};

use ::oscore::Binding;

use crate::process::PATIENCE;
use crate::random::Random;

use oscore::{guard, room};

pub use oscore::Oscore;
pub use server::Server;

/// Carries datagrams to and from one remote.
pub trait Transport {
    /// Sends a datagram.
    fn send(&mut self, datagram: &[u8]);
    /// Waits at most `limit` for a datagram.
    fn receive(&mut self, limit: Duration) -> Option<Vec<u8>>;
}

impl Transport for UdpSocket {
    fn send(&mut self, datagram: &[u8]) {
        // As on any network: what cannot be sent is lost.
        let _ = UdpSocket::send(self, datagram);
    }

    fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        // Zero would mean to wait for ever.
        let limit = limit.max(Duration::from_millis(1));
        self.set_read_timeout(Some(limit)).ok()?;
        let length = self.recv(&mut buffer).ok()?;
        buffer.get(..length).map(<[u8]>::to_vec)
    }
}

/// The side of a UDP socket that answers whoever spoke last.
#[derive(Debug)]
pub struct Listener {
    socket: UdpSocket,
    remote: Option<SocketAddr>,
}

impl Listener {
    /// Listens with `socket`.
    pub fn new(socket: &UdpSocket) -> Self {
        Self { socket: socket.try_clone().expect("a socket can be shared"), remote: None }
    }
}

impl Transport for Listener {
    fn send(&mut self, datagram: &[u8]) {
        if let Some(remote) = self.remote {
            // As on any network: what cannot be sent is lost.
            let _ = self.socket.send_to(datagram, remote);
        }
    }

    fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).ok()?;
        let (length, remote) = self.socket.recv_from(&mut buffer).ok()?;
        self.remote = Some(remote);
        buffer.get(..length).map(<[u8]>::to_vec)
    }
}

/// A copy of a message.
#[derive(Debug, Clone)]
pub(crate) struct Kept(Vec<u8>);

impl Stored for Kept {
    fn store(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.to_vec()))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A response, or a notification.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The response code.
    pub code: Code,
    /// The Observe option.
    pub observe: Option<u32>,
    /// The Content-Format option.
    pub format: Option<ContentFormat>,
    /// The segments of the Location-Path option.
    pub location: Vec<String>,
    /// The whole body.
    pub body: Vec<u8>,
    /// How many messages the body came in, or went in.
    pub messages: usize,
}

impl Answer {
    fn new(message: &Message<'_>) -> Self {
        Self {
            code: message.code,
            observe: message.options.observe(),
            format: message.options.content_format(),
            location: message
                .options
                .location_path()
                .map(|segment| String::from_utf8_lossy(segment).into_owned())
                .collect(),
            body: message.payload.to_vec(),
            messages: 1,
        }
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start: String = self.text().chars().take(40).collect();
        write!(f, "{:?} observe {:?} in {} messages: {start:?}", self.code, self.observe, self.messages)
    }
}

/// What a request carries besides its path and payload.
#[derive(Debug, Clone, Copy, Default)]
struct Extra {
    observe: Option<u32>,
    block1: Option<Block>,
    block2: Option<Block>,
    size1: Option<u32>,
    tag: Option<[u8; 4]>,
    no_response: Option<u8>,
}

/// A client with one server.
pub struct Client<T> {
    transport: T,
    peer: Peer<Kept, 1, 8, 0, Option<Binding>>,
    oscore: Option<Oscore>,
    random: Random,
    began: Clock,
    largest: Szx,
    observation: Option<Token>,
    /// The value that the server wants to see.
    echo: Option<Vec<u8>>,
    /// Notifications that nobody waited for and that were rejected.
    rejected: usize,
}

impl Client<UdpSocket> {
    /// The port of the server.
    pub fn remote_port(&self) -> u16 {
        self.transport.peer_addr().expect("a connected socket").port()
    }
}

impl<T: Transport> Client<T> {
    /// A client that asks for blocks of at most 1024 bytes.
    pub fn new(transport: T) -> Self {
        Self::protected(transport, None)
    }

    /// The same, whose messages are protected end to end.
    pub fn protected(transport: T, oscore: Option<Oscore>) -> Self {
        let mut random = Random::new(u64::from(std::process::id()));
        Self {
            transport,
            peer: Peer::new(&Parameters::DEFAULT, TokenPolicy::Random, &mut |bytes| random.fill(bytes)),
            oscore,
            random,
            began: Clock::now(),
            largest: Szx::LARGEST,
            observation: None,
            echo: None,
            rejected: 0,
        }
    }

    /// What protects its messages.
    pub fn oscore(&mut self) -> &mut Oscore {
        self.oscore.as_mut().expect("a client whose messages are protected")
    }

    /// Asks for blocks of at most `bytes`.
    pub fn set_block_size(&mut self, bytes: usize) {
        self.largest = Szx::fitting(bytes);
    }

    /// Reads a resource, in blocks where the server wants or the block size was set.
    pub fn get(&mut self, path: &str) -> Answer {
        self.fetch(path, Extra::default())
    }

    /// Reads a resource and observes it.
    pub fn observe(&mut self, path: &str) -> Answer {
        self.fetch(path, Extra { observe: Some(REGISTER), ..Extra::default() })
    }

    /// Ends the observation.
    pub fn cancel(&mut self, path: &str) -> Answer {
        let extra = Extra { observe: Some(DEREGISTER), ..Extra::default() };
        let answer = self.exchange(Code::GET, path, &[], extra);
        self.observation = None;
        answer
    }

    /// Sends a body, in blocks where it does not fit in one.
    pub fn send(&mut self, code: Code, path: &str, body: &[u8]) -> Answer {
        let mut upload = Upload::new(self.largest);
        let mut messages = 0_usize;
        loop {
            let mut space = [0; 1024];
            let mut window = upload.window(&mut space);
            window.write(body).expect("a window takes any body");
            let portion = upload.portion(&window).expect("the body stays the same");
            let Portion { block, size, tag, .. } = portion;
            let extra = Extra { block1: block, size1: size, tag, ..Extra::default() };
            let payload = window.bytes().get(..portion.length).unwrap_or_default().to_vec();
            let mut answer = Answer {
                code: Code::EMPTY,
                observe: None,
                format: None,
                location: Vec::new(),
                body: Vec::new(),
                messages: 0,
            };
            let mut done = Ok(Uploaded::Continue);
            let sent = self.ask(code, path, &payload, extra, |message| {
                if message.code != Code::UNAUTHORIZED {
                    done = upload.handle(message);
                }
                answer = Answer::new(message);
            });
            messages = messages.saturating_add(sent);
            if answer.code == Code::UNAUTHORIZED {
                return answer;
            }
            if matches!(done.expect("the server answers the block it was sent"), Uploaded::Done) {
                answer.messages = messages;
                return answer;
            }
        }
    }

    /// Sends a body and wants no response, success or not; returns once it is acknowledged.
    pub fn tell(&mut self, code: Code, path: &str, body: &[u8]) {
        let extra = Extra { no_response: Some(26), ..Extra::default() };
        let request = self.transmit(code, path, body, extra);
        let mut is_acknowledged = false;
        self.run(
            Some(request),
            |message| unreachable!("{:?} was not wanted", message.code),
            |input| {
                is_acknowledged |= matches!(input, Input::Acknowledged(_));
                is_acknowledged
            },
        );
        self.peer.cancel(request);
    }

    /// Forgets the observation without a word: its next notification is rejected. Returns how many were in that time.
    pub fn forget(&mut self, time: Duration) -> usize {
        self.observation = None;
        let end = Clock::now().checked_add(time).expect("within the clock's range");
        while Clock::now() < end {
            self.turn(Duration::from_millis(50), None, &mut |_| {}, &mut |_| false);
        }
        core::mem::take(&mut self.rejected)
    }

    /// Waits for the next notification of the observation and fetches the rest of its body.
    pub fn notification(&mut self, path: &str) -> Answer {
        let mut first = None;
        let mut download = Download::new(self.largest, u32::MAX);
        let mut part = None;
        let found = |message: &Message<'_>| {
            part = Some(downloaded(&mut download, message));
            first = Some(Answer::new(message));
        };
        self.run(None, found, |_| false);
        let first = first.expect("a notification came");
        self.rest(path, download, first, part.expect("with a body"))
    }

    fn fetch(&mut self, path: &str, mut extra: Extra) -> Answer {
        let mut download = Download::new(self.largest, u32::MAX);
        if self.largest < Szx::LARGEST {
            extra.block2 = Some(download.next_block());
        }
        let (mut answer, mut part) = (None, None);
        self.ask(Code::GET, path, &[], extra, |message| {
            if message.code.is_success() {
                part = Some(downloaded(&mut download, message));
            }
            answer = Some(Answer::new(message));
        });
        let answer = answer.expect("a response came");
        match part {
            Some(part) => self.rest(path, download, answer, part),
            None => answer,
        }
    }

    fn rest(&mut self, path: &str, mut download: Download, mut answer: Answer, mut part: Part) -> Answer {
        answer.body = part.bytes;
        while !part.last {
            let extra = Extra { block2: Some(download.next_block()), ..Extra::default() };
            let mut next = None;
            self.ask(Code::GET, path, &[], extra, |message| {
                next = Some(downloaded(&mut download, message));
            });
            part = next.expect("a response came");
            answer.body.truncate(part.offset);
            answer.body.extend_from_slice(&part.bytes);
            answer.messages = answer.messages.saturating_add(1);
        }
        answer
    }

    fn exchange(&mut self, code: Code, path: &str, payload: &[u8], extra: Extra) -> Answer {
        let mut answer = None;
        self.ask(code, path, payload, extra, |message| answer = Some(Answer::new(message)));
        answer.expect("a response came")
    }

    /// Asks, and once more where the server wants to see a value (RFC 9175 §2.3) or new keys were made (RFC 8613 Appendix
    /// B.2); says how many requests that took.
    fn ask(
        &mut self,
        code: Code,
        path: &str,
        payload: &[u8],
        extra: Extra,
        mut found: impl FnMut(&Message<'_>),
    ) -> usize {
        let mut sent = 0_usize;
        loop {
            let was_rederiving = self.oscore.as_ref().is_some_and(Oscore::is_rederiving);
            let request = self.transmit(code, path, payload, extra);
            sent = sent.saturating_add(1);
            let (mut echo, mut is_refused) = (None, false);
            let mut take = |message: &Message<'_>| {
                is_refused = message.code == Code::UNAUTHORIZED;
                echo = message.options.echo().filter(|_| is_refused).map(<[u8]>::to_vec);
                found(message);
            };
            self.run(Some(request), &mut take, |_| false);
            let is_rederiving = self.oscore.as_ref().is_some_and(Oscore::is_rederiving);
            let is_asked = core::mem::replace(&mut self.echo, echo).is_none() && self.echo.is_some();
            if is_refused && (is_asked || (is_rederiving && sent < 3 && (was_rederiving || sent == 1))) {
                continue;
            }
            self.echo = None;
            return sent;
        }
    }

    fn transmit(&mut self, code: Code, path: &str, payload: &[u8], extra: Extra) -> RequestId {
        let now = self.now();
        let observation = self.observation;
        let rng = &mut |bytes: &mut [u8]| self.random.fill(bytes);
        let token = match (extra.observe, observation) {
            (Some(DEREGISTER), Some(token)) => token,
            _ => self.peer.next_token(rng, |token| observation == Some(token)),
        };
        if extra.observe == Some(REGISTER) {
            self.observation = Some(token);
        }
        let mut buffer = [0; 2048];
        let mut writer = Writer::new(&mut buffer, room(self.oscore.as_ref()), code);
        write_request(&mut writer, path, payload, extra, self.echo.as_deref()).expect("the request fits");
        let (request, range) = self
            .peer
            .request(now, Delivery::Confirmable, token, writer, &mut guard(&mut self.oscore, now), rng)
            .expect("one request at a time");
        self.transport.send(buffer.get(range).unwrap_or_default());
        request
    }

    /// Runs until the response to `awaited`, or without one until a notification, or until `is_enough`.
    fn run(
        &mut self,
        awaited: Option<RequestId>,
        mut found: impl FnMut(&Message<'_>),
        mut is_enough: impl FnMut(&Input<'_, Option<Binding>>) -> bool,
    ) {
        let limit = Clock::now().checked_add(PATIENCE).expect("within the clock's range");
        loop {
            let left = limit.saturating_duration_since(Clock::now());
            assert!(!left.is_zero(), "nothing came in time");
            if self.turn(left, awaited, &mut found, &mut is_enough) {
                return;
            }
        }
    }

    /// Sends what is due and takes one datagram, if one comes in time; whether that was what is waited for.
    fn turn(
        &mut self,
        limit: Duration,
        awaited: Option<RequestId>,
        found: &mut dyn FnMut(&Message<'_>),
        is_enough: &mut dyn FnMut(&Input<'_, Option<Binding>>) -> bool,
    ) -> bool {
        self.flush();
        let now = self.now();
        let failure = self.peer.poll_event(now);
        assert!(failure.is_none(), "the server does not answer: {failure:?}");
        let wait = self.peer.poll_timeout().map_or(limit, |at| at.since(now).min(limit));
        let Some(mut datagram) = self.transport.receive(wait) else { return false };
        let now = self.now();
        let input = self.peer.handle(now, &mut datagram, &mut guard(&mut self.oscore, now));
        let is_enough = is_enough(&input);
        let done = match input {
            Input::Response { request, message } if Some(request) == awaited => {
                found(&message);
                true
            }
            Input::Unsolicited { header, message } if Some(message.token) == self.observation => {
                // While a response is awaited, the notification is acknowledged and its successor will do.
                if awaited.is_none() {
                    found(&message);
                }
                self.peer.accept(header);
                awaited.is_none()
            }
            Input::Unsolicited { header, .. } => {
                self.rejected = self.rejected.saturating_add(1);
                self.peer.reject(header);
                false
            }
            _ => false,
        };
        self.flush();
        done || is_enough
    }

    fn flush(&mut self) {
        let mut out = [0; 2048];
        let now = self.now();
        while let Some(length) = self.peer.poll_transmit(now, &mut out) {
            self.transport.send(out.get(..length).unwrap_or_default());
        }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

#[derive(Debug)]
struct Part {
    offset: usize,
    bytes: Vec<u8>,
    last: bool,
}

fn downloaded(download: &mut Download, message: &Message<'_>) -> Part {
    match download.handle(message).expect("the block that was asked for") {
        Downloaded::Part { offset, bytes, last } => {
            Part { offset: offset as usize, bytes: bytes.to_vec(), last }
        }
        Downloaded::Restart => Part { offset: 0, bytes: Vec::new(), last: false },
    }
}

fn write_request(
    writer: &mut Writer<'_>,
    path: &str,
    payload: &[u8],
    extra: Extra,
    echo: Option<&[u8]>,
) -> Result<(), lwm2m_coap::WriteError> {
    if let Some(observe) = extra.observe {
        writer.observe(observe)?;
    }
    writer.split(OptionNumber::URI_PATH, path.trim_start_matches('/'), '/')?;
    if !payload.is_empty() {
        writer.content_format(ContentFormat::TEXT)?;
    }
    if let Some(block) = extra.block2 {
        writer.block2(block)?;
    }
    if let Some(block) = extra.block1 {
        writer.block1(block)?;
    }
    if let Some(size) = extra.size1 {
        writer.uint(OptionNumber::SIZE1, size)?;
    }
    if let Some(echo) = echo {
        writer.option(OptionNumber::ECHO, echo)?;
    }
    if let Some(classes) = extra.no_response {
        writer.option(OptionNumber::NO_RESPONSE, &[classes])?;
    }
    if let Some(tag) = extra.tag {
        writer.option(OptionNumber::REQUEST_TAG, &tag)?;
    }
    writer.payload(payload)
}
