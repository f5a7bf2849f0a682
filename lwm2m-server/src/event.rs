//! What happened, as facts in words: the stream an application, the REST interface and the terminal listen to.

use crate::Path;
use crate::campaigns::Campaign;
use crate::credentials::Role;
use crate::operation::{ObservationId, Report};
use crate::queue::State;
use std::sync::Arc;

use dtls_psk::Suite;

/// Something that happened. Carries no key material.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A device registered; one that was registered before lost its observations by it.
    Registered {
        /// Endpoint client name.
        endpoint: Arc<str>,
    },
    /// A device refreshed or changed its registration.
    Updated {
        /// Endpoint client name.
        endpoint: Arc<str>,
    },
    /// A device said good-bye.
    Deregistered {
        /// Endpoint client name.
        endpoint: Arc<str>,
    },
    /// A registration ended because its lifetime passed without an Update.
    Expired {
        /// Endpoint client name.
        endpoint: Arc<str>,
    },
    /// A device in queue mode was heard after it slept, or came back in a new session.
    Awake {
        /// Endpoint client name.
        endpoint: Arc<str>,
    },
    /// A request in the durable queue of a device came to another state; told once that is on disk.
    Request {
        /// Endpoint client name.
        endpoint: Arc<str>,
        /// Which request of the queue.
        id: u64,
        /// Where it stands now.
        state: State,
    },
    /// A campaign came to another state, or to its next step; told once that is on disk.
    Campaign {
        /// Which campaign.
        id: u64,
        /// Where it stands now.
        campaign: Arc<Campaign>,
    },
    /// A Register or Bootstrap-Request was answered with an error.
    RegistrationRefused {
        /// Endpoint client name, as claimed: it may not be proven.
        endpoint: Arc<str>,
        /// Which of the two servers refused.
        role: Role,
        /// Why, for the operator. Never sent to the peer.
        reason: String,
    },
    /// A fresh notification of an observation.
    Notification {
        /// Endpoint client name.
        endpoint: Arc<str>,
        /// Which observation it belongs to.
        observation: ObservationId,
        /// What is observed.
        path: Path,
        /// The values, with their times where the device says them.
        report: Arc<Report>,
    },
    /// A device reported values by itself (Send).
    Reported {
        /// Endpoint client name.
        endpoint: Arc<str>,
        /// The values.
        report: Arc<Report>,
    },
    /// An observation ended without the application asking for it.
    ObservationEnded {
        /// Endpoint client name.
        endpoint: Arc<str>,
        /// Which observation ended.
        observation: ObservationId,
        /// Why.
        reason: String,
        /// The code that the device ended it with, as class and detail; its registration goes on. `None` when something else ended it.
        code: Option<(u8, u8)>,
    },
    /// A [lasting observation](crate::observations) stands at its device again.
    ObservationStands {
        /// Endpoint client name.
        endpoint: Arc<str>,
        /// Which observation.
        observation: ObservationId,
    },
    /// A lasting observation does not stand: its device refused it. It is asked again when the device registers.
    ObservationRefused {
        /// Endpoint client name.
        endpoint: Arc<str>,
        /// Which observation.
        observation: ObservationId,
        /// Why.
        reason: String,
    },
    /// A handshake finished: the peer proved who it is.
    SessionEstablished {
        /// Endpoint client name.
        endpoint: Arc<str>,
        /// Which of the two servers it talks to.
        role: Role,
        /// Whether it was a full handshake; a resumption proves nothing about a new credential.
        full: bool,
        /// The cipher suite.
        suite: Suite,
    },
    /// A session goes on from another address: the device moved, or a translator in between forgot it.
    AddressChanged {
        /// Endpoint client name.
        endpoint: Arc<str>,
        /// Which of the two servers it talks to.
        role: Role,
        /// The former address and port, as text.
        from: String,
        /// The address and port now, as text.
        to: String,
    },
    /// A handshake did not come to its end. The peer was told nothing.
    HandshakeRefused {
        /// Which of the two servers refused.
        role: Role,
        /// The address and port it came from, as text.
        address: String,
        /// The identity it claimed, as text, when it came that far.
        identity: Option<String>,
        /// Why, for the operator.
        reason: String,
    },
    /// A session was closed, by the peer, by a command or because its credential is no longer good.
    SessionClosed {
        /// Endpoint client name.
        endpoint: Arc<str>,
        /// Which of the two servers it talked to.
        role: Role,
        /// Why.
        reason: String,
    },
    /// A bootstrap began: the Bootstrap-Request was accepted.
    BootstrapStarted {
        /// Endpoint client name.
        endpoint: Arc<str>,
    },
    /// A bootstrap came to its end: the device acknowledged Bootstrap-Finish.
    BootstrapFinished {
        /// Endpoint client name.
        endpoint: Arc<str>,
    },
    /// A bootstrap failed.
    BootstrapFailed {
        /// Endpoint client name.
        endpoint: Arc<str>,
        /// The step that failed, for example `discover /0` or `write /0/1`.
        step: String,
        /// The CoAP code answered, as text (`4.06`); `None` when no answer came.
        code: Option<String>,
    },
}

impl Event {
    /// Writes to the log why a device did not get in, with quotes around what a peer may have said.
    pub(crate) fn log(&self) {
        match self {
            Self::HandshakeRefused { role, address, identity, reason } => {
                tracing::warn!(?role, address, identity, ?reason, "a handshake was refused");
            }
            Self::RegistrationRefused { endpoint, role, reason } => {
                tracing::warn!(?endpoint, ?role, ?reason, "a registration was refused");
            }
            Self::SessionClosed { endpoint, role, reason } => {
                tracing::debug!(?endpoint, ?role, ?reason, "a session was closed");
            }
            Self::BootstrapFailed { endpoint, step, code } => {
                tracing::warn!(?endpoint, step, code, "a bootstrap failed");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_log_tells_why_a_handshake_was_refused_and_a_peer_cannot_forge_a_line() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            Event::HandshakeRefused {
                role: Role::Management,
                address: "192.0.2.1:5684".to_owned(),
                identity: Some("a\n2026 INFO all is well".to_owned()),
                reason: "the identity is not known".to_owned(),
            }
            .log();
            Event::RegistrationRefused {
                endpoint: "b\u{1b}[2J".into(),
                role: Role::Bootstrap,
                reason: "revoked".to_owned(),
            }
            .log();
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        for part in ["192.0.2.1:5684", "\"the identity is not known\"", "revoked", "a\\n2026", "b\\u{1b}"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
