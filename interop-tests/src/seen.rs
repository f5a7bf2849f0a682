//! What tests have seen peers do: a line for each, in the file that the environment names by `LWM2M_SEEN`.
//!
//! `.ci/table` makes the table of peers from these lines, and compares it with what `peers/expected` says.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use crate::peers::Program;

/// Which side of the protocol a peer was on; for LwM2M a device is the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It began the handshake, or asked.
    Client,
    /// It was connected to, or asked.
    Server,
}

/// What a peer did with this project's code, with data both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// DTLS 1.2 with a pre-shared key.
    Psk,
    /// The same with an ephemeral key exchange (RFC 5489).
    EcdhePsk,
    /// Raw public keys on both sides (RFC 7250).
    RawPublicKey,
    /// X.509 certificates on both sides.
    X509,
    /// Connection IDs (RFC 9146).
    ConnectionId,
    /// An abbreviated handshake.
    Resumption,
    /// CoAP requests and responses.
    Coap,
    /// Bodies in blocks (RFC 7959).
    Blocks,
    /// Notifications (RFC 7641).
    Observe,
    /// Registration, management and reporting.
    Lwm2m,
    /// Bootstrap.
    Bootstrap,
    /// OSCORE (RFC 8613).
    Oscore,
    /// An account that a bootstrap wrote with the authority of its server (certificate usage 2) and the name to ask that for (SNI).
    Anchor,
}

impl Feature {
    const fn name(self) -> &'static str {
        match self {
            Self::Psk => "PSK",
            Self::EcdhePsk => "ECDHE_PSK",
            Self::RawPublicKey => "RPK",
            Self::X509 => "X.509",
            Self::ConnectionId => "CID",
            Self::Resumption => "resumption",
            Self::Coap => "CoAP",
            Self::Blocks => "blocks",
            Self::Observe => "observe",
            Self::Lwm2m => "LwM2M",
            Self::Bootstrap => "bootstrap",
            Self::Oscore => "OSCORE",
            Self::Anchor => "anchor",
        }
    }
}

/// Notes at the end of a test what a peer did in it.
///
/// # Panics
/// When the file cannot be written: the table would be wrong.
pub fn seen(peer: &str, version: &str, role: Role, features: &[Feature]) {
    let Some(file) = std::env::var_os("LWM2M_SEEN") else { return };
    note(Path::new(&file), peer, version, role, features);
}

impl Program {
    /// As [`seen`], with the version that the program told.
    pub fn seen(&self, peer: &str, role: Role, features: &[Feature]) {
        seen(peer, &self.version, role, features);
    }
}

/// The version of a peer that is a crate, as `Cargo.lock` has it.
///
/// # Panics
/// When it is not in there.
pub fn locked(name: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{name}\"")).skip(1);
    let version = lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.expect("a dependency of this package").to_owned()
}

fn note(file: &Path, peer: &str, version: &str, role: Role, features: &[Feature]) {
    let role = if role == Role::Client { "client" } else { "server" };
    let lines: String =
        features.iter().map(|feature| format!("{peer}\t{version}\t{role}\t{}\n", feature.name())).collect();
    // In one piece: tests run beside each other.
    let opened = OpenOptions::new().create(true).append(true).open(file);
    opened.and_then(|mut file| file.write_all(lines.as_bytes())).expect("what was seen can be noted");
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_is_added_line_by_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        note(file.path(), "a", "1.0", Role::Client, &[Feature::Psk, Feature::ConnectionId]);
        note(file.path(), "a", "1.0", Role::Server, &[Feature::Lwm2m]);
        let lines = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(lines, "a\t1.0\tclient\tPSK\na\t1.0\tclient\tCID\na\t1.0\tserver\tLwM2M\n");
        assert!(locked("dimpl").starts_with("0."));
    }
}
