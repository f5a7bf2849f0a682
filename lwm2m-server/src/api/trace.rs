//! The messages of one device, decoded, live: what support looks at when a device does not do what it should.
//!
//! `{"direction": "from device", "type": "ACK", "code": "2.05", "operation": "Read", "path": "/3/0/0", "options": […],
//! "values": [{"path": "/3/0/0", "type": "string", "value": "ACME"}]}`; a value that is not shown is
//! `{"path": "/0/1/5", "withheld": true}`. What has no values has its `"payload"`, text or hex digits after `0x`, instead of
//! `"values"`, or the `"paths"` that a composite operation names; what is not shown at all has `"withheld": true`.
//!
//! Invariant: what is secret is withheld before it comes here, see [`Payload`].

use core::convert::Infallible;
use core::fmt::Write as _;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse;
use lwm2m_coap::{Code, Kind, OptionNumber, udp};
use lwm2m_objects::{Format, Path};
use serde_json::{Value, json};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt as _};

use super::events::{LOST, until_over};
use super::guard::Holder;
use super::problem::Problem;
use super::request::Route;
use super::{Api, no_such_device, values};
use crate::{Direction, Packet, Payload};

/// Every message to and from a device from now on, as server-sent events; ends when the server stops or the token
/// is good no more.
pub(super) async fn stream(
    State(api): State<Api>,
    Extension(holder): Extension<Holder>,
    Route(endpoint): Route<String>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    if api.credentials.device(&endpoint).is_none() && api.server.device(&endpoint).await.is_none() {
        return Err(no_such_device(&endpoint));
    }
    let journal = Arc::clone(&api.journal);
    let packets = BroadcastStream::new(api.server.packets()).filter_map(move |packet| match packet {
        Ok(packet) => {
            let is_meant = packet.endpoint.as_deref() == Some(endpoint.as_str());
            is_meant.then(|| ("packet", emit(&packet)))
        }
        Err(BroadcastStreamRecvError::Lagged(packets)) => {
            journal.lose(packets);
            Some((LOST, json!({ "events": packets, "reason": "the listener was too slow" })))
        }
    });
    let events = packets.map(|(name, body)| sse::Event::default().event(name).data(body.to_string()));
    Ok(until_over(&api, &holder, events))
}

pub(super) fn emit(packet: &Packet) -> Value {
    let mut body = json!({
        "at_ms": packet.at,
        "direction": match packet.direction {
            Direction::FromDevice => "from device",
            Direction::ToDevice => "to device",
        },
        "role": packet.role,
        "secure": packet.secure,
        "address": packet.address,
        "operation": packet.operation,
        "path": packet.path.map(|path| path.to_string()),
    });
    let Some(members) = body.as_object_mut() else { return body };
    let (member, carried) = match &packet.payload {
        Payload::Empty => ("payload", Value::Null),
        Payload::Bytes(bytes) => ("payload", json!(text(bytes).unwrap_or_else(|| digits(bytes)))),
        Payload::Paths(paths) => ("paths", paths.iter().map(Path::to_string).collect()),
        Payload::Values(items) => ("values", items.iter().map(item).collect()),
        Payload::Withheld => ("withheld", json!(true)),
    };
    members.insert(member.to_owned(), carried);
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
    ];
    members.extend(decoded.map(|(name, value)| (name.to_owned(), value)));
    body
}

fn item((path, value): &(Path, Option<crate::Value>)) -> Value {
    match value {
        Some(value) => {
            let (kind, value) = values::emit(value);
            json!({ "path": path.to_string(), "type": kind, "value": value })
        }
        None => json!({ "path": path.to_string(), "withheld": true }),
    }
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
        OptionNumber::IF_MATCH => "If-Match",
        OptionNumber::ETAG => "ETag",
        OptionNumber::IF_NONE_MATCH => "If-None-Match",
        OptionNumber::OBSERVE => "Observe",
        OptionNumber::URI_PORT => "Uri-Port",
        OptionNumber::LOCATION_PATH => "Location-Path",
        OptionNumber::OSCORE => "OSCORE",
        OptionNumber::URI_PATH => "Uri-Path",
        OptionNumber::CONTENT_FORMAT => "Content-Format",
        OptionNumber::MAX_AGE => "Max-Age",
        OptionNumber::URI_QUERY => "Uri-Query",
        OptionNumber::ACCEPT => "Accept",
        OptionNumber::BLOCK1 => "Block1",
        OptionNumber::BLOCK2 => "Block2",
        OptionNumber::SIZE1 => "Size1",
        OptionNumber::SIZE2 => "Size2",
        OptionNumber::ECHO => "Echo",
        OptionNumber::NO_RESPONSE => "No-Response",
        OptionNumber::REQUEST_TAG => "Request-Tag",
        _ => return None,
    })
}

