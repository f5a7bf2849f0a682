//! A world in memory: the endpoint and the credentials as the driver runs them, and devices that send what a test says.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use dtls_psk::{
    Answer as Provided, ClientCertificate, Connection, Crypto as _, Datagram, Handshake, Input,
    Operation as Pending, Psk, RustCrypto, Session, Suites, raw_public_key,
};
use lwm2m_coap::{Code, Header, Instant, Kind, MessageId, OptionNumber, Room, Token, Writer, udp};
use lwm2m_server::credentials::{
    Credentials, Enrol, EnrolAccount, Identity, Key, KeyMaterial, Role, Settings,
};
use lwm2m_server::driver::{LastRun, Resumed};
use lwm2m_server::endpoint::{
    Address, Addresses, Config, Done, Endpoint, Listener, Parcel, Part, Question, QuestionId, RequestId,
    Saved, Shared, Verdict, WorkId,
};
use lwm2m_server::store::{RedbStore, Sealer};
use lwm2m_server::{Answer, Event, Operation, RequestError};

pub(crate) const KEY: [u8; 16] = [7; 16];

/// The server's side, with a clock of its own.
pub(crate) struct World {
    pub(crate) endpoint: Endpoint,
    /// The other parts of the server, if it has several.
    pub(crate) others: Vec<Endpoint>,
    pub(crate) shared: Arc<Shared>,
    parcels: VecDeque<(u8, Parcel)>,
    pub(crate) credentials: Credentials,
    pub(crate) now: Instant,
    pub(crate) events: Vec<Event>,
    pub(crate) outcomes: Vec<(RequestId, Result<Answer, RequestError>)>,
    pub(crate) sent: VecDeque<(Listener, Address, Vec<u8>)>,
    random: u64,
}

impl World {
    pub(crate) fn new(allow_nosec: bool) -> Self {
        Self::with(Config::default(), allow_nosec)
    }

