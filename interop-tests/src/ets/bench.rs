//! The server side of a run: a server and bootstrap server of this project in process, on loopback, with a store in memory, and
//! beside it a second server for the cases that want one. Each case is a device of its own.

use core::fmt;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lwm2m_server::Server;
use lwm2m_server::credentials::{
    BootstrapStep, Credentials, DeviceKey, Enrol, EnrolAccount, Identity, Key, KeyMaterial, Mode,
    OperatorError, OscoreKey, OscoreParts, Presented, Profile, Role, Settings,
};
use lwm2m_server::driver::{self, StartError};
use lwm2m_server::endpoint::{Addresses, Config};
use lwm2m_server::keys::ServerKeys;
use lwm2m_server::queue::{Limits, Queue};
use lwm2m_server::store::{RedbStore, Sealer, Store, StoreError};
use lwm2m_server::{Path, Value};
use tempfile::TempDir;

use crate::process::{free_port, local};

use super::case::{Case, Enabler, Entry, Image, Literal, Script, Security};
use super::certificates::Authority;
use super::depot::Depot;
use super::subject::Values;

/// The servers that the clients under test meet.
#[derive(Debug)]
pub struct Bench {
    pub(crate) first: Site,
    /// Has Short Server ID 2, and a certificate with another name than its address.
    pub(crate) second: Site,
    authority: Authority,
    is_secure: bool,
    pub(crate) images: Images,
    pub(crate) depot: Depot,
    files: TempDir,
}

/// The firmware images that are given to a run.
pub type Images = BTreeMap<Image, Vec<u8>>;

/// One server.
pub(crate) struct Site {
    pub(crate) server: Server,
    /// Where requests wait for devices that sleep.
    pub(crate) queue: Queue,
    credentials: Arc<Credentials>,
    addresses: Addresses,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Why there is no bench.
#[derive(Debug)]
pub enum BenchError {
    /// The operating system gives no randomness.
    NoRandomness,
    /// The store in memory cannot be made.
    Store(StoreError),
    /// A socket cannot be opened.
    Start(StartError),
    /// A device cannot be enrolled.
    Enrol(OperatorError),
    /// Certificates cannot be made.
    Certificate(String),
    /// An OSCORE context cannot be made.
    Context(&'static str),
    /// Files with them cannot be written, or images not be offered.
    Files(std::io::Error),
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRandomness => f.write_str("the operating system gives no randomness"),
            Self::Store(error) => write!(f, "the store cannot be made: {error}"),
            Self::Start(error) => error.fmt(f),
            Self::Enrol(error) => write!(f, "a device cannot be enrolled: {error}"),
            Self::Certificate(error) => write!(f, "a certificate cannot be made: {error}"),
            Self::Context(error) => write!(f, "an OSCORE context cannot be made: {error}"),
            Self::Files(error) => write!(f, "files and images cannot be offered: {error}"),
        }
    }
}

impl core::error::Error for BenchError {}

/// For how long a device in queue mode listens: less than in the field, so that a case about it is short.
const AWAKE: Duration = Duration::from_secs(5);

impl Site {
    async fn start(is_secure: bool, short_server_id: u16, keys: ServerKeys) -> Result<Self, BenchError> {
        let sealer = Sealer::new(&random::<32>()?, "this run").map_err(BenchError::Store)?;
        let store = RedbStore::in_memory(sealer).map_err(BenchError::Store)?;
        // What a bootstrap without security writes is said before the sockets are open.
        let coap = local(free_port());
        let settings = Settings {
            allow_nosec: !is_secure,
            server_uri_nosec: format!("coap://{coap}"),
            short_server_id,
            // Case 0 asks for a Discover after the writes.
            verify: true,
            ..Settings::default()
        };
        let store: Arc<dyn Store> = Arc::new(store);
        let credentials = Credentials::open(Arc::clone(&store), settings).map_err(BenchError::Store)?;
        let credentials = Arc::new(credentials);
        for role in Role::ALL {
            credentials.set_server_keys(role, keys.public(role));
        }
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let addresses = Addresses {
            coap: Some(coap),
            coaps: any,
            bootstrap_coap: any,
            bootstrap_coaps: any,
            ..Addresses::default()
        };
        let mut endpoint = Config::default();
        endpoint.awake = AWAKE;
        endpoint.short_server_id = short_server_id;
        endpoint.keys = keys;
        // What one thread traces comes in the order in which it happened.
        let threads = Some(NonZeroU8::MIN);
        let settings = driver::Settings { addresses, endpoint, threads, workers: threads };
        let running = driver::start(settings, Arc::clone(&credentials)).await.map_err(BenchError::Start)?;
        let queue =
            Queue::start(running.server.clone(), store, Limits::default()).map_err(BenchError::Store)?;
        Ok(Self { server: running.server, queue, addresses: running.addresses, credentials })
    }

