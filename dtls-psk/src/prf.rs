//! The pseudo-random function and everything derived with it (RFC 5246 §5, §6.3, §7.4.9, §8.1, RFC 4279 §2, RFC 5489 §2,
//! RFC 7627 §4;
//! invariant: the premaster secret exists only while [`Secrets::derive`] runs, and so does the master secret unless sessions
//! are to be resumed; both are wiped. The states of the HMAC that they key are dropped with them, and wiped only if the
//! [`Crypto`] does so, which the default does not).

use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::crypto::{Crypto, RunningHash as _, RunningMac as _};
use crate::keys::Protection;
use crate::psk::PSK_MAX;
use crate::suite::Suite;

/// The PRF of TLS 1.2 (P_SHA256) under one secret.
struct Prf<C: Crypto>(C::Hmac);

impl<C: Crypto> Prf<C> {
    fn new(secret: &[u8]) -> Self {
        Self(C::Hmac::new(secret))
    }

    /// Fills `out` from `label` and the concatenated `seed`.
    fn expand(&self, label: &[u8], seed: &[&[u8]], out: &mut [u8]) {
        let absorb_seed = |mac: &mut C::Hmac| {
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
            for (to, from) in chunk.iter_mut().zip(&block) {
                *to = *from;
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

/// Both directions' keys and implicit nonces of one epoch (RFC 6655 §3: 40 bytes, no MAC keys; RFC 5246 §6.3: 96 bytes with
/// MAC keys, and no nonces).
#[derive(Clone, Default, ZeroizeOnDrop)]
pub(crate) struct KeyBlock {
    pub(crate) client: DirectionKeys,
    pub(crate) server: DirectionKeys,
}

/// One direction's write key, implicit nonce and MAC key; the suite has one of the two.
#[derive(Clone, Default, ZeroizeOnDrop)]
pub(crate) struct DirectionKeys {
    pub(crate) key: [u8; 16],
    pub(crate) iv: [u8; 4],
    #[cfg(feature = "cbc")]
    pub(crate) mac: [u8; crate::cbc::MAC],
}

/// What the two Finished messages must hold.
#[derive(Clone, Copy, Default)]
pub(crate) struct VerifyData {
    pub(crate) client: [u8; 12],
    pub(crate) server: [u8; 12],
}

/// What goes into the derivation.
pub(crate) struct Inputs<'a, C: Crypto> {
    pub(crate) suite: Suite,
    pub(crate) psk: &'a [u8],
    /// What the key agreement gave, where the suite has one.
    #[cfg(feature = "ecdhe")]
    pub(crate) shared: Option<&'a [u8; 32]>,
    /// The transcript up to the ClientKeyExchange, where more follows before the client's Finished.
    #[cfg(feature = "rpk")]
    pub(crate) session_hash: Option<&'a [u8; 32]>,
    pub(crate) client_random: &'a [u8; 32],
    pub(crate) server_random: &'a [u8; 32],
    pub(crate) extended_master_secret: bool,
    /// The handshake messages from the (second) ClientHello to those before the client's Finished.
    pub(crate) transcript: C::Sha256,
    /// The header of the client's Finished as it stands in the transcript.
    pub(crate) client_finished_header: [u8; 12],
}

/// Everything a PSK handshake derives.
pub(crate) struct Secrets {
    pub(crate) keys: KeyBlock,
    pub(crate) verify_data: VerifyData,
    #[cfg(feature = "resumption")]
    pub(crate) master_secret: Zeroizing<[u8; 48]>,
}

impl Secrets {
    /// Derives keys and both verify_data in one go.
    ///
    /// The client's Finished is the only message between the two transcripts, but for what `between` adds of the master
    /// secret, and its content is known here, so that the server's verify_data can be had at once and neither master secret
    /// nor transcript outlives the call.
    pub(crate) fn derive<C: Crypto>(
        inputs: Inputs<'_, C>,
        between: impl FnOnce(&mut C::Sha256, &[u8; 48]),
    ) -> Self {
        let Inputs { psk, client_random, server_random, extended_master_secret, mut transcript, .. } = inputs;
        let finished_hash = transcript.clone().finish();
        #[cfg(feature = "rpk")]
        let session_hash = inputs.session_hash.unwrap_or(&finished_hash);
        #[cfg(not(feature = "rpk"))]
        let session_hash = &finished_hash;

        let mut master = Zeroizing::new([0; 48]);
        {
            #[cfg(feature = "ecdhe")]
            let premaster = match inputs.shared {
                #[cfg(feature = "rpk")]
                Some(shared) if inputs.suite.is_ecdsa() => Premaster::agreed_alone(shared),
                Some(shared) => Premaster::agreed(shared, psk),
                None => Premaster::new(psk),
            };
            #[cfg(not(feature = "ecdhe"))]
            let premaster = Premaster::new(psk);
            let prf = Prf::<C>::new(premaster.bytes());
            if extended_master_secret {
                prf.expand(b"extended master secret", &[session_hash], &mut *master);
            } else {
                prf.expand(b"master secret", &[client_random, server_random], &mut *master);
            }
        }
        let prf = Prf::<C>::new(&*master);
        let keys = KeyBlock::expand(inputs.suite, &prf, client_random, server_random);

        let mut verify_data = VerifyData::default();
        prf.expand(b"client finished", &[&finished_hash], &mut verify_data.client);
        transcript.update(&inputs.client_finished_header);
        transcript.update(&verify_data.client);
        between(&mut transcript, &master);
        prf.expand(b"server finished", &[&transcript.finish()], &mut verify_data.server);
        Self {
            keys,
            verify_data,
            #[cfg(feature = "resumption")]
            master_secret: master,
        }
    }

    /// The same for a session that is taken up (RFC 5246 §7.3). `transcript` holds ClientHello and ServerHello; the server's
    /// Finished, whose header is given, comes before the client's.
    #[cfg(feature = "resumption")]
    pub(crate) fn resume<C: Crypto>(
        suite: Suite,
        master_secret: &[u8; 48],
        client_random: &[u8; 32],
        server_random: &[u8; 32],
        mut transcript: C::Sha256,
        server_finished_header: &[u8; 12],
    ) -> (KeyBlock, VerifyData) {
        let prf = Prf::<C>::new(master_secret);
        let keys = KeyBlock::expand(suite, &prf, client_random, server_random);
        let mut verify_data = VerifyData::default();
        prf.expand(b"server finished", &[&transcript.clone().finish()], &mut verify_data.server);
        transcript.update(server_finished_header);
        transcript.update(&verify_data.server);
        prf.expand(b"client finished", &[&transcript.finish()], &mut verify_data.client);
        (keys, verify_data)
    }
}

impl KeyBlock {
    fn expand<C: Crypto>(
        suite: Suite,
        prf: &Prf<C>,
        client_random: &[u8; 32],
        server_random: &[u8; 32],
    ) -> Self {
        let mut keys = Self::default();
        let Self { client, server } = &mut keys;
        let parts = match suite.protection() {
            Protection::Aead(_) => [&mut client.key[..], &mut server.key, &mut client.iv, &mut server.iv],
            #[cfg(feature = "cbc")]
            Protection::Cbc => [&mut client.mac[..], &mut server.mac, &mut client.key, &mut server.key],
        };
        let mut block = Zeroizing::new([0; BLOCK_MAX]);
        let length = parts.iter().map(|part| part.len()).sum();
        let block = block.get_mut(..length).unwrap_or_default();
        prf.expand(b"key expansion", &[server_random, client_random], block);
        let mut rest = &*block;
        for part in parts {
            if let Some((from, after)) = rest.split_at_checked(part.len()) {
                part.copy_from_slice(from);
                rest = after;
            }
        }
        keys
    }
}

/// The longest key block of the suites of this build.
const BLOCK_MAX: usize = if cfg!(feature = "cbc") { 96 } else { 40 };

/// The PSK premaster secret: length, as many zeros, length, key (RFC 4279 §2); with a key agreement its secret is in place of
/// the zeros (RFC 5489 §2).
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

    /// Without a pre-shared key (RFC 8422 §5.10).
    #[cfg(feature = "rpk")]
    fn agreed_alone(shared: &[u8; 32]) -> Self {
        let mut bytes = Zeroizing::new([0; PREMASTER_MAX]);
        for (to, from) in bytes.iter_mut().zip(shared) {
            *to = *from;
        }
        Self { bytes, length: shared.len() }
    }

    #[cfg(feature = "ecdhe")]
    fn agreed(shared: &[u8; 32], psk: &[u8]) -> Self {
        let prefix = |length: usize| u16::try_from(length).unwrap_or(0).to_be_bytes();
        let mut bytes = Zeroizing::new([0; PREMASTER_MAX]);
        let (front, back) = (prefix(shared.len()), prefix(psk.len()));
        let content = front.iter().chain(shared).chain(&back).chain(psk);
        for (to, from) in bytes.iter_mut().zip(content) {
            *to = *from;
        }
        Self { bytes, length: psk.len().saturating_add(2 + 32 + 2) }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
pub(crate) mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::crypto::RustCrypto;

    type Prf = super::Prf<RustCrypto>;

    fn derive(inputs: Inputs<'_, RustCrypto>) -> Secrets {
        Secrets::derive(inputs, |_, _| ())
    }

    pub(crate) fn hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn sequence<const N: usize>(first: u8) -> [u8; N] {
        core::array::from_fn(|index| first.wrapping_add(u8::try_from(index).unwrap()))
    }

    #[test]
    fn the_prf_matches_the_vector_published_on_the_ietf_tls_list() {
        let mut out = [0; 100];
        let prf = Prf::new(&hex("9bbe436ba940f017b17652849a71db35"));
        // The seed in two parts is the seed in one.
        let seed = hex("a0ba9f936cda311827a6f796ffd5198c");
        let (front, back) = seed.split_at(5);
        prf.expand(b"test label", &[front, back], &mut out);
        assert_eq!(
            out.as_slice(),
            hex(
                "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af\
                 0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701\
                 87347b66"
            )
        );
    }

    #[test]
    fn a_premaster_secret_has_the_key_behind_as_many_zeros() {
        let psk: [u8; 16] = sequence(1);
        assert_eq!(
            Premaster::new(&psk).bytes(),
            hex("00100000000000000000000000000000000000100102030405060708090a0b0c0d0e0f10")
        );
        assert_eq!(Premaster::new(&[7; PSK_MAX]).bytes().len(), PREMASTER_MAX);
        assert_eq!(Premaster::new(&[7; PSK_MAX]).bytes().last(), Some(&7));
    }

    /// Of a handshake with the plain master secret, whose transcript is `message`.
    fn inputs<'a>(
        psk: &'a [u8],
        [client_random, server_random]: &'a [[u8; 32]; 2],
        message: &[u8],
    ) -> Inputs<'a, RustCrypto> {
        let mut transcript = <RustCrypto as Crypto>::Sha256::new();
        transcript.update(message);
        Inputs {
            suite: Suite::PskAes128Ccm8,
            psk,
            #[cfg(feature = "ecdhe")]
            shared: None,
            #[cfg(feature = "rpk")]
            session_hash: None,
            client_random,
            server_random,
            extended_master_secret: false,
            transcript,
            client_finished_header: [0; 12],
        }
    }

    const RANDOMS: [[u8; 32]; 2] = [[2; 32], [3; 32]];

    /// What an independent implementation derives from these inputs without the extended master secret.
    #[test]
    fn the_key_block_matches_an_independent_computation() {
        let secrets = derive(inputs(&sequence::<16>(1), &[sequence(0), sequence(0x20)], b""));
        let KeyBlock { client, server } = &secrets.keys;
        assert_eq!(client.key.as_slice(), hex("242e1497c946f066767b03b8ad79adf6"));
        assert_eq!(server.key.as_slice(), hex("fb5488936f1c2a4ba79a0c281b13f967"));
        assert_eq!(client.iv.as_slice(), hex("175b2737"));
        assert_eq!(server.iv.as_slice(), hex("4edc3604"));
    }

    #[test]
    fn master_secrets_and_finished_match_an_independent_computation() {
        let premaster = Premaster::new(&sequence::<16>(1));
        let prf = Prf::new(premaster.bytes());
        let mut master = [0; 48];
        prf.expand(b"master secret", &[&sequence::<32>(0), &sequence::<32>(0x20)], &mut master);
        assert_eq!(
            master.as_slice(),
            hex(
                "08cd6fd50b5bbf0352361eb0aab94ca1fbc15abec762adf50a842c7d7fd6c09520e61ed19973480197754e875103e5bd"
            )
        );
        let session_hash = hex("c27cb9f8d32c72ebf045d5e85f6bb362c80c8bccc6165b22b17bee2d0a0bec2b");
        let mut extended = [0; 48];
        prf.expand(b"extended master secret", &[&session_hash], &mut extended);
        assert_eq!(
            extended.as_slice(),
            hex(
                "1cd19bead7cc1676188023ff070d7cc6df9b5858bbd130cc5a553b557a362f09a26ae2850cc1c3a0eda0b76f9f9b7333"
            )
        );
        // Which of the two master secrets the vector's verify_data comes from, it does not say: the plain one.
        let (mut client, mut server) = ([0; 12], [0; 12]);
        let prf = Prf::new(&master);
        prf.expand(b"client finished", &[&session_hash], &mut client);
        prf.expand(b"server finished", &[&session_hash], &mut server);
        assert_eq!(client.as_slice(), hex("fd49c120e1890299f32109eb"));
        assert_eq!(server.as_slice(), hex("777f4e64c77a27136fe7d54c"));
    }

    /// What an independent implementation derives if the two sides also agreed on a secret.
    #[cfg(feature = "ecdhe")]
    #[test]
    fn the_key_block_after_a_key_agreement_matches_an_independent_computation() {
        let shared = hex("7434f2c52e0d08dc73394aae3d2d55d5b88bc570f21cc2b8f8b80b273ddbf76f");
        let secrets = derive(Inputs {
            shared: Some(shared.as_slice().try_into().unwrap()),
            ..inputs(&sequence::<16>(1), &[sequence(0), sequence(0x20)], b"")
        });
        let KeyBlock { client, server } = &secrets.keys;
        assert_eq!(client.key.as_slice(), hex("1ebb0e5956bd7c7d3e2dccdabf137c37"));
        assert_eq!(server.key.as_slice(), hex("682fa7073cb033ea69453c94a345d723"));
        assert_eq!(client.iv.as_slice(), hex("54776cbe"));
        assert_eq!(server.iv.as_slice(), hex("afebfc01"));
    }

    #[test]
    fn the_extended_master_secret_and_the_plain_one_differ_in_every_key() {
        let derive = |extended_master_secret| {
            derive(Inputs { extended_master_secret, ..inputs(&[1; 16], &RANDOMS, b"") })
        };
        let (plain, extended) = (derive(false), derive(true));
        assert_ne!(plain.keys.client.key, extended.keys.client.key);
        assert_ne!(plain.keys.server.key, extended.keys.server.key);
        assert_ne!(plain.verify_data.client, extended.verify_data.client);
    }

    #[test]
    fn keys_of_the_extended_master_secret_are_good_for_one_handshake() {
        let key = |extended_master_secret, message: &[u8]| {
            derive(Inputs { extended_master_secret, ..inputs(&[1; 16], &RANDOMS, message) }).keys.client.key
        };
        assert_ne!(key(true, b"one"), key(true, b"other"));
        // What it is there for: only the randoms tell the plain one apart.
        assert_eq!(key(false, b"one"), key(false, b"other"));
    }

    #[test]
    fn both_finished_are_good_for_one_handshake() {
        // With the plain master secret, which is the same in all of them.
        let verify_data = |message: &[u8], header| {
            let inputs = inputs(&[1; 16], &RANDOMS, message);
            derive(Inputs { client_finished_header: [header; 12], ..inputs }).verify_data
        };
        let (one, other) = (verify_data(b"one", 0), verify_data(b"other", 0));
        assert_ne!(one.client, other.client);
        assert_ne!(one.server, other.server);
        // The server's covers the client's besides.
        let other = verify_data(b"one", 1);
        assert_eq!(one.client, other.client);
        assert_ne!(one.server, other.server);
    }

    #[cfg(feature = "resumption")]
    #[test]
    fn both_finished_of_a_session_are_good_for_one_handshake() {
        let verify_data = |message: &[u8], header| {
            let mut transcript = <RustCrypto as Crypto>::Sha256::new();
            transcript.update(message);
            let suite = Suite::PskAes128Ccm8;
            Secrets::resume::<RustCrypto>(suite, &[1; 48], &[2; 32], &[3; 32], transcript, &[header; 12]).1
        };
        let (one, other) = (verify_data(b"one", 0), verify_data(b"other", 0));
        assert_ne!(one.server, other.server);
        assert_ne!(one.client, other.client);
        // The client's covers the server's besides.
        let other = verify_data(b"one", 1);
        assert_eq!(one.server, other.server);
        assert_ne!(one.client, other.client);
    }
}
