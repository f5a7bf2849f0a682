//! Numbers as decimal text, without the float code of `core` (33 kB on a Cortex-M): integers, and floating-point numbers
//! with the fewest digits that read back the same.
//!
//! Invariant: what is emitted parses to the same number. Parsing rounds to nearest, ties to even; of more than 36
//! significant digits the further ones only tell whether the number is above the first 36.

use core::cmp::Ordering;

use lwm2m_coap::{Full, Sink};

/// Writes an unsigned integer.
///
/// # Errors
/// The sink is full.
pub fn emit_unsigned(mut value: u64, sink: &mut dyn Sink) -> Result<(), Full> {
    // 2^64 has 20 digits.
    let mut text = [0_u8; 20];
    let mut start = text.len();
    for digit in text.iter_mut().rev() {
        let (rest, last) = tenth(value);
        *digit = b'0' | last;
        value = rest;
        start = start.saturating_sub(1);
        if value == 0 {
            break;
        }
    }
    sink.write(text.get(start..).unwrap_or_default())
}

/// Divides by ten with remainder, in three steps that a machine of 32 bits has an instruction for.
fn tenth(value: u64) -> (u64, u8) {
    let step = |rest: u32, part: u64| {
        let part = rest << 16 | part as u32;
        (part % 10, u64::from(part / 10))
    };
    let high = (value >> 32) as u32;
    let (rest, upper) = (high % 10, u64::from(high / 10));
    let (rest, middle) = step(rest, value >> 16 & 0xffff);
    let (rest, lower) = step(rest, value & 0xffff);
    (upper << 32 | middle << 16 | lower, rest as u8)
}

/// Writes a signed integer.
///
/// # Errors
/// The sink is full.
pub fn emit_integer(value: i64, sink: &mut dyn Sink) -> Result<(), Full> {
    if value < 0 {
        sink.write(b"-")?;
    }
    emit_unsigned(value.unsigned_abs(), sink)
}

/// Writes a floating-point number with the fewest digits that read back the same: `21.5`, `50`, `1e-7`. What is not
/// finite is written `NaN`, `Infinity` or `-Infinity`, which does not parse.
///
/// # Errors
/// The sink is full.
pub fn emit_float(value: f64, sink: &mut dyn Sink) -> Result<(), Full> {
    if value.is_nan() {
        return sink.write(b"NaN");
    }
    if value.is_sign_negative() {
        sink.write(b"-")?;
    }
    if value.is_infinite() {
        return sink.write(b"Infinity");
    }
    let digits = Digits::of(value);
    let text = digits.text();
    let point = digits.point;
    let length = i32::try_from(text.len()).unwrap_or(0);
    match point {
        // 215 × 10^-1: 21.5
        1..=21 if point < length => {
            let point = usize::try_from(point).unwrap_or(0);
            let (whole, fraction) = text.split_at_checked(point).unwrap_or((text, &[]));
            sink.write(whole)?;
            sink.write(b".")?;
            sink.write(fraction)
        }
        1..=21 => {
            sink.write(text)?;
            (length..point).try_for_each(|_| sink.write(b"0"))
        }
        -5..=0 => {
            sink.write(b"0.")?;
            (point..0).try_for_each(|_| sink.write(b"0"))?;
            sink.write(text)
        }
        _ => {
            let (first, rest) = text.split_at_checked(1).unwrap_or((text, &[]));
            sink.write(first)?;
            if !rest.is_empty() {
                sink.write(b".")?;
                sink.write(rest)?;
            }
            sink.write(b"e")?;
            emit_integer(i64::from(point).saturating_sub(1), sink)
        }
    }
}

/// Parses an unsigned integer: decimal digits only.
pub fn parse_unsigned(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| value.checked_mul(10)?.checked_add(u64::from(digit(*byte)?)))
}

/// Parses a signed integer: decimal digits, a sign before them.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, text) = sign(text);
    let magnitude = parse_unsigned(text)?;
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Parses a floating-point number: `21.5`, `-.5`, `1.0E10`. Nothing for what is beyond the range of an `f64`.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let (negative, text) = sign(text);
    let magnitude = Magnitude::parse(text)?.to_bits()?;
    Some(f64::from_bits(magnitude | u64::from(negative) << 63))
}

