//! Floating-point numbers by their bits: comparison, distance and conversion on integers, without the code that the
//! compiler's runtime has for machines without a unit of double precision.
//!
//! Invariant: results are those of IEEE 754, but for [`distance`], which does not round and takes an infinity for 2^1024.

use core::cmp::Ordering;

const SIGN: u64 = 1 << 63;
const FRACTION: u64 = (1 << 52) - 1;
const INFINITY: u64 = 0x7ff << 52;

/// Compares two numbers; nothing when one of them is not a number.
pub(crate) fn compare(one: f64, other: f64) -> Option<Ordering> {
    Some(ordered(one)?.cmp(&ordered(other)?))
}

/// An integer that is ordered as the number is; both zeros are 0.
fn ordered(value: f64) -> Option<i64> {
    let magnitude = value.to_bits() & !SIGN;
    if magnitude > INFINITY {
        return None;
    }
    let magnitude = magnitude.cast_signed();
    Some(if value.is_sign_negative() { magnitude.wrapping_neg() } else { magnitude })
}

/// Compares the distance of two numbers with `step` × 2^`doublings`, which is not negative; nothing when one of them is
/// not a number.
pub(crate) fn distance(one: f64, other: f64, step: f64, doublings: u16) -> Option<Ordering> {
    let [greater, less] = if compare(one, other)?.is_lt() { [other, one] } else { [one, other] };
    compare(step, step)?;
    let (minuend, subtrahend) = (Scaled::of(greater, 0), Scaled::of(less, 0));
    let step = Scaled::of(step, doublings);
    let exponent = minuend.exponent.max(subtrahend.exponent).max(step.exponent);
    let signed = |scaled: Scaled, value: f64| {
        let mantissa = scaled.at(exponent);
        if value.is_sign_negative() { mantissa.wrapping_neg() } else { mantissa }
    };
    let distance = signed(minuend, greater).wrapping_sub(signed(subtrahend, less));
    Some(distance.cmp(&step.at(exponent)))
}

/// The integer that a number is; nothing for what has a fraction, and from 2^53 on.
#[cfg(feature = "json")]
pub(crate) fn to_integer(value: f64) -> Option<i64> {
    let integer = truncate(value)?;
    let is_whole = from_integer(integer).to_bits() & !SIGN == value.to_bits() & !SIGN;
    is_whole.then_some(integer)
}

/// The integer that a number is without its fraction; nothing from 2^53 on.
pub(crate) fn truncate(value: f64) -> Option<i64> {
    let magnitude = value.to_bits() & !SIGN;
    let mantissa = magnitude & FRACTION | 1 << 52;
    let integer = match 1075_u64.checked_sub(magnitude >> 52)? {
        fraction @ ..=52 => (mantissa >> fraction).cast_signed(),
        _ => 0,
    };
    Some(if value.is_sign_negative() { integer.wrapping_neg() } else { integer })
}

/// A magnitude: 53 bits above 8 for what is shifted out.
#[derive(Clone, Copy)]
struct Scaled {
    mantissa: i64,
    exponent: u16,
}

impl Scaled {
    fn of(value: f64, doublings: u16) -> Self {
        let bits = value.to_bits() & !SIGN;
        let (hidden, exponent) = match bits >> 52 {
            0 => (0, 1),
            exponent => (1 << 52, exponent as u16),
        };
        Self {
            mantissa: ((bits & FRACTION | hidden) << 8).cast_signed(),
            exponent: exponent.saturating_add(doublings),
        }
    }

    /// The mantissa for a greater exponent. What is shifted out leaves a one behind.
    fn at(self, exponent: u16) -> i64 {
        let shift = u32::from(exponent.saturating_sub(self.exponent)).min(62);
        let shifted = self.mantissa >> shift;
        shifted | i64::from(shifted << shift != self.mantissa)
    }
}

/// The number nearest to an integer.
pub(crate) fn from_integer(value: i64) -> f64 {
    let magnitude = from_unsigned(value.unsigned_abs()).to_bits();
    f64::from_bits(magnitude | value.cast_unsigned() & SIGN)
}

/// The number nearest to an integer; of two the even one.
pub(crate) fn from_unsigned(value: u64) -> f64 {
    if value == 0 {
        return 0.0;
    }
    let zeros = value.leading_zeros();
    // The leading one in bit 63; the lower 11 bits are to be rounded off.
    let mantissa = value << zeros;
    let (kept, rest) = (mantissa >> 11, mantissa & 0x7ff);
    let up = u64::from(rest > 0x400 || rest == 0x400 && kept & 1 != 0);
    // The hidden one adds 1 to the exponent, and so does a carry out of the fraction.
    let exponent = u64::from(1085_u32.saturating_sub(zeros));
    f64::from_bits((exponent << 52).wrapping_add(kept).wrapping_add(up))
}

/// Widens a float of 16 bits.
pub(crate) fn from_half(bits: u16) -> f64 {
    widen(u64::from(bits) << 48, 5)
}

/// Widens a float of 32 bits.
pub(crate) fn from_single(bits: u32) -> f64 {
    widen(u64::from(bits) << 32, 8)
}

