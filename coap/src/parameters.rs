//! Transmission parameters (RFC 7252 §4.8) and what a peer understands.

use core::time::Duration;

use crate::option::OptionNumber;

/// How a peer is talked to. One set serves any number of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// `ACK_TIMEOUT`: the least time until the first retransmission.
    pub ack_timeout: Duration,
    /// `ACK_RANDOM_FACTOR` in hundredths, at least 100.
    pub ack_random_percent: u16,
    /// `MAX_RETRANSMIT`: how often a Confirmable message is sent again.
    pub max_retransmit: u8,
    /// `NSTART`: how many requests and notifications may be in flight at once.
    pub nstart: u8,
    /// `EXCHANGE_LIFETIME`: how long the id of a Confirmable message is remembered.
    pub exchange_lifetime: Duration,
    /// `NON_LIFETIME`: how long the id of a Non-confirmable message is remembered.
    pub non_lifetime: Duration,
    /// How long a response is awaited once the request was acknowledged, or was Non-confirmable.
    pub response_timeout: Duration,
    /// The options that the owner understands; a message with any other critical one is refused.
    pub known: &'static [OptionNumber],
}

impl Parameters {
    /// The values of RFC 7252 §4.8, with `MAX_TRANSMIT_WAIT` as response timeout and the options that LwM2M uses.
    pub const DEFAULT: Parameters = Parameters {
        ack_timeout: Duration::from_secs(2),
        ack_random_percent: 150,
        max_retransmit: 4,
        nstart: 1,
        exchange_lifetime: Duration::from_secs(247),
        non_lifetime: Duration::from_secs(145),
        response_timeout: Duration::from_secs(93),
        known: &[
            OptionNumber::URI_HOST,
            OptionNumber::URI_PORT,
            OptionNumber::URI_PATH,
            OptionNumber::URI_QUERY,
            OptionNumber::ACCEPT,
            OptionNumber::BLOCK2,
            OptionNumber::BLOCK1,
        ],
    };
}

impl Default for Parameters {
    fn default() -> Self {
        Self::DEFAULT
    }
}