    pub(crate) fn with(config: Config, allow_nosec: bool) -> Self {
        let store = RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap();
        let settings = Settings { allow_nosec, ..Settings::default() };
        Self {
            endpoint: Endpoint::new(config),
            others: Vec::new(),
            shared: Arc::default(),
            parcels: VecDeque::new(),
            credentials: Credentials::open(Arc::new(store), settings).unwrap(),
            now: Instant::from_millis(1_800_000_000_000),
            events: Vec::new(),
            outcomes: Vec::new(),
            sent: VecDeque::new(),
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// A server of several parts. The port of a device says which of them its datagrams come to.
    pub(crate) fn of_parts(of: u8) -> Self {
        let mut world = Self::new(false);
        let part = |index| Endpoint::part(Config::default(), Part { index, of }, Arc::clone(&world.shared));
        let (endpoint, others) = (part(0), (1..of).map(part).collect());
        (world.endpoint, world.others) = (endpoint, others);
        world
    }

    /// Stops the server as planned and starts it again with so many parts, after a pause.
    pub(crate) fn restart(&mut self, of: u8, pause: Duration) -> Resumed {
        let saved = self.stop();
        self.now = self.now.saturating_add(pause);
        self.resume(of, saved, pause)
    }

    /// What goes on in the next run; nobody answers until then.
    pub(crate) fn stop(&mut self) -> Vec<Saved> {
        self.settle();
        let stopped = core::mem::replace(&mut self.endpoint, Endpoint::new(Config::default()));
        core::iter::once(stopped).chain(self.others.drain(..)).flat_map(|part| part.save(self.now)).collect()
    }

    /// Goes on with what was saved `age` ago.
    pub(crate) fn resume(
        &mut self,
        of: u8,
        saved: impl IntoIterator<Item = Saved>,
        age: Duration,
    ) -> Resumed {
        self.resume_at(of, LastRun { remotes: saved, age, addresses: listened() }, &listened())
    }

    /// The same where it listens elsewhere.
    pub(crate) fn resume_at(
        &mut self,
        of: u8,
        last: LastRun<impl IntoIterator<Item = Saved>>,
        addresses: &Addresses,
    ) -> Resumed {
        self.shared = Arc::default();
        let part = |index| Endpoint::part(Config::default(), Part { index, of }, Arc::clone(&self.shared));
        let mut parts: Vec<_> = (0..of).map(part).collect();
        let random = &mut self.random;
        let mut rng = move |bytes: &mut [u8]| fill(random, bytes);
        let (shared, credentials) = (&self.shared, &self.credentials);
        let resumed = lwm2m_server::driver::restore(
            &mut parts,
            shared,
            credentials,
            addresses,
            self.now,
            last,
            &mut rng,
        );
        self.endpoint = parts.remove(0);
        self.others = parts;
        self.settle();
        resumed
    }

    pub(crate) fn part(&mut self, index: usize) -> &mut Endpoint {
        match index.checked_sub(1) {
            None => &mut self.endpoint,
            Some(other) => &mut self.others[other],
        }
    }

    /// Enrols a device with a key for a role; the identity is `<endpoint>-<role>`.
    pub(crate) fn enrol(&mut self, endpoint: &str, role: Role) -> String {
        let identity = format!("{endpoint}-{}", role.as_str());
        let key = KeyMaterial::Given {
            identity: Identity::new(identity.as_bytes()).unwrap(),
            key: Key::new(KEY.to_vec()).unwrap(),
        };
        let enrol = Enrol { accounts: vec![EnrolAccount { role, key }], ..Enrol::default() };
        let outcome = self.credentials.enrol(self.now.as_millis(), "test", endpoint, &enrol).unwrap();
        for command in outcome.commands {
            lwm2m_server::driver::execute(&mut self.endpoint, self.now, command);
        }
        identity
    }

    /// Hands a datagram to the server and lets it finish.
    pub(crate) fn receive(&mut self, local: Listener, from: Address, bytes: &[u8]) {
        self.receive_unsettled(local, from, bytes);
        self.settle();
    }

    /// Answers the next question as the test wants it.
    pub(crate) fn judge(&mut self, verdict: Verdict) -> Question {
        let mut out = vec![0; 2048];
        let random = &mut self.random;
        let mut rng = move |bytes: &mut [u8]| fill(random, bytes);
        let (id, question) = self.endpoint.poll_question().expect("a question");
        self.endpoint.provide(self.now, id, verdict, &mut rng, &mut out);
        question
    }

    /// Ends the server without a word, and starts it again on the same store.
    pub(crate) fn kill(&mut self) {
        let parts = self.others.len();
        let none: [Saved; 0] = [];
        self.sent.clear();
        self.resume(u8::try_from(parts).unwrap_or(0).saturating_add(1), none, Duration::ZERO);
    }

    /// The answer to a question of the first part.
    pub(crate) fn provide(&mut self, id: QuestionId, verdict: Verdict) {
        let mut out = vec![0; 2048];
        let Self { endpoint, sent, random, now, .. } = self;
        let mut rng = move |bytes: &mut [u8]| fill(random, bytes);
        let answer = endpoint.provide(*now, id, verdict, &mut rng, &mut out);
        sent.extend(answer.map(|answer| (answer.local, answer.to, out[answer.range].to_vec())));
    }

    /// What came of a piece of work of the first part.
    pub(crate) fn provide_work(&mut self, id: WorkId, done: Done) {
        let mut out = vec![0; 2048];
        let Self { endpoint, sent, random, now, .. } = self;
        let mut rng = move |bytes: &mut [u8]| fill(random, bytes);
        let answer = endpoint.provide_work(*now, id, done, &mut rng, &mut out);
        sent.extend(answer.map(|answer| (answer.local, answer.to, out[answer.range].to_vec())));
    }

    /// Hands a datagram to the server; its questions are still to be answered.
    pub(crate) fn receive_unsettled(&mut self, local: Listener, from: Address, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let mut out = vec![0; 2048];
        let mut random = self.random;
        let mut rng = |bytes: &mut [u8]| fill(&mut random, bytes);
        let now = self.now;
        let parts = self.others.len().saturating_add(1);
        let index = usize::from(from.socket_address().port()).checked_rem(parts).unwrap_or(0);
        let endpoint = self.part(index);
        let answer = endpoint.handle(now, local, from, &mut bytes, &mut rng, &mut out);
        self.random = random;
        if let Some(answer) = answer {
            self.sent.push_back((answer.local, answer.to, out[answer.range].to_vec()));
        }
    }

    pub(crate) fn settle(&mut self) {
        loop {
            for index in 0..=self.others.len() {
                self.settle_part(index);
            }
            if self.parcels.is_empty() {
                return;
            }
            self.deliver();
        }
    }

    /// Hands over the oldest parcel alone; what follows from it stays where it is.
    pub(crate) fn deliver(&mut self) {
        let (to, parcel) = self.parcels.pop_front().expect("a parcel");
        let mut out = vec![0; 2048];
        let mut random = self.random;
        let mut rng = |bytes: &mut [u8]| fill(&mut random, bytes);
        let now = self.now;
        let sent = self.part(to.into()).accept(now, parcel, &mut rng, &mut out);
        self.sent.extend(sent.map(|transmit| (transmit.local, transmit.to, out[transmit.range].to_vec())));
        self.random = random;
    }

    /// Sends what the first part has to send; what it asks is still to be answered.
    pub(crate) fn send_all(&mut self) {
        let mut out = vec![0; 2048];
        let Self { endpoint, sent, random, now, .. } = self;
        let mut rng = move |bytes: &mut [u8]| fill(random, bytes);
        while let Some(transmit) = endpoint.poll_transmit(*now, &mut rng, &mut out) {
            sent.push_back((transmit.local, transmit.to, out[transmit.range].to_vec()));
        }
    }

    /// What the parts have for each other is lost.
    pub(crate) fn lose_parcels(&mut self) {
        self.parcels.clear();
    }

    /// Lets one part finish; what it has for the others stays where it is.
    pub(crate) fn settle_part(&mut self, index: usize) {
        let mut out = vec![0; 2048];
        let Self { endpoint, others, sent, random, credentials, now, .. } = self;
        let mut rng = move |bytes: &mut [u8]| fill(random, bytes);
        let endpoint = match index.checked_sub(1) {
            None => endpoint,
            Some(other) => &mut others[other],
        };
        let wall_clock = endpoint.wall_clock(*now);
        lwm2m_server::driver::settle(
            endpoint,
            credentials,
            *now,
            &mut rng,
            &mut out,
            &mut |transmit, out| {
                sent.push_back((transmit.local, transmit.to, out[transmit.range.clone()].to_vec()))
            },
            &mut |_, work| Some(work.run(wall_clock, credentials)),
        );
        while let Some(transmit) = endpoint.poll_transmit(*now, &mut rng, &mut out) {
            sent.push_back((transmit.local, transmit.to, out[transmit.range].to_vec()));
        }
        assert_eq!(endpoint.poll_fact(), None, "settle reports every fact");
        self.events.extend(std::iter::from_fn(|| endpoint.poll_event()));
        self.outcomes.extend(std::iter::from_fn(|| endpoint.poll_outcome()));
        self.parcels.extend(std::iter::from_fn(|| endpoint.poll_parcel()));
    }

    /// Lets time pass, with everything that becomes due on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        let next = |world: &Self| {
            let parts = core::iter::once(&world.endpoint).chain(&world.others);
            parts.filter_map(Endpoint::poll_timeout).min().filter(|at| *at <= end)
        };
        while let Some(at) = next(self) {
            self.now = self.now.max(at);
            for index in 0..=self.others.len() {
                let now = self.now;
                self.part(index).handle_timeout(now);
            }
            self.settle();
        }
        self.now = end;
        lwm2m_server::driver::tick(&mut self.endpoint, &self.credentials, self.now);
        self.settle();
    }

