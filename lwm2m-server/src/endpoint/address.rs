//! Where a datagram came in and from whom: an index into the associations, never their identity.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::credentials::Role;

/// The doors of the server (LwM2M Transport 1.2.1 §6: schemes and ports).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Listener {
    /// Management over plain CoAP, port 5683.
    Coap,
    /// Management over DTLS, port 5684.
    Coaps,
    /// Bootstrap over plain CoAP, port 5783.
    BootstrapCoap,
    /// Bootstrap over DTLS, port 5784.
    BootstrapCoaps,
    /// Management over DTLS where it was before a roll-over: who comes here knows a server key that is retiring.
    FormerCoaps,
    /// The same for bootstrap.
    FormerBootstrapCoaps,
}

impl Listener {
    /// How many there are.
    pub const COUNT: usize = 6;

    /// All of them, in their order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Coap,
        Self::Coaps,
        Self::BootstrapCoap,
        Self::BootstrapCoaps,
        Self::FormerCoaps,
        Self::FormerBootstrapCoaps,
    ];

    /// Where devices come to one of the two servers over DTLS that know what bootstraps write today.
    #[must_use]
    pub const fn of(role: Role) -> Self {
        match role {
            Role::Management => Self::Coaps,
            Role::Bootstrap => Self::BootstrapCoaps,
        }
    }

    /// Which of the two servers stands behind it.
    #[must_use]
    pub const fn role(self) -> Role {
        match self {
            Self::Coap | Self::Coaps | Self::FormerCoaps => Role::Management,
            Self::BootstrapCoap | Self::BootstrapCoaps | Self::FormerBootstrapCoaps => Role::Bootstrap,
        }
    }

    /// Whether DTLS is spoken on it.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        !matches!(self, Self::Coap | Self::BootstrapCoap)
    }

    /// Whether devices come to it that know a server key which is retiring.
    #[must_use]
    pub const fn is_former(self) -> bool {
        matches!(self, Self::FormerCoaps | Self::FormerBootstrapCoaps)
    }
}

/// Addresses to listen on, or those that were bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
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
}

impl From<[Option<SocketAddr>; Listener::COUNT]> for Addresses {
    /// In the order of [`Listener::ALL`].
    fn from(addresses: [Option<SocketAddr>; Listener::COUNT]) -> Self {
        let [coap, coaps, bootstrap_coap, bootstrap_coaps, former_coaps, former_bootstrap_coaps] = addresses;
        Self { coap, coaps, bootstrap_coap, bootstrap_coaps, former_coaps, former_bootstrap_coaps }
    }
}

impl Addresses {
    /// The address of one listener.
    #[must_use]
    pub const fn of(&self, listener: Listener) -> Option<SocketAddr> {
        match listener {
            Listener::Coap => self.coap,
            Listener::Coaps => self.coaps,
            Listener::BootstrapCoap => self.bootstrap_coap,
            Listener::BootstrapCoaps => self.bootstrap_coaps,
            Listener::FormerCoaps => self.former_coaps,
            Listener::FormerBootstrapCoaps => self.former_bootstrap_coaps,
        }
    }

    /// Which of these listeners a device comes to that came to `local` when they were as in `before`: the one of the same server
    /// with that port, with or without DTLS as before. Where several have it the one with that address too, or of that name.
    #[must_use]
    pub fn heir(&self, local: Listener, before: &Self) -> Option<Listener> {
        let former = before.of(local)?;
        let fitting = Listener::ALL.into_iter().filter(|listener| {
            (listener.role(), listener.is_secure()) == (local.role(), local.is_secure())
                && self.of(*listener).is_some_and(|address| address.port() == former.port())
        });
        fitting.min_by_key(|listener| (self.of(*listener) != Some(former), *listener != local))
    }
}

/// The address and port of a remote, 18 bytes whatever the IP version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Address([u8; 18]);

impl Address {
    /// The bytes that tell this remote from another one: IPv6 (or mapped IPv4) address and port, for the DTLS cookie.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 18] {
        &self.0
    }

    /// The socket address; an IPv4 address comes back as such.
    #[must_use]
    pub fn socket_address(&self) -> SocketAddr {
        let [ip @ .., high, low] = self.0;
        SocketAddr::new(IpAddr::V6(Ipv6Addr::from(ip)).to_canonical(), u16::from_be_bytes([high, low]))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut bytes = [0; 18];
        let (head, tail) = bytes.split_at_mut(16);
        head.copy_from_slice(&ip.octets());
        tail.copy_from_slice(&address.port().to_be_bytes());
        Self(bytes)
    }
}

impl core::fmt::Display for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.socket_address().fmt(f)
    }
}

impl core::fmt::Debug for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.socket_address().fmt(f)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    #[test]
    fn both_ip_versions_come_back_as_they_went_in() {
        for text in ["192.0.2.7:5683", "[2001:db8::7]:61616"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::from(address).socket_address(), address);
            assert_eq!(Address::from(address).to_string(), text);
        }
    }

    #[test]
    fn a_listener_is_found_again_by_its_port() {
        let at = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
        let before = Addresses {
            coap: at("10.0.0.1:5683"),
            coaps: at("10.0.0.1:5684"),
            bootstrap_coaps: at("10.0.0.1:5784"),
            ..Addresses::default()
        };
        let other = Addresses { coaps: at("10.0.0.1:5694"), ..before };
        let (coaps, former) = (Some(Listener::Coaps), Some(Listener::FormerCoaps));
        for (now, heir) in [
            (before, coaps),
            (Addresses { coaps: at("[::]:5684"), ..before }, coaps),
            (other, None),
            (Addresses { coap: at("10.0.0.1:5684"), ..other }, None),
            (Addresses { bootstrap_coaps: at("10.0.0.1:5684"), ..other }, None),
            (Addresses { former_coaps: before.coaps, ..other }, former),
            (Addresses { former_coaps: before.coaps, coaps: at("10.0.0.2:5684"), ..other }, former),
            (Addresses { former_coaps: at("10.0.0.3:5684"), coaps: at("10.0.0.2:5684"), ..other }, coaps),
        ] {
            assert_eq!(now.heir(Listener::Coaps, &before), heir, "{now:?}");
        }
        assert_eq!(before.heir(Listener::FormerCoaps, &before), None, "there was none");
        let swapped = Addresses { former_coaps: before.coaps, ..other };
        assert_eq!(before.heir(Listener::FormerCoaps, &swapped), coaps, "and back");
    }
}
