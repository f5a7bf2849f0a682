//! The server of the tests: `/store`, `/echo` and `/fresh`.

use ::oscore::Standing;

use super::*;

/// A server with one client.
pub struct Server<T> {
    transport: T,
    peer: Peer<Kept, 4, 8, 4, Option<Binding>>,
    oscore: Option<Oscore>,
    random: Random,
    began: Clock,
    store: Vec<u8>,
    arriving: Vec<u8>,
    receive: Receive,
    largest: Szx,
    /// Requests for `/fresh` that were challenged and that were answered.
    fresh: [usize; 2],
    observer: Option<Observer<Option<Binding>>>,
    sequence: Sequence,
}

impl<T: Transport> Server<T> {
    /// A server whose `/store` holds `store`.
    pub fn new(transport: T, store: &[u8]) -> Self {
        Self::protected(transport, store, None)
    }

    /// The same, whose messages are protected end to end.
    pub fn protected(transport: T, store: &[u8], oscore: Option<Oscore>) -> Self {
        let mut random = Random::new(u64::from(std::process::id()));
        Self {
            transport,
            peer: Peer::new(&Parameters::DEFAULT, TokenPolicy::Random, &mut |bytes| random.fill(bytes)),
            oscore,
            random,
            began: Clock::now(),
            store: store.to_vec(),
            arriving: Vec::new(),
            receive: Receive::new(Szx::LARGEST, 1 << 20),
            largest: Szx::LARGEST,
            fresh: [0; 2],
            observer: None,
            sequence: Sequence::after(0),
        }
    }

    /// Serves until `finished` says so; it is asked after every datagram and whenever nothing happens for a while.
    pub fn run(&mut self, mut finished: impl FnMut(&Self) -> bool) {
        while !finished(self) {
            let mut out = [0; 2048];
            let now = self.now();
            while let Some(length) = self.peer.poll_transmit(now, &mut out) {
                self.transport.send(out.get(..length).unwrap_or_default());
            }
            while self.peer.poll_event(now).is_some() {}
            if let Some(mut datagram) = self.transport.receive(Duration::from_millis(20)) {
                let now = self.now();
                // Borrowed from the datagram, so that the peer is free for the answer.
                match self.peer.handle(now, &mut datagram, &mut guard(&mut self.oscore, now)) {
                    Input::Request { exchange, message } => self.answer(exchange, &message),
                    Input::Unacceptable { exchange, number } => self.refuse(exchange, number),
                    Input::Reset(lwm2m_coap::Sent::Notification(_)) => self.observer = None,
                    Input::Unsolicited { header, .. } => self.peer.reject(header),
                    _ => {}
                }
            }
        }
    }

    /// What protects its messages.
    pub fn oscore(&mut self) -> &mut Oscore {
        self.oscore.as_mut().expect("a server whose messages are protected")
    }

    /// Gives and asks for blocks of at most `bytes`.
    pub fn set_block_size(&mut self, bytes: usize) {
        self.largest = Szx::fitting(bytes);
        self.receive = Receive::new(self.largest, 1 << 20);
    }

    /// Returns how many requests for `/fresh` were challenged, and how many were answered.
    pub fn fresh(&self) -> [usize; 2] {
        self.fresh
    }

    /// Returns what `/store` holds.
    pub fn store(&self) -> &[u8] {
        &self.store
    }

    /// Returns whether somebody observes `/store`.
    pub fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// Changes `/store` and notifies the observer.
    pub fn set_store(&mut self, store: &[u8]) {
        self.store = store.to_vec();
        let Some(observer) = self.observer.clone() else {
            return;
        };
        // Who tells of a notification may do so before it is acknowledged.
        let began = Clock::now();
        self.run(|server| !server.peer.is_notifying(observer.token) || began.elapsed() > PATIENCE);
        let now = self.now();
        let mut buffer = [0; 2048];
        let mut writer = Writer::new(&mut buffer, room(self.oscore.as_ref()), Code::CONTENT);
        let head = Head {
            observe: Some(self.sequence.advance()),
            content_format: Some(ContentFormat::TEXT),
            max_age: None,
        };
        Serve::new(None, Szx::LARGEST)
            .respond(&mut writer, &head, |window| window.write(&self.store))
            .expect("the first block fits");
        let rng = &mut |bytes: &mut [u8]| self.random.fill(bytes);
        let range = self
            .peer
            .notify(now, Delivery::Confirmable, &observer, writer, &mut guard(&mut self.oscore, now), rng)
            .expect("the notification before was acknowledged");
        self.transport.send(buffer.get(range).unwrap_or_default());
    }