    fn uris(&self, is_secure: bool) -> (String, String) {
        match is_secure {
            true => {
                (address("coaps", self.addresses.coaps), address("coaps", self.addresses.bootstrap_coaps))
            }
            false => (address("coap", self.addresses.coap), address("coap", self.addresses.bootstrap_coap)),
        }
    }

    fn enrol(&self, endpoint: &str, enrol: &Enrol) -> Result<(), BenchError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        // A fresh device has no session, so nothing is to be carried out.
        self.credentials.enrol(now, "lwm2m-interop", endpoint, enrol).map_err(BenchError::Enrol).map(drop)
    }
}

impl Bench {
    /// Starts the servers on ports that the system chooses; without `is_secure` the clients come over plain CoAP.
    ///
    /// # Errors
    /// [`BenchError`]
    pub async fn start(is_secure: bool, images: Images) -> Result<Self, BenchError> {
        let authority = Authority::new().map_err(BenchError::Certificate)?;
        let keys = |name| authority.server(name).map_err(BenchError::Certificate);
        let first = Site::start(is_secure, 1, keys("127.0.0.1")?).await?;
        let second = Site::start(is_secure, 2, keys("server.example.com")?).await?;
        let files = tempfile::tempdir().map_err(BenchError::Files)?;
        let depot = Depot::start(images.clone()).map_err(BenchError::Files)?;
        Ok(Self { first, second, authority, is_secure, images, depot, files })
    }

    /// Whether the clients come over DTLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Enrols the device of a case under a name of its own; `entry` is the account it starts with.
    pub(crate) fn enrol(&self, case: &Case, entry: Entry, version: Enabler) -> Result<Values, BenchError> {
        let endpoint = format!("ets-{}-{}", case.number, hex::encode(random::<4>()?));
        let identity = format!("{endpoint}-psk");
        let key = random::<16>()?;
        let site = if case.security == Security::Mismatch { &self.second } else { &self.first };
        let is_protected = case.security == Security::Oscore;
        let (mut uri, bootstrap_uri) = site.uris(self.is_secure && !is_protected);
        let profile = Profile {
            server_uri: (self.is_secure && !is_protected).then(|| uri.clone()),
            lifetime: Some(case.lifetime),
            ..Profile::default()
        };
        if entry == Entry::Fallback {
            uri = address(if self.is_secure { "coaps" } else { "coap" }, Some(local(free_port())));
        }
        let mut oscore = Default::default();
        let (accounts, files) = match case.security {
            Security::Oscore => {
                let (context, words) = protected()?;
                oscore = words;
                (vec![EnrolAccount { role: Role::Management, key: context }], Default::default())
            }
            _ if !self.is_secure => (Vec::new(), Default::default()),
            Security::Usual => {
                let roles: &[Role] = match entry {
                    Entry::Bootstrap | Entry::Fallback => &[Role::Bootstrap],
                    Entry::Management => &[Role::Management],
                    Entry::Both => &[Role::Bootstrap, Role::Management],
                };
                (psk(&identity, &key, roles), Default::default())
            }
            Security::Certificate | Security::Mismatch => self.certify(&endpoint, entry)?,
        };
        let allow_nosec = Some(!self.is_secure && !is_protected);
        let enrol = Enrol { accounts, allow_nosec, profile: Some(profile), ..Enrol::default() };
        site.enrol(&endpoint, &enrol)?;
        let values = Values {
            uri,
            bootstrap_uri,
            endpoint,
            identity,
            key: hex::encode(key),
            lifetime: case.lifetime,
            version,
            binding: if case.is_queue_mode { "UQ" } else { "U" },
            files,
            oscore,
        };
        let steps = self.script(case, &values.endpoint)?;
        self.first.credentials.set_bootstrap_steps(&values.endpoint, steps);
        Ok(values)
    }

    /// A device that proves itself with a certificate of its own, and its files.
    fn certify(&self, endpoint: &str, entry: Entry) -> Result<(Vec<EnrolAccount>, [String; 3]), BenchError> {
        let device = self.authority.device(endpoint).map_err(BenchError::Certificate)?;
        let presents = Presented::Certificates(vec![device.certificate.clone()]);
        let key =
            DeviceKey::new(presents, None).map_err(|error| BenchError::Certificate(error.to_owned()))?;
        let public = KeyMaterial::Public { subject: key.subject(), key: Some(key) };
        let accounts = match entry {
            Entry::Bootstrap => vec![
                EnrolAccount { role: Role::Bootstrap, key: public },
                EnrolAccount { role: Role::Management, key: KeyMaterial::Generate(Mode::Certificate) },
            ],
            _ => vec![EnrolAccount { role: Role::Management, key: public }],
        };
        let file = |kind: &str, content: &str| {
            let path = self.files.path().join(format!("{endpoint}.{kind}.pem"));
            std::fs::write(&path, content).map(|()| path.display().to_string()).map_err(BenchError::Files)
        };
        let files = [
            file("certificate", &device.certificate_pem)?,
            file("key", &device.key_pem)?,
            file("trust", &self.authority.pem())?,
        ];
        Ok((accounts, files))
    }

