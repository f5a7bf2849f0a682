//! What was counted since the start: what came, what was dropped and why.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Names and values, for metrics.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counters! {
    /// Datagrams that came in.
    datagrams,
    /// CoAP messages that are malformed, of a wrong type or with an unknown critical option.
    malformed,
    /// Requests that were handled before and answered again.
    duplicates,
    /// Messages of unknown senders that were no Register and no Bootstrap-Request.
    strangers,
    /// Notifications of no observation, answered with a Reset.
    unknown_notifications,
    /// Notifications that came after a newer one.
    stale_notifications,
    /// Messages beyond the rate of one peer, and handshakes of one that failed again and again.
    over_rate,
    /// Peers that were turned away because too many are unregistered, and handshakes that made room for newer ones.
    over_capacity,
    /// Datagrams that were not sent: an address that is not proven to be the peer's had three times what came from it.
    over_amplification,
    /// Sessions that moved to another address.
    moved,
    /// Challenges to an address that a session was heard from newly.
    path_challenges,
    /// DTLS records that were dropped: not authentic, replayed or malformed.
    dropped_records,
    /// Answers to a ClientHello without a valid cookie.
    cookies_sent,
    /// Handshakes begun: the cookie came back.
    handshakes_begun,
    /// Handshakes finished.
    handshakes_finished,
    /// Handshakes that were refused or not finished.
    handshakes_failed,
    /// Refusals that no event told of, because there were too many.
    untold_refusals,
    /// Registers accepted.
    registered,
    /// Updates accepted.
    updated,
    /// Registrations that expired.
    expired,
    /// Registers and Bootstrap-Requests refused.
    refused,
    /// Requests sent to devices, further blocks included.
    requests_sent,
    /// Requests to devices that had no usable answer.
    requests_failed,
    /// Fresh notifications.
    notifications,
    /// Bootstraps finished.
    bootstraps_finished,
    /// Bootstraps failed.
    bootstraps_failed,
    /// Sessions closed because their credential is no longer good, or by the operator.
    sessions_closed,
}

impl Counters {
    pub(crate) fn add(counter: &mut u64) {
        *counter = counter.saturating_add(1);
    }
}
