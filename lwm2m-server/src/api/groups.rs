//! Groups over HTTP.
//!
//! `PUT /groups/{name}`: `{"names": ["meter-1", "meter-2"]}` or `{"patterns": ["meter-*"]}`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::guard::Holder;
use super::problem::Problem;
use super::request::{self, Body, Route};
use super::{Actor, Api, now_ms};
use crate::campaigns::Group;

/// The most groups.
const MOST: usize = 1000;
/// Longest name in bytes.
const LONGEST_NAME: usize = 64;

/// Groups, by name.
#[derive(Serialize, ToSchema)]
pub(super) struct GroupList {
    groups: Vec<ShownGroup>,
}

/// A group: `names`, or `patterns` in which `*` stands for any run of characters.
#[derive(Serialize, ToSchema)]
#[schema(as = NamedGroup)]
pub(super) struct ShownGroup {
    name: String,
    devices: Group,
}

/// The groups that have no devices but those of the token.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(holder): Extension<Holder>,
) -> Result<Json<GroupList>, Problem> {
    let groups = api.campaigns.read(|store| store.campaigns().groups()).await?;
    let shown = groups.into_iter().filter(|(_, devices)| devices.is_within(holder.scope()));
    Ok(Json(GroupList { groups: shown.map(|(name, devices)| ShownGroup { name, devices }).collect() }))
}

/// One group.
pub(super) async fn show(
    State(api): State<Api>,
    Extension(holder): Extension<Holder>,
    Route(name): Route<String>,
) -> Result<Json<ShownGroup>, Problem> {
    let devices = find(&api, &holder, &name).await?;
    Ok(Json(ShownGroup { name, devices }))
}

/// A group that has no devices but those of the token.
pub(super) async fn find(api: &Api, holder: &Holder, name: &str) -> Result<Group, Problem> {
    let wanted = name.to_owned();
    let found = api.campaigns.read(move |store| store.campaigns().group(&wanted)).await?;
    found.filter(|group| group.is_within(holder.scope())).ok_or_else(|| {
        let none = format!("there is no group '{name}' of the devices that the token is for");
        Problem::new(404, "No such group", none)
    })
}

/// Puts a group in the place of a former one.
pub(super) async fn put(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Extension(holder): Extension<Holder>,
    Route(name): Route<String>,
    Body(bytes): Body,
) -> Result<(StatusCode, Json<ShownGroup>), Problem> {
    let group: Group = request::body(&bytes)?;
    let is_printable = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !is_printable || name.trim() != name || !(1..=LONGEST_NAME).contains(&name.len()) {
        return Err(Problem::invalid(format!("name: 1 to {LONGEST_NAME} printable characters of ASCII")));
    }
    group.check().map_err(Problem::invalid)?;
    if !group.is_within(holder.scope()) {
        return Err(Problem::invalid(format!(
            "it has devices that the token is not for: {}",
            holder.scope()
        )));
    }
    let (wanted, devices) = (name.clone(), group.clone());
    // To its end also when the caller goes away.
    let put = api.campaigns.read(move |store| {
        let groups = store.campaigns().groups()?;
        let former = groups.iter().find(|(known, _)| *known == wanted);
        if former.is_some_and(|(_, former)| !former.is_within(holder.scope())) {
            return Ok(Err("the name is that of a group of other devices"));
        }
        if former.is_none() && groups.len() >= MOST {
            return Ok(Err("there are as many groups as may be: remove some"));
        }
        store.campaigns().put_group(&actor, now_ms(), &wanted, Some(&group)).map(Ok)
    });
    let is_known = put.await?.map_err(|why| Problem::new(409, "Refused", why))?;
    let status = if is_known { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(ShownGroup { name, devices })))
}

/// Removes a group; campaigns that were made of it keep their devices.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    Extension(holder): Extension<Holder>,
    Route(name): Route<String>,
) -> Result<StatusCode, Problem> {
    find(&api, &holder, &name).await?;
    api.campaigns.read(move |store| store.campaigns().put_group(&actor, now_ms(), &name, None)).await?;
    Ok(StatusCode::NO_CONTENT)
}
