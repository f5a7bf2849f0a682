//! `[admission]` of the configuration file.

use std::num::NonZeroU32;

use serde::Deserialize;

/// How many handshakes and strangers are taken, 1 or more each; what is `None` takes the default of
/// [`endpoint::Config`](crate::endpoint::Config).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmissionConfig {
    /// Under way at once.
    pub handshakes: Option<NonZeroU32>,
    /// Begun in a second.
    pub handshake_rate: Option<NonZeroU32>,
    /// Keys that the store is asked for at once.
    pub look_ups: Option<NonZeroU32>,
    /// Identities that one address group may name in a second.
    pub look_up_rate: Option<NonZeroU32>,
    /// Remotes without a registration that are kept at once.
    pub unregistered: Option<NonZeroU32>,
}

impl AdmissionConfig {
    /// Sets the limits of an endpoint.
    pub fn apply(self, endpoint: &mut crate::endpoint::Config) {
        let number = |number: NonZeroU32| usize::try_from(number.get()).unwrap_or(usize::MAX);
        endpoint.handshakes = self.handshakes.map_or(endpoint.handshakes, number);
        endpoint.handshake_rate = self.handshake_rate.map_or(endpoint.handshake_rate, NonZeroU32::get);
        endpoint.look_ups = self.look_ups.map_or(endpoint.look_ups, number);
        endpoint.look_up_rate = self.look_up_rate.map_or(endpoint.look_up_rate, NonZeroU32::get);
        endpoint.unregistered = self.unregistered.map_or(endpoint.unregistered, number);
    }
}
