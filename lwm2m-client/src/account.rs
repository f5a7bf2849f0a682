//! One server account: a Security instance (`/0`) and the Server instance (`/1`) that shares its Short Server ID.
//!
//! LwM2M Core 1.1.1 §5.2.2 and appendices E.1, E.2. Invariant: no secret is held here; identities and keys live in
//! storage (module `identity`), this table knows only whether they are present. Values may be missing while a bootstrap
//! is under way; [`Accounts::check`] says whether the table makes sense as a whole.

use heapless::{String, Vec, VecView};

use crate::address::ServerAddress;
use crate::error::Inconsistent;
use crate::identity::{IDENTITY_CAPACITY, SECRET_CAPACITY};
#[cfg(feature = "oscore")]
use crate::oscore_object::SecurityContext;
#[cfg(feature = "suites")]
use crate::persist::SUITES;
use crate::persist::{RecordReader, RecordWriter};
use crate::server::{LAST_BOOTSTRAPPED, Server, TLS_ALERT};

/// `Short Server ID` of 1 to 65534 (`/0/x/10`, `/1/x/0`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortServerId(u16);

impl ShortServerId {
    /// Makes an identifier; 0 and 65535 are reserved.
    pub const fn new(id: u16) -> Option<Self> {
        if id == 0 || id == u16::MAX { None } else { Some(ShortServerId(id)) }
    }

    /// 1, which the server of a device with only one usually has.
    pub const FIRST: ShortServerId = ShortServerId(1);

    /// The greatest.
    pub(crate) const LAST: ShortServerId = ShortServerId(u16::MAX - 1);

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// `/0/x/2`: how the transport to a server is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SecurityMode {
    /// Pre-shared key (0).
    Psk = 0,
    /// Raw public key (1).
    RawPublicKey = 1,
    /// X.509 certificate (2).
    Certificate = 2,
    /// No security (3).
    NoSec = 3,
    /// Certificate with enrolment over secure transport (4).
    Est = 4,
}

impl SecurityMode {
    /// Reads the value of `/0/x/2`.
    pub const fn from_value(value: u32) -> Option<Self> {
        match value {
            0 => Some(SecurityMode::Psk),
            1 => Some(SecurityMode::RawPublicKey),
            2 => Some(SecurityMode::Certificate),
            3 => Some(SecurityMode::NoSec),
            4 => Some(SecurityMode::Est),
            _ => None,
        }
    }

    /// Whether messages go through DTLS, as far as this build has it.
    #[cfg(feature = "psk")]
    pub(crate) const fn is_secured(self) -> bool {
        match self {
            SecurityMode::Psk => true,
            #[cfg(feature = "rpk")]
            SecurityMode::RawPublicKey => true,
            #[cfg(feature = "x509")]
            SecurityMode::Certificate => true,
            _ => false,
        }
    }
}

/// How `/0/x/4` tells of a server's certificate (`/0/x/13`). What is meant is the certificate or its SubjectPublicKeyInfo.
#[cfg(feature = "x509")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
#[repr(u8)]
pub enum MatchingType {
    /// All of it in DER (0).
    #[default]
    Exact = 0,
    /// Its SHA-256 (1).
    Sha256 = 1,
    /// Its SHA-384 (2), with the feature `sha512`.
    Sha384 = 2,
    /// Its SHA-512 (3), with the feature `sha512`.
    Sha512 = 3,
}

#[cfg(feature = "x509")]
impl MatchingType {
    /// Reads the value of `/0/x/13`.
    pub const fn from_value(value: u8) -> Option<Self> {
        match value {
            0 => Some(MatchingType::Exact),
            1 => Some(MatchingType::Sha256),
            2 => Some(MatchingType::Sha384),
            3 => Some(MatchingType::Sha512),
            _ => None,
        }
    }

    /// Whether this build has the digest.
    const fn is_supported(self) -> bool {
        cfg!(feature = "sha512") || matches!(self, MatchingType::Exact | MatchingType::Sha256)
    }
}

