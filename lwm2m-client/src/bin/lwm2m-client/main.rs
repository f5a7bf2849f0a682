//! The command line `lwm2m-client`: a simulated device with the objects of [`Objects`].
//!
//! Exit codes: 0 after SIGINT with a de-registration, 2 for bad arguments, 3 when the first bootstrap or registration is
//! refused, or comes to nothing for too long. What breaks a handshake comes in the clear or from a server that is being set up: no
//! handshake is a refusal, and the next one begins soon.

mod credentials;
#[cfg(feature = "oscore")]
mod oscore;
#[cfg(feature = "send")]
mod reports;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
#[cfg(feature = "alternate-path")]
use lwm2m_client::AlternatePath;
use lwm2m_client::objects::Version;
use lwm2m_client::simulated::{Downloads, Due, Objects};
use lwm2m_client::{
    Binding, BootstrapFormat, Config, Credential, FactoryAccount, Notice, Reason, Role, Runner, Server,
    ServerAddress, ShortServerId, Store, StoreError, provision,
};

/// A simulated LwM2M device with live values: Device, Connectivity Monitoring and Statistics, Firmware Update, Location, Software Management, Cellular, APN, WLAN,
/// Bearer Selection, Portfolio, BinaryAppDataContainer, Event Log, Temperature, Humidity and Light Control.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Endpoint client name, 1 to 128 bytes.
    #[arg(long, value_name = "NAME")]
    endpoint: String,
    /// coap://host[:port] or coaps://host[:port].
    #[arg(long, value_name = "URI")]
    server: String,
    /// The server is a bootstrap server; it says which servers to register with.
    #[arg(long)]
    bootstrap: bool,
    /// A bootstrap server besides --server, with the same credential: for when that is not to be reached, or says so.
    #[arg(long, value_name = "URI", conflicts_with = "bootstrap")]
    bootstrap_server: Option<String>,
    /// A number or a boolean of /1/x, as 2=10 for the default minimum period or 17=1 for one attempt at a registration; several
    /// times for several. With --bootstrap the bootstrap server says them.
    #[arg(long = "server-resource", value_name = "ID=N", value_parser = server_resource)]
    server_resources: Vec<(u16, u32)>,
    /// Lifetime of the registration in seconds; with --bootstrap the bootstrap server says it.
    #[arg(long, value_name = "S", default_value_t = 86_400)]
    lifetime: u32,
    /// Enabler version to announce.
    #[arg(long, value_name = "VERSION", value_enum, default_value = "1.1")]
    lwm2m: Enabler,
    /// Transport binding; UQ is UDP with queue mode.
    #[arg(long, value_enum, ignore_case = true, default_value = "U")]
    binding: Transport,
    #[command(flatten)]
    credentials: credentials::Options,
    #[cfg(feature = "oscore")]
    #[command(flatten)]
    oscore: oscore::OscoreOptions,
    /// Connection ID: how many bytes to ask for in records to this client, 0 to 8. 0 keeps the session as well when the
    /// address of this client changes.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=8))]
    cid: u8,
    /// Offer no Connection ID.
    #[arg(long, conflicts_with = "cid")]
    no_cid: bool,
    /// The longest record that a server may send, in bytes before encryption, 64 to 16384; as long as it likes when not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(64..=16_384))]
    record_size_limit: Option<u16>,
    /// Content format to be bootstrapped in; the server's choice when not given.
    #[arg(long, value_name = "FORMAT", value_enum, requires = "bootstrap")]
    bootstrap_format: Option<Packing>,
    /// Where the objects lie for management servers, as /lwm2m; at the root when not given.
    #[cfg(feature = "alternate-path")]
    #[arg(long, value_name = "PATH", value_parser = alternate_path)]
    alternate_path: Option<String>,
    /// Folder that keeps the accounts over restarts; accounts in it win over --server.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Give up when the first bootstrap or registration came to nothing for that long, or is refused; 0 never gives up.
    #[arg(long, value_name = "S", default_value_t = 60)]
    give_up: u64,
    #[cfg(feature = "send")]
    #[command(flatten)]
    reports: reports::ReportOptions,
}

#[derive(Clone, Copy, ValueEnum)]
enum Enabler {
    #[value(name = "1.0")]
    V1_0,
    #[value(name = "1.1")]
    V1_1,
}