/// Widens a float at the upper end of `bits`, of which `width` are its exponent.
fn widen(bits: u64, width: u32) -> f64 {
    let largest = (1_u64 << width).wrapping_sub(1);
    let (exponent, fraction) = (bits << 1 >> 64_u32.saturating_sub(width), bits << 1 << width);
    // The difference of the exponents' middles.
    let shift = 1024_u64.saturating_sub(largest.wrapping_add(1) >> 1);
    let (exponent, fraction) = match exponent {
        0 if fraction == 0 => (0, 0),
        0 => {
            // Subnormal: the first one-bit becomes the hidden one.
            let zeros = fraction.leading_zeros();
            (shift.saturating_sub(u64::from(zeros)), fraction << zeros << 1)
        }
        exponent if exponent == largest => (0x7ff, fraction),
        exponent => (exponent.saturating_add(shift), fraction),
    };
    f64::from_bits(bits & SIGN | exponent << 52 | fraction >> 12)
}

/// Returns the same number in 32 bits, if it has one.
pub(crate) fn narrow(value: f64) -> Option<f32> {
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as u32;
    let sign = (bits >> 32) as u32 & 0x8000_0000;
    let fraction = (bits >> 29) as u32 & 0x7f_ffff;
    let exponent = match exponent {
        0 => 0,
        0x7ff => 0xff,
        // Subnormal in 32 bits: left as it is.
        _ => exponent.checked_sub(896).filter(|exponent| (1..0xff).contains(exponent))?,
    };
    let exact = bits & 0x1fff_ffff == 0 && (exponent != 0 || fraction == 0);
    exact.then(|| f32::from_bits(sign | exponent << 23 | fraction))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::float_cmp, clippy::cast_precision_loss, reason = "test")]
    use proptest::prelude::*;

    use super::*;

    const EDGES: [f64; 14] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.1,
        f64::MIN_POSITIVE,
        5e-324,
        -5e-324,
        f64::MAX,
        f64::MIN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        f64::EPSILON,
    ];

    #[test]
    fn edges_compare_as_ieee_754_says() {
        for one in EDGES {
            for other in EDGES {
                assert_eq!(compare(one, other), one.partial_cmp(&other), "{one} {other}");
            }
        }
    }

    #[test]
    fn a_distance_is_exact_where_it_has_to_be() {
        assert_eq!(distance(21.5, 22.0, 0.5, 0), Some(Ordering::Equal));
        assert_eq!(distance(22.0, 21.5, 0.25, 1), Some(Ordering::Equal));
        assert_eq!(distance(-1.0, 1.0, 2.0, 0), Some(Ordering::Equal));
        assert_eq!(distance(-1.0, 1.0, 2.0, 1), Some(Ordering::Less));
        assert_eq!(distance(1e300, 1e-300, 1e299, 0), Some(Ordering::Greater));
        assert_eq!(distance(1.0, 1.0, 0.0, 0), Some(Ordering::Equal));
        assert_eq!(distance(1.0, 1.0, 5e-324, 0), Some(Ordering::Less));
        assert_eq!(distance(1.0, 1.0 + f64::EPSILON, 5e-324, 0), Some(Ordering::Greater));
        assert_eq!(distance(f64::NAN, 1.0, 1.0, 0), None);
        assert_eq!(distance(1.0, 1.0, f64::NAN, 0), None);
    }

    #[test]
    fn every_half_widens_as_an_independent_decoder_widens_it() {
        for bits in 0..=u16::MAX {
            let [high, low] = bits.to_be_bytes();
            let bytes = [0xf9, high, low];
            let theirs = minicbor::Decoder::new(&bytes).f16().map(f64::from).unwrap_or(f64::NAN);
            let ours = from_half(bits);
            assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "{bits:#x}: {ours} {theirs}");
        }
    }

    proptest! {
        #[test]
        fn numbers_compare_as_ieee_754_says(one in any::<f64>(), other in any::<f64>()) {
            prop_assert_eq!(compare(one, other), one.partial_cmp(&other));
        }

        #[test]
        fn a_distance_is_that_of_integers(one in -1_000_000_i32.., other in any::<i32>(), step in 0..i32::MAX) {
            let exact = i64::from(one.abs_diff(other));
            let ordering = distance(one.into(), other.into(), step.into(), 0);
            prop_assert_eq!(ordering, Some(exact.cmp(&i64::from(step))));
        }

        #[test]
        fn a_distance_differs_from_a_rounded_one_only_where_that_rounds(one in -1e6..1e6_f64, other in -1e6..1e6_f64, step in 0.0..1e6_f64) {
            let rounded = (one - other).abs();
            prop_assume!(rounded != step);
            prop_assert_eq!(distance(one, other, step, 0), rounded.partial_cmp(&step));
        }

        #[test]
        fn integers_convert_as_ieee_754_says(value in any::<i64>(), shift in 0..64_u32) {
            let (signed, unsigned) = (value >> shift, value.cast_unsigned() >> shift);
            prop_assert_eq!(from_integer(signed), signed as f64);
            prop_assert_eq!(from_unsigned(unsigned), unsigned as f64);
        }

        #[test]
        fn singles_widen_and_come_back(bits in any::<u32>()) {
            let (ours, theirs) = (from_single(bits), f64::from(f32::from_bits(bits)));
            prop_assert!(ours == theirs || ours.is_nan() && theirs.is_nan());
            if let Some(narrow) = narrow(ours) {
                prop_assert_eq!(narrow.to_bits(), bits);
            }
        }
    }
}