    pub(crate) fn request(
        &mut self,
        endpoint: &str,
        operation: Operation,
    ) -> Result<RequestId, RequestError> {
        let (owner, now) = (self.shared.owner(endpoint).unwrap_or(0), self.now);
        let id = self.part(owner.into()).request(now, endpoint, operation, Duration::from_secs(93));
        self.settle();
        id
    }

    pub(crate) fn outcome(&mut self, id: RequestId) -> Result<Answer, RequestError> {
        let index = self.outcomes.iter().position(|(other, _)| *other == id).expect("an outcome");
        self.outcomes.remove(index).1
    }

    /// The events since the last call, in short words.
    pub(crate) fn told(&mut self) -> Vec<String> {
        self.events.drain(..).map(|event| describe(&event)).collect()
    }
}

pub(crate) fn describe(event: &Event) -> String {
    match event {
        Event::Registered { endpoint } => format!("registered {endpoint}"),
        Event::Updated { endpoint } => format!("updated {endpoint}"),
        Event::Awake { endpoint } => format!("awake {endpoint}"),
        Event::Deregistered { endpoint } => format!("deregistered {endpoint}"),
        Event::Expired { endpoint } => format!("expired {endpoint}"),
        Event::RegistrationRefused { endpoint, reason, .. } => format!("refused {endpoint}: {reason}"),
        Event::Notification { endpoint, path, report, .. } => {
            let values: Vec<_> = report.values.iter().map(|it| (it.path, &it.value)).collect();
            format!("notification {endpoint} {path}: {values:?}")
        }
        Event::ObservationEnded { endpoint, reason, .. } => format!("observation ended {endpoint}: {reason}"),
        Event::SessionEstablished { endpoint, role, full, .. } => {
            format!("{} {endpoint} {}", if *full { "established" } else { "resumed" }, role.as_str())
        }
        Event::HandshakeRefused { identity, reason, .. } => {
            format!("handshake refused {}: {reason}", identity.as_deref().unwrap_or("?"))
        }
        Event::SessionClosed { endpoint, reason, .. } => format!("closed {endpoint}: {reason}"),
        Event::BootstrapStarted { endpoint } => format!("bootstrap started {endpoint}"),
        Event::BootstrapFinished { endpoint } => format!("bootstrap finished {endpoint}"),
        Event::BootstrapFailed { endpoint, step, code } => {
            format!("bootstrap failed {endpoint}: {step} {}", code.as_deref().unwrap_or("unanswered"))
        }
        other => format!("{other:?}"),
    }
}