#[derive(Clone, Copy, ValueEnum)]
enum Packing {
    Tlv,
    SenmlCbor,
    #[cfg(feature = "json")]
    SenmlJson,
}

impl From<Packing> for BootstrapFormat {
    fn from(packing: Packing) -> Self {
        match packing {
            Packing::Tlv => BootstrapFormat::Tlv,
            Packing::SenmlCbor => BootstrapFormat::SenmlCbor,
            #[cfg(feature = "json")]
            Packing::SenmlJson => BootstrapFormat::SenmlJson,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    #[value(name = "U")]
    U,
    #[value(name = "UQ")]
    Uq,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let is_terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(is_terminal);
    log.with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    #[cfg(feature = "pkcs11")]
    let token = arguments.credentials.token().unwrap_or_else(|reason| refuse(&reason));
    #[cfg(feature = "pkcs11")]
    let public_key = token.as_ref().map(|token| dtls_psk::raw_public_key(token.point()));
    #[cfg(not(feature = "pkcs11"))]
    let public_key: Option<[u8; 0]> = None;
    let public_key = public_key.as_ref().map(|key| key.as_slice());
    let credential = arguments.credentials.read(public_key).unwrap_or_else(|reason| refuse(&reason));
    let credential = credential.as_ref().map(credentials::Owned::credential);
    #[cfg(feature = "oscore")]
    let context = arguments.oscore.read().unwrap_or_else(|reason| refuse(&reason));
    let factory = Factory {
        arguments: &arguments,
        credential,
        #[cfg(feature = "oscore")]
        context: context.as_ref().map(oscore::Owned::context),
    };
    let store = prepare(&factory).unwrap_or_else(|reason| refuse(&reason));
    let config = Config {
        version: match arguments.lwm2m {
            Enabler::V1_0 => Version { major: 1, minor: 0 },
            Enabler::V1_1 => Version { major: 1, minor: 1 },
        },
        is_queue_mode: arguments.binding == Transport::Uq,
        mtu: 1280,
        block_size: 1024,
        connection_id: (!arguments.no_cid).then_some(arguments.cid),
        record_size_limit: arguments.record_size_limit,
        bootstrap_format: arguments.bootstrap_format.map(BootstrapFormat::from),
        #[cfg(feature = "alternate-path")]
        alternate_path: arguments.alternate_path.as_deref().and_then(AlternatePath::parse),
        #[cfg(feature = "oscore")]
        rederive: arguments.oscore.rederive(arguments.state.is_some()),
        ..Config::new(&arguments.endpoint)
    };
    #[cfg(feature = "x509")]
    let anchors = arguments.credentials.trust_anchors().unwrap_or_else(|reason| refuse(&reason));
    #[cfg(feature = "x509")]
    let anchors: Vec<&[u8]> = anchors.iter().map(Vec::as_slice).collect();
    #[cfg(feature = "x509")]
    let config = Config { trust_anchors: &anchors, ..config };
    #[cfg(feature = "pkcs11")]
    let config = Config { has_secure_element: token.is_some(), ..config };
    let runner = Runner::new(config, store);
    #[cfg(feature = "pkcs11")]
    let runner = match token {
        Some(token) => runner.with_signer(Box::new(move |_, digest| {
            token.sign(digest).inspect_err(|error| tracing::error!(%error)).ok()
        })),
        None => runner,
    };
    run(&factory, runner)
}

fn refuse(reason: &str) -> ! {
    Arguments::command().error(ErrorKind::ValueValidation, reason).exit()
}

/// The credentials that there are.
const WAYS: &str = if cfg!(feature = "x509") {
    "--psk-identity and --psk-key, --rpk-private-key and --server-public-key, or --certificate, --private-key and --trust"
} else if cfg!(feature = "rpk") {
    "--psk-identity and --psk-key, or --rpk-private-key and --server-public-key"
} else {
    "--psk-identity and --psk-key"
};

/// What the device leaves the factory with.
struct Factory<'a> {
    arguments: &'a Arguments,
    credential: Option<Credential<'a>>,
    #[cfg(feature = "oscore")]
    context: Option<lwm2m_client::SecurityContext<'a>>,
}

/// Checks what clap cannot, and opens the storage; it holds accounts afterwards.
fn prepare(factory: &Factory<'_>) -> Result<Store, String> {
    let Factory { arguments, credential, .. } = *factory;
    if arguments.endpoint.is_empty() || arguments.endpoint.len() > 128 {
        return Err("--endpoint must have 1 to 128 bytes".into());
    }
    let is_secure = server("--server", &arguments.server)?;
    if let Some(other) = &arguments.bootstrap_server
        && server("--bootstrap-server", other)? != is_secure
    {
        return Err(
            "--server and --bootstrap-server share a credential: both coap:// or both coaps://".into()
        );
    }
    match (is_secure, credential) {
        (true, None) => return Err(format!("a coaps:// server needs {WAYS}")),
        (false, Some(_)) => return Err("a coap:// server takes no credential: use coaps://".into()),
        _ => {}
    }
    let mut store = match &arguments.state {
        Some(folder) => {
            Store::open(folder).map_err(|error| format!("--state {}: {error}", folder.display()))?
        }
        None => Store::in_memory(),
    };
    if !store.is_empty() {
        tracing::info!(
            "using the accounts in the state folder; --server and credentials of the command line are not used"
        );
        return Ok(store);
    }
    factory.leave(&mut store).map_err(|error| error.to_string())?;
    Ok(store)
}

impl Factory<'_> {
    /// Gives the storage the account that the command line tells of.
    fn leave(&self, store: &mut Store) -> Result<(), StoreError> {
        let Factory { arguments, credential, .. } = *self;
        let account = if arguments.bootstrap {
            FactoryAccount::bootstrap(0, &arguments.server, credential)
        } else {
            let mut server = Server::new(0, ShortServerId::FIRST, arguments.lifetime);
            for (resource, number) in &arguments.server_resources {
                server.set(*resource, Some(*number));
            }
            if arguments.binding == Transport::Uq {
                server.binding = Some(Binding::UDP_QUEUE);
            }
            FactoryAccount::server(0, &arguments.server, server, credential)
        };
        #[cfg(feature = "oscore")]
        let account = match self.context {
            Some(context) => account.with_oscore(context),
            None => account,
        };
        let further = arguments.bootstrap_server.as_ref();
        let further = further.map(|other| FactoryAccount::bootstrap(1, other, credential));
        let accounts: Vec<FactoryAccount<'_>> = core::iter::once(account).chain(further).collect();
        provision(&accounts, &mut |action| store.apply(action))
    }
}

