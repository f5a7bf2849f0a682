//! Tables and times for people.

use std::io::Write as _;

use lwm2m_server::credentials::utc;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_a_device_does_not_drive_the_terminal() {
        assert_eq!(text(&serde_json::json!({ "a": "x\u{1b}[2J\n" }), "/a"), "x\u{fffd}[2J\u{fffd}");
    }
}
