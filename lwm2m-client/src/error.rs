//! The errors of the client, split by whose fault they are.
//!
//! Bad datagrams never surface here: they are dropped or answered as the specification says, and counted
//! ([`Counters`](crate::Counters)).

use core::fmt;

/// Why a set of accounts cannot work; the reason behind 4.06 to Bootstrap-Finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inconsistent {
    /// There is no management server.
    NoServer,
    /// Two instances of `/0` claim to be the bootstrap account.
    SecondBootstrapAccount,
    /// The bootstrap account was to be replaced by one that is not whole.
    BootstrapAccount,
    /// A server URI is missing, malformed, of an unsupported scheme, or does not fit the security mode.
    Uri,
    /// The security mode is missing or not supported.
    SecurityMode,
    /// An account with security lacks a part of its credential: the pre-shared key or its identity, our own key or the server's.
    Credential,
    /// A certificate usage or a matching type (`/0/x/15`, `/0/x/13`) is not supported.
    CertificateUsage,
    /// A certificate usage needs trust anchors, and the device has none.
    TrustAnchor,
    /// A Short Server ID is missing or used twice.
    ShortServerId,
    /// `/0` and `/1` do not pair up.
    Unpaired,
    /// A Server instance lacks its lifetime or its binding.
    Server,
    /// The link to an OSCORE instance (`/0/x/17`) leads to none, or to one of another account; or the instance lacks its Master
    /// Secret or an id, has the same id for both ends, or one that is too long for its AEAD algorithm.
    #[cfg(feature = "oscore")]
    SecurityContext,
}

impl fmt::Display for Inconsistent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Inconsistent::NoServer => "no management server is configured",
            Inconsistent::SecondBootstrapAccount => "two bootstrap accounts are configured",
            Inconsistent::BootstrapAccount => "the new bootstrap account is not whole",
            Inconsistent::Uri => "a server URI is missing, malformed or does not fit the security mode",
            Inconsistent::SecurityMode => "a security mode is missing or not supported",
            Inconsistent::Credential => "an account lacks a part of its credential",
            Inconsistent::CertificateUsage => "a certificate usage or matching type is not supported",
            Inconsistent::TrustAnchor => "a certificate usage needs trust anchors, and there are none",
            Inconsistent::ShortServerId => "a short server id is missing or used twice",
            Inconsistent::Unpaired => "a security instance and a server instance do not pair up",
            Inconsistent::Server => "a server instance lacks its lifetime or binding",
            #[cfg(feature = "oscore")]
            Inconsistent::SecurityContext => {
                "an OSCORE instance that an account links to is missing, shared, incomplete, or its ids are equal or too long"
            }
        })
    }
}

impl core::error::Error for Inconsistent {}

/// Why the storage could not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// It failed; nothing has changed.
    Failed,
    /// [`Action::Revert`](crate::Action::Revert) found no previous set: the current one was confirmed long ago.
    NothingToRevert,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreError::Failed => "the storage failed",
            StoreError::NothingToRevert => "the storage keeps no previous set",
        })
    }
}

impl core::error::Error for StoreError {}

/// Why an attempt to bootstrap, to register or to report came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The server's name could not be resolved.
    Unresolved,
    /// The credential is not in storage.
    NoCredential,
    /// The credential in storage is not of the form that it must have.
    MalformedCredential,
    /// The security handshake got no answer.
    HandshakeTimeout,
    /// The server broke the handshake, or the association, off with this alert.
    Alert(u8),
    /// This side broke the handshake off, and why: what the server presents is not trusted, or its messages make no sense.
    #[cfg(feature = "psk")]
    Handshake(dtls_psk::Reason),
    /// The request got no answer.
    Timeout,
    /// The server answered with this code, for example 0x83 for 4.03.
    Refused(u8),
    /// The server reset the exchange.
    Reset,
    /// The security association was closed or lost.
    AssociationLost,
    /// The device has another address, and nothing else tells the server who it is.
    AddressChanged,
    /// The bootstrap server fell silent before Bootstrap-Finish.
    BootstrapTimeout,
    /// The account is not whole, or of a kind that this build does not support.
    Unsupported,
    /// None of the cipher suites of `/0/x/16` is one that this build has.
    NoSuite,
    /// The server does not know the keys of object security: other ids or another Master Secret, or it lost them.
    #[cfg(feature = "oscore")]
    NoSecurityContext,
    /// Another account has the same keys of object security: numbers would come twice under them.
    #[cfg(feature = "oscore")]
    SharedKeys,
    /// The keys of object security have protected, or refused, almost as many messages as their algorithm bears.
    #[cfg(feature = "oscore")]
    WornKeys,
    /// The storage failed.
    Storage,
    /// The configuration contradicts itself.
    Inconsistent(Inconsistent),
    /// What was to be reported changed again and again between its blocks.
    #[cfg(feature = "send")]
    Changing,
}

impl Reason {
    /// Whether only a new configuration can help, so that the same credential is not tried again and again: the alerts
    /// about credentials (LwM2M Transport 1.1.1 §5.2, the action "Fail"). What is wrong with the server's credential is no such
    /// reason: it comes in the clear, and anyone may have sent it.
    pub const fn needs_configuration(self) -> bool {
        matches!(self, Reason::Alert(42..=46 | 48 | 49 | 112..=115))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Unresolved => f.write_str("the server's name could not be resolved"),
            Reason::NoCredential => f.write_str("the credential is not in storage"),
            Reason::MalformedCredential => f.write_str("the credential in storage cannot be read"),
            Reason::HandshakeTimeout => {
                f.write_str("the handshake got no answer (unreachable, unknown identity or wrong key)")
            }
            Reason::Alert(alert) => {
                write!(f, "the server broke the connection off with alert {alert}")?;
                #[cfg(feature = "psk")]
                write!(f, " ({})", dtls_psk::Alert(*alert).name())?;
                Ok(())
            }
            #[cfg(feature = "psk")]
            Reason::Handshake(reason) => write!(f, "the handshake failed: {reason}"),
            Reason::Timeout => f.write_str("the server did not answer"),
            Reason::Refused(code) => write!(f, "the server answered {}.{:02}", code >> 5, code & 0x1F),
            Reason::Reset => f.write_str("the server reset the exchange"),
            Reason::AssociationLost => f.write_str("the security association was lost"),
            Reason::AddressChanged => f.write_str("the address of the device changed"),
            Reason::BootstrapTimeout => f.write_str("the bootstrap server did not finish in time"),
            Reason::Unsupported => {
                f.write_str("the account is incomplete or its security mode is not supported")
            }
            Reason::NoSuite => f.write_str("none of the cipher suites that the account allows is supported"),
            #[cfg(feature = "oscore")]
            Reason::SharedKeys => f.write_str(
                "another account has the same master secret, salt and sender id: give each server its own (/21)",
            ),
            #[cfg(feature = "oscore")]
            Reason::WornKeys => f.write_str("the keys of object security have been used long enough: they are replaced"),
            #[cfg(feature = "oscore")]
            Reason::NoSecurityContext => f.write_str(
                "the server has no such OSCORE security context: compare ids, Master Secret and salt at both ends, or give it a new one",
            ),
            Reason::Storage => f.write_str("the storage failed"),
            Reason::Inconsistent(reason) => fmt::Display::fmt(reason, f),
            #[cfg(feature = "send")]
            Reason::Changing => f.write_str("the values changed faster than they could be sent"),
        }
    }
}

impl core::error::Error for Reason {}
