//! The configuration of `lwm2m-server serve`: a TOML file, and flags that override it.
//!
//! ```toml
//! data = "/var/lib/lwm2m-server"
//! secrets_key = "/etc/lwm2m-server/secrets.key"
//! models = "/etc/lwm2m-server/models"  # object definitions (registry XML): every *.xml, read at the start; they win over others
//! allow_nosec = false
//! challenge = false               # whether devices without security first prove their address by Echo (RFC 9175)
//! threads = 4                     # that read packets; left out, one for each processor
//! workers = 4                     # threads for key agreements and signatures of handshakes, and as many more if there are keys in
//!                                 # tokens; left out, one for each processor
//!
//! [listen]                        # "off" opens no socket
//! coap = "0.0.0.0:5683"
//! coaps = "0.0.0.0:5684"
//! bootstrap_coap = "0.0.0.0:5783"
//! bootstrap_coaps = "0.0.0.0:5784"
//! former_coaps = "off"            # where management was before a roll-over: devices come here that know a key which is retiring
//! former_bootstrap_coaps = "off"  # the same for bootstrap
//! http = "127.0.0.1:8080"
//! http_public = false
//!
//! [dtls]
//! connection_ids = true           # sessions go on when the address of their device changes
//! suites = [                      # that are taken, the preferred one first; left out, these
//!     "TLS_PSK_WITH_AES_128_CCM_8",
//!     "TLS_PSK_WITH_AES_128_CCM",
//!     "TLS_PSK_WITH_AES_128_GCM_SHA256",
//!     "TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256",
//!     "TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256",
//!     "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
//!     "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
//!     "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
//! ]
//!
//! [[server_keys]]                 # for raw public keys and certificates, the preferred one first; left out, server.key in
//!                                 # the data folder, made at the first start, for raw public keys alone
//! private_key = "/etc/lwm2m-server/server.key"     # P-256, PKCS#8 or SEC 1, as PEM or DER; or in a token, as in
//!                                 # "pkcs11:token=lwm2m;object=server?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/etc/pin"
//! certificate = "/etc/lwm2m-server/server.pem"     # and those above it, its own first; left out, raw public keys alone
//! anchor = "/etc/lwm2m-server/server-ca.pem"       # that bootstraps write (certificate usage 2): then a renewed certificate needs no new
//!                                 # account; left out, the server's own certificate (usage 3). A device's profile may want usage 0 or 1
//! names = ["lwm2m.example"]       # that devices ask for (SNI); left out, those in the certificate
//! listener = "management"         # or "bootstrap"; left out, both
//! retiring = false                # true: only who asks for its name, or comes to a former address, still gets it; bootstraps write
//!                                 # another. Who knows a raw public key asks for no name: move coaps to another port, name the one
//!                                 # it had as former_coaps, and server_uri as it is now. After a planned restart sessions go on at
//!                                 # the port that they have
//!
//! [trust]                         # in the certificates of devices; read again every minute, and at SIGHUP. What cannot be read
//!                                 # leaves all as it was, and the log says so. A list that should have been renewed lets nobody in of
//!                                 # whom its authority may have revoked one
//! anchors = ["/etc/lwm2m-server/ca.pem"]
//! revocation_lists = ["/etc/lwm2m-server/ca.crl"]
//!
//! [admission]                     # address groups are IPv4 networks of 24 bits and IPv6 networks of 48
//! handshakes = 10000              # under way at once; beyond it one makes room of the group with most
//! handshake_rate = 10000          # begun in a second; beyond it a hello is as good as lost, and its device repeats it
//! look_ups = 256                  # keys that the store is asked for at once
//! look_up_rate = 1000             # identities that one group may name in a second
//! unregistered = 10000            # peers without security that are kept before they register; beyond it new ones are turned away
//!
//! [queue]                         # of devices in queue mode
//! awake = 93                      # seconds for which one listens after it was heard, 1 to 86400: its MAX_TRANSMIT_WAIT
//! per_device = 64                 # requests that may wait for one; beyond it they are answered with 429
//! total = 100000                  # requests that may wait for all; beyond it they are answered with 503
//!
//! [campaigns]
//! running = 8                     # that run at once
//! approval_above = 1000           # devices; beyond it somebody else has to approve of a campaign
//!
//! [bootstrap]                     # what a bootstrap writes into /0 and /1
//! server_uri = "coaps://lwm2m.example:5684"
//! short_server_id = 1
//! lifetime = 86400
//! binding = "U"
//! notification_storing = true
//! write_time = false              # also the time into /3/0/13, so that devices without a clock judge dates; not without security
//! verify = false                  # a second Discover, which must show the account that was written; a round trip more
//! retry_count = 5                 # /1/x/17 to /1/x/20; left out, the device's defaults hold
//! retry_timer = 60
//! sequence_delay = 86400
//! sequence_count = 1
//! ```
//!
//! Built with the feature `cbc` the server also knows TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256, and for devices of LwM2M 1.0
//! that know nothing newer TLS_PSK_WITH_AES_128_CBC_SHA256, which it takes only if it is named here.
//!
//! Invariant: an unknown key or a wrong value is an error that names file, line and value; nothing is guessed.