/// A path that objects may lie under.
#[cfg(feature = "alternate-path")]
fn alternate_path(text: &str) -> Result<String, String> {
    let path = AlternatePath::parse(text).ok_or(
        "a path such as /lwm2m is needed, of letters, digits, hyphens, dots and underscores, no segment a number",
    )?;
    Ok(path.as_str().to_owned())
}

/// A resource of `/1` that holds a number, and the number.
fn server_resource(text: &str) -> Result<(u16, u32), String> {
    let (resource, number) = text.split_once('=').ok_or("ID=N is needed, as 2=10")?;
    let resource = resource.parse().map_err(|_| format!("'{resource}' is no resource id"))?;
    let number = number.parse().map_err(|_| format!("'{number}' is no number from 0 to {}", u32::MAX))?;
    // The Short Server ID and the lifetime have their own places.
    match !matches!(resource, 0 | 1) && Server::empty(0).set(resource, None) {
        true => Ok((resource, number)),
        false => Err(format!("/1/x/{resource} is no number that an account can be given")),
    }
}

/// Whether a server is reached over DTLS.
fn server(option: &str, uri: &str) -> Result<bool, String> {
    if uri.len() > 255 {
        return Err(format!("{option} is longer than 255 bytes"));
    }
    let address = ServerAddress::parse(uri);
    let address =
        address.ok_or_else(|| format!("{option} must be coap://host[:port] or coaps://host[:port]"))?;
    Ok(address.is_secure)
}

