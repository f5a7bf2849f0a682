//! Dates of certificates and of people, as seconds since 1970 (RFC 5280 §4.1.2.5; the calendar after Howard Hinnant).

/// Seconds since 1970 as `2026-11-20T14:00:00Z`.
#[must_use]
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days.saturating_add(719_468);
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe =
        doe.saturating_sub(doe / 1_460).saturating_add(doe / 36_524).saturating_sub(doe / 146_096) / 365;
    let doy = doe.saturating_sub(yoe.saturating_mul(365).saturating_add(yoe / 4).saturating_sub(yoe / 100));
    let mp = doy.saturating_mul(5).saturating_add(2) / 153;
    let day = doy.saturating_sub(mp.saturating_mul(153).saturating_add(2) / 5).saturating_add(1);
    let month = if mp < 10 { mp.saturating_add(3) } else { mp.saturating_sub(9) };
    let year = yoe.saturating_add(era.saturating_mul(400)).saturating_add(u64::from(month <= 2));
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest % 3600 / 60, rest % 60)
}

/// Seconds since 1970 of the digits `YYYYMMDDHHMMSS`; 0 for what lies before, `None` for what is no date.
pub(super) fn seconds(digits: &[u8]) -> Option<u64> {
    let mut parts = [0_u64; 7];
    if digits.len() != 14 {
        return None;
    }
    for (part, pair) in parts.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            *part = part.saturating_mul(10).saturating_add(digit.into());
        }
    }
    let [century, year, month, day, hour, minute, second] = parts;
    let year = century.saturating_mul(100).saturating_add(year);
    ((1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61)
        .then_some(())?;
    // Years begin in March, so that the day of the leap year is the last one.
    let (year, month) = match month.checked_sub(3) {
        Some(month) => (year, month),
        None => (year.checked_sub(1)?, month.saturating_add(9)),
    };
    let leaps = (year / 4).saturating_sub(year / 100).saturating_add(year / 400);
    let day_of_year = month.saturating_mul(153).saturating_add(2) / 5;
    let days = year
        .saturating_mul(365)
        .saturating_add(leaps)
        .saturating_add(day_of_year)
        .saturating_add(day.saturating_sub(1))
        .saturating_sub(719_468);
    let minutes = days.saturating_mul(1_440).saturating_add(hour.saturating_mul(60)).saturating_add(minute);
    Some(minutes.saturating_mul(60).saturating_add(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_civil_dates_and_come_back() {
        for (since, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_183_199, "2026-11-20T13:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(since), date);
            let digits: Vec<u8> = date.bytes().filter(u8::is_ascii_digit).collect();
            assert_eq!(seconds(&digits), Some(since), "{date}");
        }
    }

    #[test]
    fn what_is_no_date_has_no_seconds() {
        for text in
            ["", "2026112013595", "20261320135959", "20261100135959", "20261120245959", "2026112013595a"]
        {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
        assert_eq!(seconds(b"19500101000000"), Some(0));
    }
}