fn fill(state: &mut u64, bytes: &mut [u8]) {
    for byte in bytes {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *byte = (*state >> 24) as u8;
    }
}

/// A message as the device got it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) kind: Kind,
    pub(crate) id: u16,
    pub(crate) code: Code,
    pub(crate) token: Token,
    pub(crate) options: Vec<(u16, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
}

impl Got {
    fn parse(bytes: &[u8]) -> Self {
        let (header, message) = udp::parse(bytes).unwrap();
        Self {
            kind: header.kind,
            id: header.id.0,
            code: message.code,
            token: message.token,
            options: message.options.iter().map(|(number, value)| (number.0, value.to_vec())).collect(),
            payload: message.payload.to_vec(),
        }
    }

    /// The path in the request, or the location in the answer.
    pub(crate) fn path(&self, number: OptionNumber) -> String {
        let segments = self.options.iter().filter(|(other, _)| *other == number.0);
        segments.map(|(_, value)| format!("/{}", String::from_utf8_lossy(value))).collect()
    }

    pub(crate) fn uri(&self) -> String {
        self.path(OptionNumber::URI_PATH)
    }

    pub(crate) fn option(&self, number: OptionNumber) -> Option<&[u8]> {
        self.options.iter().find(|(other, _)| *other == number.0).map(|(_, value)| value.as_slice())
    }
}