/// What a device has by itself for proofs by signatures.
#[derive(Clone, Copy, Default)]
pub(crate) struct Means {
    /// A private key.
    #[cfg(feature = "rpk")]
    pub(crate) signs: bool,
    /// Trust anchors.
    #[cfg(feature = "x509")]
    pub(crate) has_anchors: bool,
}

/// Whether a part of a credential is in storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Part {
    Missing = 0,
    Present = 1,
    /// It is, and it is longer than that of a pre-shared key may be.
    Long = 2,
}

impl Part {
    /// What is written to `/0/x/3` or `/0/x/5`, by its length in bytes.
    pub(crate) const fn of(resource: u16, length: usize) -> Self {
        let longest = if resource == 3 { IDENTITY_CAPACITY } else { SECRET_CAPACITY };
        match length {
            0 => Part::Missing,
            length if length > longest => Part::Long,
            _ => Part::Present,
        }
    }

    const fn from_number(number: u32) -> Self {
        match number {
            0 => Part::Missing,
            2 => Part::Long,
            _ => Part::Present,
        }
    }
}

/// `/0/x/17`.
#[cfg(feature = "oscore")]
pub(crate) const OSCORE: u16 = 17;

/// One instance of the Security object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Security<const U: usize> {
    /// Instance id in `/0`.
    pub(crate) instance: u16,
    /// `/0/x/0`, the server's URI.
    pub(crate) uri: String<U>,
    /// `/0/x/1`: this is the bootstrap server.
    pub(crate) is_bootstrap: bool,
    /// `/0/x/2` as it was written; [`Security::mode`] says what it means.
    pub(crate) mode_value: Option<u8>,
    /// `/0/x/10`.
    pub(crate) short_server_id: Option<ShortServerId>,
    /// `/0/x/11` in seconds.
    pub(crate) hold_off: u32,
    /// `/0/x/12` in seconds; 0 keeps the bootstrap account for ever.
    pub(crate) account_timeout: u32,
    /// `/0/x/16`: resource instances and the cipher suites that the client offers, in the order of the former. All that it
    /// was made for if there are none.
    #[cfg(feature = "suites")]
    pub(crate) suites: Vec<(u16, u16), SUITES>,
    /// Whether `/0/x/3` is in storage.
    pub(crate) identity: Part,
    /// Whether `/0/x/4` is in storage.
    #[cfg(feature = "rpk")]
    pub(crate) has_server_key: bool,
    /// Whether `/0/x/5` is in storage.
    pub(crate) secret: Part,
    /// `/0/x/13`, how `/0/x/4` tells of the server's certificate.
    #[cfg(feature = "x509")]
    pub(crate) matching: Option<u8>,
    /// Whether `/0/x/14` is in storage.
    #[cfg(feature = "x509")]
    pub(crate) has_server_name: bool,
    /// `/0/x/15`, the certificate usage.
    #[cfg(feature = "x509")]
    pub(crate) usage: Option<u8>,
    /// `/0/x/17`, the instance of `/21` that messages are protected with.
    #[cfg(feature = "oscore")]
    pub(crate) oscore: Option<u16>,
    /// The bootstrap that is under way changed it.
    pub(crate) is_touched: bool,
}

impl<const U: usize> Security<U> {
    /// The security mode; `None` when it is missing or unknown.
    pub(crate) fn mode(&self) -> Option<SecurityMode> {
        SecurityMode::from_value(u32::from(self.mode_value?))
    }

    /// Whether the server knows the client by the credential.
    pub(crate) fn is_proving_name(&self) -> bool {
        #[cfg(feature = "oscore")]
        if self.oscore.is_some() {
            return true;
        }
        self.mode().is_some_and(|mode| mode != SecurityMode::NoSec)
    }