mod admission;

use core::fmt;
use core::str::FromStr;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

use dtls_psk::{Suite, Suites};
use serde::Deserialize;

pub use crate::campaigns::config::CampaignsConfig;
use crate::credentials::{Retry, Role, Settings};
pub use crate::queue::config::QueueConfig;
pub use admission::AdmissionConfig;

/// An address to listen on, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Listen(pub Option<SocketAddr>);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        match text.parse() {
            Ok(address) => Ok(Self(Some(address))),
            Err(_) => {
                Err(format!("'{text}' is no address: IP:PORT as in 127.0.0.1:5684 or [::]:5684, or off"))
            }
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A cipher suite by its registered name (RFC 5487, RFC 6655, RFC 7251).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SuiteName(pub Suite);

impl TryFrom<String> for SuiteName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Suite::from_name(&name).map(Self).ok_or_else(|| {
            let names: Vec<_> = Suite::ALL.iter().map(|suite| suite.name()).collect();
            format!("'{name}' is no cipher suite of this server: {}", names.join(", "))
        })
    }
}

/// Everything `serve` can be told; what is `None` takes its default in [`Config::settle`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Data folder.
    pub data: Option<PathBuf>,
    /// File with the secrets key.
    pub secrets_key: Option<PathBuf>,
    /// Folder with object definitions.
    pub models: Option<PathBuf>,
    /// Plain coap is accepted for devices without a credential.
    pub allow_nosec: Option<bool>,
    /// Devices without security first prove by Echo that they receive what is sent to their address (RFC 9175); they do not
    /// have to if it is not said.
    pub challenge: Option<bool>,
    /// Threads that read packets, 1 to 255; one for each processor if it is not said.
    pub threads: Option<NonZeroU8>,
    /// Threads for the arithmetic of handshakes, 1 to 255; one for each processor if it is not said.
    pub workers: Option<NonZeroU8>,
    /// Addresses.
    #[serde(default)]
    pub listen: ListenConfig,
    /// What handshakes may agree on.
    #[serde(default)]
    pub dtls: DtlsConfig,
    /// What the server proves itself with.
    pub server_keys: Option<Vec<KeyConfig>>,
    /// Who is trusted to issue certificates of devices.
    #[serde(default)]
    pub trust: TrustConfig,
    /// How many handshakes are taken.
    #[serde(default)]
    pub admission: AdmissionConfig,
    /// How devices in queue mode are treated.
    #[serde(default)]
    pub queue: QueueConfig,
    /// How campaigns are bounded.
    #[serde(default)]
    pub campaigns: CampaignsConfig,
    /// What a bootstrap writes.
    #[serde(default)]
    pub bootstrap: BootstrapConfig,
}

/// What handshakes may agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DtlsConfig {
    /// The cipher suites that are taken, the preferred one first.
    pub suites: Option<Vec<SuiteName>>,
    /// Whether devices that offer it get a Connection ID; they do if it is not said.
    pub connection_ids: Option<bool>,
}

