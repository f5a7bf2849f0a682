//! The messages of one case as they were on the wire, less DTLS (RFC 7252).
//!
//! Invariant: a repetition of a message is not a message.

use lwm2m_coap::{Code, Kind, udp};
use lwm2m_objects::Path;
use lwm2m_server::{Direction, Packet, Payload, Value};

/// A message between the device and the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) direction: Direction,
    pub(crate) is_secure: bool,
    pub(crate) kind: Kind,
    pub(crate) id: u16,
    pub(crate) code: Code,
    pub(crate) token: Vec<u8>,
    /// With a slash in front of each segment.
    pub(crate) path: String,
    pub(crate) query: Vec<String>,
    /// Location-Path, with a slash in front of each segment.
    pub(crate) location: String,
    pub(crate) accept: Option<u16>,
    pub(crate) format: Option<u16>,
    pub(crate) observe: Option<u32>,
    pub(crate) has_payload: bool,
    /// Whether it carries all of its body, or the last block.
    pub(crate) is_last: bool,
    /// What holds no values: link-format, a diagnostic text.
    pub(crate) payload: Vec<u8>,
    /// Values at their paths; `None` stands for one that is secret.
    pub(crate) values: Vec<(Path, Option<Value>)>,
}

impl Seen {
    /// Reads what the server traced; `None` when it is no CoAP message.
    pub(crate) fn read(packet: &Packet) -> Option<Self> {
        let (header, message) = udp::parse(&packet.bytes).ok()?;
        let options = message.options;
        Some(Self {
            at: packet.at,
            direction: packet.direction,
            is_secure: packet.secure,
            kind: header.kind,
            id: header.id.0,
            code: message.code,
            token: message.token.bytes().to_vec(),
            path: segments(options.uri_path()),
            query: options.uri_query().map(text).collect(),
            location: segments(options.location_path()),
            accept: options.accept().map(|format| format.0),
            format: options.content_format().map(|format| format.0),
            observe: options.observe(),
            has_payload: packet.payload != Payload::Empty,
            is_last: !matches!(options.block1(), Ok(Some(block)) if block.more()),
            payload: match &packet.payload {
                Payload::Bytes(bytes) => bytes.to_vec(),
                _ => Vec::new(),
            },
            values: match &packet.payload {
                Payload::Values(values) => values.to_vec(),
                _ => Vec::new(),
            },
        })
    }

    /// Whether it is a request from the device.
    pub(crate) fn asks(&self, code: Code, path: impl Fn(&str) -> bool) -> bool {
        self.direction == Direction::FromDevice && self.code == code && path(&self.path)
    }

    /// Whether it answers `request`.
    pub(crate) fn answers(&self, request: &Self) -> bool {
        self.direction != request.direction && self.code.is_response() && self.token == request.token
    }

    /// Whether it is the same message again.
    pub(crate) fn repeats(&self, earlier: &Self) -> bool {
        Self { at: earlier.at, ..self.clone() } == *earlier
    }

    /// The value of a parameter of the query; empty for one without a value.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find_map(|parameter| match parameter.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (parameter == name).then_some(""),
        })
    }

    /// The message in words, for verdicts.
    pub(crate) fn describe(&self) -> String {
        let class = (self.code.class(), self.code.detail());
        let what = match self.code {
            Code::GET => "GET".to_owned(),
            Code::POST => "POST".to_owned(),
            Code::PUT => "PUT".to_owned(),
            Code::DELETE => "DELETE".to_owned(),
            Code::FETCH => "FETCH".to_owned(),
            Code::IPATCH => "iPATCH".to_owned(),
            Code::EMPTY if self.kind == Kind::Reset => "RST".to_owned(),
            Code::EMPTY => "an empty message".to_owned(),
            _ => format!("{}.{:02}", class.0, class.1),
        };
        let query = self.query.join("&");
        match (self.code.is_request(), query.is_empty()) {
            (true, true) => format!("{what} {}", self.path),
            (true, false) => format!("{what} {}?{query}", self.path),
            (false, _) => what,
        }
    }
}

fn segments<'a>(segments: impl Iterator<Item = &'a [u8]>) -> String {
    segments.map(|segment| format!("/{}", text(segment))).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
