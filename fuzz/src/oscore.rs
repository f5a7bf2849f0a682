//! The OSCORE option and what it names (RFC 8613 §6.1, §3.2).

use oscore::{
    AeadAlgorithm, HmacAlgorithm, IdContext, KeyId, MasterSecret, OscoreOption, Parameters, PartialIv,
};

/// What is parsed is emitted again byte for byte, and not into less room; its parts are what they were made of.
pub fn option(value: &[u8]) {
    parameters(value);
    let option = match OscoreOption::parse(value) {
        Ok(option) => option,
        Err(malformed) => {
            assert!(!malformed.to_string().is_empty());
            return;
        }
    };
    let mut out = vec![0xaa; value.len()];
    assert_eq!(option.emit(&mut out), Some(value.len()));
    assert_eq!(out, value);
    if let Some(short) = value.len().checked_sub(1) {
        assert_eq!(option.emit(&mut out[..short]), None);
    }
    if let Some(number) = option.partial_iv {
        assert_eq!(PartialIv::new(number.sequence()), Some(number));
    }
    if let Some(context) = option.kid_context {
        assert_eq!(IdContext::new(context.bytes()), Some(context));
    }
    if let Some(kid) = option.kid {
        assert_eq!(KeyId::new(kid.bytes()), Some(kid));
    }
}

/// Parameters of a context, out of a first byte that says where to cut.
fn parameters(value: &[u8]) {
    let Some((cut, rest)) = value.split_first() else { return };
    let (secret, ids) = rest.split_at(usize::from(*cut).min(rest.len()));
    let (one, other) = ids.split_at(ids.len() / 2);
    for number in [i32::from(*cut), -i32::from(*cut)] {
        assert!(
            AeadAlgorithm::from_cose(number).is_none_or(|algorithm| i32::from(algorithm.cose()) == number)
        );
        let _ = HmacAlgorithm::from_cose(number);
    }
    let Some(master) = MasterSecret::new(secret) else {
        assert!(secret.is_empty() || secret.len() > MasterSecret::MAX_LENGTH);
        return;
    };
    assert_eq!(master.bytes(), secret);
    assert_eq!(format!("{master:?}"), "MasterSecret(..)");
    let (Some(sender), Some(recipient)) = (KeyId::new(one), KeyId::new(other)) else { return };
    match Parameters::new(master, sender, recipient) {
        Ok(parameters) => {
            assert_eq!((parameters.sender_id(), parameters.recipient_id()), (sender, recipient));
        }
        Err(invalid) => {
            assert_eq!(sender, recipient);
            assert!(!invalid.to_string().is_empty());
        }
    }
}