/// A key of the server.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// File with the private key: P-256, as PEM or DER; or a `pkcs11:` URI (RFC 7512) of one in a token.
    pub private_key: PathBuf,
    /// File with its certificate and those above it, its own first, as PEM or DER.
    pub certificate: Option<PathBuf>,
    /// File with the certificate of the authority that devices are told to expect (certificate usage 2), as PEM or DER; the
    /// server's own certificate (3) if it is not said.
    pub anchor: Option<PathBuf>,
    /// The names that devices ask for; those in the certificate if it is not said.
    pub names: Option<Vec<String>>,
    /// The one of the two servers that it is for.
    pub listener: Option<Role>,
    /// Whether devices are to be moved to another.
    #[serde(default)]
    pub retiring: bool,
}

/// Without the private key: its URI may have the PIN of a token in it.
impl fmt::Debug for KeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyConfig").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Who is trusted to issue certificates of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustConfig {
    /// Files with certificates of authorities, as PEM or DER.
    pub anchors: Option<Vec<PathBuf>>,
    /// Files with certificate revocation lists, as PEM or DER.
    pub revocation_lists: Option<Vec<PathBuf>>,
}

/// Addresses to listen on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// Management over plain CoAP.
    pub coap: Option<Listen>,
    /// Management over DTLS.
    pub coaps: Option<Listen>,
    /// Bootstrap over plain CoAP.
    pub bootstrap_coap: Option<Listen>,
    /// Bootstrap over DTLS.
    pub bootstrap_coaps: Option<Listen>,
    /// Management over DTLS, for devices that know a server key which is retiring.
    pub former_coaps: Option<Listen>,
    /// Bootstrap over DTLS, for the same.
    pub former_bootstrap_coaps: Option<Listen>,
    /// HTTP.
    pub http: Option<Listen>,
    /// HTTP may listen on an address that is not loopback, without TLS.
    pub http_public: Option<bool>,
}

/// What a bootstrap writes into `/0` and `/1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapConfig {
    /// LwM2M Server URI of the management server.
    pub server_uri: Option<String>,
    /// Short Server ID, 1 to 65534.
    pub short_server_id: Option<u16>,
    /// Lifetime in seconds.
    pub lifetime: Option<u32>,
    /// Binding.
    pub binding: Option<String>,
    /// Notification Storing When Disabled or Offline.
    pub notification_storing: Option<bool>,
    /// Whether the time is written too; it is not if it is not said.
    pub write_time: Option<bool>,
    /// Whether a second Discover must show what was written; there is none if it is not said.
    pub verify: Option<bool>,
    /// Communication Retry Count.
    pub retry_count: Option<u32>,
    /// Communication Retry Timer in seconds.
    pub retry_timer: Option<u32>,
    /// Communication Sequence Delay Timer in seconds.
    pub sequence_delay: Option<u32>,
    /// Communication Sequence Retry Count.
    pub sequence_count: Option<u32>,
}

/// A configuration with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Data folder.
    pub data: PathBuf,
    /// File with the secrets key, if one was named.
    pub secrets_key: Option<PathBuf>,
    /// Folder with object definitions, if one was named.
    pub models: Option<PathBuf>,
    /// Management over plain CoAP.
    pub coap: Option<SocketAddr>,
    /// Management over DTLS.
    pub coaps: Option<SocketAddr>,
    /// Bootstrap over plain CoAP.
    pub bootstrap_coap: Option<SocketAddr>,
    /// Bootstrap over DTLS.
    pub bootstrap_coaps: Option<SocketAddr>,
    /// Management over DTLS, for devices that know a server key which is retiring.
    pub former_coaps: Option<SocketAddr>,
    /// Bootstrap over DTLS, for the same.
    pub former_bootstrap_coaps: Option<SocketAddr>,
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// HTTP may listen on an address that is not loopback.
    pub http_public: bool,
    /// Devices without security first prove their address.
    pub challenge: bool,
    /// Threads that read packets; one for each processor if `None`.
    pub threads: Option<NonZeroU8>,
    /// Threads for the arithmetic of handshakes; one for each processor if `None`.
    pub workers: Option<NonZeroU8>,
    /// What the server proves itself with; a key in the data folder if there is none.
    pub server_keys: Vec<KeyConfig>,
    /// Who is trusted to issue certificates of devices.
    pub trust: TrustConfig,
    /// The cipher suites that are taken, the preferred one first.
    pub suites: Suites,
    /// Whether devices that offer it get a Connection ID.
    pub connection_ids: bool,
    /// How many handshakes are taken.
    pub admission: AdmissionConfig,
    /// How devices in queue mode are treated.
    pub queue: QueueConfig,
    /// How campaigns are bounded.
    pub campaigns: CampaignsConfig,
    /// What the credentials façade is opened with.
    pub credentials: Settings,
    /// Whether the server URI was named; else it is a guess that only works on this machine.
    pub has_server_uri: bool,
}