/// A device's key of P-256, and what it knows of its server.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) secret: [u8; 32],
    /// Its certificates; `None` for a raw public key.
    pub(crate) chain: Option<Vec<Vec<u8>>>,
    /// The raw public key that the server must have.
    pub(crate) server: Vec<u8>,
    /// The name that it asks for.
    pub(crate) server_name: Option<String>,
    /// The key that it signs with, which should be its own.
    pub(crate) signs_with: [u8; 32],
}

impl Holder {
    /// A raw public key.
    pub(crate) fn of(secret: u8, server: &[u8]) -> Self {
        let secret = [secret; 32];
        Self { secret, chain: None, server: server.to_vec(), server_name: None, signs_with: secret }
    }

    pub(crate) fn public(&self) -> Vec<u8> {
        raw_public_key(&RustCrypto::p256_public(&self.secret).unwrap()).to_vec()
    }

    fn answer(
        &self,
        now: dtls_psk::Instant,
        session: &mut Connection<4096, Box<Handshake<4096>>>,
    ) -> Option<Input<'static>> {
        let mut last = None;
        while let Some(pending) = session.poll_pending() {
            let (id, own, signature);
            id = pending.id;
            let answer = match pending.operation {
                Pending::CheckPeer { certificate } if certificate.public_key() == Some(&self.server) => {
                    Provided::Trusted
                }
                Pending::CheckPeer { .. } => Provided::Refused(dtls_psk::Refusal::Unknown),
                Pending::Present { .. } => {
                    own = self.chain.clone().unwrap_or_else(|| vec![self.public()]);
                    let own: Vec<&[u8]> = own.iter().map(Vec::as_slice).collect();
                    last = session.provide(now, id, Provided::Certificates(&own)).unwrap().or(last);
                    continue;
                }
                Pending::Sign { digest } => {
                    signature = RustCrypto::p256_sign(&self.signs_with, digest).unwrap();
                    Provided::Signature(&signature)
                }
                Pending::Compute(computation) => Provided::Computed(computation.run::<RustCrypto>()),
                _ => Provided::Unknown,
            };
            last = session.provide(now, id, answer).unwrap().or(last);
        }
        last
    }
}

/// A device that says what it is told to say.
pub(crate) struct Device {
    pub(crate) local: Listener,
    pub(crate) address: Address,
    pub(crate) session: Option<Connection<4096, Box<Handshake<4096>>>>,
    /// What it proves itself with if it has no pre-shared key.
    pub(crate) holder: Option<Holder>,
    pub(crate) got: VecDeque<Got>,
    pub(crate) established: bool,
    /// How its session ended.
    pub(crate) closed: Option<dtls_psk::Reason>,
    /// How handshakes are done.
    pub(crate) dtls: dtls_psk::Config,
    /// The session of the last full handshake begun by [`Device::begin_resuming`] or with a key of its own.
    pub(crate) kept: Option<Session>,
    next_id: u16,
}

pub(crate) fn address(port: u16) -> Address {
    std::net::SocketAddr::from(([192, 0, 2, 1], port)).into()
}

impl Device {
    pub(crate) fn plain(local: Listener, port: u16) -> Self {
        Self {
            local,
            address: address(port),
            session: None,
            holder: None,
            got: VecDeque::new(),
            established: false,
            closed: None,
            dtls: dtls_psk::Config::DEFAULT,
            kept: None,
            next_id: port,
        }
    }

    /// A device with a session; the handshake runs through if the server lets it.
    pub(crate) fn secure(world: &mut World, local: Listener, port: u16, identity: &str, key: &[u8]) -> Self {
        let mut device = Self::plain(local, port);
        device.connect(world, identity, key);
        device
    }

    /// Begins a new session from the same address, and runs its handshake.
    pub(crate) fn connect(&mut self, world: &mut World, identity: &str, key: &[u8]) {
        self.begin(world, identity, key);
        self.run(world);
    }

    /// Begins a new session; nothing is sent yet.
    pub(crate) fn begin(&mut self, world: &mut World, identity: &str, key: &[u8]) {
        let random = &mut world.random;
        let mut rng = move |bytes: &mut [u8]| fill(random, bytes);
        let psk = Psk { identity: identity.as_bytes(), key };
        let now = dtls_psk::Instant::from_millis(world.now.as_millis());
        let session = Connection::client(now, &self.dtls, psk, &mut rng, Box::default());
        self.session = Some(session.unwrap());
        self.established = false;
    }

