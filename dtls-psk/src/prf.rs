//! The pseudo-random function and everything derived with it (RFC 5246 §5, §6.3, §7.4.9, §8.1, RFC 4279 §2, RFC 7627 §4;
//! invariant: the master secret exists only while [`Secrets::derive`] runs).

use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::crypto::{Hmac, Sha256};
use crate::psk::PSK_MAX;

/// The PRF of TLS 1.2 (P_SHA256) under one secret.
struct Prf(Hmac);

impl Prf {
    fn new(secret: &[u8]) -> Self {
        Self(Hmac::new(secret))
    }

    /// Fills `out` from `label` and the concatenated `seed`.
    fn expand(&self, label: &[u8], seed: &[&[u8]], out: &mut [u8]) {
        let absorb_seed = |mac: &mut Hmac| {
            mac.update(label);
            seed.iter().for_each(|part| mac.update(part));
        };
        let mut mac = self.0.clone();
        absorb_seed(&mut mac);
        let mut a = mac.finish();
        let mut chunks = out.chunks_mut(32).peekable();
        while let Some(chunk) = chunks.next() {
            let mut mac = self.0.clone();
            mac.update(&a);
            absorb_seed(&mut mac);
            let mut block = mac.finish();
            for (to, from) in chunk.iter_mut().zip(block) {
                *to = from;
            }
            block.zeroize();
            if chunks.peek().is_some() {
                let mut mac = self.0.clone();
                mac.update(&a);
                a = mac.finish();
            }
        }
        a.zeroize();
    }
}

/// Both directions' keys and implicit nonces of one epoch (RFC 6655 §3: 40 bytes, no MAC keys).
#[derive(Clone, Default, ZeroizeOnDrop)]
pub(crate) struct KeyBlock {
    pub(crate) client: DirectionKeys,
    pub(crate) server: DirectionKeys,
}

/// One direction's write key and implicit nonce.
#[derive(Clone, Default, ZeroizeOnDrop)]
pub(crate) struct DirectionKeys {
    pub(crate) key: [u8; 16],
    pub(crate) iv: [u8; 4],
}

/// What the two Finished messages must hold.
#[derive(Clone, Copy, Default)]
pub(crate) struct VerifyData {
    pub(crate) client: [u8; 12],
    pub(crate) server: [u8; 12],
}

/// What goes into the derivation.
pub(crate) struct Inputs<'a> {
    pub(crate) psk: &'a [u8],
    pub(crate) client_random: &'a [u8; 32],
    pub(crate) server_random: &'a [u8; 32],
    pub(crate) extended_master_secret: bool,
    /// The handshake messages from the (second) ClientHello to the ClientKeyExchange.
    pub(crate) transcript: Sha256,
    /// The header of the client's Finished as it stands in the transcript.
    pub(crate) client_finished_header: [u8; 12],
}

/// Everything a PSK handshake derives.
pub(crate) struct Secrets {
    pub(crate) keys: KeyBlock,
    pub(crate) verify_data: VerifyData,
}

impl Secrets {
    /// Derives keys and both verify_data in one go.
    ///
    /// The client's Finished is the only message between the two transcripts and its content is known here, so that the
    /// server's verify_data can be had at once and neither master secret nor transcript outlives the call.
    pub(crate) fn derive(inputs: Inputs<'_>) -> Self {
        let Inputs { psk, client_random, server_random, extended_master_secret, mut transcript, .. } = inputs;
        let session_hash = transcript.clone().finish();

        let mut master = Zeroizing::new([0; 48]);
        {
            let premaster = Premaster::new(psk);
            let prf = Prf::new(premaster.bytes());
            if extended_master_secret {
                prf.expand(b"extended master secret", &[&session_hash], &mut *master);
            } else {
                prf.expand(b"master secret", &[client_random, server_random], &mut *master);
            }
        }
        let prf = Prf::new(&*master);

        let mut block = Zeroizing::new([0; 40]);
        prf.expand(b"key expansion", &[server_random, client_random], &mut *block);
        let mut keys = KeyBlock::default();
        let mut rest = block.as_slice();
        for part in [
            &mut keys.client.key[..],
            &mut keys.server.key[..],
            &mut keys.client.iv[..],
            &mut keys.server.iv[..],
        ] {
            if let Some((from, after)) = rest.split_at_checked(part.len()) {
                part.copy_from_slice(from);
                rest = after;
            }
        }

        let mut verify_data = VerifyData::default();
        prf.expand(b"client finished", &[&session_hash], &mut verify_data.client);
        transcript.update(&inputs.client_finished_header);
        transcript.update(&verify_data.client);
        prf.expand(b"server finished", &[&transcript.finish()], &mut verify_data.server);
        Self { keys, verify_data }
    }
}

/// The PSK premaster secret: length, as many zeros, length, key (RFC 4279 §2).
struct Premaster {
    bytes: Zeroizing<[u8; PREMASTER_MAX]>,
    length: usize,
}

const PREMASTER_MAX: usize = 2 * (2 + PSK_MAX);

impl Premaster {
    /// `psk` has at most [`PSK_MAX`] bytes; more would be cut.
    fn new(psk: &[u8]) -> Self {
        let length = psk.len().min(PSK_MAX);
        let prefix = u16::try_from(length).unwrap_or(0).to_be_bytes();
        let mut bytes = Zeroizing::new([0; PREMASTER_MAX]);
        let content = prefix.iter().chain(core::iter::repeat_n(&0, length)).chain(&prefix).chain(psk);
        for (to, from) in bytes.iter_mut().zip(content) {
            *to = *from;
        }
        Self { bytes, length: length.saturating_mul(2).saturating_add(4) }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}
