//! Errors as problem details (RFC 9457): a title that names the kind, a detail that says what was wrong and what to do.

use core::net::IpAddr;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::RequestError;
use crate::access::{Denied, Permission, Scope, TokenError, TokenRole};
use crate::credentials::{OperatorError, utc};
use crate::profiles::{Fault, in_words};
use crate::store::StoreError;

/// Why a request was not done (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The kind of problem.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What was wrong, and what to do.
    #[schema(value_type = String)]
    detail: Box<str>,
    /// The CoAP code a device answered with, as `4.04`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    device_code: Option<Box<str>>,
    /// The permission that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    permission: Option<&'static str>,
    /// The roles that have it.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<TokenRole>)]
    roles: &'static [TokenRole],
    /// Everything that is wrong with what was given, and where.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<Fault>)]
    faults: Box<[Fault]>,
    /// What a token would have to be (RFC 6750 §3).
    #[serde(skip)]
    challenge: Option<&'static str>,
}

impl Problem {
    pub(crate) fn new(status: u16, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            title,
            status,
            detail: detail.into().into(),
            device_code: None,
            permission: None,
            roles: &[],
            faults: Box::default(),
            challenge: None,
        }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(400, "Invalid request", detail)
    }

    /// A body that can be read, and not be used.
    pub(crate) fn faulty(faults: Vec<Fault>) -> Self {
        let detail = in_words(&faults);
        Self { faults: faults.into(), ..Self::new(422, "Not usable", detail) }
    }

    pub(crate) fn unauthorized(denied: Denied) -> Self {
        let detail = match denied {
            Denied::Missing => {
                "send 'Authorization: Bearer TOKEN'; the first token is in admin.token in the data folder"
                    .to_owned()
            }
            Denied::Unknown => "the token is none of this server, or was revoked".to_owned(),
            Denied::Expired(at) => {
                format!("the token expired at {}: an administrator makes another one", utc(at / 1000))
            }
        };
        // RFC 6750 §3.1: no error where no token was sent.
        let challenge = match denied {
            Denied::Missing => "Bearer",
            Denied::Unknown | Denied::Expired(_) => "Bearer error=\"invalid_token\"",
        };
        Self { challenge: Some(challenge), ..Self::new(401, "No valid token", detail) }
    }

    pub(crate) fn too_many_tokens(address: IpAddr) -> Self {
        let detail = format!("{address} has sent many tokens that are none of this server: wait a second");
        Self::new(429, "Too many wrong tokens", detail)
    }

    pub(crate) fn not_permitted(role: TokenRole, permission: Permission) -> Self {
        let (roles, permission) = (permission.roles(), permission.as_str());
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let detail = format!(
            "it takes the permission '{permission}', which the role {} has; the token is of a {role}",
            names.join(" or ")
        );
        Self { permission: Some(permission), roles, ..Self::insufficient(detail) }
    }

    /// What concerns all devices is not for a token that is for some.
    pub(crate) fn for_all_devices(scope: &Scope) -> Self {
        Self::insufficient(format!(
            "it concerns all devices: it takes a token without a scope, and this one is for {scope}"
        ))
    }

    fn insufficient(detail: String) -> Self {
        let challenge = Some("Bearer error=\"insufficient_scope\"");
        Self { challenge, ..Self::new(403, "Not permitted", detail) }
    }

    /// What was wrong, in words.
    pub(crate) fn into_detail(self) -> String {
        self.detail.into()
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
            RequestError::Refused((class, detail), _) => Some(format!("{class}.{detail:02}").into()),
            _ => None,
        };
        Self { device_code, ..Self::new(status, title, detail) }
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let detail = error.to_string();
        match error {
            OperatorError::UnknownDevice => Self::new(404, "No such device", detail),
            OperatorError::UnknownProfile(..) => Self::new(404, "No such profile", detail),
            OperatorError::Faults(faults) => Self::faulty(faults),
            OperatorError::Full => Self::new(507, "Too many profiles", detail),
            OperatorError::Invalid(_) | OperatorError::Unusable(_) => {
                Self::new(400, "Invalid request", detail)
            }
            OperatorError::Refused(_)
            | OperatorError::SubjectTaken(_)
            | OperatorError::ProfileInUse(_)
            | OperatorError::NoPlan(_) => Self::new(409, "Refused", detail),
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

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let detail = error.to_string();
        match error {
            TokenError::Name | TokenError::Past => Self::invalid(detail),
            TokenError::Taken(_) | TokenError::Last | TokenError::Full => Self::new(409, "Refused", detail),
            TokenError::Wider(_) | TokenError::Longer(_) => Self::insufficient(detail),
            TokenError::Unknown(_) => Self::new(404, "No such token", detail),
            TokenError::Gone => Self::unauthorized(Denied::Unknown),
            TokenError::NoRandomness => Self::internal(),
            TokenError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if self.status == 429 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
