//! Dates as RFC 3339 writes them (§5.6), in which some devices send a time (RFC 8949 §3.4.1).
//!
//! Invariant: a number out of its range is no date; a day behind the end of its month is of the next one.

/// The seconds since 1970 of `2013-03-21T20:04:00Z`, or with an offset in place of the Z. Fractions of a second are left out.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let (date, mut zone) = text.as_bytes().split_at_checked(19)?;
    let [year, month, day, hour, minute, second] = numbers(date, b"0000-00-00T00:00:00")?;
    if let [b'.', fraction @ ..] = zone {
        let end = fraction.iter().position(|byte| !byte.is_ascii_digit()).filter(|end| *end > 0)?;
        zone = fraction.get(end..)?;
    }
    let (is_east, [hours, minutes, ..]) = match zone {
        [b'Z' | b'z'] => (true, [0; 6]),
        [sign @ (b'+' | b'-'), offset @ ..] => (*sign == b'+', numbers(offset, b"00:00")?),
        _ => return None,
    };
    // A leap second is the 60th (RFC 3339 §5.7).
    let is_time = hour.max(hours) < 24 && minute.max(minutes) < 60 && second <= 60;
    (is_time && month.wrapping_sub(1) < 12 && day.wrapping_sub(1) < 31).then_some(())?;
    // Years begin in March, so that the day of a leap year is the last one. No number here has more than 23 bits.
    let (year, month) = match month.checked_sub(3) {
        Some(month) => (year, month),
        None => (year.checked_sub(1)?, month.wrapping_add(9)),
    };
    let days =
        year.wrapping_mul(365).wrapping_add(year / 4).wrapping_sub(year / 100).wrapping_add(year / 400);
    let days = days.wrapping_add(month.wrapping_mul(153).wrapping_add(2) / 5).wrapping_add(day);
    let in_seconds = |hours: u32, minutes: u32| hours.wrapping_mul(60).wrapping_add(minutes).wrapping_mul(60);
    let offset = in_seconds(hours, minutes);
    let offset = if is_east { offset.wrapping_neg() } else { offset };
    let time = in_seconds(hour, minute).wrapping_add(second).wrapping_add(offset).cast_signed();
    Some(i64::from(days).wrapping_sub(719_469).wrapping_mul(86_400).wrapping_add(time.into()))
}

/// The numbers in a text of this form, in which zeros stand for digits.
fn numbers(text: &[u8], form: &[u8]) -> Option<[u32; 6]> {
    let mut numbers = [0_u32; 6];
    let mut places = numbers.iter_mut();
    let mut place = places.next()?;
    for (byte, form) in text.iter().zip(form) {
        match (form, byte) {
            (b'0', b'0'..=b'9') => *place = place.wrapping_mul(10).wrapping_add((byte & 0x0f).into()),
            (b'T', b'T' | b't' | b' ') | (b'-', b'-') | (b':', b':') => place = places.next()?,
            _ => return None,
        }
    }
    (text.len() == form.len()).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_1970() {
        for (date, since) in [
            ("1970-01-01T00:00:00Z", 0),
            // RFC 8949 appendix A.
            ("2013-03-21T20:04:00Z", 1_363_896_240),
            // RFC 3339 §5.8.
            ("1985-04-12T23:20:50.52Z", 482_196_050),
            ("1996-12-19T16:39:57-08:00", 851_042_397),
            ("1990-12-31T23:59:60Z", 662_688_000),
            ("1990-12-31T15:59:60-08:00", 662_688_000),
            ("1937-01-01T12:00:27.87+00:20", -1_041_337_173),
            ("2000-02-29T00:00:00z", 951_782_400),
            ("2100-03-01 00:00:00Z", 4_107_542_400),
            ("0000-03-01t00:00:00Z", -62_162_035_200),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(seconds(date), Some(since), "{date}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "2013",
            "2013-03-21",
            "2013-03-21T20:04:00",
            "2013-03-21T20:04Z",
            "13-03-21T20:04:00Z",
            "2013-13-21T20:04:00Z",
            "2013-00-21T20:04:00Z",
            "2013-03-32T20:04:00Z",
            "2013-03-00T20:04:00Z",
            "2013-03-21T24:04:00Z",
            "2013-03-21T20:60:00Z",
            "2013-03-21T20:04:61Z",
            "2013-03-21T20:04:00.Z",
            "2013-03-21T20:04:00.5",
            "2013-03-21T20:04:00ZZ",
            "2013-03-21T20:04:00+24:00",
            "2013-03-21T20:04:00+01:60",
            "2013-03-21T20:04:00+01:00Z",
            "2013-03-21T20:04:00+1:00",
            "2013/03/21T20:04:00Z",
            "-013-03-21T20:04:00Z",
            "0000-02-29T00:00:00Z",
            "2013-03-21T+0:04:00Z",
            "2013-03-21T20:04:00é",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