    /// Scheme, host and port of the URI.
    pub(crate) fn address(&self) -> Option<ServerAddress<'_>> {
        ServerAddress::parse(&self.uri)
    }

    fn check(&self, _means: Means) -> Result<(), Inconsistent> {
        let address = self.address().ok_or(Inconsistent::Uri)?;
        let (is_secure, is_whole) = match self.mode() {
            Some(SecurityMode::NoSec) => (false, true),
            #[cfg(feature = "psk")]
            Some(SecurityMode::Psk) => (true, self.identity == Part::Present && self.secret == Part::Present),
            #[cfg(feature = "rpk")]
            Some(SecurityMode::RawPublicKey) => (true, self.has_server_key && self.has_own_key(_means)),
            #[cfg(feature = "x509")]
            Some(SecurityMode::Certificate) => {
                self.check_usage(_means)?;
                (true, self.has_server_key && self.has_own_key(_means))
            }
            _ => return Err(Inconsistent::SecurityMode),
        };
        if address.is_secure != is_secure {
            return Err(Inconsistent::Uri);
        }
        if is_whole { Ok(()) } else { Err(Inconsistent::Credential) }
    }

    /// Whether there is something to prove oneself with: a key and what it is presented by, or the key of a device that signs
    /// by itself, which storage may know how to present.
    #[cfg(feature = "rpk")]
    fn has_own_key(&self, means: Means) -> bool {
        if self.secret == Part::Missing { means.signs } else { self.identity != Part::Missing }
    }

    /// Whether this build knows what the certificate means, and the device has what is needed for it.
    #[cfg(feature = "x509")]
    fn check_usage(&self, means: Means) -> Result<(), Inconsistent> {
        use dtls_psk::CertificateUsage as Usage;
        let needs_anchor = match self.certificate_usage() {
            Some(Usage::DomainIssuedCertificate) => false,
            Some(Usage::TrustAnchorAssertion) if cfg!(feature = "x509-path") => false,
            Some(_) if cfg!(feature = "x509-path") => true,
            _ => return Err(Inconsistent::CertificateUsage),
        };
        if !MatchingType::from_value(self.matching.unwrap_or(0)).is_some_and(MatchingType::is_supported) {
            return Err(Inconsistent::CertificateUsage);
        }
        if needs_anchor && !means.has_anchors { Err(Inconsistent::TrustAnchor) } else { Ok(()) }
    }

    /// What `/0/x/15` means; 3 where it is not set, as in LwM2M 1.0.
    #[cfg(feature = "x509")]
    pub(crate) fn certificate_usage(&self) -> Option<dtls_psk::CertificateUsage> {
        self.usage.map_or(Some(dtls_psk::CertificateUsage::default()), dtls_psk::CertificateUsage::from_value)
    }

    /// A number or a boolean of `/0`, or whether a part of the credential is in storage; `None` where there is none.
    pub(crate) fn value(&self, resource: u16) -> Option<u32> {
        match resource {
            1 => Some(u32::from(self.is_bootstrap)),
            2 => self.mode_value.map(u32::from),
            3 => Some(self.identity as u32),
            #[cfg(feature = "rpk")]
            4 => Some(u32::from(self.has_server_key)),
            5 => Some(self.secret as u32),
            10 => self.short_server_id.map(|id| u32::from(id.get())),
            11 => Some(self.hold_off),
            12 => Some(self.account_timeout),
            #[cfg(feature = "x509")]
            13 => self.matching.map(u32::from),
            #[cfg(feature = "x509")]
            14 => Some(u32::from(self.has_server_name)),
            #[cfg(feature = "x509")]
            15 => self.usage.map(u32::from),
            #[cfg(feature = "oscore")]
            OSCORE => self.oscore.map(u32::from),
            _ => None,
        }
    }

    /// Sets what [`Security::value`] tells, 0 being what an instance starts with but for the mode. Any other resource is
    /// ignored (Core 1.1.1 §6.1.7.3).
    pub(crate) fn set(&mut self, resource: u16, value: Option<u32>) {
        let number = value.unwrap_or(0);
        match resource {
            1 => self.is_bootstrap = number != 0,
            2 => self.mode_value = value.and_then(|mode| u8::try_from(mode).ok()),
            3 => self.identity = Part::from_number(number),
            #[cfg(feature = "rpk")]
            4 => self.has_server_key = number != 0,
            5 => self.secret = Part::from_number(number),
            // A bootstrap account has no Short Server ID; some servers write 0 or 65535 for it.
            10 => self.short_server_id = u16::try_from(number).ok().and_then(ShortServerId::new),
            11 => self.hold_off = number,
            12 => self.account_timeout = number,
            #[cfg(feature = "x509")]
            13 => self.matching = value.and_then(|value| u8::try_from(value).ok()),
            #[cfg(feature = "x509")]
            14 => self.has_server_name = number != 0,
            #[cfg(feature = "x509")]
            15 => self.usage = value.and_then(|value| u8::try_from(value).ok()),
            #[cfg(feature = "oscore")]
            OSCORE => self.oscore = value.and_then(|value| u16::try_from(value).ok()),
            _ => {}
        }
    }

    /// Sets the cipher suite of a resource instance of `/0/x/16`, or takes it away. One too many is left out: none is offered
    /// that is not named.
    #[cfg(feature = "suites")]
    pub(crate) fn set_suite(&mut self, instance: u16, suite: Option<u16>) {
        self.suites.retain(|(known, _)| *known != instance);
        if let Some(suite) = suite {
            let at = self.suites.iter().position(|(known, _)| *known > instance);
            let _ = self.suites.insert(at.unwrap_or(self.suites.len()), (instance, suite));
        }
    }

    /// The cipher suites to offer: of those of `/0/x/16` the ones that this client has, else `default`. `None` if it has none
    /// of them.
    #[cfg(feature = "suites")]
    pub(crate) fn offered(&self, default: dtls_psk::Suites) -> Option<dtls_psk::Suites> {
        if self.suites.is_empty() {
            return Some(default);
        }
        let mut known = Vec::<_, SUITES>::new();
        for (_, code) in &self.suites {
            if let Some(suite) = dtls_psk::Suite::from_code(*code)
                && suite.is_for_clients()
                && !known.contains(&suite)
            {
                let _ = known.push(suite);
            }
        }
        dtls_psk::Suites::new(&known)
    }

    pub(crate) fn emit(&self, out: &mut RecordWriter<'_>) {
        out.bytes(0, self.uri.as_bytes());
        #[cfg(feature = "suites")]
        if !self.suites.is_empty() {
            let mut bytes = Vec::<u8, { 4 * SUITES }>::new();
            for (instance, suite) in &self.suites {
                let _ = bytes.extend_from_slice(&instance.to_be_bytes());
                let _ = bytes.extend_from_slice(&suite.to_be_bytes());
            }
            out.bytes(16, &bytes);
        }
        for resource in [1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15] {
            out.number(resource, self.value(resource.into()));
        }
        #[cfg(feature = "oscore")]
        out.number(17, self.value(OSCORE));
    }

    pub(crate) fn parse(instance: u16, bytes: &[u8]) -> Option<Self> {
        let mut security = Security::empty(instance);
        for field in RecordReader::new(bytes) {
            let (tag, value) = field?;
            if tag == 0 {
                security.uri.clear();
                security.uri.push_str(core::str::from_utf8(value).ok()?).ok()?;
                continue;
            }
            #[cfg(feature = "suites")]
            if tag == 16 {
                for entry in value.chunks(4) {
                    let &[high, low, first, second] = entry else { return None };
                    security.set_suite(
                        u16::from_be_bytes([high, low]),
                        Some(u16::from_be_bytes([first, second])),
                    );
                }
                continue;
            }
            security.set(tag.into(), Some(RecordReader::number(value)?));
        }
        Some(security)
    }
}