fn digit(byte: u8) -> Option<u8> {
    byte.checked_sub(b'0').filter(|digit| *digit <= 9)
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// The shortest digits of a number, 0.d₁d₂d₃… × 10^`point`.
struct Digits {
    digits: [u8; 17],
    length: usize,
    point: i32,
}

impl Digits {
    fn text(&self) -> &[u8] {
        self.digits.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, digit: u8) {
        if let Some(place) = self.digits.get_mut(self.length) {
            *place = b'0' | digit;
            self.length = self.length.saturating_add(1);
        }
    }

    /// Steele and White's free-format printing ("How to print floating-point numbers accurately", 1990), on integers:
    /// `remainder / scale` is what is left to print, `above` and `below` half the distance to the neighbours.
    fn of(value: f64) -> Self {
        let mut output = Self { digits: [0; 17], length: 0, point: 1 };
        let bits = value.to_bits();
        let fraction = bits & FRACTION;
        let biased = (bits >> 52) as i32 & 0x7ff;
        let (mantissa, exponent) = match biased {
            0 => (fraction, -1074),
            _ => (fraction | HIDDEN, biased.saturating_sub(1075)),
        };
        if mantissa == 0 {
            output.push(0);
            return output;
        }
        // Read back, a number half-way between two goes to the even one: then the borders belong to it.
        let inclusive = mantissa & 1 == 0;
        // The neighbour below a power of two is only half as far away.
        let closer = fraction == 0 && biased > 1;

        let mut remainder = Big::new(mantissa << 2);
        let mut scale = Big::new(4);
        let mut above = Big::new(2);
        let mut below = Big::new(if closer { 1 } else { 2 });
        if exponent >= 0 {
            for number in [&mut remainder, &mut above, &mut below] {
                number.shift_left(exponent.unsigned_abs());
            }
        } else {
            scale.shift_left(exponent.unsigned_abs());
        }

        // ⌊log₁₀ 2^(bits - 1)⌋ + 1: exact for the power of two, at most one too small for the number.
        let magnitude = 63_i32.saturating_sub(mantissa.leading_zeros() as i32).saturating_add(exponent);
        let mut point = (magnitude.saturating_mul(315_653) >> 20).saturating_add(1);
        if point >= 0 {
            scale.multiply_power_of_ten(point.unsigned_abs());
        } else {
            for number in [&mut remainder, &mut above, &mut below] {
                number.multiply_power_of_ten(point.unsigned_abs());
            }
        }
        let reaches = |remainder: &Big, above: &Big, scale: &Big| {
            let mut sum = remainder.clone();
            sum.add(above);
            let order = sum.compare(scale);
            order == Ordering::Greater || inclusive && order == Ordering::Equal
        };
        if reaches(&remainder, &above, &scale) {
            point = point.saturating_add(1);
        } else {
            for number in [&mut remainder, &mut above, &mut below] {
                number.multiply_add(10, 0);
            }
        }
        output.point = point;

        loop {
            let mut digit = 0_u8;
            while digit < 9 && remainder.compare(&scale) != Ordering::Less {
                remainder.subtract(&scale);
                digit = digit.saturating_add(1);
            }
            let order = remainder.compare(&below);
            let low = order == Ordering::Less || inclusive && order == Ordering::Equal;
            let high = reaches(&remainder, &above, &scale);
            if !low && !high && output.length < output.digits.len().saturating_sub(1) {
                output.push(digit);
                for number in [&mut remainder, &mut above, &mut below] {
                    number.multiply_add(10, 0);
                }
                continue;
            }
            let mut twice = remainder.clone();
            twice.multiply_add(2, 0);
            let up = if low == high { twice.compare(&scale) != Ordering::Less } else { high };
            output.push(digit.saturating_add(u8::from(up)));
            return output;
        }
    }
}

/// A parsed number without its sign: `digits` × 10^`exponent`.
struct Magnitude {
    digits: Big,
    /// How many digits that is.
    length: i32,
    exponent: i32,
}

impl Magnitude {
    /// More digits than any number half-way between two short ones needs.
    const MOST: i32 = 36;

    fn parse(mut text: &[u8]) -> Option<Self> {
        let mut number = Self { digits: Big::new(0), length: 0, exponent: 0 };
        let mut any = false;
        let mut beyond = false;
        let mut point = false;
        while let [byte, rest @ ..] = text {
            if *byte == b'.' && !point {
                point = true;
            } else if let Some(digit) = digit(*byte) {
                any = true;
                if number.length >= Self::MOST {
                    beyond |= digit != 0;
                    number.exponent = number.exponent.saturating_add(i32::from(!point));
                } else {
                    if digit != 0 || number.length > 0 {
                        number.push(digit);
                    }
                    number.exponent = number.exponent.saturating_sub(i32::from(point));
                }
            } else {
                break;
            }
            text = rest;
        }
        if !any {
            return None;
        }
        if let [b'e' | b'E', rest @ ..] = text {
            let (negative, rest) = sign(rest);
            if rest.is_empty() {
                return None;
            }
            let mut exponent = 0_i32;
            for byte in rest {
                exponent = exponent.saturating_mul(10).saturating_add(i32::from(digit(*byte)?));
            }
            number.exponent =
                number.exponent.saturating_add(if negative { exponent.saturating_neg() } else { exponent });
        } else if !text.is_empty() {
            return None;
        }
        if beyond {
            number.push(1);
            number.exponent = number.exponent.saturating_sub(1);
        }
        Some(number)
    }

    fn push(&mut self, digit: u8) {
        self.digits.multiply_add(10, u32::from(digit));
        self.length = self.length.saturating_add(1);
    }

    /// Divides bit by bit, and rounds by what is left.
    fn to_bits(&self) -> Option<u64> {
        let magnitude = self.length.saturating_add(self.exponent);
        // Below 10^-324 everything is zero, above 10^309 nothing is finite; this also bounds the numbers that follow.
        if self.length == 0 || magnitude < -324 {
            return Some(0);
        }
        if magnitude > 309 {
            return None;
        }
        let mut numerator = self.digits.clone();
        let mut denominator = Big::new(1);
        let grown = if self.exponent < 0 { &mut denominator } else { &mut numerator };
        grown.multiply_power_of_ten(self.exponent.unsigned_abs());

        // numerator / denominator in [1, 2), the number that times 2^exponent.
        let mut exponent = numerator.bits().saturating_sub(denominator.bits());
        let shifted = if exponent < 0 { &mut numerator } else { &mut denominator };
        shifted.shift_left(exponent.unsigned_abs());
        if numerator.compare(&denominator) == Ordering::Less {
            numerator.multiply_add(2, 0);
            exponent = exponent.saturating_sub(1);
        }

        let wanted = exponent.saturating_add(1022).min(0).saturating_add(53);
        if wanted < 0 {
            return Some(0);
        }
        let mut mantissa = 0_u64;
        for _ in 0..wanted {
            mantissa <<= 1;
            if numerator.compare(&denominator) != Ordering::Less {
                numerator.subtract(&denominator);
                mantissa |= 1;
            }
            numerator.multiply_add(2, 0);
        }
        // What is left, in halves of the last bit.
        let order = numerator.compare(&denominator);
        let up = order == Ordering::Greater || order == Ordering::Equal && mantissa & 1 == 1;
        let mantissa = mantissa.saturating_add(u64::from(up));
        if wanted < 53 {
            return Some(mantissa);
        }
        // A mantissa rounded up to 2^53 carries into the exponent, as it should.
        let biased = u64::try_from(exponent.saturating_add(1022)).ok()?;
        let bits = (biased << 52).checked_add(mantissa)?;
        (bits < INFINITE).then_some(bits)
    }
}

const FRACTION: u64 = HIDDEN - 1;
const HIDDEN: u64 = 1 << 52;
const INFINITE: u64 = 0x7ff << 52;

/// An unsigned integer of at most 1,408 bits: 10^363 and 2^1078 have their place in it.
#[derive(Clone)]
struct Big {
    /// Least significant first; zero from `length` on.
    limbs: [u32; 44],
    length: usize,
}

impl Big {
    fn new(value: u64) -> Self {
        let mut big = Self { limbs: [0; 44], length: 0 };
        big.push(value as u32);
        big.push((value >> 32) as u32);
        big
    }

    fn active(&self) -> &[u32] {
        self.limbs.get(..self.length).unwrap_or_default()
    }

    /// Adds a limb on top. Callers stay within the capacity.
    fn push(&mut self, limb: u32) {
        if let Some(place) = self.limbs.get_mut(self.length) {
            *place = limb;
            self.length = self.length.saturating_add(1);
        }
    }

    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in self.limbs.iter_mut().take(self.length) {
            // (2^32 - 1)² + 2^32 - 1 is below 2^64.
            carry = u64::from(*limb).wrapping_mul(u64::from(factor)).wrapping_add(carry);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry != 0 {
            self.push(carry as u32);
        }
    }

    fn multiply_power_of_ten(&mut self, mut exponent: u32) {
        while exponent > 0 {
            let step = exponent.min(9);
            self.multiply_add(10_u32.wrapping_pow(step), 0);
            exponent = exponent.saturating_sub(step);
        }
    }

    fn shift_left(&mut self, mut bits: u32) {
        while bits > 0 {
            let step = bits.min(31);
            self.multiply_add(1 << step, 0);
            bits = bits.saturating_sub(step);
        }
    }

    fn add(&mut self, other: &Self) {
        while self.length < other.length {
            self.push(0);
        }
        let mut carry = 0_u64;
        for (limb, addend) in self.limbs.iter_mut().take(self.length).zip(other.limbs) {
            carry = carry.wrapping_add(u64::from(*limb)).wrapping_add(u64::from(addend));
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry != 0 {
            self.push(carry as u32);
        }
    }

    /// Subtracts a number that is not greater.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (limb, subtrahend) in self.limbs.iter_mut().take(self.length).zip(other.limbs) {
            let (difference, first) = limb.overflowing_sub(subtrahend);
            let (difference, second) = difference.overflowing_sub(u32::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let length = self.length.max(other.length);
        let [ours, theirs] = [self, other].map(|big| big.limbs.iter().take(length).rev());
        ours.cmp(theirs)
    }

    fn bits(&self) -> i32 {
        let top = self.active().iter().rposition(|limb| *limb != 0).unwrap_or(0);
        let limb = self.limbs.get(top).copied().unwrap_or(0);
        (top as i32).saturating_mul(32).saturating_add(32_u32.saturating_sub(limb.leading_zeros()) as i32)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "test")]
    extern crate std;

    use proptest::prelude::*;
    use std::string::{String, ToString};

    use super::*;

    fn float(value: f64) -> String {
        let mut text = heapless::Vec::<u8, 40>::new();
        emit_float(value, &mut text).unwrap();
        String::from_utf8(text.to_vec()).unwrap()
    }

    fn digits_of(text: &str) -> String {
        let mantissa = text.split(['e', 'E']).next().unwrap();
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        digits.trim_matches('0').to_string()
    }

    #[test]
    fn floats_are_written_short() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (21.5, "21.5"),
            (50.0, "50"),
            (-0.1, "-0.1"),
            (42.2, "42.2"),
            (1e21, "1e21"),
            (1e20, "100000000000000000000"),
            (1.5e-6, "0.0000015"),
            (1e-7, "1e-7"),
            (1.25e-9, "1.25e-9"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e308"),
            (2.225_073_858_507_201_4e-308, "2.2250738585072014e-308"),
            (0.3, "0.3"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn text_is_read_as_the_nearest_float() {
        for text in [
            "0",
            "1",
            "21.5",
            "-.5",
            "5.",
            "1.0E10",
            "1e-7",
            "+3",
            "1e-324",
            "2.4703282292062327e-324",
            "2.4703282292062328e-324",
            "2.2250738585072011e-308",
            "2.2250738585072014e-308",
            "1.7976931348623157e308",
            "1.7976931348623158e308",
            "9007199254740993",
            "9007199254740992.999999999999999999999999999999999999999999",
            "1e308",
            "9007199254740993.0000000000000000000000000000000000000000000000000001",
            "123456789012345678901234567890123456789012345678",
            "0.000000000000000000000000000000000000000000000000000000000000000000000000000000000001",
            "1e-400",
            "00000001.5",
            "8.41e21",
            "9.5e-3",
            "2.5e-324",
            "7.5e-324",
            "4.4501477170144023e-308",
            "1448997445238699",
            "6.631236846766476e-316",
        ] {
            let own = parse_float(text.as_bytes()).unwrap();
            assert_eq!(own.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", "-", ".", "e5", "1e", "1e+", "1.2.3", "1x", " 1", "1 ", "NaN", "inf", "1e309", "--1", "0x10",
            "1e5.5",
        ] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text}");
        }
        for text in ["", "-", "9223372036854775808", "-9223372036854775809", "1.0", "1e3", "a"] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_unsigned(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_unsigned(b"18446744073709551616"), None);
        assert_eq!(parse_unsigned(b"+1"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn every_float_reads_back_with_as_few_digits_as_core_writes(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = float(value);
            prop_assert_eq!(parse_float(text.as_bytes()).unwrap().to_bits(), bits);
            prop_assert_eq!(digits_of(&text), digits_of(&std::format!("{value:e}")));
        }

        #[test]
        fn floats_of_everyday_size_read_back(whole in -100_000_i64..100_000, places in 0_i32..6) {
            let value = whole as f64 / 10_f64.powi(places);
            let text = float(value);
            prop_assert_eq!(&text, &value.to_string());
            prop_assert_eq!(parse_float(text.as_bytes()), Some(value));
        }

        #[test]
        fn decimal_text_is_read_as_core_reads_it(text in "-?[0-9]{0,30}[.][0-9]{1,30}([eE][-+]?[0-9]{1,3})?") {
            let expected = text.parse::<f64>().unwrap();
            let own = parse_float(text.as_bytes());
            prop_assert_eq!(own.unwrap_or(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }).to_bits(), expected.to_bits());
        }

        #[test]
        fn integers_read_back(value in any::<i64>()) {
            let mut text = heapless::Vec::<u8, 20>::new();
            emit_integer(value, &mut text).unwrap();
            prop_assert_eq!(parse_integer(&text), Some(value));
        }

        #[test]
        fn no_bytes_make_a_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_float(&text);
            let _ = parse_integer(&text);
        }
    }
}
