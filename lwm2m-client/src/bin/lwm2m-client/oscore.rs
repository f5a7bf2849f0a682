//! OSCORE on the command line: what messages are protected with, and when keys are replaced.
//!
//! LwM2M Transport 1.1.1 §5.4. Invariant: keys whose numbers nobody remembers are used only by who asks for it.

use clap::{Args, ValueEnum};
use lwm2m_client::{Rederive, SecurityContext};
use zeroize::Zeroizing;

/// The security context with the server, seen from this client.
#[derive(Args)]
pub(crate) struct OscoreOptions {
    /// OSCORE: the Master Secret in hexadecimal digits, 1 to 64 bytes. For coap://, or besides a credential for coaps://.
    #[arg(long = "oscore-secret", value_name = "HEX", requires_all = ["sender", "recipient"], conflicts_with = "bootstrap_server")]
    secret: Option<String>,
    /// OSCORE: the Sender ID in hexadecimal digits, 0 to 7 bytes: the server's Recipient ID.
    #[arg(long = "oscore-sender", value_name = "HEX", requires = "secret")]
    sender: Option<String>,
    /// OSCORE: the Recipient ID in hexadecimal digits, 0 to 7 bytes: the server's Sender ID.
    #[arg(long = "oscore-recipient", value_name = "HEX", requires = "secret")]
    recipient: Option<String>,
    /// OSCORE: the Master Salt in hexadecimal digits, at most 32 bytes.
    #[arg(long = "oscore-salt", value_name = "HEX", requires = "secret")]
    salt: Option<String>,
    /// OSCORE: the ID Context in hexadecimal digits, at most 40 bytes, 24 if the server asks for fresh keys.
    #[arg(long = "oscore-context", value_name = "HEX", requires = "secret")]
    context: Option<String>,
    /// OSCORE: the AEAD algorithm by its COSE number; 10, AES-CCM-16-64-128, when not given.
    #[arg(long = "oscore-aead", value_name = "N", requires = "secret")]
    aead: Option<i32>,
    /// OSCORE: the HMAC algorithm by its COSE number, 5 to 7 or -10 and -11; 5, SHA-256, when not given.
    #[arg(long = "oscore-hmac", value_name = "N", requires = "secret", allow_negative_numbers = true)]
    hmac: Option<i32>,
    /// OSCORE: whether keys are replaced by fresh ones before their first use (RFC 8613 Appendix B.2), also for accounts that a
    /// bootstrap server writes: offered uses them as they are where the server does not replace them. When not given offered
    /// with --state, and required without: nobody would remember what was sent under keys as they are.
    #[arg(long = "oscore-rederivation", value_name = "WHEN", value_enum)]
    rederivation: Option<Rederivation>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rederivation {
    Required,
    Offered,
    Never,
}

/// What was read.
pub(crate) struct Owned {
    secret: Zeroizing<Vec<u8>>,
    sender: Vec<u8>,
    recipient: Vec<u8>,
    salt: Vec<u8>,
    context: Vec<u8>,
    aead: Option<i32>,
    hmac: Option<i32>,
}

impl Owned {
    /// As an account has it.
    pub(crate) fn context(&self) -> SecurityContext<'_> {
        SecurityContext {
            aead: self.aead,
            hmac: self.hmac,
            master_salt: &self.salt,
            id_context: &self.context,
            ..SecurityContext::new(&self.secret, &self.sender, &self.recipient)
        }
    }
}

impl OscoreOptions {
    /// Reads the context, if one is given.
    ///
    /// # Errors
    /// What is wrong, with which option.
    pub(crate) fn read(&self) -> Result<Option<Owned>, String> {
        let (Some(secret), Some(sender), Some(recipient)) = (&self.secret, &self.sender, &self.recipient)
        else {
            return Ok(None);
        };
        let read = |option: &str, digits: &str, lengths: core::ops::RangeInclusive<usize>| {
            let bytes = hex::decode(digits).map_err(|error| format!("{option}: {error}"))?;
            let (least, most) = (*lengths.start(), *lengths.end());
            let is_fitting = lengths.contains(&bytes.len());
            is_fitting
                .then_some(bytes)
                .ok_or_else(|| format!("{option} must have {least} to {most} bytes, two digits each"))
        };
        let optional = |option, digits: &Option<String>, most| {
            digits.as_ref().map_or(Ok(Vec::new()), |digits| read(option, digits, 1..=most))
        };
        let owned = Owned {
            secret: read("--oscore-secret", secret, 1..=64)?.into(),
            sender: read("--oscore-sender", sender, 0..=7)?,
            recipient: read("--oscore-recipient", recipient, 0..=7)?,
            salt: optional("--oscore-salt", &self.salt, 32)?,
            context: optional("--oscore-context", &self.context, 40)?,
            aead: self.aead,
            hmac: self.hmac,
        };
        if owned.sender == owned.recipient {
            return Err(
                "--oscore-sender and --oscore-recipient are the same: each end needs an id of its own".into(),
            );
        }
        for (option, other) in [
            ("--oscore-aead", SecurityContext { hmac: None, ..owned.context() }),
            ("--oscore-hmac", SecurityContext { aead: None, ..owned.context() }),
        ] {
            if !other.is_usable() {
                return Err(format!("{option}: no algorithm of this build, or one for shorter ids"));
            }
        }
        Ok(Some(owned))
    }

    /// When keys are replaced; `is_kept` tells whether there is a state folder.
    pub(crate) fn rederive(&self, is_kept: bool) -> Rederive {
        match self.rederivation {
            None if is_kept => Rederive::Offered,
            None | Some(Rederivation::Required) => Rederive::Required,
            Some(as_they_are) => {
                if !is_kept && self.secret.is_some() {
                    tracing::warn!(
                        "without --state nothing is remembered of what was sent under the keys of OSCORE: after a restart the same \
                         numbers come again, and who listens can read messages. Use --state, or --oscore-rederivation required"
                    );
                }
                if as_they_are == Rederivation::Never { Rederive::Never } else { Rederive::Offered }
            }
        }
    }
}
