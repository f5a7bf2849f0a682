//! What is observed of a device, and what it notifies.

use clap::Args;
use serde_json::{Map, Value, json};

use super::Failure;
use super::http::{Api, escape};
use super::requests::Manner;
use super::run::{Out, attribute, rows, values};
use super::show::{line, table, text};

/// How something is observed.
#[derive(Args)]
pub(crate) struct How {
    /// Do not wait for notifications
    #[arg(long)]
    no_follow: bool,
    /// Attribute that is written before, as in pmin=10, several times: pmin, pmax, gt, lt, st, epmin, epmax
    #[arg(long = "attribute", value_name = "NAME=NUMBER", conflicts_with = "not_lasting")]
    attributes: Vec<String>,
    /// Until the device registers anew, instead of until it is ended
    #[arg(long)]
    not_lasting: bool,
}

/// Lists what is observed of a device.
pub(crate) fn list(api: &Api, out: &Out, endpoint: &str) -> Result<(), Failure> {
    let answer = api.get(&format!("/devices/{}/observations", escape(endpoint)))?;
    out.show(&answer, |answer| {
        let rows = rows(answer, "/observations", |each| {
            let [id, lasting, state, reason] =
                ["/id", "/lasting", "/state", "/reason"].map(|at| text(each, at));
            vec![id, places(each), lasting, state, attributes(each), reason]
        });
        table(&["OBSERVATION", "PATH", "LASTING", "STATE", "ATTRIBUTES", "REASON"], &rows);
    })
}

/// What is observed: one path or several.
fn places(observation: &Value) -> String {
    match observation.get("paths").and_then(Value::as_array) {
        Some(paths) => paths.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        None => text(observation, "/path"),
    }
}

fn attributes(observation: &Value) -> String {
    let attributes = observation.get("attributes").and_then(Value::as_object);
    let each: Vec<String> =
        attributes.into_iter().flatten().map(|(name, value)| format!("{name}={value}")).collect();
    if each.is_empty() { "-".to_owned() } else { each.join(" ") }
}

/// Observes and prints what is notified.
pub(crate) fn observe(
    api: &Api,
    out: &Out,
    manner: &Manner,
    endpoint: &str,
    mut body: Value,
    how: &How,
) -> Result<(), Failure> {
    let mut attributes = Map::new();
    for each in &how.attributes {
        let (name, value) = attribute(each)?;
        attributes.insert(name, value);
    }
    if let Some(body) = body.as_object_mut() {
        body.insert("lasting".to_owned(), json!(!how.not_lasting));
        body.insert("attributes".to_owned(), Value::Object(attributes));
    }
    let route = format!("/devices/{}/observations?{}", escape(endpoint), manner.query);
    let is_followed = !how.no_follow || manner.wait;
    // Listening first: a device may notify at once.
    let events = is_followed
        .then(|| api.listen(&format!("/events?endpoint={}", escape(endpoint)), None))
        .transpose()?;
    let answer = if how.not_lasting {
        match manner.ask(api, out, endpoint, ("POST", &route, Some(&body)))? {
            Some(answer) => answer,
            None => return Ok(()),
        }
    } else {
        api.post(&route, &body)?
    };
    let is_waiting = answer.get("state") == Some(&json!("waiting"));
    out.show(&answer, |answer| {
        if is_waiting {
            line(&format!("observation {} waits for {endpoint}", text(answer, "/id")));
        } else {
            line(&format!("observation {}", text(answer, "/id")));
            values(answer);
        }
    })?;
    let Some(events) = events else { return Ok(()) };
    if how.no_follow && !is_waiting {
        return Ok(());
    }
    let id = answer.get("id").cloned();
    let mut ended = None;
    events.each(|name, _, body| {
        if body.get("observation") != id.as_ref() || id.is_none() {
            return true;
        }
        let reason = text(body, "/reason");
        let is_over = match name {
            "observation-ended" => body.get("lasting") != Some(&json!(true)),
            "observation-refused" => how.no_follow,
            "notification" => {
                notified(out, body);
                return !how.no_follow;
            }
            _ => return true,
        };
        if is_over {
            ended = Some(reason);
        } else {
            // It is asked again when the device registers the next time.
            let id = text(body, "/observation");
            eprintln!("lwm2mctl: observation {id} waits for {endpoint}: {reason}");
        }
        !is_over
    })?;
    match ended {
        None => Ok(()),
        Some(reason) => Err(Failure::Refused(format!("the observation ended: {reason}"))),
    }
}

fn notified(out: &Out, body: &Value) {
    if out.json {
        line(&body.to_string());
        return;
    }
    for row in rows(body, "/values", |each| vec![text(each, "/path"), text(each, "/value")]) {
        line(&row.join("  "));
    }
}