/// What is wrong with a configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A line of the file is wrong.
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// A value is wrong, wherever it came from.
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong, and what would be right.
        what: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => {
                write!(f, "cannot read the configuration {}: {error}", path.display())
            }
            Self::Line { path, line, what } => write!(f, "{}:{line}: {what}", path.display()),
            Self::Value { key, what } => write!(f, "{key}: {what}"),
        }
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// A file that cannot be read, or the first line that is wrong.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or(text);
            let line = before.matches('\n').count().saturating_add(1);
            let value = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim();
            let what = error.message().replace('\n', " ");
            ConfigError::Line { path: path.to_owned(), line, what: format!("{what} in '{value}'") }
        })
    }

    /// Lays `over` over this one: what it says wins.
    #[must_use]
    pub fn overridden(self, over: Self) -> Self {
        let (listen, admission, queue, bootstrap) = (over.listen, over.admission, over.queue, over.bootstrap);
        Self {
            data: over.data.or(self.data),
            secrets_key: over.secrets_key.or(self.secrets_key),
            models: over.models.or(self.models),
            allow_nosec: over.allow_nosec.or(self.allow_nosec),
            challenge: over.challenge.or(self.challenge),
            threads: over.threads.or(self.threads),
            workers: over.workers.or(self.workers),
            listen: ListenConfig {
                coap: listen.coap.or(self.listen.coap),
                coaps: listen.coaps.or(self.listen.coaps),
                bootstrap_coap: listen.bootstrap_coap.or(self.listen.bootstrap_coap),
                bootstrap_coaps: listen.bootstrap_coaps.or(self.listen.bootstrap_coaps),
                former_coaps: listen.former_coaps.or(self.listen.former_coaps),
                former_bootstrap_coaps: listen.former_bootstrap_coaps.or(self.listen.former_bootstrap_coaps),
                http: listen.http.or(self.listen.http),
                http_public: listen.http_public.or(self.listen.http_public),
            },
            dtls: DtlsConfig {
                suites: over.dtls.suites.or(self.dtls.suites),
                connection_ids: over.dtls.connection_ids.or(self.dtls.connection_ids),
            },
            server_keys: over.server_keys.or(self.server_keys),
            trust: TrustConfig {
                anchors: over.trust.anchors.or(self.trust.anchors),
                revocation_lists: over.trust.revocation_lists.or(self.trust.revocation_lists),
            },
            admission: AdmissionConfig {
                handshakes: admission.handshakes.or(self.admission.handshakes),
                handshake_rate: admission.handshake_rate.or(self.admission.handshake_rate),
                look_ups: admission.look_ups.or(self.admission.look_ups),
                look_up_rate: admission.look_up_rate.or(self.admission.look_up_rate),
                unregistered: admission.unregistered.or(self.admission.unregistered),
            },
            queue: QueueConfig {
                awake: queue.awake.or(self.queue.awake),
                per_device: queue.per_device.or(self.queue.per_device),
                total: queue.total.or(self.queue.total),
            },
            campaigns: CampaignsConfig {
                running: over.campaigns.running.or(self.campaigns.running),
                approval_above: over.campaigns.approval_above.or(self.campaigns.approval_above),
            },
            bootstrap: BootstrapConfig {
                server_uri: bootstrap.server_uri.or(self.bootstrap.server_uri),
                short_server_id: bootstrap.short_server_id.or(self.bootstrap.short_server_id),
                lifetime: bootstrap.lifetime.or(self.bootstrap.lifetime),
                binding: bootstrap.binding.or(self.bootstrap.binding),
                notification_storing: bootstrap.notification_storing.or(self.bootstrap.notification_storing),
                write_time: bootstrap.write_time.or(self.bootstrap.write_time),
                verify: bootstrap.verify.or(self.bootstrap.verify),
                retry_count: bootstrap.retry_count.or(self.bootstrap.retry_count),
                retry_timer: bootstrap.retry_timer.or(self.bootstrap.retry_timer),
                sequence_delay: bootstrap.sequence_delay.or(self.bootstrap.sequence_delay),
                sequence_count: bootstrap.sequence_count.or(self.bootstrap.sequence_count),
            },
        }
    }

    /// Fills in the defaults and checks what no type can.
    ///
    /// # Errors
    /// The first value that cannot work.
    pub fn settle(self) -> Result<Settled, ConfigError> {
        let or = |given: Option<Listen>, port: u16| match given {
            Some(listen) => listen.0,
            None => Some(SocketAddr::from(([0, 0, 0, 0], port))),
        };
        let coap = or(self.listen.coap, 5683);
        let coaps = or(self.listen.coaps, 5684);
        let bootstrap_coap = or(self.listen.bootstrap_coap, 5783);
        let bootstrap_coaps = or(self.listen.bootstrap_coaps, 5784);
        let http = match self.listen.http {
            Some(listen) => listen.0,
            None => Some(SocketAddr::from(([127, 0, 0, 1], 8080))),
        };
        let http_public = self.listen.http_public.unwrap_or(false);
        if let Some(address) = http.filter(|address| !address.ip().is_loopback() && !http_public) {
            return Err(ConfigError::Value {
                key: "http",
                what: format!(
                    "{address} can be reached from elsewhere and has no TLS: listen on 127.0.0.1 behind a proxy, or \
                     allow it by --http-public"
                ),
            });
        }
        let suites = match self.dtls.suites {
            None => Suites::ALL,
            Some(named) => {
                let list: Vec<_> = named.into_iter().map(|SuiteName(suite)| suite).collect();
                Suites::new(&list).ok_or_else(|| ConfigError::Value {
                    key: "suites",
                    what: "name at least one cipher suite, and each only once".to_owned(),
                })?
            }
        };
        let default = Settings::default();
        let bootstrap = self.bootstrap;
        let short_server_id = bootstrap.short_server_id.unwrap_or(default.short_server_id);
        if short_server_id == 0 || short_server_id == u16::MAX {
            return Err(ConfigError::Value {
                key: "short_server_id",
                what: format!("{short_server_id} is reserved: 1 to 65534"),
            });
        }
        if let Some(uri) = &bootstrap.server_uri
            && (!uri.starts_with("coaps://") || uri.len() > 255 || uri.contains(char::is_whitespace))
        {
            return Err(ConfigError::Value {
                key: "server_uri",
                what: format!("'{uri}' is not coaps://HOST[:PORT] of at most 255 bytes"),
            });
        }
        if let Some(awake) = self.queue.awake.filter(|awake| awake.get() > 86_400) {
            return Err(ConfigError::Value {
                key: "awake",
                what: format!("{awake} is more than a day: 1 to 86400 seconds"),
            });
        }
        let has_server_uri = bootstrap.server_uri.is_some();
        let credentials = Settings {
            server_uri: bootstrap.server_uri.unwrap_or_else(|| local_uri("coaps", coaps, default.server_uri)),
            server_uri_nosec: local_uri("coap", coap, default.server_uri_nosec),
            short_server_id,
            lifetime: bootstrap.lifetime.unwrap_or(default.lifetime),
            binding: bootstrap.binding.unwrap_or(default.binding),
            notification_storing: bootstrap.notification_storing.unwrap_or(default.notification_storing),
            write_time: bootstrap.write_time.unwrap_or(default.write_time),
            verify: bootstrap.verify.unwrap_or(default.verify),
            retry: Retry {
                count: bootstrap.retry_count,
                timer: bootstrap.retry_timer,
                sequence_delay: bootstrap.sequence_delay,
                sequence_count: bootstrap.sequence_count,
            },
            allow_nosec: self.allow_nosec.unwrap_or(default.allow_nosec),
        };
        Ok(Settled {
            data: self.data.unwrap_or_else(|| PathBuf::from("lwm2m-data")),
            secrets_key: self.secrets_key,
            models: self.models,
            coap,
            coaps,
            bootstrap_coap,
            bootstrap_coaps,
            former_coaps: self.listen.former_coaps.and_then(|listen| listen.0),
            former_bootstrap_coaps: self.listen.former_bootstrap_coaps.and_then(|listen| listen.0),
            http,
            http_public,
            challenge: self.challenge.unwrap_or(false),
            threads: self.threads,
            workers: self.workers,
            server_keys: self.server_keys.unwrap_or_default(),
            trust: self.trust,
            suites,
            connection_ids: self.dtls.connection_ids.unwrap_or(true),
            admission: self.admission,
            queue: self.queue,
            campaigns: self.campaigns,
            credentials,
            has_server_uri,
        })
    }
}

