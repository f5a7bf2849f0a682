//! Tables and times for people.

use std::io::Write as _;

use serde_json::Value;

/// Prints a line; nobody reads the rest when the reader is gone, as after `| head`.
pub(crate) fn line(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Prints rows in columns as wide as their longest cell.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let row = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        line(padded.join("  ").trim_end());
    };
    row(head.to_vec());
    for cells in rows {
        row(cells.iter().map(String::as_str).collect());
    }
}

/// A member as text: strings bare, `null` and what is missing as `-`.
pub(crate) fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        // A device chooses its texts: none of them drives the terminal.
        Some(Value::String(text)) => text.replace(char::is_control, "\u{fffd}"),
        Some(other) => other.to_string(),
    }
}

/// A member in milliseconds since 1970 as UTC, `-` when there is none.
pub(crate) fn time(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_u64).map_or_else(|| "-".to_owned(), |ms| utc(ms / 1000))
}

/// Seconds since 1970 as `2026-11-20T14:00:00Z` (days to civil date after Howard Hinnant).
fn utc(seconds: u64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_a_device_does_not_drive_the_terminal() {
        assert_eq!(text(&serde_json::json!({ "a": "x\u{1b}[2J\n" }), "/a"), "x\u{fffd}[2J\u{fffd}");
    }

    #[test]
    fn seconds_become_civil_dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_795_183_199), "2026-11-20T13:59:59Z");
    }
}