    /// Begins a new session with a raw public key or a certificate, and runs its handshake.
    pub(crate) fn connect_with_key(&mut self, world: &mut World, holder: Holder) {
        self.begin_with_key(world, holder);
        self.run(world);
    }

    /// Begins a new session with a raw public key or a certificate, with an offer to take up the one that it kept; nothing is sent
    /// yet.
    pub(crate) fn begin_with_key(&mut self, world: &mut World, holder: Holder) {
        let random = &mut world.random;
        let mut rng = move |bytes: &mut [u8]| fill(random, bytes);
        let now = dtls_psk::Instant::from_millis(world.now.as_millis());
        let certificate = match &holder.chain {
            None => ClientCertificate::RawPublicKey,
            Some(_) => ClientCertificate::X509 { server_name: holder.server_name.as_deref() },
        };
        let config = self.dtls.with_suites(Suites::ALL);
        let kept = self.kept.as_ref();
        let session = Connection::resuming_certificate_client(
            now,
            &config,
            certificate,
            kept,
            &mut rng,
            Box::default(),
        );
        (self.session, self.holder, self.established) = (Some(session.unwrap()), Some(holder), false);
    }

    /// Begins a new session with an offer to take the former one up again; nothing is sent yet.
    pub(crate) fn begin_resuming(&mut self, world: &mut World, identity: &str, key: &[u8]) {
        let random = &mut world.random;
        let mut rng = move |bytes: &mut [u8]| fill(random, bytes);
        let psk = Psk { identity: identity.as_bytes(), key };
        let now = dtls_psk::Instant::from_millis(world.now.as_millis());
        let kept = self.kept.as_ref();
        let session = Connection::resuming_client(now, &self.dtls, psk, kept, &mut rng, Box::default());
        self.session = Some(session.unwrap());
        self.established = false;
    }

    /// Exchanges what is due in both directions until nothing moves.
    pub(crate) fn run(&mut self, world: &mut World) {
        while self.step(world) {}
    }

    /// Sends what is due and takes in what came back; tells whether anything moved.
    pub(crate) fn step(&mut self, world: &mut World) -> bool {
        let mut moved = false;
        let now = dtls_psk::Instant::from_millis(world.now.as_millis());
        let mut out = [0; 1500];
        while let Some(length) = self.session.as_mut().and_then(|s| s.poll_transmit(now, &mut out)) {
            moved = true;
            world.receive(self.local, self.address, &out[..length]);
        }
        while let Some(bytes) = self.next_datagram(world) {
            moved = true;
            self.handle(world, &bytes);
        }
        moved
    }

    /// The datagrams that are due, instead of sending them.
    pub(crate) fn due(&mut self, world: &World) -> Vec<Vec<u8>> {
        let now = dtls_psk::Instant::from_millis(world.now.as_millis());
        let mut out = [0; 1500];
        let session = self.session.as_mut().unwrap();
        std::iter::from_fn(|| session.poll_transmit(now, &mut out).map(|length| out[..length].to_vec()))
            .collect()
    }

    /// Takes in what a test caught on its way here.
    pub(crate) fn take(&mut self, world: &World, datagram: &[u8]) {
        self.handle(world, datagram);
    }

    /// Lets the time of the world pass for the session.
    pub(crate) fn wait(&mut self, world: &World) {
        let now = dtls_psk::Instant::from_millis(world.now.as_millis());
        if let Some(session) = &mut self.session {
            session.handle_timeout(now);
        }
    }

    /// Takes in what was sent to it, and answers nothing; everything it was told.
    pub(crate) fn take_all(&mut self, world: &mut World) -> Vec<Got> {
        while let Some(bytes) = self.next_datagram(world) {
            self.handle(world, &bytes);
        }
        self.got.drain(..).collect()
    }