    /// What a bootstrap of the device of a case does; the second server comes to know the device where it writes its account.
    fn script(&self, case: &Case, endpoint: &str) -> Result<Vec<BootstrapStep>, BenchError> {
        let mut steps = Vec::new();
        for step in case.script {
            let path = |text: &str| text.parse::<Path>().unwrap_or(Path::ROOT);
            match *step {
                Script::Account => steps.push(BootstrapStep::Account),
                Script::Discover => steps.push(BootstrapStep::Discover),
                Script::Read(at) => steps.push(BootstrapStep::Read(path(at))),
                Script::Delete(at) => steps.push(BootstrapStep::Delete(path(at))),
                Script::Write(at, values) => {
                    let values: Vec<_> = values
                        .iter()
                        .filter_map(|(below, value)| {
                            Some((path(&format!("{at}{below}")), plain_value(*value)?))
                        })
                        .collect();
                    steps.push(BootstrapStep::Write(path(at), values.into()));
                }
                Script::SecondAccount(security, server) => {
                    steps.extend(self.second_account(case, endpoint, security, server)?);
                }
            }
        }
        Ok(steps)
    }

    fn second_account(
        &self,
        case: &Case,
        endpoint: &str,
        security: u16,
        server: u16,
    ) -> Result<[BootstrapStep; 2], BenchError> {
        let (identity, key) = (format!("{endpoint}-second"), random::<16>()?);
        let accounts = if self.is_secure { psk(&identity, &key, &[Role::Management]) } else { Vec::new() };
        let enrol = Enrol { accounts, allow_nosec: Some(!self.is_secure), ..Enrol::default() };
        self.second.enrol(endpoint, &enrol)?;
        let (uri, _) = self.second.uris(self.is_secure);
        let (mode, identity, key) = match self.is_secure {
            true => (0, identity.into_bytes(), key.to_vec()),
            false => (3, Vec::new(), Vec::new()),
        };
        let at = |resource| Path::resource(0, security, resource);
        let account = vec![
            (at(0), Value::String(uri)),
            (at(1), Value::Boolean(false)),
            (at(2), Value::Integer(mode)),
            (at(3), Value::Opaque(identity)),
            (at(4), Value::Opaque(Vec::new())),
            (at(5), Value::Opaque(key)),
            (at(10), Value::Integer(2)),
        ];
        let at = |resource| Path::resource(1, server, resource);
        let registration = vec![
            (at(0), Value::Integer(2)),
            (at(1), Value::Integer(i64::from(case.lifetime))),
            (at(6), Value::Boolean(false)),
            (at(7), Value::String("U".to_owned())),
        ];
        Ok([
            BootstrapStep::Write(Path::instance(0, security), account.into()),
            BootstrapStep::Write(Path::instance(1, server), registration.into()),
        ])
    }
}

/// The value of a literal that needs nothing of the run.
pub(crate) fn plain_value(literal: Literal) -> Option<Value> {
    Some(match literal {
        Literal::Integer(value) => Value::Integer(value),
        Literal::Boolean(value) => Value::Boolean(value),
        Literal::Text(value) => Value::String(value.to_owned()),
        Literal::Bytes(value) => Value::Opaque(value.to_vec()),
        Literal::Time(value) => Value::Time(value),
        Literal::Link(object, instance) => Value::ObjectLink(object, instance),
        Literal::Image(_) | Literal::ImageUri(..) => return None,
    })
}

/// A context of a device, and its Master Secret, Sender ID and Recipient ID as the device has them, in hexadecimal.
fn protected() -> Result<(KeyMaterial, [String; 3]), BenchError> {
    let (secret, sender) = (random::<16>()?, random::<4>()?);
    let words = [hex::encode(secret), hex::encode(sender), "5e".to_owned()];
    let parts = OscoreParts {
        master_secret: secret.to_vec().into(),
        sender_id: vec![0x5e],
        recipient_id: sender.to_vec(),
        ..OscoreParts::default()
    };
    let context = OscoreKey::new(parts).map_err(BenchError::Context)?;
    Ok((KeyMaterial::Oscore(context), words))
}

/// Accounts of one pre-shared key.
fn psk(identity: &str, key: &[u8], roles: &[Role]) -> Vec<EnrolAccount> {
    let (Ok(identity), Ok(key)) = (Identity::new(identity.as_bytes()), Key::new(key.to_vec())) else {
        return Vec::new();
    };
    let given = || KeyMaterial::Given { identity: identity.clone(), key: key.clone() };
    roles.iter().map(|role| EnrolAccount { role: *role, key: given() }).collect()
}

fn address(scheme: &str, address: Option<SocketAddr>) -> String {
    address.map(|address| format!("{scheme}://{address}")).unwrap_or_default()
}

fn random<const N: usize>() -> Result<[u8; N], BenchError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| BenchError::NoRandomness)?;
    Ok(bytes)
}