/// An instance of an object that is a table.
pub(crate) trait Instance {
    /// Its id.
    fn instance(&self) -> u16;

    /// An instance in which nothing is set yet.
    fn empty(instance: u16) -> Self;
}

/// The instance with this id of a table, which is in ascending order; made empty when there is none, `None` when the table is
/// full.
pub(crate) fn instance_mut<T: Instance>(table: &mut VecView<T>, instance: u16) -> Option<&mut T> {
    let at = table.iter().position(|known| known.instance() >= instance).unwrap_or(table.len());
    if table.get(at).is_none_or(|known| known.instance() != instance) {
        table.insert(at, T::empty(instance)).ok()?;
    }
    table.get_mut(at)
}

/// Takes the instance with this id out of a table, if it is there.
pub(crate) fn delete_instance<T: Instance>(table: &mut VecView<T>, instance: u16) {
    if let Some(at) = table.iter().position(|known| known.instance() == instance) {
        table.remove(at);
    }
}

impl<const U: usize> Instance for Security<U> {
    fn instance(&self) -> u16 {
        self.instance
    }

    fn empty(instance: u16) -> Self {
        Security {
            instance,
            uri: String::new(),
            is_bootstrap: false,
            mode_value: None,
            short_server_id: None,
            hold_off: 0,
            account_timeout: 0,
            #[cfg(feature = "suites")]
            suites: Vec::new(),
            identity: Part::Missing,
            #[cfg(feature = "rpk")]
            has_server_key: false,
            secret: Part::Missing,
            #[cfg(feature = "x509")]
            matching: None,
            #[cfg(feature = "x509")]
            has_server_name: false,
            #[cfg(feature = "x509")]
            usage: None,
            #[cfg(feature = "oscore")]
            oscore: None,
            is_touched: false,
        }
    }
}