    fn next_datagram(&mut self, world: &mut World) -> Option<Vec<u8>> {
        let is_mine =
            |(local, to, _): &(Listener, Address, Vec<u8>)| *local == self.local && *to == self.address;
        let index = world.sent.iter().position(is_mine)?;
        world.sent.remove(index).map(|(_, _, bytes)| bytes)
    }

    fn handle(&mut self, world: &World, bytes: &[u8]) {
        let Some(session) = &mut self.session else {
            self.got.push_back(Got::parse(bytes));
            return;
        };
        let mut bytes = bytes.to_vec();
        let mut datagram = Datagram::new(&mut bytes);
        let now = dtls_psk::Instant::from_millis(world.now.as_millis());
        while let Some(input) = session.handle(now, &mut datagram) {
            match input {
                Input::Application(message) => self.got.push_back(Got::parse(message)),
                Input::Established { .. } => {
                    self.established = true;
                    self.kept = session.take_session().or(self.kept.take());
                }
                Input::Closed(reason) => self.closed = Some(reason),
                _ => {}
            }
        }
        if let Some(holder) = &self.holder {
            let input = holder.answer(now, session);
            self.established |= matches!(input, Some(Input::Established { .. }));
            self.kept = session.take_session().or(self.kept.take());
            if let Some(Input::Closed(reason)) = input {
                self.closed = Some(reason);
            }
        }
    }

    /// The CoAP message in a datagram that was sent to it, if there is one.
    pub(crate) fn opened(&mut self, world: &World, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = datagram.to_vec();
        let mut datagram = Datagram::new(&mut bytes);
        let now = dtls_psk::Instant::from_millis(world.now.as_millis());
        match self.session.as_mut()?.handle(now, &mut datagram)? {
            Input::Application(message) => Some(message.to_vec()),
            _ => None,
        }
    }

    /// Sends a CoAP message as it is, sealed when there is a session, and takes in what comes back.
    pub(crate) fn send(&mut self, world: &mut World, message: &[u8]) {
        let datagram = self.sealed(message);
        world.receive(self.local, self.address, &datagram);
        self.run(world);
    }

    pub(crate) fn sealed(&mut self, message: &[u8]) -> Vec<u8> {
        let Some(session) = &mut self.session else { return message.to_vec() };
        let mut record = vec![0; dtls_psk::HEADROOM];
        record.extend_from_slice(message);
        let end = record.len();
        record.extend_from_slice(&[0; dtls_psk::TAILROOM]);
        let range = session.seal(&mut record, dtls_psk::HEADROOM..end).unwrap();
        record[range].to_vec()
    }

    /// Sends a CON request and returns its answer, if one came.
    pub(crate) fn request(
        &mut self,
        world: &mut World,
        code: Code,
        uri: &str,
        payload: &[u8],
    ) -> Option<Got> {
        self.next_id = self.next_id.wrapping_add(1);
        let message = request(self.next_id, code, uri, payload);
        let id = self.next_id;
        self.send(world, &message);
        let index = self.got.iter().position(|got| got.kind == Kind::Acknowledgement && got.id == id)?;
        self.got.remove(index)
    }

    /// Sends one block of a POST and returns its answer.
    pub(crate) fn request_block(
        &mut self,
        world: &mut World,
        uri: &str,
        block: &[u8],
        payload: &[u8],
    ) -> Got {
        self.next_id = self.next_id.wrapping_add(1);
        let (path, query) = uri.split_once('?').unwrap();
        let segments = path.split('/').map(|segment| (OptionNumber::URI_PATH, segment.as_bytes()));
        let mut options: Vec<_> = segments.collect();
        options.extend(query.split('&').map(|part| (OptionNumber::URI_QUERY, part.as_bytes())));
        options.push((OptionNumber::BLOCK1, block));
        let header = Header { kind: Kind::Confirmable, id: MessageId(self.next_id) };
        let message = build(header, Code::POST, Token::new(&[9]).unwrap(), &options, payload);
        self.send(world, &message);
        self.got.pop_front().unwrap()
    }

