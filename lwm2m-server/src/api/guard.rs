//! Who is let in: a token that is good, with the permission that the operation takes, for the device that it names.
//!
//! Invariants: nothing but `/health` and `/health/ready` answers without a token, not even whether a route exists; whether a device exists is not told to
//! a token that is for others; a good token is never kept waiting for wrong ones of others.

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use super::problem::Problem;
use super::{Actor, Api, now_ms};
use crate::access::{Denied, Permission, Scope, Token};

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin(pub(super) IpAddr);

/// The token that a request came with.
#[derive(Clone, Debug)]
pub(super) struct Holder(pub(super) Arc<Token>);

impl Holder {
    pub(super) fn scope(&self) -> &Scope {
        &self.0.record.scope
    }

    /// Refuses what names a device that the token is not for.
    pub(super) fn is_for(&self, endpoint: Option<&str>) -> Result<(), Problem> {
        match endpoint.filter(|endpoint| !self.scope().has(endpoint)) {
            None => Ok(()),
            Some(endpoint) => Err(Problem::new(
                404,
                "No such device",
                format!("'{endpoint}' is none of the devices that the token is for: {}", self.scope()),
            )),
        }
    }
}

impl FromRequestParts<Api> for Holder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let denied = match api.tokens.check(header, now_ms()) {
            Ok(token) => return Ok(Self(token)),
            Err(denied) => denied,
        };
        if denied == Denied::Unknown {
            let unknown = Origin(Ipv4Addr::UNSPECIFIED.into());
            let Origin(address) = parts.extensions.get().copied().unwrap_or(unknown);
            if !api.failures.allow(address) {
                return Err(Problem::too_many_tokens(address));
            }
        }
        Err(Problem::unauthorized(denied))
    }
}

/// What an operation takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) permission: Permission,
    pub(super) reach: Reach,
}

/// Which devices an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The one that the path names.
    Device,
    /// Those of the token.
    Own,
    /// All of them, or the server itself.
    Fleet,
}

impl Reach {
    /// Its name in the OpenAPI document.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Own => "own",
            Self::Fleet => "fleet",
        }
    }
}

/// Lets in who may.
pub(super) async fn admit(
    State((api, access)): State<(Api, Access)>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let holder = Holder::from_request_parts(&mut parts, &api).await?;
    let record = &holder.0.record;
    if !record.role.may(access.permission) {
        return Err(Problem::not_permitted(record.role, access.permission));
    }
    match access.reach {
        Reach::Own => {}
        Reach::Fleet if record.scope.is_all() => {}
        Reach::Fleet => return Err(Problem::for_all_devices(&record.scope)),
        Reach::Device => {
            let params = params.map_err(|error| Problem::invalid(format!("path: {}", error.body_text())))?;
            let endpoint = params.iter().find(|(name, _)| *name == "endpoint").map(|(_, value)| value);
            holder.is_for(endpoint)?;
        }
    }
    parts.extensions.insert(Actor(holder.0.actor().into()));
    parts.extensions.insert(holder);
    Ok(next.run(Request::from_parts(parts, body)).await)
}