/// What the client believes about its servers.
#[derive(Debug, Default)]
pub(crate) struct Accounts<const SERVERS: usize, const U: usize> {
    /// The instances of `/0`, the bootstrap account among them, by ascending instance id.
    pub(crate) securities: Vec<Security<U>, SERVERS>,
    /// The instances of `/1`, by ascending instance id.
    pub(crate) servers: Vec<Server, SERVERS>,
    /// The instances of `/21`, by ascending instance id.
    #[cfg(feature = "oscore")]
    pub(crate) contexts: Vec<SecurityContext, SERVERS>,
}

impl<const SERVERS: usize, const U: usize> Accounts<SERVERS, U> {
    /// A table without accounts.
    pub(crate) const fn new() -> Self {
        Accounts {
            securities: Vec::new(),
            servers: Vec::new(),
            #[cfg(feature = "oscore")]
            contexts: Vec::new(),
        }
    }

    /// The bootstrap account.
    pub(crate) fn bootstrap(&self) -> Option<&Security<U>> {
        self.securities.iter().find(|security| security.is_bootstrap)
    }

    /// The `/0` instance with this id.
    pub(crate) fn security(&self, instance: u16) -> Option<&Security<U>> {
        self.securities.iter().find(|security| security.instance == instance)
    }

    /// The `/1` instance of this server.
    pub(crate) fn server_of(&self, id: ShortServerId) -> Option<&Server> {
        self.servers.iter().find(|server| server.short_server_id() == Some(id))
    }