/// Paths and queries as text, numbers as such, formats with their names, `NUM/M/SIZE` of a block, anything else as hex
/// digits.
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
        OptionNumber::CONTENT_FORMAT | OptionNumber::ACCEPT => {
            unsigned().map(|number| match format_name(number) {
                Some(name) => format!("{number} ({name})"),
                None => number.to_string(),
            })
        }
        OptionNumber::OBSERVE
        | OptionNumber::URI_PORT
        | OptionNumber::MAX_AGE
        | OptionNumber::NO_RESPONSE
        | OptionNumber::SIZE1
        | OptionNumber::SIZE2 => unsigned().map(|number| number.to_string()),
        _ => None,
    };
    readable.unwrap_or_else(|| digits(value))
}

/// The name of a content format, those before their registration included.
fn format_name(number: u64) -> Option<&'static str> {
    Some(match Format(u16::try_from(number).ok()?) {
        Format::TEXT | Format(1541) => "text",
        Format::LINK => "link-format",
        Format::OPAQUE => "opaque",
        Format::CBOR => "CBOR",
        Format::SENML_JSON => "SenML JSON",
        Format::SENML_CBOR => "SenML CBOR",
        Format::SENML_ETCH_JSON => "SenML-ETCH JSON",
        Format::SENML_ETCH_CBOR => "SenML-ETCH CBOR",
        Format::TLV | Format(1542) => "LwM2M TLV",
        Format::JSON | Format(1543) => "LwM2M JSON",
        Format::LWM2M_CBOR => "LwM2M CBOR",
        _ => return None,
    })
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

    fn packet(bytes: &[u8], operation: Option<&'static str>, payload: Payload) -> Value {
        emit(&Packet {
            at: 7,
            endpoint: Some("a".into()),
            role: Role::Management,
            secure: true,
            address: "192.0.2.1:5683".to_owned(),
            direction: Direction::FromDevice,
            bytes: bytes.into(),
            operation,
            path: None,
            payload,
        })
    }

    #[test]
    fn a_message_is_shown_decoded() {
        let register = b"\x41\x02\x12\x34\x09\xb2rd\x11\x28\x34ep=a";
        let shown = packet(register, Some("Register"), Payload::Bytes(b"</3/0>"[..].into()));
        assert_eq!(shown.pointer("/code").unwrap(), "0.02 POST");
        assert_eq!(shown.pointer("/type").unwrap(), "CON");
        assert_eq!(shown.pointer("/operation").unwrap(), "Register");
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
        assert_eq!(
            options,
            [("Uri-Path", "rd"), ("Content-Format", "40 (link-format)"), ("Uri-Query", "ep=a")]
        );
        assert_eq!(shown.pointer("/payload").unwrap(), "</3/0>");
    }

    #[test]
    fn values_are_shown_with_path_and_type_but_for_those_withheld() {
        let items = [
            (Path::resource(0, 1, 0), Some(crate::Value::String("coaps://a".to_owned()))),
            (Path::resource(0, 1, 5), None),
        ];
        let shown = packet(b"\x40\x45\x12\x34", Some("Read"), Payload::Values(items.into()));
        let uri = json!({ "path": "/0/1/0", "type": "string", "value": "coaps://a" });
        assert_eq!(shown.pointer("/values").unwrap(), &json!([uri, { "path": "/0/1/5", "withheld": true }]));
        assert_eq!((shown.pointer("/payload"), shown.pointer("/withheld")), (None, None));
        let places = Payload::Paths([Path::object(3), Path::resource(1, 0, 1)].into());
        let named = packet(b"\x40\x05\x12\x34", Some("Read-Composite"), places);
        assert_eq!(
            (named.pointer("/paths"), named.pointer("/payload")),
            (Some(&json!(["/3", "/1/0/1"])), None)
        );
        let hidden = packet(b"\x40\x45\x12\x34", None, Payload::Withheld);
        assert_eq!((hidden.pointer("/payload"), hidden.pointer("/withheld")), (None, Some(&json!(true))));
    }

    #[test]
    fn what_is_no_text_is_shown_in_hex_digits() {
        assert_eq!(option(OptionNumber::BLOCK2, &[0x1e]), "1/1/1024");
        assert_eq!(option(OptionNumber::ETAG, &[1, 255]), "0x01ff");
        assert_eq!(option(OptionNumber::URI_PATH, b"a\x1b[2J"), "0x611b5b324a");
        assert_eq!(option(OptionNumber::ACCEPT, &[0; 9]), "0x000000000000000000");
        assert_eq!(option(OptionNumber::CONTENT_FORMAT, &[0xff, 0xff]), "65535");
        assert_eq!(packet(b"\xff", None, Payload::Withheld).pointer("/malformed").unwrap(), "ff");
        let opaque = Payload::Bytes([1, 0xff].into());
        assert_eq!(packet(b"\x40\x45\x12\x34", None, opaque).pointer("/payload").unwrap(), "0x01ff");
    }
}
