//! The primitives of the server's handshakes: those of `RustCrypto`, but for P-256 and X25519, of which AWS-LC has the former five
//! times as fast (feature `aws-lc-rs`). No other module names a library for them.

#[cfg(not(feature = "aws-lc-rs"))]
pub use self::portable::Provider;
#[cfg(not(feature = "aws-lc-rs"))]
pub(crate) use self::portable::SigningKey;

/// The signatures that certificates of devices may have.
#[cfg(feature = "aws-lc-rs")]
pub(crate) static SIGNATURES: &[&dyn rustls_pki_types::SignatureVerificationAlgorithm] =
    webpki::ALL_VERIFICATION_ALGS;

/// The signatures that certificates of devices may have.
#[cfg(not(feature = "aws-lc-rs"))]
pub(crate) static SIGNATURES: &[&dyn rustls_pki_types::SignatureVerificationAlgorithm] =
    &[&dtls_psk::EcdsaP256Sha256::<Provider>::NEW];

#[cfg(feature = "aws-lc-rs")]
pub use self::aws_lc::Provider;
#[cfg(feature = "aws-lc-rs")]
pub(crate) use self::aws_lc::SigningKey;

#[cfg(not(feature = "aws-lc-rs"))]
mod portable {
    use dtls_psk::{Crypto as _, POINT, SIGNATURE};
    use zeroize::Zeroizing;

    pub use dtls_psk::RustCrypto as Provider;

    /// A private key of P-256.
    pub(crate) struct SigningKey(Zeroizing<[u8; 32]>);

    impl SigningKey {
        /// The key with this number, and its point; `None` if it is out of range.
        pub(crate) fn new(secret: &[u8; 32]) -> Option<(Self, [u8; POINT])> {
            Some((Self(Zeroizing::new(*secret)), Provider::p256_public(secret)?))
        }

        pub(crate) fn sign(&self, digest: &[u8; 32]) -> Option<[u8; SIGNATURE]> {
            Provider::p256_sign(&self.0, digest)
        }
    }
}

#[cfg(feature = "aws-lc-rs")]
mod aws_lc {
    use aws_lc_rs::agreement::{self, Algorithm, ECDH_P256, PrivateKey, UnparsedPublicKey, X25519};
    use aws_lc_rs::digest::{Digest, SHA256};
    use aws_lc_rs::signature::{
        self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
    };
    use dtls_psk::{Crypto, POINT, RustCrypto, SIGNATURE};

    /// P-256 and X25519 by AWS-LC, everything else by [`RustCrypto`].
    #[derive(Clone, Copy, Debug)]
    pub enum Provider {}

    /// What both sides have in common; `None` where AWS-LC finds that `public` is none.
    fn agree(group: &'static Algorithm, secret: &[u8], public: &[u8], shared: &mut [u8; 32]) -> Option<()> {
        let key = PrivateKey::from_private_key(group, secret).ok()?;
        agreement::agree(&key, UnparsedPublicKey::new(group, public), (), |agreed| {
            shared.copy_from_slice(agreed.get(..32).ok_or(())?);
            Ok(())
        })
        .ok()
    }

    impl Crypto for Provider {
        type Sha256 = <RustCrypto as Crypto>::Sha256;
        type Hmac = <RustCrypto as Crypto>::Hmac;

        fn p256_public(secret: &[u8; 32]) -> Option<[u8; POINT]> {
            let key = PrivateKey::from_private_key(&ECDH_P256, secret).ok()?;
            key.compute_public_key().ok()?.as_ref().try_into().ok()
        }

        fn p256_shared(secret: &[u8; 32], public: &[u8; POINT], shared: &mut [u8; 32]) -> Option<()> {
            // AWS-LC would take other forms of a point too.
            public.starts_with(&[4]).then_some(())?;
            agree(&ECDH_P256, secret, public, shared)
        }

        fn x25519_public(secret: &[u8; 32]) -> Option<[u8; 32]> {
            let key = PrivateKey::from_private_key(&X25519, secret).ok()?;
            key.compute_public_key().ok()?.as_ref().try_into().ok()
        }

        fn x25519_shared(secret: &[u8; 32], public: &[u8; 32], shared: &mut [u8; 32]) -> Option<()> {
            agree(&X25519, secret, public, shared)
        }

        fn p256_sign(secret: &[u8; 32], digest: &[u8; 32]) -> Option<[u8; SIGNATURE]> {
            SigningKey::new(secret)?.0.sign(digest)
        }

        fn p256_verify(public: &[u8; POINT], digest: &[u8; 32], signature: &[u8; SIGNATURE]) -> bool {
            let key = signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
            let digest = Digest::import_less_safe(digest, &SHA256);
            public.starts_with(&[4])
                && digest.and_then(|digest| key.verify_digest(&digest, signature)).is_ok()
        }
    }

    /// A private key of P-256, ready to sign.
    pub(crate) struct SigningKey(EcdsaKeyPair);