fn run(factory: &Factory<'_>, mut runner: Runner<'_>) -> ExitCode {
    let arguments = factory.arguments;
    let is_interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, is_interrupted.clone()) {
            tracing::warn!(%error, "no handler for the signal: the end will come without a de-registration");
        }
    }
    let mut objects = Objects::new(&arguments.endpoint, Downloads::PROTOCOLS);
    #[cfg(feature = "send")]
    if arguments.reports.is_some() {
        objects.temperature.keep();
    }
    let mut downloads = Downloads::default();
    let mut patience = Patience::new(arguments.give_up);
    #[cfg(feature = "send")]
    let mut reports = reports::Reports::new(&arguments.reports);
    let mut stopping = None;
    loop {
        let now = unix_time();
        for path in objects.sample(now).into_iter().chain(objects.firmware.changes()) {
            runner.client().changed(path);
        }
        for notice in runner.turn(&mut objects.all(), Duration::from_millis(200)) {
            log(&notice);
            patience.note(&notice);
            #[cfg(feature = "send")]
            reports.note(&notice);
        }
        #[cfg(feature = "send")]
        reports.send(&mut runner, unix_time());
        if let Some(reason) = patience.verdict() {
            eprintln!("lwm2m-client: giving up: {reason}");
            return ExitCode::from(3);
        }
        if stopping.is_none() && patience.is_another_try_due() {
            runner.reboot();
        }
        for bytes in runner.sent() {
            objects.statistics.sent(bytes.saturating_add(HEADERS));
        }
        if let Some(bytes) = runner.received() {
            objects.statistics.received(bytes.saturating_add(HEADERS));
        }
        downloads.run(&mut objects.firmware);
        match objects.take_due() {
            Some(Due::Reboot) => {
                tracing::info!("rebooting");
                runner.reboot();
            }
            Some(Due::FactoryReset) => {
                tracing::info!("back to what left the factory");
                if let Err(error) = runner.factory_reset(|store| factory.leave(store)) {
                    tracing::error!(%error, "the storage");
                }
            }
            Some(Due::Move) => runner.network_changed(),
            None => {}
        }
        if is_interrupted.load(Ordering::Relaxed) && stopping.is_none() {
            tracing::info!("de-registering");
            runner.client().deregister();
            stopping = Some(Instant::now());
        }
        // A server that does not answer the de-registration must not keep the device from ending.
        if stopping
            .is_some_and(|since: Instant| runner.client().is_stopped() || since.elapsed().as_secs() >= 5)
        {
            return ExitCode::SUCCESS;
        }
    }
}

/// Watches over the first bootstrap or registration.
struct Patience {
    started: Instant,
    give_up: Option<Duration>,
    is_registered: bool,
    last: Option<Reason>,
    refused: Option<String>,
    pause: Duration,
    again: Option<Instant>,
}

/// Before the second attempt at a handshake; twice as long before each one more, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

impl Patience {
    fn new(seconds: u64) -> Self {
        let give_up = (seconds > 0).then(|| Duration::from_secs(seconds));
        let (started, pause) = (Instant::now(), PAUSE);
        Patience { started, give_up, is_registered: false, last: None, refused: None, pause, again: None }
    }

    fn note(&mut self, notice: &Notice) {
        match *notice {
            Notice::Registered { .. } => self.is_registered = true,
            // The next step has its own time.
            Notice::Bootstrapped => {
                (self.started, self.pause, self.again) = (Instant::now(), PAUSE, None);
            }
            Notice::NoAccounts => self.refused = Some("there is no account to start with".into()),
            Notice::BootstrapFailed { reason } => self.failed("the bootstrap", reason),
            Notice::RegistrationRetry { reason, .. } | Notice::RegistrationFailed { reason, .. } => {
                self.failed("the registration", reason);
            }
            _ => {}
        }
    }

