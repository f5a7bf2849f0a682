//! Dates as RFC 3339 writes them (§5.6), in which some devices send a time (RFC 8949 §3.4.1).
//!
//! Invariant: a number out of its range is no date; a day behind the end of its month is of the next one.

/// The seconds since 1970 of `2013-03-21T20:04:00Z`, or with an offset in place of the Z. Fractions of a second are left out.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let mut number = |before: &[u8], digits: usize| {
        let number;
        (number, rest) = split(rest, before, digits)?;
        Some(number)
    };
    let (year, month, day) = (number(b"", 4)?, number(b"-", 2)?, number(b"-", 2)?);
    let (hour, minute, second) = (number(b"Tt ", 2)?, number(b":", 2)?, number(b":", 2)?);
    if let [b'.', fraction @ ..] = rest {
        let end = fraction.iter().position(|byte| !byte.is_ascii_digit()).filter(|end| *end > 0)?;
        rest = fraction.get(end..)?;
    }
    let offset = match *rest {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), ref digits @ ..] => {
            let (hours, rest) = split(digits, b"", 2)?;
            let (minutes, rest) = split(rest, b":", 2)?;
            let offset = hours.wrapping_mul(60).wrapping_add(minutes);
            (hours < 24 && minutes < 60 && rest.is_empty()).then_some(())?;
            if sign == b'-' { offset } else { offset.wrapping_neg() }
        }
        _ => return None,
    };
    let is_day = (1..=12).contains(&month) && (1..=31).contains(&day);
    // A leap second is the 60th (RFC 3339 §5.7).
    (is_day && hour < 24 && minute < 60 && second <= 60).then_some(())?;
    // Years begin in March, so that the day of a leap year is the last one; no sum here has more than 22 bits.
    let before_march = i32::from(month < 3);
    let year = year.wrapping_sub(before_march);
    let month = month.wrapping_sub(3).wrapping_add(before_march.wrapping_mul(12));
    let leaps = (year >> 2).wrapping_sub(year.div_euclid(100)).wrapping_add(year.div_euclid(400));
    let day_of_year = (month.wrapping_mul(153).wrapping_add(2) / 5).wrapping_add(day);
    let days = year.wrapping_mul(365).wrapping_add(leaps).wrapping_add(day_of_year).wrapping_sub(719_469);
    let minutes = hour.wrapping_mul(60).wrapping_add(minute).wrapping_add(offset);
    let minutes = i64::from(days).wrapping_mul(1440).wrapping_add(minutes.into());
    Some(minutes.wrapping_mul(60).wrapping_add(second.into()))
}

/// Splits a number of so many digits off, and one of the bytes before it.
fn split<'t>(text: &'t [u8], before: &[u8], digits: usize) -> Option<(i32, &'t [u8])> {
    let text = match text.split_first() {
        _ if before.is_empty() => text,
        Some((first, rest)) if before.contains(first) => rest,
        _ => return None,
    };
    let (number, rest) = text.split_at_checked(digits)?;
    let number = number.iter().try_fold(0_i32, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        Some(number.wrapping_mul(10).wrapping_add(digit.into()))
    });
    Some((number?, rest))
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
            ("0000-01-01t00:00:00Z", -62_167_219_200),
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
            "2013-03-21T+0:04:00Z",
            "2013-03-21T20:04:00é",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
