//! Alerts (RFC 5246 §7.2; invariant: an alert that was not authenticated never ends an association by itself).

/// The description byte of an alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Alert(pub u8);

impl Alert {
    /// The sender will send nothing more.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// A message came that has no place in this state.
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    /// No acceptable set of parameters.
    pub const HANDSHAKE_FAILURE: Self = Self(40);
    /// A certificate could not be read, or a signature in it is wrong.
    pub const BAD_CERTIFICATE: Self = Self(42);
    /// A certificate is of a kind that is not supported.
    pub const UNSUPPORTED_CERTIFICATE: Self = Self(43);
    /// A certificate was revoked by its issuer.
    pub const CERTIFICATE_REVOKED: Self = Self(44);
    /// A certificate is not valid yet or any more.
    pub const CERTIFICATE_EXPIRED: Self = Self(45);
    /// A certificate is not acceptable for another reason.
    pub const CERTIFICATE_UNKNOWN: Self = Self(46);
    /// No authority is known that issued a certificate.
    pub const UNKNOWN_CA: Self = Self(48);
    /// A certificate is valid, and not for this.
    pub const ACCESS_DENIED: Self = Self(49);
    /// A field was out of range or inconsistent.
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    /// A message could not be decoded.
    pub const DECODE_ERROR: Self = Self(50);
    /// A handshake's cryptographic check failed.
    pub const DECRYPT_ERROR: Self = Self(51);
    /// The offered version is not supported.
    pub const PROTOCOL_VERSION: Self = Self(70);
    /// The server demands safer parameters than the client supports.
    pub const INSUFFICIENT_SECURITY: Self = Self(71);
    /// The peer gave up for a reason that has nothing to do with the protocol.
    pub const INTERNAL_ERROR: Self = Self(80);
    /// The handshake was cancelled.
    pub const USER_CANCELED: Self = Self(90);
    /// The sender does not renegotiate.
    pub const NO_RENEGOTIATION: Self = Self(100);
    /// The server answered with an extension nobody asked for.
    pub const UNSUPPORTED_EXTENSION: Self = Self(110);
    /// The server does not know the PSK identity.
    pub const UNKNOWN_PSK_IDENTITY: Self = Self(115);

    /// Whether a server may send it: nobody offers compression, 41 and 60 are of older protocols, and extensions are the
    /// client's to refuse.
    pub(crate) const fn is_from_a_server(self) -> bool {
        !matches!(self.0, 30 | 41 | 60 | 110)
    }

    /// The name in RFC 5246, or `"unknown alert"`.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            21 => "decryption_failed",
            22 => "record_overflow",
            30 => "decompression_failure",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            100 => "no_renegotiation",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            114 => "bad_certificate_hash_value",
            115 => "unknown_psk_identity",
            _ => "unknown alert",
        }
    }
}

/// The level byte of an alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    Warning,
    Fatal,
}

/// Reads the two bytes of an alert record.
pub(crate) fn parse(body: &[u8]) -> Option<(Level, Alert)> {
    match *body {
        [1, description] => Some((Level::Warning, Alert(description))),
        [2, description] => Some((Level::Fatal, Alert(description))),
        _ => None,
    }
}

/// The two bytes of an alert record.
pub(crate) const fn emit(level: Level, alert: Alert) -> [u8; 2] {
    let level = match level {
        Level::Warning => 1,
        Level::Fatal => 2,
    };
    [level, alert.0]
}
