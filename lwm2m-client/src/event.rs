//! What the client tells its owner, and asks of it.
//!
//! Requests ([`Event::Persist`], [`Event::Load`], [`Event::Resolve`], and to sign) carry an id that the answer repeats. One request to
//! the storage is out at a time. Answers may come at once or much later; nothing else stops meanwhile.

use crate::account::ShortServerId;
use crate::error::Reason;
use crate::persist::{Action, Key, StoreId};

/// One server, as the owner's sockets know it: a small number from 0, below the number of accounts.
///
/// It stays the same until the next [`Event::Resolve`] for the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub(crate) u8);

impl AccountId {
    /// The number, for arrays of sockets.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Names one signature that is asked for; its answer carries it back.
#[cfg(feature = "rpk")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignId(pub(crate) dtls_psk::PendingId);

/// Which of the two interfaces a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It bootstraps.
    Bootstrap,
    /// It manages the device.
    Server(ShortServerId),
}

/// Something for the owner of the client. Drain them after every call.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Read what was put away last under this name ([`Action::Put`]) and answer with [`Client::loaded`](crate::Client::loaded).
    #[cfg(feature = "oscore")]
    Recall {
        /// To repeat in the answer.
        id: StoreId,
        /// Its name.
        name: crate::persist::StateName,
    },
    /// Do this in the storage and answer with [`Client::persisted`](crate::Client::persisted).
    Persist {
        /// To repeat in the answer.
        id: StoreId,
        /// What to do.
        action: Action<'a>,
    },
    /// Read this record of the current set and answer with [`Client::loaded`](crate::Client::loaded).
    Load {
        /// To repeat in the answer.
        id: StoreId,
        /// Which record.
        key: Key,
    },
    /// Find the address of a server, open a fresh socket towards it, and answer with
    /// [`Client::resolved`](crate::Client::resolved). What still arrives on the former socket of this account must not
    /// reach the client any more.
    Resolve {
        /// The account that the socket will serve.
        account: AccountId,
        /// Host name or address literal.
        host: &'a str,
        /// UDP port.
        port: u16,
    },
    /// Sign with the private key of the device, ECDSA on P-256, and answer with [`Client::signed`](crate::Client::signed): at
    /// once or later, before the handshake's 90 s are over. It is asked for accounts that have no private key in storage
    /// ([`Config::has_secure_element`](crate::Config::has_secure_element)).
    #[cfg(feature = "rpk")]
    Sign {
        /// To repeat in the answer.
        id: SignId,
        /// The instance of `/0` that the handshake is for.
        instance: u16,
        /// The SHA-256 of what is to be signed.
        digest: &'a [u8; 32],
    },
    /// This account is not used any more: its socket can be closed.
    Closed {
        /// The account.
        account: AccountId,
    },
    /// Something happened.
    Notice(Notice),
}

/// Something that happened; nothing needs to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// There is no account in storage at all: nothing can be done.
    NoAccounts,
    /// Bootstrap-Request was sent.
    BootstrapStarted,
    /// The bootstrap was finished and committed; the new accounts are tried now.
    Bootstrapped,
    /// The bootstrap failed; everything is as it was before.
    BootstrapFailed {
        /// Why.
        reason: Reason,
    },
    /// A handshake finished: the server holds the same pre-shared key, or the private key that belongs to what it presented.
    Secured {
        /// With whom.
        role: Role,
        /// Under which cipher suite.
        #[cfg(feature = "psk")]
        suite: dtls_psk::Suite,
    },
    /// A server answered under the keys of object security: it holds the same Master Secret.
    #[cfg(feature = "oscore")]
    Protected {
        /// Who.
        role: Role,
        /// Whether the keys are fresh ones (RFC 8613 Appendix B.2).
        is_rederived: bool,
    },
    /// A server accepted the registration.
    Registered {
        /// Who.
        server: ShortServerId,
    },
    /// A server accepted an update.
    Updated {
        /// Who.
        server: ShortServerId,
    },
    /// A server took a report ([`Client::send`](crate::Client::send)).
    #[cfg(feature = "send")]
    Reported {
        /// Who.
        server: ShortServerId,
    },
    /// A report came to nothing.
    #[cfg(feature = "send")]
    NotReported {
        /// Whom it was for.
        server: ShortServerId,
        /// Why.
        reason: Reason,
    },
    /// An attempt to register failed; there will be another one.
    RegistrationRetry {
        /// With whom.
        server: ShortServerId,
        /// Why.
        reason: Reason,
    },
    /// All attempts to register failed.
    RegistrationFailed {
        /// With whom.
        server: ShortServerId,
        /// The reason of the last one.
        reason: Reason,
    },
    /// A server confirmed the de-registration, or did not answer it.
    Deregistered {
        /// Who.
        server: ShortServerId,
    },
    /// The new accounts have proven themselves; the previous ones are gone.
    Confirmed,
    /// The new accounts did not work; the last working ones are back.
    RolledBack,
    /// The storage failed; what was to be stored is lost.
    StorageFailed,
}

/// What was dropped or refused, for diagnosis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that were no valid message, of an unknown account, or not authentic.
    pub dropped: u32,
    /// Requests that were answered with 4.xx or 5.xx.
    pub refused: u32,
    /// Notices that were lost because the owner did not drain the events.
    pub lost_notices: u32,
    /// Notifications sent.
    pub notifications: u32,
}
