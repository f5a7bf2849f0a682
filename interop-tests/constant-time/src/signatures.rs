//! Raw public keys: the key that signs, and what is agreed on beside the signatures, which are public.

use dtls_psk::{
    Answer, ClientCertificate, Computation, Crypto as _, Handshake, Input, Operation, PendingId, Purpose,
    RAW_PUBLIC_KEY, RustCrypto, Suite, raw_public_key,
};

use crate::Findings;
use crate::parties::*;
use crate::secret::{Watched, hide, show};

const SUITE: Suite = Suite::EcdheEcdsaAes128Ccm8;

/// That the key is below the order of the group and not zero; the same of the nonce, on its way in and where it is inverted; and
/// of both numbers of the signature, which are public then. Nobody ever sees any of it otherwise.
const SIGNED: usize = 2 + 4 + 4;

/// That the secret is below the order of the group and not zero.
const AGREED: usize = 2;

pub(crate) fn run(findings: &mut Findings) {
    let (client_key, server_key) = (Signer::new(1), Signer::new(2));
    let certificate = ClientCertificate::RawPublicKey;
    let mut client =
        Party::certificate_client(NOW, &config(SUITE), certificate, &mut rng(3), Handshake::default())
            .expect("a client can be made");
    let mut server = server_of(&mut client, None, |_| {});
    assert!(server_key.answer(findings, "server", &mut server).is_none());
    assert_eq!(receive(&mut client, &sent(&mut server)), None);

    let proof = client_key.answer(findings, "client", &mut client).expect("the flight is there");
    assert_eq!(prove_by(findings, "client", &mut client, proof, 0), None);
    assert!(client_key.answer(findings, "client", &mut client).is_none());
    assert_eq!(receive(&mut server, &sent(&mut client)), None);

    let proof = server_key.answer(findings, "server", &mut server).expect("the flight is there");
    // The tag of the Finished is public, and whether it holds what it must.
    assert_eq!(prove_by(findings, "server", &mut server, proof, 2), Some(Came::Established));
    let flight = sent(&mut server);
    let case = "raw public keys, client: the server's Finished";
    assert_eq!(findings.case(case, 2, || receive(&mut client, &flight)), Some(Came::Established));
}

/// Computes what is proven, and goes on with it.
fn prove_by(
    findings: &mut Findings,
    who: &str,
    party: &mut Party,
    (id, computation): (PendingId, Computation),
    results: usize,
) -> Option<Came> {
    let case = format!("raw public keys, {who}: the proof");
    let computed = findings.case(&case, AGREED, || computation.run::<Watched>());
    let case = format!("raw public keys, {who}: what follows from the proof");
    let input = findings.case(&case, results, || party.provide(NOW, id, Answer::Computed(computed)));
    match input.expect("it is pending")? {
        Input::Established { .. } => Some(Came::Established),
        Input::Closed(reason) => Some(Came::Closed(reason)),
        other => panic!("{other:?}"),
    }
}

/// A secret key and its public one.
struct Signer {
    secret: [u8; 32],
    public: [u8; RAW_PUBLIC_KEY],
}

impl Signer {
    fn new(seed: u8) -> Self {
        let mut secret = [seed; 32];
        let public = raw_public_key(&RustCrypto::p256_public(&secret).expect("it is in range"));
        hide(&mut secret);
        Self { secret, public }
    }

    /// Answers everything but what is to be proven.
    fn answer(
        &self,
        findings: &mut Findings,
        who: &str,
        party: &mut Party,
    ) -> Option<(PendingId, Computation)> {
        while let Some(pending) = party.poll_pending() {
            let id = pending.id;
            let mut signature;
            let presented = [&self.public[..]];
            let answer = match pending.operation {
                Operation::CheckPeer { .. } => Answer::Trusted,
                Operation::Present { .. } => Answer::Certificates(&presented),
                Operation::Sign { digest } => {
                    let case = format!("raw public keys, {who}: the signature");
                    let signed = findings.case(&case, SIGNED, || RustCrypto::p256_sign(&self.secret, digest));
                    signature = signed.expect("the key is in range");
                    show(&mut signature);
                    Answer::Signature(&signature)
                }
                Operation::Compute(computation) if computation.purpose() == Purpose::Proof => {
                    return Some((id, computation));
                }
                Operation::Compute(computation) => Answer::Computed(computation.run::<Watched>()),
                other => panic!("{other:?}"),
            };
            assert_eq!(party.provide(NOW, id, answer), Ok(None));
        }
        None
    }
}
