//! `demo`: bootstrap server, management server and simulated devices in one process, over real UDP on loopback.
//!
//! The story: enrol · bootstrap and register · read · observe · rotate with proof · a rotation that rolls back · revoke.
//! Invariant: a step counts only when the server, the device or both were seen to do what it says.

mod device;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use lwm2m_server::access::Tokens;
use lwm2m_server::api::{self, Services};
use lwm2m_server::campaigns::{self, Campaigns};
use lwm2m_server::config::local_uri;
use lwm2m_server::credentials::{
    CredentialEvent, Credentials, Enrol, EnrolAccount, Happened, Identity, Key, KeyMaterial, Refusal, Retry,
    Role, Rotate, Settings, State,
};
use lwm2m_server::driver;
use lwm2m_server::endpoint::Addresses;
use lwm2m_server::models::Catalog;
use lwm2m_server::observations::{self, Observations};
use lwm2m_server::queue::{Limits, Queue};
use lwm2m_server::store::{RedbStore, Sealer, Store};
use lwm2m_server::{Event, Path, Server, Value};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;

use device::Simulated;

/// A URI that no socket reaches: the limited broadcast address.
const NOWHERE: &str = "coaps://255.255.255.255:5684";
/// The longest any step may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a step looks.
const GLANCE: Duration = Duration::from_millis(10);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Simulated devices
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=500))]
    devices: u16,
    /// Exit when the story is told: 0 when it succeeded, 1 when a step failed
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let told = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))
        .and_then(|runtime| runtime.block_on(show(arguments)));
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say!("FAILED  {reason}");
            eprintln!("lwm2m-server: the demo failed: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the story and stays up if that is wanted. The temporary folder, with its keys, goes however it ends.
async fn show(arguments: &Arguments) -> Result<(), String> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(words("SIGINT"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(words("SIGTERM"))?;
    let mut stop = Box::pin(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    });
    let folder = tempfile::tempdir().map_err(words("a temporary folder"))?;
    // The devices live as long as the demo.
    let (demo, _devices) = tokio::select! {
        told = tell(arguments, folder.path()) => told?,
        () = &mut stop => return Err("interrupted before the story was told".to_owned()),
    };
    if arguments.once {
        return Ok(());
    }
    demo.stay_up(folder.path(), arguments.devices, stop).await
}

async fn tell(arguments: &Arguments, folder: &std::path::Path) -> Result<(Demo, Vec<Simulated>), String> {
    let started = Instant::now();
    say!("A bootstrap server, a management server and {} simulated devices on loopback.", arguments.devices);
    say!("Each step is done over UDP and counts when server and device were seen to do it.\n");
    let demo = Demo::start(folder).await?;
    let mut devices = demo.enrol(arguments.devices)?;
    demo.bootstrap_and_register(&mut devices).await?;
    let first = devices.first().ok_or("there is no device")?;
    demo.read(&devices).await?;
    demo.observe(first).await?;
    demo.rotate_with_proof(first).await?;
    demo.rotate_and_roll_back(first).await?;
    demo.revoke(first).await?;
    say!("\nThe story took {:.1} s: every step was seen to happen.", started.elapsed().as_secs_f64());
    Ok((demo, devices))
}

/// What the steps work with.
struct Demo {
    server: Server,
    credentials: Arc<Credentials>,
    store: Arc<dyn Store>,
    addresses: Addresses,
}

impl Demo {
    async fn start(folder: &std::path::Path) -> Result<Self, String> {
        let lock = RedbStore::lock(folder).map_err(words("the store"))?;
        let (sealer, _) = Sealer::find(folder, None, None, false).map_err(words("the secrets key"))?;
        let store: Arc<dyn Store> =
            Arc::new(RedbStore::open(folder, lock, sealer).map_err(words("the store"))?);
        // A device that cannot register gives up at once: the story is short.
        let retry = Retry { count: Some(1), timer: Some(1), sequence_delay: None, sequence_count: Some(1) };
        let settings = Settings { retry, lifetime: 3600, ..Settings::default() };
        let credentials =
            Arc::new(Credentials::open(Arc::clone(&store), settings.clone()).map_err(words("the store"))?);
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let addresses = Addresses { coaps: any, bootstrap_coaps: any, ..Addresses::default() };
        let running = driver::start(
            driver::Settings { addresses, ..driver::Settings::default() },
            Arc::clone(&credentials),
        )
        .await
        .map_err(words("the sockets"))?;
        let server_uri = local_uri("coaps", running.addresses.coaps, settings.server_uri.clone());
        say!("management server  {server_uri}");
        say!("bootstrap server   {}", local_uri("coaps", running.addresses.bootstrap_coaps, String::new()));
        credentials.set_settings(Settings { server_uri, ..settings });
        Ok(Self { server: running.server, credentials, store, addresses: running.addresses })
    }

    fn enrol(&self, count: u16) -> Result<Vec<Simulated>, String> {
        let step =
            Step::begin("enrol", &format!("{count} devices, each with a bootstrap account of its own"));
        let bootstrap_uri = local_uri("coaps", self.addresses.bootstrap_coaps, String::new());
        let mut devices = Vec::new();
        for number in 1..=count {
            let endpoint = format!("demo-{number}");
            let identity = format!("bootstrap-{endpoint}");
            let key = Key::generate().map_err(words("randomness"))?;
            let account = EnrolAccount {
                role: Role::Bootstrap,
                key: KeyMaterial::Given {
                    identity: Identity::new(identity.as_bytes()).map_err(|_| "the identity is too long")?,
                    key: key.clone(),
                },
            };
            let enrol = Enrol { accounts: vec![account], ..Enrol::default() };
            self.credentials.enrol(api::now_ms(), "demo", &endpoint, &enrol).map_err(words("enrolment"))?;
            devices.push(Simulated::new(&endpoint, &bootstrap_uri, identity.as_bytes(), key.bytes())?);
        }
        step.end("the server drew a management credential for each, to be delivered by the bootstrap");
        Ok(devices)
    }

    async fn bootstrap_and_register(&self, devices: &mut [Simulated]) -> Result<(), String> {
        let step = Step::begin("bootstrap", "the devices know nothing but their bootstrap server");
        for device in devices.iter_mut() {
            device.power_on()?;
        }
        for device in devices.iter() {
            seen(&format!("{} in use", device.endpoint), || {
                self.state(&device.endpoint) == Some(State::InUse)
            })
            .await?;
        }
        let mut registered = 0_usize;
        for device in devices.iter() {
            let there = self.server.device(&device.endpoint).await;
            registered = registered.saturating_add(usize::from(there.is_some_and(|there| there.secure)));
        }
        if registered != devices.len() {
            return Err(format!("only {registered} of {} devices are registered over DTLS", devices.len()));
        }
        step.end(&format!("{registered} bootstrapped and registered over DTLS 1.2 with pre-shared keys"));
        Ok(())
    }

    async fn read(&self, devices: &[Simulated]) -> Result<(), String> {
        let step = Step::begin("read", "manufacturer and temperature of every device");
        let mut last = String::new();
        for device in devices {
            let maker = self.value(&device.endpoint, Path::resource(3, 0, 0)).await?;
            let celsius = self.value(&device.endpoint, Path::resource(3303, 0, 5700)).await?;
            let Value::Float(celsius) = celsius else {
                return Err(format!("the temperature is {celsius:?}"));
            };
            let Value::String(maker) = maker else { return Err(format!("the manufacturer is {maker:?}")) };
            last = format!("{}: {maker}, {celsius:.1} °C", device.endpoint);
        }
        step.end(&last);
        Ok(())
    }

    async fn observe(&self, device: &Simulated) -> Result<(), String> {
        let path = Path::resource(3303, 0, 5700);
        let step = Step::begin("observe", &format!("{path} of {}, for two changes", device.endpoint));
        let mut events = self.server.events();
        let (observation, _) = self.server.observe(&device.endpoint, path).await.map_err(words("observe"))?;
        let mut values = Vec::new();
        let wait = async {
            while values.len() < 2 {
                match events.recv().await {
                    Ok(Event::Notification { observation: of, report, .. }) if of == observation => {
                        values.extend(report.values.iter().filter_map(|reported| match reported.value {
                            Value::Float(celsius) => Some(format!("{celsius:.1} °C")),
                            _ => None,
                        }));
                    }
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, wait).await.map_err(|_| "no two notifications came")??;
        self.server.cancel(&device.endpoint, observation).await.map_err(words("cancel"))?;
        step.end(&format!("notified {}", values.join(", ")));
        Ok(())
    }

    async fn rotate_with_proof(&self, device: &Simulated) -> Result<(), String> {
        let endpoint = device.endpoint.as_str();
        let step = Step::begin(
            "rotate",
            &format!("{endpoint} gets a new credential by way of its bootstrap account"),
        );
        let old = self.identity(endpoint, 1)?;
        let rotate =
            Rotate { deadline_ms: 14_000, grace_ms: 1_000, reason: "demo".to_owned(), ..Rotate::default() };
        let mut steps = self.credentials.subscribe();
        let rotated =
            self.credentials.rotate(api::now_ms(), "demo", endpoint, &rotate).map_err(words("rotate"))?;
        self.server.carry_out(rotated.commands).await;
        let new = self.identity(endpoint, rotated.generation)?;
        if self.credentials.look_up(Role::Management, old.bytes()).is_err()
            || self.credentials.look_up(Role::Management, new.bytes()).is_err()
        {
            return Err("old and new are not both accepted during the rotation".to_owned());
        }
        seen("the new credential in use", || {
            step.pass_on(&mut steps);
            self.state(endpoint) == Some(State::InUse) && self.current(endpoint) == Some(rotated.generation)
        })
        .await
        .map_err(|what| format!("{what}; {}", self.history(endpoint)))?;
        if self.credentials.look_up(Role::Management, old.bytes()).err() != Some(Refusal::Retired) {
            return Err("the old credential is still accepted".to_owned());
        }
        let there = self.server.device(endpoint).await.ok_or("the device is not registered")?;
        if there.generation != rotated.generation {
            return Err(format!("the device is registered with generation {}", there.generation));
        }
        self.value(endpoint, Path::resource(3, 0, 0)).await?;
        step.end(&format!("the old credential {old} is refused from now on, {new} is in use"));
        Ok(())
    }

    async fn rotate_and_roll_back(&self, device: &Simulated) -> Result<(), String> {
        let endpoint = device.endpoint.as_str();
        let step = Step::begin(
            "roll back",
            &format!("a rotation of {endpoint} with a server URI that nobody reaches"),
        );
        let before = self.current(endpoint).ok_or("the device has no credential")?;
        let rotate = Rotate {
            deadline_ms: 4_000,
            grace_ms: 1_000,
            server_uri: Some(NOWHERE.to_owned()),
            reason: "demo".to_owned(),
            ..Rotate::default()
        };
        let mut steps = self.credentials.subscribe();
        let rotated =
            self.credentials.rotate(api::now_ms(), "demo", endpoint, &rotate).map_err(words("rotate"))?;
        self.server.carry_out(rotated.commands).await;
        let new = self.identity(endpoint, rotated.generation)?;
        let is_over = || {
            step.pass_on(&mut steps);
            self.state(endpoint) == Some(State::InUse)
        };
        seen("the rotation rolled back", is_over)
            .await
            .map_err(|what| format!("{what}; {}", self.history(endpoint)))?;
        if !device.has_rolled_back() {
            return Err("the device did not bring its last working account back".to_owned());
        }
        if self.current(endpoint) != Some(before)
            || self.credentials.look_up(Role::Management, new.bytes()).err() != Some(Refusal::RolledBack)
        {
            return Err("the new credential was not taken back".to_owned());
        }
        self.value(endpoint, Path::resource(3, 0, 0)).await?;
        step.end("the device is still managed, with the credential it had before");
        Ok(())
    }

    async fn revoke(&self, device: &Simulated) -> Result<(), String> {
        let endpoint = device.endpoint.as_str();
        let step =
            Step::begin("revoke", &format!("{endpoint}: its session is cut and its next record is refused"));
        let mut events = self.server.events();
        let (updates, dropped) = (device.updates(), self.dropped_records().await);
        let commands = self
            .credentials
            .revoke(api::now_ms(), "demo", endpoint, None, "demo")
            .map_err(words("revoke"))?;
        self.server.carry_out(commands).await;
        let cut = Instant::now();
        if self.server.device(endpoint).await.is_some() {
            return Err("the device is still registered".to_owned());
        }
        // The device still believes in its session: its next record meets silence.
        device.update();
        while self.dropped_records().await == dropped {
            if cut.elapsed() > Duration::from_secs(1) {
                return Err("the next record was not refused within a second".to_owned());
            }
            tokio::time::sleep(GLANCE).await;
        }
        let record = cut.elapsed();
        // A power cycle makes it start over: the handshake is refused, and only the operator learns why.
        device.power_cycle();
        let wait = async {
            loop {
                match events.recv().await {
                    Ok(Event::HandshakeRefused { reason, .. }) if reason.contains("revoked") => {
                        return Ok(reason);
                    }
                    Ok(Event::Registered { endpoint: who } | Event::Updated { endpoint: who })
                        if *who == *endpoint =>
                    {
                        return Err("the revoked device came through".to_owned());
                    }
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        let reason =
            tokio::time::timeout(PATIENCE, wait).await.map_err(|_| "the device never tried again")??;
        if device.updates() != updates {
            return Err("an Update of the revoked device was answered".to_owned());
        }
        let rows = self.store.verify_audit().map_err(words("the audit log"))?;
        step.end(&format!(
            "next record refused after {} ms, next handshake refused ({reason}); the audit chain of {rows} rows is whole",
            record.as_millis()
        ));
        Ok(())
    }

    async fn stay_up(
        self,
        folder: &std::path::Path,
        count: u16,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), String> {
        let tokens =
            Tokens::open(Arc::clone(&self.store), folder, api::now_ms()).map_err(words("the token"))?;
        let http =
            api::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), false).await.map_err(words("HTTP"))?;
        let address = http.local_addr().map_err(words("HTTP"))?;
        say!("\nEverything stays up; Ctrl-C ends it. Try in another shell:");
        say!("  export LWM2M_URL=http://{address} LWM2M_TOKEN=@{}", folder.join("admin.token").display());
        say!("  lwm2mctl devices");
        if count > 1 {
            say!("  lwm2mctl read demo-{count} /3/0");
            say!("  lwm2mctl observe demo-{count} /3303/0/5700");
            say!("  lwm2mctl credentials rotate demo-{count} --grace 5 --reason \"try it\"");
        }
        say!("  lwm2mctl credentials history demo-1    # it was revoked in the story");
        say!("  lwm2mctl audit");
        let queue = Queue::start(self.server.clone(), Arc::clone(&self.store), Limits::default())
            .map_err(words("the queue"))?;
        let limits = observations::Limits::default();
        let observations = Observations::start(self.server.clone(), Arc::clone(&self.store), limits)
            .map_err(words("the observations"))?;
        let campaigns = Campaigns::start(
            self.server.clone(),
            Arc::clone(&self.credentials),
            queue.clone(),
            Arc::clone(&self.store),
            campaigns::Limits::default(),
        )
        .map_err(words("the campaigns"))?;
        let catalog = Catalog::new(Arc::default(), self.store, self.server.clone());
        let (server, credentials) = (self.server, self.credentials);
        let services = Services { server, credentials, queue, observations, campaigns, catalog, tokens };
        api::serve(http, services, stop).await;
        Ok(())
    }

    /// How many records the server dropped, for whatever reason.
    async fn dropped_records(&self) -> u64 {
        let counters = self.server.counters().await;
        counters.into_iter().filter(|(name, _)| name.starts_with("records_")).map(|(_, count)| count).sum()
    }

    async fn value(&self, endpoint: &str, path: Path) -> Result<Value, String> {
        let content = self.server.read(endpoint, path).await.map_err(words("read"))?;
        let value = content.items.into_iter().next().map(|(_, value)| value);
        value.ok_or_else(|| format!("{endpoint} has no value at {path}"))
    }

    fn state(&self, endpoint: &str) -> Option<State> {
        Some(self.credentials.device(endpoint)?.management.as_ref()?.state.clone())
    }

    fn current(&self, endpoint: &str) -> Option<u32> {
        Some(self.credentials.device(endpoint)?.management.as_ref()?.current)
    }

    fn identity(&self, endpoint: &str, generation: u32) -> Result<Identity, String> {
        let device = self.credentials.device(endpoint).ok_or("the device is not enrolled")?;
        let account = device.account(Role::Management).ok_or("the device has no management account")?;
        let credential = account.credential(generation).ok_or("there is no such generation")?;
        Ok(credential.subject.identity().ok_or("the credential is no pre-shared key")?.clone())
    }

    /// The last steps, for the reason of a failure.
    fn history(&self, endpoint: &str) -> String {
        let rows = self.credentials.audit(Some(endpoint), None, 4).unwrap_or_default();
        let steps: Vec<String> =
            rows.iter().rev().take(4).map(|row| format!("{} {}", row.what, row.detail)).collect();
        format!("last steps, newest first: {}", steps.join(" | "))
    }
}

/// One line of the story, with the time it took.
struct Step {
    began: Instant,
}

impl Step {
    fn begin(name: &str, what: &str) -> Self {
        say!("\n{:<10} {what}", name.to_uppercase());
        Self { began: Instant::now() }
    }

    /// Prints the steps of the credential lifecycle as they are stored.
    fn pass_on(&self, steps: &mut broadcast::Receiver<CredentialEvent>) {
        while let Ok(CredentialEvent { happened: Happened { what, detail, .. }, .. }) = steps.try_recv() {
            // The reason of a rotation is that of the demo.
            let detail = if what == "staged" { "old and new are both accepted" } else { detail.as_str() };
            let between = if detail.is_empty() { "" } else { ": " };
            say!("     {:>5.2} s  {what}{between}{detail}", self.began.elapsed().as_secs_f64());
        }
    }

    fn end(self, outcome: &str) {
        say!("  ok {:>5.2} s  {outcome}", self.began.elapsed().as_secs_f64());
    }
}

/// Looks until it is so.
async fn seen(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
    let until = Instant::now();
    while !is_so() {
        if until.elapsed() > PATIENCE {
            return Err(format!("not seen within {} s: {what}", PATIENCE.as_secs()));
        }
        tokio::time::sleep(GLANCE).await;
    }
    Ok(())
}

/// An error with what it is about.
fn words<E: core::fmt::Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}