    fn answer(&mut self, mut exchange: Exchange<Option<Binding>>, message: &Message<'_>) {
        let now = self.now();
        let mut buffer = [0; 2048];
        let mut writer = Writer::new(&mut buffer, room(self.oscore.as_ref()), Code::CONTENT);
        match self.standing(&mut exchange, message) {
            Standing::Fresh => self.write_answer(&mut writer, &exchange, message),
            Standing::Unproven => self.oscore().challenge(now, &mut writer).expect("a few bytes"),
            Standing::Rederiving => writer.restart(Code::UNAUTHORIZED),
        }
        // RFC 7967 §2
        if message.options.no_response().covers(writer.code()) {
            return self.peer.suppress(&mut exchange);
        }
        let rng = &mut |bytes: &mut [u8]| self.random.fill(bytes);
        if let Ok(range) =
            self.peer.respond(now, &mut exchange, writer, &mut guard(&mut self.oscore, now), rng)
        {
            self.transport.send(buffer.get(range).unwrap_or_default());
        }
    }

    fn refuse(&mut self, mut exchange: Exchange<Option<Binding>>, number: OptionNumber) {
        let now = self.now();
        let mut buffer = [0; 128];
        let writer = Writer::new(&mut buffer, room(self.oscore.as_ref()), number.refused_with());
        let rng = &mut |bytes: &mut [u8]| self.random.fill(bytes);
        if let Ok(range) =
            self.peer.respond(now, &mut exchange, writer, &mut guard(&mut self.oscore, now), rng)
        {
            self.transport.send(buffer.get(range).unwrap_or_default());
        }
    }

    /// Whether a request may be carried out (RFC 8613 Appendix B).
    fn standing(&mut self, exchange: &mut Exchange<Option<Binding>>, message: &Message<'_>) -> Standing {
        let now = self.now();
        let (Some(binding), Some(oscore)) = (*exchange.binding(), &mut self.oscore) else {
            return Standing::Fresh;
        };
        let binding = oscore.judge(binding, now, message);
        exchange.set_binding(Some(binding));
        binding.standing()
    }

    fn write_answer(
        &mut self,
        writer: &mut Writer<'_>,
        exchange: &Exchange<Option<Binding>>,
        message: &Message<'_>,
    ) {
        let now = self.now();
        let path: Vec<&[u8]> = message.options.uri_path().collect();
        match (message.code, path.as_slice()) {
            (Code::GET | Code::FETCH, [b"store"]) => {
                let mut observe = None;
                match message.options.observe() {
                    Some(REGISTER) => {
                        self.observer = Some(exchange.observer());
                        observe = Some(self.sequence.advance());
                    }
                    Some(DEREGISTER) => self.observer = None,
                    _ => {}
                }
                let head = Head { observe, content_format: Some(ContentFormat::TEXT), max_age: None };
                let requested = message.options.block2().ok().flatten();
                let served = Serve::new(requested, self.largest)
                    .respond(writer, &head, |window| window.write(&self.store));
                if served.is_err() {
                    writer.restart(Code::BAD_REQUEST);
                }
            }
            (Code::PUT, [b"store"]) => match self.receive.handle(message) {
                Ok(Received::Part { offset, bytes, last, answer }) => {
                    self.arriving.truncate(offset as usize);
                    self.arriving.extend_from_slice(bytes);
                    writer.set_code(if last { Code::CHANGED } else { Code::CONTINUE });
                    if let Some(block) = answer {
                        writer.block1(block).expect("the option fits");
                    }
                    if last {
                        self.store = std::mem::take(&mut self.arriving);
                    }
                }
                Ok(Received::Repeated { answer }) => {
                    writer.set_code(Code::CONTINUE);
                    writer.block1(answer).expect("the option fits");
                }
                Err(refusal) => refusal.write(writer).expect("the refusal fits"),
            },
            (Code::IPATCH, [b"store"]) => {
                self.store.extend_from_slice(message.payload);
                writer.set_code(Code::CHANGED);
            }
            (Code::POST, [b"fresh"]) => {
                let is_fresh = challenge().accepts(now, message.options.echo());
                let [challenged, answered] = &mut self.fresh;
                let count = if is_fresh { answered } else { challenged };
                *count = count.saturating_add(1);
                if is_fresh {
                    writer.set_code(Code::CHANGED);
                    writer.payload(b"fresh").expect("a few bytes");
                } else {
                    challenge().refuse(now, writer).expect("a few bytes");
                }
            }
            (Code::POST, [b"echo"]) => {
                writer.set_code(Code::CHANGED);
                writer.payload(message.payload).expect("as long as the request");
            }
            (_, [b"store" | b"echo" | b"fresh"]) => {
                writer.set_code(Code::METHOD_NOT_ALLOWED);
            }
            _ => writer.set_code(Code::NOT_FOUND),
        }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// Echo values. No secret: nobody attacks a test.
fn challenge() -> Challenge<impl Fn(&[u8; 4]) -> [u8; 8]> {
    Challenge::new(Duration::from_secs(60), |time: &[u8; 4]| {
        let [a, b, c, d] = *time;
        [a, b, c, d, d, c, b, a]
    })
}