    impl SigningKey {
        /// The key with this number, and its point; `None` if it is out of range.
        pub(crate) fn new(secret: &[u8; 32]) -> Option<(Self, [u8; POINT])> {
            let public = Provider::p256_public(secret)?;
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let key = EcdsaKeyPair::from_private_key_and_public_key(algorithm, secret, &public).ok()?;
            Some((Self(key), public))
        }

        pub(crate) fn sign(&self, digest: &[u8; 32]) -> Option<[u8; SIGNATURE]> {
            let digest = Digest::import_less_safe(digest, &SHA256).ok()?;
            self.0.sign_digest(&digest).ok()?.as_ref().try_into().ok()
        }
    }

    #[cfg(test)]
    #[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "test")]
    mod tests {
        use super::*;
        use proptest::prelude::*;

        /// Edges of the field and the group, and beside the curve.
        fn secrets() -> impl Strategy<Value = [u8; 32]> {
            let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
            let order: [u8; 32] = order.ok().and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
            let mut below = order;
            below[31] -= 1;
            let one = core::array::from_fn(|place| u8::from(place == 31));
            prop_oneof![10 => any::<[u8; 32]>(), 1 => Just([0; 32]), 1 => Just([0xff; 32]), 1 => Just(one),
                1 => Just(order), 1 => Just(below)]
        }

        /// Zero, one, p - 1, p and p + 1, also with the bit that does not count: what gives nothing but zeros.
        fn small_order() -> impl Strategy<Value = [u8; 32]> {
            let near = |first: u8| {
                let mut point = [0xff; 32];
                (point[0], point[31]) = (first, 0x7f);
                point
            };
            let one = core::array::from_fn(|place| u8::from(place == 0));
            let points = vec![[0; 32], one, near(0xec), near(0xed), near(0xee)];
            (proptest::sample::select(points), any::<bool>()).prop_map(|(mut point, is_set)| {
                point[31] |= u8::from(is_set) << 7;
                point
            })
        }

        proptest! {
            #[test]
            fn both_libraries_agree_with_each_other(one in secrets(), other in secrets(), digest: [u8; 32]) {
                prop_assert_eq!(Provider::p256_public(&one), RustCrypto::p256_public(&one));
                let (Some(public), Some(_)) = (Provider::p256_public(&other), Provider::p256_public(&one)) else {
                    return Ok(());
                };
                let (mut ours, mut theirs) = ([0; 32], [1; 32]);
                prop_assert_eq!(Provider::p256_shared(&one, &public, &mut ours), Some(()));
                prop_assert_eq!(RustCrypto::p256_shared(&one, &public, &mut theirs), Some(()));
                prop_assert_eq!(ours, theirs);
                for signed in [Provider::p256_sign(&other, &digest), RustCrypto::p256_sign(&other, &digest)] {
                    let signed = signed.ok_or_else(|| TestCaseError::fail("not signed"))?;
                    prop_assert!(Provider::p256_verify(&public, &digest, &signed));
                    prop_assert!(RustCrypto::p256_verify(&public, &digest, &signed));
                }
            }

            #[test]
            fn both_libraries_agree_on_x25519(one: [u8; 32], other: [u8; 32], small in small_order()) {
                prop_assert_eq!(Provider::x25519_public(&one), RustCrypto::x25519_public(&one));
                for public in [other, small] {
                    let (mut ours, mut theirs) = ([0; 32], [0; 32]);
                    let agreed = Provider::x25519_shared(&one, &public, &mut ours);
                    prop_assert_eq!(agreed, RustCrypto::x25519_shared(&one, &public, &mut theirs));
                    prop_assert!(agreed.is_none() || ours == theirs);
                    prop_assert!(agreed.is_none() || public != small);
                }
            }

            #[test]
            fn both_refuse_the_same_points_and_signatures(
                secret in secrets(), place in 0_usize..65, byte: u8, digest: [u8; 32], bent in 0_usize..64,
            ) {
                let Some(mut public) = Provider::p256_public(&secret) else { return Ok(()) };
                let mut signed = RustCrypto::p256_sign(&secret, &digest).unwrap_or([0; SIGNATURE]);
                public[place] = byte;
                let mut shared = [0; 32];
                prop_assert_eq!(
                    Provider::p256_shared(&[7; 32], &public, &mut shared),
                    RustCrypto::p256_shared(&[7; 32], &public, &mut shared)
                );
                signed[bent] ^= byte;
                prop_assert_eq!(
                    Provider::p256_verify(&public, &digest, &signed),
                    RustCrypto::p256_verify(&public, &digest, &signed)
                );
            }
        }

        #[test]
        fn other_forms_of_a_point_are_none() {
            let point = Provider::p256_public(&[7; 32]).expect("a secret in range");
            for form in [0, 2, 3, 5, 6, 7] {
                let mut other = point;
                other[0] = form;
                assert_eq!(Provider::p256_shared(&[7; 32], &other, &mut [0; 32]), None, "{form}");
                assert!(!Provider::p256_verify(&other, &[1; 32], &[1; SIGNATURE]), "{form}");
            }
        }
    }
}