    /// The `/1` instance of this server.
    #[cfg(feature = "psk")]
    pub(crate) fn server_of_mut(&mut self, id: ShortServerId) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.short_server_id() == Some(id))
    }

    /// The `/0` instance of this management server.
    pub(crate) fn security_of(&self, id: ShortServerId) -> Option<&Security<U>> {
        self.securities.iter().find(|security| !security.is_bootstrap && security.short_server_id == Some(id))
    }

    /// The `/0` instance with this id, made empty when there is none; `None` when the table is full.
    pub(crate) fn security_mut(&mut self, instance: u16) -> Option<&mut Security<U>> {
        instance_mut(&mut self.securities, instance)
    }

    /// The `/1` instance with this id, made empty when there is none; `None` when the table is full.
    pub(crate) fn server_mut(&mut self, instance: u16) -> Option<&mut Server> {
        instance_mut(&mut self.servers, instance)
    }

    /// Core 1.1.1 appendix E.1: where a bootstrap has deleted the Security instance of a server, its Server instance goes too. What it has
    /// written without one is left to [`Accounts::check`].
    pub(crate) fn drop_halves(&mut self) {
        let Accounts { securities, servers, .. } = self;
        servers.retain(|server| {
            let id = server.short_server_id();
            let is_half = |half: &Security<U>| !half.is_bootstrap && half.short_server_id == id;
            server.value(LAST_BOOTSTRAPPED) == Some(0) || securities.iter().any(is_half)
        });
    }

    /// Notes when the accounts that a bootstrap has changed were changed, which is now; without a clock that stays unknown.
    pub(crate) fn date(&mut self, clock: Option<u32>) {
        let Accounts { securities, servers, .. } = self;
        for server in servers.iter_mut() {
            let id = server.short_server_id();
            let is_half = |half: &Security<U>| half.is_touched && half.short_server_id == id;
            if server.value(LAST_BOOTSTRAPPED) == Some(0) || securities.iter().any(is_half) {
                server.set(LAST_BOOTSTRAPPED, clock);
            }
        }
        for half in securities {
            half.is_touched = false;
        }
    }

    /// Leaves of the instances of `/1` nothing but the last alerts, and only of those that stay.
    pub(crate) fn clear(&mut self, mut stays: impl FnMut(u16) -> bool) {
        self.securities.clear();
        #[cfg(feature = "oscore")]
        self.contexts.clear();
        self.servers.retain_mut(|server| {
            let alert = server.value(TLS_ALERT);
            *server = Server::empty(server.instance);
            server.set(TLS_ALERT, alert);
            stays(server.instance)
        });
    }

    /// Says whether the table is a configuration that can work: LwM2M Core 1.1.1 §6.1.7.6, the check behind
    /// Bootstrap-Finish.
    ///
    /// # Errors
    /// The first contradiction that was found.
    pub(crate) fn check(&self, means: Means) -> Result<(), Inconsistent> {
        if self.securities.iter().filter(|security| security.is_bootstrap).count() > 1 {
            return Err(Inconsistent::SecondBootstrapAccount);
        }
        for security in &self.securities {
            security.check(means)?;
            #[cfg(feature = "oscore")]
            if !self.has_context(security) {
                return Err(Inconsistent::SecurityContext);
            }
            if security.is_bootstrap {
                continue;
            }
            let id = security.short_server_id.ok_or(Inconsistent::ShortServerId)?;
            let same = |other: &&Security<U>| !other.is_bootstrap && other.short_server_id == Some(id);
            if self.securities.iter().filter(same).count() != 1 {
                return Err(Inconsistent::ShortServerId);
            }
            if self.servers.iter().filter(|server| server.short_server_id() == Some(id)).count() != 1 {
                return Err(Inconsistent::Unpaired);
            }
        }
        for server in &self.servers {
            let id = server.short_server_id().ok_or(Inconsistent::ShortServerId)?;
            if server.lifetime().is_none() || server.binding.is_none() {
                return Err(Inconsistent::Server);
            }
            if self.security_of(id).is_none() {
                return Err(Inconsistent::Unpaired);
            }
        }
        if self.servers.is_empty() { Err(Inconsistent::NoServer) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn psk(instance: u16, id: u16) -> Security<255> {
        let mut security = Security::empty(instance);
        security.uri.push_str("coaps://server.example:5684").unwrap();
        security.mode_value = Some(0);
        security.short_server_id = ShortServerId::new(id);
        security.identity = Part::Present;
        security.secret = Part::Present;
        security
    }

    fn server(instance: u16, id: u16) -> Server {
        Server::new(instance, ShortServerId::new(id).unwrap(), 86_400)
    }

    #[cfg(feature = "psk")]
    fn table() -> Accounts<4, 255> {
        let mut accounts = Accounts::new();
        accounts.securities.push(psk(0, 1)).unwrap();
        accounts.servers.push(server(0, 1)).unwrap();
        accounts
    }

    #[cfg(feature = "psk")]
    #[test]
    fn a_whole_account_is_consistent() {
        assert_eq!(table().check(Means::default()), Ok(()));
    }

    #[cfg(feature = "psk")]
    #[test]
    fn finish_refuses_an_incomplete_server_account() {
        // OMA ETS LightweightM2M-1.1-int-9: only /1/x/5 was written.
        let mut accounts = table();
        assert!(accounts.server_mut(1).unwrap().set(5, Some(86_400)));
        assert_eq!(accounts.check(Means::default()), Err(Inconsistent::ShortServerId));
    }

    #[cfg(feature = "psk")]
    #[test]
    fn contradictions_are_named() {
        let mut accounts = table();
        accounts.servers.clear();
        assert_eq!(accounts.check(Means::default()), Err(Inconsistent::Unpaired));

        let mut accounts = table();
        accounts.security_mut(0).unwrap().secret = Part::Missing;
        assert_eq!(accounts.check(Means::default()), Err(Inconsistent::Credential));

        let mut accounts = table();
        accounts.security_mut(0).unwrap().mode_value = Some(4);
        assert_eq!(accounts.check(Means::default()), Err(Inconsistent::SecurityMode));

        let mut accounts = table();
        accounts.security_mut(0).unwrap().mode_value = Some(3);
        assert_eq!(accounts.check(Means::default()), Err(Inconsistent::Uri));

        let mut accounts = table();
        accounts.securities.push(psk(3, 1)).unwrap();
        assert_eq!(accounts.check(Means::default()), Err(Inconsistent::ShortServerId));

        assert_eq!(Accounts::<4, 255>::new().check(Means::default()), Err(Inconsistent::NoServer));
    }

    #[test]
    fn records_round_trip_and_survive_truncation() {
        let mut security = psk(7, 2);
        security.hold_off = 3;
        #[cfg(feature = "suites")]
        for instance in [7, 0, 65_535] {
            security.set_suite(instance, Some(0xc0a8));
        }
        security.account_timeout = 100_000;
        let mut server = server(9, 2);
        assert!(server.set(17, Some(3)));
        assert!(server.set(16, Some(0)));
        let mut buffer = [0; crate::persist::RECORD_CAPACITY];

        let mut out = RecordWriter::new(&mut buffer);
        security.emit(&mut out);
        let bytes = out.finish().unwrap();
        assert_eq!(Security::<255>::parse(7, bytes).as_ref(), Some(&security));
        for cut in 0..bytes.len() {
            let _ = Security::<255>::parse(7, bytes.get(..cut).unwrap());
        }

        let mut buffer = [0; crate::persist::RECORD_CAPACITY];
        let mut out = RecordWriter::new(&mut buffer);
        server.emit(&mut out);
        let bytes = out.finish().unwrap();
        assert_eq!(Server::parse(9, bytes).as_ref(), Some(&server));
        for cut in 0..bytes.len() {
            let _ = Server::parse(9, bytes.get(..cut).unwrap());
        }
    }

    #[test]
    fn instances_stay_in_ascending_order() {
        let mut accounts = Accounts::<3, 255>::new();
        for instance in [5, 1, 3] {
            accounts.security_mut(instance).unwrap();
        }
        let mut ids = accounts.securities.iter().map(|security| security.instance);
        assert_eq!((ids.next(), ids.next(), ids.next()), (Some(1), Some(3), Some(5)));
        assert!(accounts.security_mut(9).is_none());
    }
}
