//! Tokens: who may use the HTTP API, and for which devices.

use clap::Subcommand;
use lwm2m_server::access::TokenRole;
use lwm2m_server::api::now_ms;
use serde_json::{Value, json};

use super::Failure;
use super::http::{Api, escape};
use super::run::{Out, rows};
use super::show::{line, table, text, time};

#[derive(Subcommand)]
pub(crate) enum Tokens {
    /// List them
    List,
    /// Make one and print it: it is shown this once
    Make {
        /// Its name in the audit log
        name: String,
        /// What it may do: viewer (look), operator (and change what devices have and do), security-officer (look, and change
        /// credentials) or administrator (everything)
        #[arg(long, value_name = "ROLE", value_parser = TokenRole::ALL.map(TokenRole::as_str))]
        role: String,
        /// Endpoint names that it is for, in which * stands for any run of characters; may be repeated [default: all devices]
        #[arg(long, value_name = "PATTERN")]
        scope: Vec<String>,
        /// How long it is good: seconds, or a number with s, m, h, d or w [default: until it is revoked]
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        expires: Option<u64>,
    },
    /// Revoke one: what it opened ends at once
    Revoke {
        /// Its name
        name: String,
    },
}

pub(crate) fn tokens(api: &Api, out: &Out, command: Tokens) -> Result<(), Failure> {
    match command {
        Tokens::List => out.show(&api.get("/tokens")?, list),
        Tokens::Make { name, role, scope, expires } => {
            let scope = Some(scope).filter(|patterns| !patterns.is_empty());
            let expires_ms = expires.map(|seconds| now_ms().saturating_add(seconds.saturating_mul(1000)));
            let body = json!({ "name": name, "role": role, "scope": scope, "expires_ms": expires_ms });
            // Alone, so that a script can take it.
            out.show(&api.post("/tokens", &body)?, |made| line(&text(made, "/token")))
        }
        Tokens::Revoke { name } => {
            api.delete(&format!("/tokens/{}", escape(&name)))?;
            out.done(&format!("{name} revoked"))
        }
    }
}

fn list(answer: &Value) {
    let rows = rows(answer, "/tokens", |token| {
        let scope: Vec<&str> = token
            .pointer("/scope")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        vec![
            text(token, "/name"),
            text(token, "/role"),
            if scope.is_empty() { "all devices".to_owned() } else { scope.join(" ") },
            time(token, "/expires_ms"),
            time(token, "/created_ms"),
            text(token, "/made_by"),
        ]
    });
    table(&["NAME", "ROLE", "SCOPE", "EXPIRES", "MADE", "BY"], &rows);
}

/// Seconds of a duration.
fn duration(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text.strip_prefix(digits) {
        Some("" | "s") => Some(1_u64),
        Some("m") => Some(60),
        Some("h") => Some(3600),
        Some("d") => Some(86_400),
        Some("w") => Some(7 * 86_400),
        _ => None,
    };
    let seconds = unit.zip(digits.parse::<u64>().ok()).and_then(|(unit, count)| count.checked_mul(unit));
    seconds.filter(|seconds| *seconds > 0).ok_or_else(|| {
        format!("'{text}' is no duration: seconds, or a number with s, m, h, d or w, as in 90d")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_seconds_or_has_a_unit() {
        assert_eq!(
            ["10", "10s", "3m", "2h", "90d", "1w"].map(duration),
            [10, 10, 180, 7200, 7_776_000, 604_800].map(Ok)
        );
        for bad in ["", "0", "d", "-1d", "1y", "1.5h", "18446744073709551615w"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
