//! The OSCORE option (RFC 8613 §6.1).

use oscore::OscoreOption;

/// What is parsed is emitted again byte for byte, and not into less room.
pub fn option(value: &[u8]) {
    let Ok(option) = OscoreOption::parse(value) else { return };
    let mut out = vec![0xaa; value.len()];
    assert_eq!(option.emit(&mut out), Some(value.len()));
    assert_eq!(out, value);
    if let Some(short) = value.len().checked_sub(1) {
        assert_eq!(option.emit(&mut out[..short]), None);
    }
}