/// The URI under which this machine reaches a socket of its own.
#[must_use]
pub fn local_uri(scheme: &str, address: Option<SocketAddr>, default: String) -> String {
    match address {
        Some(address) if address.ip().is_unspecified() => format!("{scheme}://127.0.0.1:{}", address.port()),
        Some(address) => format!("{scheme}://{address}"),
        None => default,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::queue::Limits;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("server.toml"), text)
    }

    #[test]
    fn the_documented_example_is_read() {
        let doc = include_str!("config.rs");
        let example: String = doc
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| format!("{}\n", line.trim_start_matches("//!").trim_start()))
            .collect();
        let settled = parse(&example).unwrap().settle().unwrap();
        assert_eq!(settled.credentials.server_uri, "coaps://lwm2m.example:5684");
        assert_eq!(settled.http, Some("127.0.0.1:8080".parse().unwrap()));
        assert!(!settled.credentials.verify);
        assert!(parse("[bootstrap]\nverify = true\n").unwrap().settle().unwrap().credentials.verify);
    }

    #[test]
    fn an_error_names_file_line_and_value() {
        let error = parse("data = \"x\"\n[listen]\ncoap = \"5683\"\n").unwrap_err().to_string();
        assert!(error.starts_with("server.toml:3: ") && error.contains("'5683' is no address"), "{error}");
        let error = parse("\nlisten_on = 1\n").unwrap_err().to_string();
        assert!(error.starts_with("server.toml:2: ") && error.contains("listen_on"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = parse("allow_nosec = true\n[listen]\ncoap = \"127.0.0.1:1\"\ncoaps = \"off\"\n").unwrap();
        let mut flags = Config { allow_nosec: Some(false), ..Config::default() };
        flags.listen.coap = Some("127.0.0.1:2".parse().unwrap());
        let settled = file.overridden(flags).settle().unwrap();
        assert_eq!(settled.coap, Some("127.0.0.1:2".parse().unwrap()));
        assert_eq!(settled.coaps, None);
        assert!(!settled.credentials.allow_nosec);
    }

    fn suites(text: &str) -> Result<Suites, ConfigError> {
        parse(text).and_then(Config::settle).map(|settled| settled.suites)
    }

    #[cfg(feature = "cbc")]
    #[test]
    fn the_suite_of_lwm2m_1_0_is_off_unless_it_is_named() {
        assert!(!suites("").unwrap().contains(Suite::PskAes128CbcSha256));
        let text = "[dtls]\nsuites = [\"TLS_PSK_WITH_AES_128_CBC_SHA256\", \"TLS_PSK_WITH_AES_128_CCM_8\"]\n";
        let named = suites(text).unwrap();
        assert_eq!(named.as_slice(), [Suite::PskAes128CbcSha256, Suite::PskAes128Ccm8]);
    }

    #[test]
    fn threads_connection_ids_and_challenges_are_as_they_are_said() {
        let settled = |text| parse(text).and_then(Config::settle).unwrap();
        assert_eq!((settled("").threads, settled("").connection_ids), (None, true));
        assert!(!settled("").challenge);
        let said = settled("threads = 3\nchallenge = true\n[dtls]\nconnection_ids = false\n");
        assert_eq!((said.threads, said.connection_ids), (NonZeroU8::new(3), false));
        assert!(said.challenge);
        assert!(parse("threads = 0").is_err() && parse("threads = 256").is_err());
    }

    #[test]
    fn cipher_suites_are_named_in_order() {
        assert_eq!(suites("").unwrap(), Suites::ALL);
        let text = "[dtls]\nsuites = [\"TLS_PSK_WITH_AES_128_CCM\", \"TLS_PSK_WITH_AES_128_CCM_8\"]\n";
        assert_eq!(suites(text).unwrap().as_slice(), [Suite::PskAes128Ccm, Suite::PskAes128Ccm8]);
        for (text, complaint) in [
            (
                "[dtls]\nsuites = [\"TLS_NULL\"]\n",
                "server.toml:2: 'TLS_NULL' is no cipher suite of this server: TLS_PSK",
            ),
            ("[dtls]\nsuites = []\n", "suites: name at least one"),
            (
                "[dtls]\nsuites = [\"TLS_PSK_WITH_AES_128_CCM_8\", \"TLS_PSK_WITH_AES_128_CCM_8\"]\n",
                "each only once",
            ),
        ] {
            let error = suites(text).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn the_limits_of_handshakes_are_those_of_the_endpoint_unless_they_are_named() {
        let default = crate::endpoint::Config::default();
        let limits_of = |endpoint: &crate::endpoint::Config| {
            let crate::endpoint::Config {
                handshakes,
                handshake_rate,
                look_ups,
                look_up_rate,
                unregistered,
                ..
            } = *endpoint;
            (handshakes, handshake_rate, look_ups, look_up_rate, unregistered)
        };
        let limits = |text: &str| {
            let mut endpoint = crate::endpoint::Config::default();
            parse(text)
                .unwrap()
                .overridden(Config::default())
                .settle()
                .unwrap()
                .admission
                .apply(&mut endpoint);
            limits_of(&endpoint)
        };
        let defaults = limits_of(&default);
        assert_eq!(limits(""), defaults);
        assert_eq!(
            defaults,
            (10_000, 10_000, 256, 1_000, 10_000),
            "as the documentation of this module says"
        );
        let named = "[admission]\nhandshakes = 1\nhandshake_rate = 2\nlook_ups = 3\nlook_up_rate = 4\nunregistered = 5\n";
        assert_eq!(limits(named), (1, 2, 3, 4, 5));
        assert!(parse("[admission]\nhandshakes = 0\n").is_err());
    }

    #[test]
    fn the_queue_is_as_it_was_named_and_a_window_ends_within_a_day() {
        let mut endpoint = crate::endpoint::Config::default();
        let limits = parse("[queue]\nawake = 5\nper_device = 6\n")
            .unwrap()
            .settle()
            .unwrap()
            .queue
            .apply(&mut endpoint);
        assert_eq!(endpoint.awake, Duration::from_secs(5));
        assert_eq!((limits.queued_per_device, limits.queued), (6, Limits::default().queued));
        assert!(parse("[queue]\nawake = 0\n").is_err());
        let error = parse("[queue]\nawake = 86401\n").unwrap().settle().unwrap_err().to_string();
        assert!(error.starts_with("awake: 86401"), "{error}");
    }

    #[test]
    fn reserved_short_server_ids_are_refused() {
        for id in [0, 65535] {
            let config = parse(&format!("[bootstrap]\nshort_server_id = {id}\n")).unwrap();
            assert!(matches!(config.settle(), Err(ConfigError::Value { key: "short_server_id", .. })));
        }
    }
}
