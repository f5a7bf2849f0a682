//! Reading requests: queries, paths and bodies, with what is wrong in words.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use serde::de::DeserializeOwned;

use super::guard::Holder;
use super::problem::Problem;
use super::{Api, MAX_BODY, now_ms};
use crate::profiles::Fault;
use crate::{DEFAULT_TIMEOUT, Path};

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The variable segments of the path, decoded.
pub(super) struct Route<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Route<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(segments)) => Ok(Self(segments)),
            Err(error) => Err(Problem::invalid(format!("path: {}", error.body_text()))),
        }
    }
}

/// The query, parsed; unknown names are refused where the type denies them.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        query(&parts.uri).map(Self)
    }
}

/// The query of a URI.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    match Query::try_from_uri(uri) {
        Ok(Query(params)) => Ok(params),
        Err(error) => Err(Problem::invalid(format!("query: {}", error.body_text()))),
    }
}

/// The body, within the limit: JSON.
pub(super) struct Body(pub(super) Bytes);

impl FromRequest<Api> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        arrived(request, api, is_json, ("Not JSON", "send JSON, as application/json")).await.map(Self)
    }
}

/// The body, within the limit: XML.
pub(super) struct Xml(pub(super) Bytes);

impl FromRequest<Api> for Xml {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        arrived(request, api, is_xml, ("Not XML", "send XML, as application/xml")).await.map(Self)
    }
}

/// Waits for a body of a type; one without a type is taken for it. The token must be good still when it is there: a slow body is no
/// way around its end.
async fn arrived(
    request: Request,
    api: &Api,
    is_wanted: fn(&[u8]) -> bool,
    (title, what): (&'static str, &str),
) -> Result<Bytes, Problem> {
    let too_long = || Problem::new(413, "Body too long", format!("at most {MAX_BODY} bytes"));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > MAX_BODY) {
        return Err(too_long());
    }
    let other = request.headers().get(CONTENT_TYPE).filter(|name| !is_wanted(name.as_bytes())).cloned();
    let holder = request.extensions().get::<Holder>().cloned();
    let arrived = tokio::time::timeout(PATIENCE, Bytes::from_request(request, api)).await;
    if let Some(Holder(token)) = holder {
        api.tokens.is_still_good(&token, now_ms()).map_err(Problem::unauthorized)?;
    }
    match arrived {
        Ok(Ok(bytes)) => match other.filter(|_| !bytes.is_empty()) {
            None => Ok(bytes),
            Some(other) => Err(Problem::new(415, title, format!("the body is {other:?}: {what}"))),
        },
        Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_long()),
        Ok(Err(error)) => Err(Problem::invalid(format!("body: {}", error.body_text()))),
        Err(_) => Err(Problem::new(408, "Timeout", "the body did not arrive within 30 seconds")),
    }
}

/// A media type without its parameters.
fn media_type(name: &[u8]) -> Vec<u8> {
    name.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase()
}

/// `application/json`, with parameters or without, and what is built on it.
fn is_json(name: &[u8]) -> bool {
    let name = media_type(name);
    name == b"application/json" || (name.starts_with(b"application/") && name.ends_with(b"+json"))
}

/// The same of XML (RFC 7303).
fn is_xml(name: &[u8]) -> bool {
    let name = media_type(name);
    name == b"application/xml"
        || name == b"text/xml"
        || (name.starts_with(b"application/") && name.ends_with(b"+xml"))
}

/// A JSON body that may hold secrets: what is wrong is told without the value found.
pub(super) fn secret_body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Problem> {
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::invalid(format!("body: {}", without_value(error.to_string()))))
}

/// The same; where something is of another type, that is told with its place.
pub(super) fn placed_body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Problem> {
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let at = error.path().to_string();
        let what = without_value(error.into_inner().to_string());
        Problem::faulty(vec![Fault::new(if at == "." { "" } else { &at }, what)])
    })?;
    reader.end().map_err(|error| Problem::invalid(format!("body: {error}")))?;
    Ok(read)
}

/// What is wrong with JSON, without the value found.
fn without_value(text: String) -> String {
    match text.split_once(", expected ") {
        // `invalid type: string "00112233…", expected …`, or `unknown variant` and the like
        Some((_, expected)) if text.starts_with("invalid ") || text.starts_with("unknown variant ") => {
            format!("expected {expected}")
        }
        _ => text,
    }
}

/// A JSON body; an empty one counts as `{}`.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Problem> {
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| Problem::invalid(format!("body: {error}")))
}

/// The path of a resource from the tail of a route.
pub(super) fn path(tail: &str) -> Result<Path, Problem> {
    let tail = tail.trim_matches('/');
    format!("/{tail}").parse().map_err(|_| {
        Problem::invalid(format!("'/{tail}' is no path: up to four ids of 0 to 65534 as in /3303/0/5700"))
    })
}

/// The time a request to a device may take.
pub(super) fn timeout(seconds: Option<u64>) -> Result<Duration, Problem> {
    match seconds {
        None => Ok(DEFAULT_TIMEOUT),
        Some(seconds) if (1..=590).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(Problem::invalid("timeout: 1 to 590 seconds")),
    }
}

/// The content format to ask for: a name or a CoAP number.
pub(super) fn format(name: Option<&str>) -> Result<Option<u16>, Problem> {
    let Some(name) = name else { return Ok(None) };
    let number = match name {
        "text" => 0,
        "opaque" => 42,
        "cbor" => 60,
        "senml-json" => 110,
        "senml-cbor" => 112,
        "tlv" => 11542,
        "lwm2m-cbor" => 11544,
        other => other.parse().map_err(|_| {
            Problem::invalid(format!(
                "unknown format '{other}': text, opaque, tlv, senml-cbor, … or a CoAP content-format number"
            ))
        })?,
    };
    Ok(Some(number))
}
