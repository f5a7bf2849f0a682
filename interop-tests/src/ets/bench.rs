//! The server side of a run: one server and bootstrap server of this project in process, on loopback, with a store in
//! memory; each case is a device of its own in it.

use core::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lwm2m_server::Server;
use lwm2m_server::credentials::{
    Credentials, Enrol, EnrolAccount, Identity, Key, KeyMaterial, OperatorError, Profile, Role, Settings,
};
use lwm2m_server::driver::{self, StartError};
use lwm2m_server::endpoint::{Addresses, Config};
use lwm2m_server::store::{RedbStore, Sealer, StoreError};

use crate::process::{free_port, local};

use super::case::{Case, Entry};
use super::subject::Values;

/// The server that the clients under test meet.
#[derive(Debug)]
pub struct Bench {
    pub(crate) server: Server,
    credentials: Arc<Credentials>,
    addresses: Addresses,
    is_secure: bool,
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
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRandomness => f.write_str("the operating system gives no randomness"),
            Self::Store(error) => write!(f, "the store cannot be made: {error}"),
            Self::Start(error) => error.fmt(f),
            Self::Enrol(error) => write!(f, "a device cannot be enrolled: {error}"),
        }
    }
}

impl core::error::Error for BenchError {}

impl Bench {
    /// Starts the server on ports that the system chooses; without `is_secure` the clients come over plain CoAP.
    ///
    /// # Errors
    /// [`BenchError`]
    pub async fn start(is_secure: bool) -> Result<Self, BenchError> {
        let sealer = Sealer::new(&random::<32>()?, "this run").map_err(BenchError::Store)?;
        let store = RedbStore::in_memory(sealer).map_err(BenchError::Store)?;
        // What a bootstrap without security writes is said before the sockets are open.
        let coap = local(free_port());
        let settings = Settings {
            allow_nosec: !is_secure,
            server_uri_nosec: format!("coap://{coap}"),
            ..Settings::default()
        };
        let credentials = Arc::new(Credentials::open(Arc::new(store), settings).map_err(BenchError::Store)?);
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let addresses = Addresses {
            coap: Some(coap),
            coaps: any,
            bootstrap_coap: any,
            bootstrap_coaps: any,
            ..Addresses::default()
        };
        // Case 0 asks for a Discover after the writes.
        let mut endpoint = Config::default();
        endpoint.verify_bootstrap = true;
        let running = driver::start(
            driver::Settings { addresses, endpoint, ..driver::Settings::default() },
            Arc::clone(&credentials),
        )
        .await
        .map_err(BenchError::Start)?;
        Ok(Self { server: running.server, addresses: running.addresses, credentials, is_secure })
    }

    /// Whether the clients come over DTLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Enrols the device of a case under a name of its own; `entry` is the account it starts with.
    pub(crate) fn enrol(&self, case: &Case, entry: Entry) -> Result<Values, BenchError> {
        let endpoint = format!("ets-{}-{}", case.id, hex::encode(random::<4>()?));
        let (identity, key) = (format!("{endpoint}-psk"), random::<16>()?);
        let (uri, bootstrap_uri) = match self.is_secure {
            true => {
                (address("coaps", self.addresses.coaps), address("coaps", self.addresses.bootstrap_coaps))
            }
            false => (address("coap", self.addresses.coap), address("coap", self.addresses.bootstrap_coap)),
        };
        let role = if entry == Entry::Bootstrap { Role::Bootstrap } else { Role::Management };
        let mut accounts = Vec::new();
        if self.is_secure
            && let (Ok(identity), Ok(key)) = (Identity::new(identity.as_bytes()), Key::new(key.to_vec()))
        {
            accounts.push(EnrolAccount { role, key: KeyMaterial::Given { identity, key } });
        }
        let profile = Profile {
            server_uri: self.is_secure.then(|| uri.clone()),
            lifetime: Some(case.lifetime),
            ..Profile::default()
        };
        let enrol = Enrol { accounts, allow_nosec: Some(!self.is_secure), profile: Some(profile) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        // A fresh device has no session, so nothing is to be carried out.
        self.credentials.enrol(now, "lwm2m-interop", &endpoint, &enrol).map_err(BenchError::Enrol)?;
        Ok(Values { uri, bootstrap_uri, endpoint, identity, key: hex::encode(key), lifetime: case.lifetime })
    }
}

fn address(scheme: &str, address: Option<SocketAddr>) -> String {
    address.map(|address| format!("{scheme}://{address}")).unwrap_or_default()
}

fn random<const N: usize>() -> Result<[u8; N], BenchError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| BenchError::NoRandomness)?;
    Ok(bytes)
}
