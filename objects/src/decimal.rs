//! Numbers as decimal text, without the float code of `core`.

use crate::{Full, Sink};

/// Writes a number.
///
/// # Errors
/// The sink is full.
pub fn emit_unsigned(mut value: u64, sink: &mut dyn Sink) -> Result<(), Full> {
    // 2^64 has 20 digits.
    let mut text = [0_u8; 20];
    let mut start = text.len();
    for digit in text.iter_mut().rev() {
        *digit = b'0' | (value % 10) as u8;
        value /= 10;
        start = start.saturating_sub(1);
        if value == 0 {
            break;
        }
    }
    sink.write(text.get(start..).unwrap_or_default())
}
