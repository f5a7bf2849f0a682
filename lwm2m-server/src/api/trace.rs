//! The messages of one device, decoded, live: what support looks at when a device does not do what it should.
//!
//! Invariant: what is secret is withheld before it comes here, see [`Packet`].

use core::convert::Infallible;
use core::fmt::Write as _;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse;
use lwm2m_coap::{Code, Kind, OptionNumber, udp};
use serde_json::{Value, json};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt as _};

use super::events::{emit_lagged, until_stopped};
use super::problem::Problem;
use super::request::Route;
use super::{Api, no_such_device};
use crate::{Direction, Packet};

/// Every message to and from a device from now on, as server-sent events; ends when the server stops.
pub(super) async fn stream(
    State(api): State<Api>,
    Route(endpoint): Route<String>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    if api.credentials.device(&endpoint).is_none() && api.server.device(&endpoint).await.is_none() {
        return Err(no_such_device(&endpoint));
    }
    let packets = BroadcastStream::new(api.server.packets()).filter_map(move |packet| match packet {
        Ok(packet) => {
            let is_meant = packet.endpoint.as_deref() == Some(endpoint.as_str());
            is_meant.then(|| ("packet", emit(&packet)))
        }
        Err(lagged) => Some(emit_lagged(lagged)),
    });
    Ok(until_stopped(&api, packets))
}

fn emit(packet: &Packet) -> Value {
    let mut body = json!({
        "at_ms": packet.at,
        "direction": match packet.direction {
            Direction::FromDevice => "from device",
            Direction::ToDevice => "to device",
        },
        "role": packet.role,
        "secure": packet.secure,
        "address": packet.address,
        "withheld": packet.withheld,
    });
    let Some(members) = body.as_object_mut() else { return body };
    let Ok((header, message)) = udp::parse(&packet.bytes) else {
        members.insert("malformed".to_owned(), json!(hex::encode(&packet.bytes)));
        return body;
    };
    let options: Vec<Value> = message
        .options
        .iter()
        .map(|(number, value)| json!({ "number": number.0, "name": name(number), "value": option(number, value) }))
        .collect();
    let decoded = [
        ("type", json!(kind(header.kind))),
        ("id", json!(header.id.0)),
        ("code", json!(code(message.code))),
        ("token", json!(hex::encode(message.token.bytes()))),
        ("options", json!(options)),
        ("payload", json!(text(message.payload).unwrap_or_else(|| digits(message.payload)))),
    ];
    members.extend(decoded.map(|(name, value)| (name.to_owned(), value)));
    body
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Confirmable => "CON",
        Kind::NonConfirmable => "NON",
        Kind::Acknowledgement => "ACK",
        Kind::Reset => "RST",
    }
}

/// `0.01 GET`, `2.05`.
fn code(code: Code) -> String {
    let method = match code {
        Code::GET => " GET",
        Code::POST => " POST",
        Code::PUT => " PUT",
        Code::DELETE => " DELETE",
        Code::FETCH => " FETCH",
        Code::IPATCH => " iPATCH",
        Code::EMPTY => " empty",
        _ => "",
    };
    format!("{}.{:02}{method}", code.class(), code.detail())
}

/// The name of an option in its registry.
fn name(number: OptionNumber) -> Option<&'static str> {
    Some(match number {
        OptionNumber::URI_HOST => "Uri-Host",
        OptionNumber::ETAG => "ETag",
        OptionNumber::OBSERVE => "Observe",
        OptionNumber::URI_PORT => "Uri-Port",
        OptionNumber::LOCATION_PATH => "Location-Path",
        OptionNumber::URI_PATH => "Uri-Path",
        OptionNumber::CONTENT_FORMAT => "Content-Format",
        OptionNumber::MAX_AGE => "Max-Age",
        OptionNumber::URI_QUERY => "Uri-Query",
        OptionNumber::ACCEPT => "Accept",
        OptionNumber::BLOCK1 => "Block1",
        OptionNumber::BLOCK2 => "Block2",
        OptionNumber::SIZE1 => "Size1",
        OptionNumber::SIZE2 => "Size2",
        _ => return None,
    })
}

/// Paths and queries as text, numbers as such, `NUM/M/SIZE` of a block, anything else as hex digits.
fn option(number: OptionNumber, value: &[u8]) -> String {
    let unsigned = || match value.len() {
        0..=4 => Some(value.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte))),
        _ => None,
    };
    let readable = match number {
        OptionNumber::URI_HOST
        | OptionNumber::LOCATION_PATH
        | OptionNumber::URI_PATH
        | OptionNumber::URI_QUERY => text(value),
        OptionNumber::BLOCK1 | OptionNumber::BLOCK2 => {
            unsigned().map(|block| format!("{}/{}/{}", block >> 4, (block >> 3) & 1, 16_u32 << (block & 7)))
        }
        OptionNumber::OBSERVE
        | OptionNumber::URI_PORT
        | OptionNumber::CONTENT_FORMAT
        | OptionNumber::MAX_AGE
        | OptionNumber::ACCEPT
        | OptionNumber::SIZE1
        | OptionNumber::SIZE2 => unsigned().map(|number| number.to_string()),
        _ => None,
    };
    readable.unwrap_or_else(|| digits(value))
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = core::str::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then(|| text.to_owned())
}

fn digits(bytes: &[u8]) -> String {
    let mut digits = String::from("0x");
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use crate::credentials::Role;

    fn packet(bytes: &[u8]) -> Value {
        emit(&Packet {
            at: 7,
            endpoint: Some("a".into()),
            role: Role::Management,
            secure: true,
            address: "192.0.2.1:5683".to_owned(),
            direction: Direction::FromDevice,
            bytes: bytes.into(),
            withheld: 0,
        })
    }

    #[test]
    fn a_message_is_shown_decoded() {
        let register = b"\x41\x02\x12\x34\x09\xb2rd\x11\x28\x34ep=a\xff</3/0>";
        let shown = packet(register);
        assert_eq!(shown.pointer("/code").unwrap(), "0.02 POST");
        assert_eq!(shown.pointer("/type").unwrap(), "CON");
        assert_eq!(
            (shown.pointer("/id").unwrap(), shown.pointer("/token").unwrap()),
            (&json!(0x1234), &json!("09"))
        );
        let options: Vec<(&str, &str)> = shown
            .pointer("/options")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|each| {
                (
                    each.pointer("/name").unwrap().as_str().unwrap(),
                    each.pointer("/value").unwrap().as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(options, [("Uri-Path", "rd"), ("Content-Format", "40"), ("Uri-Query", "ep=a")]);
        assert_eq!(shown.pointer("/payload").unwrap(), "</3/0>");
    }

    #[test]
    fn what_is_no_text_is_shown_in_hex_digits() {
        assert_eq!(option(OptionNumber::BLOCK2, &[0x1e]), "1/1/1024");
        assert_eq!(option(OptionNumber::ETAG, &[1, 255]), "0x01ff");
        assert_eq!(option(OptionNumber::URI_PATH, b"a\x1b[2J"), "0x611b5b324a");
        assert_eq!(option(OptionNumber::ACCEPT, &[0; 9]), "0x000000000000000000");
        assert_eq!(packet(b"\xff").pointer("/malformed").unwrap(), "ff");
    }
}