    fn failed(&mut self, what: &str, reason: Reason) {
        self.last = Some(reason);
        match reason {
            // It says when to come again.
            Reason::Refused(SERVICE_UNAVAILABLE) => {}
            Reason::Refused(_)
            | Reason::Unsupported
            | Reason::NoSuite
            | Reason::NoCredential
            | Reason::MalformedCredential => {
                self.refused = Some(format!("{what} was refused: {reason}"));
            }
            // What the client itself gives up on leads to a bootstrap, where there is one.
            Reason::Handshake(_) | Reason::Alert(_) if !reason.needs_configuration() => {
                self.again = Instant::now().checked_add(self.pause);
                self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
            _ => {}
        }
    }

    /// Whether a handshake that failed is to be tried again before `/1/x/18` says so: that waits a minute, and by then this program
    /// has given up.
    fn is_another_try_due(&mut self) -> bool {
        let is_waiting = self.give_up.is_some() && !self.is_registered;
        is_waiting && self.again.take_if(|at| *at <= Instant::now()).is_some()
    }

    fn verdict(&self) -> Option<String> {
        let give_up = self.give_up.filter(|_| !self.is_registered)?;
        if self.refused.is_some() {
            return self.refused.clone();
        }
        (self.started.elapsed() >= give_up).then(|| {
            let seconds = give_up.as_secs();
            match self.last {
                Some(reason) => format!("no success for {seconds} s: {reason}"),
                None => format!(
                    "no answer for {seconds} s: the server is not reachable, or does not know this identity and key"
                ),
            }
        })
    }
}

/// IPv4 and UDP before each datagram, which `/7` counts.
const HEADERS: usize = 28;

/// 5.03.
const SERVICE_UNAVAILABLE: u8 = 0xA3;

fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn log(notice: &Notice) {
    let name = |role: &Role| match role {
        Role::Bootstrap => "the bootstrap server".to_owned(),
        Role::Server(id) => format!("server {}", id.get()),
    };
    match notice {
        Notice::NoAccounts => tracing::error!("there is no account to start with"),
        Notice::BootstrapStarted => tracing::info!("asking the bootstrap server"),
        Notice::Bootstrapped => tracing::info!("bootstrapped: trying the new accounts"),
        Notice::BootstrapFailed { reason } => tracing::warn!("bootstrap failed: {reason}"),
        Notice::Secured { role, suite } => {
            let proof = if suite.is_ecdsa() { "holds its private key" } else { "holds the same key" };
            tracing::info!("secured: {} {proof}, {}", name(role), suite.name());
        }
        #[cfg(feature = "oscore")]
        Notice::Protected { role, is_rederived } => {
            let keys = if *is_rederived { "fresh keys" } else { "the keys of the account" };
            tracing::info!("protected by OSCORE: {} holds the same Master Secret, {keys}", name(role));
        }
        Notice::Registered { server } => tracing::info!("registered with server {}", server.get()),
        Notice::Updated { server } => tracing::info!("registration updated with server {}", server.get()),
        #[cfg(feature = "send")]
        Notice::Reported { server } => tracing::info!("reported to server {}", server.get()),
        #[cfg(feature = "send")]
        Notice::NotReported { server, reason } => {
            tracing::warn!("server {} did not take the report: {reason}", server.get());
        }
        Notice::RegistrationRetry { server, reason } => {
            tracing::warn!("server {}: {reason}; trying again", server.get());
        }
        Notice::RegistrationFailed { server, reason } => {
            tracing::error!("registration with server {} failed: {reason}", server.get());
        }
        Notice::Deregistered { server } => tracing::info!("de-registered from server {}", server.get()),
        Notice::Confirmed => tracing::info!("the new accounts work: the previous ones are dropped"),
        Notice::RolledBack => tracing::warn!("the new accounts do not work: the previous ones are back"),
        Notice::StorageFailed => tracing::error!("the storage failed"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ShortServerId = ShortServerId::FIRST;

    #[test]
    fn a_handshake_that_failed_is_tried_again_before_the_first_registration_and_is_no_refusal() {
        let failed = Notice::RegistrationRetry { server: SERVER, reason: Reason::Alert(40) };
        let mut patience = Patience::new(60);
        patience.note(&failed);
        assert!(patience.again.is_some() && patience.verdict().is_none());
        assert!(!patience.is_another_try_due(), "after a pause");
        patience.again = Some(Instant::now());
        assert!(patience.is_another_try_due() && !patience.is_another_try_due(), "once");
        patience.note(&failed);
        patience.note(&Notice::Registered { server: SERVER });
        patience.again = Some(Instant::now());
        assert!(!patience.is_another_try_due());
        // Who never gives up does as `/1/x/17` to `/1/x/20` say.
        let mut patience = Patience::new(0);
        patience.note(&failed);
        patience.again = Some(Instant::now());
        assert!(!patience.is_another_try_due());
    }

    #[test]
    fn who_was_registered_once_is_not_given_up_when_the_accounts_of_a_later_bootstrap_fail() {
        let mut patience = Patience::new(60);
        patience.note(&Notice::Registered { server: SERVER });
        patience.note(&Notice::Bootstrapped);
        patience.note(&Notice::RegistrationFailed { server: SERVER, reason: Reason::Refused(0x83) });
        assert_eq!(patience.verdict(), None);
    }
}
