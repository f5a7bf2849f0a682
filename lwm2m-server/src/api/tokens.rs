//! Tokens over HTTP: made, listed and revoked by administrators.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::guard::Holder;
use super::problem::Problem;
use super::request::{self, Body, Route};
use super::{Api, now_ms};
use crate::access::{Scope, Token, TokenError, TokenRole, Wanted};
use crate::store::TokenRecord;

/// The tokens that are for no other devices than the own one, by name.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenList {
    tokens: Vec<TokenRecord>,
}

/// All tokens; of none the text is kept.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(Holder(holder)): Extension<Holder>,
) -> Json<TokenList> {
    let tokens = api.tokens.list(&holder);
    Json(TokenList { tokens: tokens.iter().map(|token| token.record.clone()).collect() })
}

/// One token.
pub(super) async fn show(
    State(api): State<Api>,
    Extension(Holder(holder)): Extension<Holder>,
    Route(name): Route<String>,
) -> Result<Json<TokenRecord>, Problem> {
    let tokens = api.tokens.list(&holder);
    let found = tokens.iter().find(|token| token.record.name == name);
    let found = found.ok_or_else(|| Problem::from(TokenError::Unknown(name)))?;
    Ok(Json(found.record.clone()))
}

/// A token that is to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MakeToken {
    /// Its name in the audit log: printable characters of ASCII.
    #[schema(min_length = 1, max_length = 64, pattern = "^[!-~]([ -~]*[!-~])?$")]
    name: String,
    /// What it may do.
    role: TokenRole,
    /// The endpoint names that it is for, in which `*` stands for any run of characters; all devices without.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 64)]
    scope: Scope,
    /// When it ends, in milliseconds since 1970; never without.
    expires_ms: Option<u64>,
}

/// A token that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeToken<'a> {
    /// What opens the interface; shown this once.
    token: &'a str,
    #[serde(flatten)]
    record: &'a TokenRecord,
}

/// Makes a token; the answer shows it, once.
pub(super) async fn make(
    State(api): State<Api>,
    Extension(Holder(holder)): Extension<Holder>,
    Body(bytes): Body,
) -> Result<Response, Problem> {
    let MakeToken { name, role, scope, expires_ms } = request::body(&bytes)?;
    let wanted = Wanted { name, role, scope, expires_ms };
    let (text, token) =
        change(&api, holder, move |api, holder| api.tokens.make(holder, wanted, now_ms())).await?;
    let made = Json(MadeToken { token: &text, record: &token.record });
    let mut response = (StatusCode::CREATED, made).into_response();
    // RFC 6750 §5.3: no cache keeps it.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Revokes a token: the next request with it is refused, and streams that it opened end.
pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(Holder(holder)): Extension<Holder>,
    Route(name): Route<String>,
) -> Result<StatusCode, Problem> {
    change(&api, holder, move |api, holder| api.tokens.revoke(holder, &name, now_ms())).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Waits for the store without holding up the runtime; to its end also when the caller goes away.
async fn change<T: Send + 'static>(
    api: &Api,
    holder: Arc<Token>,
    change: impl FnOnce(&Api, &Arc<Token>) -> Result<T, TokenError> + Send + 'static,
) -> Result<T, Problem> {
    let api = api.clone();
    let whole = tokio::task::spawn_blocking(move || change(&api, &holder));
    whole.await.map_err(|_| Problem::internal())?.map_err(Problem::from)
}