    /// Registers and returns the location.
    pub(crate) fn register(&mut self, world: &mut World, query: &str, links: &str) -> String {
        let answer =
            self.request(world, Code::POST, &format!("rd?{query}"), links.as_bytes()).expect("an answer");
        assert_eq!(answer.code, Code::CREATED, "{answer:?}");
        answer.path(OptionNumber::LOCATION_PATH).trim_start_matches('/').to_owned()
    }

    /// The next request of the server.
    pub(crate) fn asked(&mut self, world: &mut World) -> Got {
        self.run(world);
        self.got.pop_front().expect("a request of the server")
    }

    /// Answers a request of the server, piggybacked.
    pub(crate) fn answer(
        &mut self,
        world: &mut World,
        got: &Got,
        code: Code,
        options: &[(OptionNumber, &[u8])],
        payload: &[u8],
    ) {
        let header = Header { kind: Kind::Acknowledgement, id: MessageId(got.id) };
        let message = build(header, code, got.token, options, payload);
        self.send(world, &message);
    }

    /// Sends a notification.
    pub(crate) fn notify(
        &mut self,
        world: &mut World,
        kind: Kind,
        token: Token,
        sequence: u8,
        options: &[(OptionNumber, &[u8])],
        payload: &[u8],
    ) {
        self.next_id = self.next_id.wrapping_add(1);
        let header = Header { kind, id: MessageId(self.next_id) };
        let sequence = [sequence];
        let mut all = vec![(OptionNumber::OBSERVE, sequence.as_slice())];
        all.extend_from_slice(options);
        let message = build(header, Code::CONTENT, token, &all, payload);
        self.send(world, &message);
    }
}

/// Answers each step, named as `0.03 /0/2`, as `play` says; tells what was asked.
pub(crate) fn play(
    world: &mut World,
    device: &mut Device,
    mut play: impl FnMut(&str) -> (Code, &'static [u8]),
) -> Vec<String> {
    let mut steps = Vec::new();
    while let Some(asked) = device.got.pop_front() {
        let step = format!("{}.{:02} {}", asked.code.class(), asked.code.detail(), asked.uri());
        let (code, body) = play(&step);
        let link = (OptionNumber::CONTENT_FORMAT, &[40_u8][..]);
        let options = if body.is_empty() { &[][..] } else { core::slice::from_ref(&link) };
        device.answer(world, &asked, code, options, body);
        steps.push(step);
    }
    steps
}

/// Where the server listens.
pub(crate) fn listened() -> Addresses {
    [5683, 5684, 5783, 5784, 5694, 5794].map(|port| Some(([192, 0, 2, 1], port).into())).into()
}

pub(crate) fn build(
    header: Header,
    code: Code,
    token: Token,
    options: &[(OptionNumber, &[u8])],
    payload: &[u8],
) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let mut writer = Writer::new(&mut buffer, Room::NONE, code);
    for (number, value) in options {
        writer.option(*number, value).unwrap();
    }
    writer.payload(payload).unwrap();
    let range = writer.finish().unwrap().emit(header, token);
    buffer[range].to_vec()
}

/// A CON request with a one-byte token; `uri` is a path without its slash, and a query.
pub(crate) fn request(id: u16, code: Code, uri: &str, payload: &[u8]) -> Vec<u8> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let mut options: Vec<(OptionNumber, &[u8])> = Vec::new();
    options.extend(path.split('/').filter(|s| !s.is_empty()).map(|s| (OptionNumber::URI_PATH, s.as_bytes())));
    if !payload.is_empty() {
        options.push((OptionNumber::CONTENT_FORMAT, &[40]));
    }
    options
        .extend(query.split('&').filter(|s| !s.is_empty()).map(|s| (OptionNumber::URI_QUERY, s.as_bytes())));
    let header = Header { kind: Kind::Confirmable, id: MessageId(id) };
    build(header, code, Token::new(&[9]).unwrap(), &options, payload)
}
