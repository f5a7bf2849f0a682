//! Errors as problem details (RFC 9457): a title that names the kind, a detail that says what was wrong and what to do.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::RequestError;
use crate::credentials::OperatorError;
use crate::store::StoreError;

/// A problem to answer with.
#[derive(Debug)]
pub(crate) struct Problem {
    status: u16,
    title: &'static str,
    detail: String,
    /// The CoAP code a device answered with, as `4.04`.
    device_code: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: u16, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into(), device_code: None }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(400, "Invalid request", detail)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            401,
            "No valid token",
            "send 'Authorization: Bearer TOKEN'; the first token is in admin.token in the data folder",
        )
    }

    pub(crate) fn internal() -> Self {
        Self::new(500, "Internal error", "the request failed inside the server; its log says more")
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let detail = error.to_string();
        let (status, title) = match &error {
            RequestError::UnknownDevice => (404, "Not registered"),
            RequestError::UnknownObservation => (404, "No such observation"),
            RequestError::Invalid(_) => (400, "Invalid request"),
            RequestError::QueueFull => (503, "Queue full"),
            RequestError::NotSent => (504, "Not sent"),
            RequestError::TimedOut => (504, "No answer"),
            RequestError::Refused((4, 0), _) => (400, "Refused by the device"),
            RequestError::Refused((4, 1 | 3), _) => (403, "Refused by the device"),
            RequestError::Refused((4, 4), _) => (404, "Refused by the device"),
            RequestError::Refused((4, 5), _) => (405, "Refused by the device"),
            RequestError::Refused((4, 6), _) => (406, "Refused by the device"),
            RequestError::Refused((4, 15), _) => (415, "Refused by the device"),
            RequestError::Refused(..) => (502, "Refused by the device"),
            RequestError::Unreachable => (503, "No session"),
            RequestError::Interrupted => (502, "Interrupted"),
            RequestError::TooLarge | RequestError::Malformed(_) => (502, "Unusable answer"),
            RequestError::Stopped => (503, "Stopping"),
        };
        let device_code = match error {
            RequestError::Refused((class, detail), _) => Some(format!("{class}.{detail:02}")),
            _ => None,
        };
        Self { status, title, detail, device_code }
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let detail = error.to_string();
        match error {
            OperatorError::UnknownDevice => Self::new(404, "No such device", detail),
            OperatorError::Invalid(_) | OperatorError::Unusable(_) => {
                Self::new(400, "Invalid request", detail)
            }
            OperatorError::Refused(_) | OperatorError::SubjectTaken(_) => Self::new(409, "Refused", detail),
            OperatorError::Store(error) => error.into(),
            OperatorError::NoRandomness => Self::internal(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict | StoreError::Fenced => Self::new(409, "Conflict", error.to_string()),
            other => {
                tracing::error!(error = %other, "the store failed");
                Self::new(500, "Store failed", "nothing was changed; the server's log says more")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({ "title": self.title, "status": self.status, "detail": self.detail });
        if let (Some(code), Some(body)) = (self.device_code, body.as_object_mut()) {
            body.insert("device_code".to_owned(), Value::String(code));
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
        if self.status == 401 {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}
