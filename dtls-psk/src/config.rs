//! How a connection is set up (RFC 6347 §4.2.4.1; invariant: nothing here can switch a check off).

use core::time::Duration;

#[cfg(feature = "rpk")]
use crate::certificate::CertificateTypes;
use crate::connection_id::ConnectionId;
use crate::suite::Suites;

/// How handshakes are done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The cipher suites, the preferred one first: what a client offers, in this order, and what a server takes. A server
    /// chooses by its own order.
    pub suites: Suites,
    /// The first retransmission time-out, which doubles up to 60 s: 1 ms to 60 s. RFC 6347 has 1 s; RFC 7925 advises 9 s
    /// on slow networks.
    pub retransmit_after: Duration,
    /// How long a handshake may take in all.
    pub handshake_timeout: Duration,
    /// The longest datagram of a handshake, in bytes of UDP payload, up to 65,535. Less than
    /// [`DATAGRAM_MIN`](crate::DATAGRAM_MIN) counts as that.
    ///
    /// Flights that are lost again and again go out in shorter datagrams by themselves, down to 128 bytes (RFC 6347
    /// §4.1.1.1), but for those with a ClientHello, which many servers want whole. How long the datagrams of application
    /// data may be is for the application to know.
    pub mtu: u16,
    /// Whether handshake messages that follow each other share a record, which saves a server 13 bytes for each handshake.
    /// Some small stacks (tinydtls) understand only one message in a record; clients that do not offer the extended master
    /// secret, as those do not, always get separate ones.
    pub shares_records: bool,
    /// The Connection ID that the peer shall put into its records (RFC 9146). A client with one offers the extension, also
    /// with an empty one: then it can put the server's into its records and wants none itself. A server with one answers
    /// the offer; without one it does not. Without the feature `connection-id` it has no effect.
    pub connection_id: Option<ConnectionId>,
    /// Whether the return routability check (RFC 9853) is offered and answered where Connection IDs are.
    pub return_routability: bool,
    /// The most bytes that a record to this side may hold, before encryption: 64 to 16,384, and with a Connection ID one more
    /// than the content. A client with a limit offers record_size_limit (RFC 8449), and for servers that know nothing newer
    /// max_fragment_length (RFC 6066) where one of its lengths is within the limit; a server tells its own to clients that
    /// offer record_size_limit, and keeps to what they offer in any case. A peer that knows neither sends what it likes.
    /// Without the feature `record-size-limit` it has no effect.
    pub record_size_limit: Option<u16>,
    /// The kinds of certificates that a server has and takes: without any it chooses no suite that needs one. Clients say it
    /// when they are made.
    #[cfg(feature = "rpk")]
    pub certificate_types: CertificateTypes,
    /// Whether x25519 comes before secp256r1 where both sides have both: a server chooses by its own order, and a client offers
    /// in this one.
    #[cfg(feature = "x25519")]
    pub prefers_x25519: bool,
}

impl Config {
    /// TLS_PSK_WITH_AES_128_CCM_8 alone, 1 s until the first retransmission, 90 s for the whole handshake, datagrams of 1,232 bytes (which IPv6 carries everywhere), shared records, no Connection ID, records of any size.
    pub const DEFAULT: Self = Self {
        suites: Suites::DEFAULT,
        retransmit_after: Duration::from_secs(1),
        handshake_timeout: Duration::from_secs(90),
        mtu: 1232,
        shares_records: true,
        connection_id: None,
        return_routability: true,
        record_size_limit: None,
        #[cfg(feature = "rpk")]
        certificate_types: CertificateTypes::NONE,
        #[cfg(feature = "x25519")]
        prefers_x25519: false,
    };

    /// The same with other cipher suites.
    pub const fn with_suites(self, suites: Suites) -> Self {
        Self { suites, ..self }
    }

    /// The same with another first retransmission time-out.
    pub const fn with_retransmit_after(self, retransmit_after: Duration) -> Self {
        Self { retransmit_after, ..self }
    }

    /// The same with another time for the whole handshake.
    pub const fn with_handshake_timeout(self, handshake_timeout: Duration) -> Self {
        Self { handshake_timeout, ..self }
    }

    /// The same with another longest datagram, in bytes.
    pub const fn with_mtu(self, mtu: u16) -> Self {
        Self { mtu, ..self }
    }

    /// The same with or without shared records.
    pub const fn with_shared_records(self, shares_records: bool) -> Self {
        Self { shares_records, ..self }
    }

    /// The same with a Connection ID for records to this side.
    pub const fn with_connection_id(self, connection_id: ConnectionId) -> Self {
        Self { connection_id: Some(connection_id), ..self }
    }

    /// The same with a limit for what a record to this side holds, in bytes.
    pub const fn with_record_size_limit(self, record_size_limit: u16) -> Self {
        Self { record_size_limit: Some(record_size_limit), ..self }
    }

    /// The same with these kinds of certificates.
    #[cfg(feature = "rpk")]
    pub const fn with_certificate_types(self, certificate_types: CertificateTypes) -> Self {
        Self { certificate_types, ..self }
    }

    /// The same with x25519 before secp256r1, or behind it.
    #[cfg(feature = "x25519")]
    pub const fn with_x25519_preferred(self, prefers_x25519: bool) -> Self {
        Self { prefers_x25519, ..self }
    }

    /// The same with or without the return routability check.
    pub const fn with_return_routability(self, return_routability: bool) -> Self {
        Self { return_routability, ..self }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}
