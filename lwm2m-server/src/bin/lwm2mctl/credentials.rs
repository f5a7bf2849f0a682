//! Credentials: what is asked of the server for them, and how it is shown.

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::http::{Api, escape};
use super::run::{Out, audit, from_file, query, rows};
use super::show::{line, table, text, time};
use super::{Credentials, Failure, Material, check};

impl Material {
    /// The members of a credential's body; `None` when nothing is given.
    fn body(&self) -> Result<Option<Map<String, Value>>, Failure> {
        let mut body = Map::new();
        let mut give = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        give("mode", self.mode.as_ref().map(|mode| json!(mode)));
        give("binding", self.binding.as_ref().map(|binding| json!(binding)));
        for (name, file) in [
            ("public_key", &self.public_key),
            ("certificate", &self.certificate),
            ("private_key", &self.private_key),
        ] {
            if let Some(file) = file {
                give(name, Some(json!(*encoded(file)?)));
            }
        }
        if let Some(issuer) = &self.issuer {
            let is_hash = issuer.len() == 64 && issuer.bytes().all(|byte| byte.is_ascii_hexdigit());
            let issuer = if is_hash { issuer.clone() } else { encoded(issuer)?.to_string() };
            give("issuer", Some(json!(issuer)));
        }
        if let Some(hash) = &self.sha256 {
            let is_of_certificate =
                self.mode.as_deref() == Some("x509") && self.binding.as_deref() != Some("key");
            let name = if is_of_certificate { "certificate_sha256" } else { "public_key_sha256" };
            give(name, Some(json!(hash)));
        }
        if let Some(file) = &self.oscore {
            let text = encoded(file)?;
            let given: Map<String, Value> = serde_json::from_str(&text)
                .map_err(|error| Failure::Arguments(format!("{file} is no OSCORE context: {error}")))?;
            if self.is_context_alone() {
                body.extend(given);
                body.insert("mode".to_owned(), json!("oscore"));
            } else {
                body.insert("oscore".to_owned(), Value::Object(given));
            }
        }
        Ok(Some(body).filter(|body| !body.is_empty()))
    }

    /// Whether it is an OSCORE context, beside nothing that is for DTLS.
    fn is_context_alone(&self) -> bool {
        let files = [&self.public_key, &self.certificate, &self.private_key];
        let others = [&self.sha256, &self.binding, &self.issuer];
        let is_of_dtls = files.into_iter().chain(others).any(Option::is_some);
        self.oscore.is_some() && !is_of_dtls && self.mode.as_deref().is_none_or(|mode| mode == "oscore")
    }
}

/// A file as it goes into JSON: PEM as it is, DER in hex digits.
fn encoded(file: &str) -> Result<Zeroizing<String>, Failure> {
    let bytes =
        std::fs::read(file).map_err(|error| Failure::Arguments(format!("cannot read {file}: {error}")))?;
    let bytes = Zeroizing::new(bytes);
    Ok(Zeroizing::new(match core::str::from_utf8(&bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => hex::encode(&bytes),
    }))
}

pub(crate) fn credentials(api: &Api, out: &Out, command: Credentials) -> Result<(), Failure> {
    let route = |endpoint: &str, tail: &str| format!("/devices/{}/credentials{tail}", escape(endpoint));
    let state = |answer: &Value, endpoint: &str, what: &str| {
        line(&format!(
            "{endpoint} {what}: bootstrap {}, management {}, hold {}",
            text(answer, "/bootstrap"),
            text(answer, "/management"),
            text(answer, "/hold")
        ));
    };
    match command {
        Credentials::List { endpoint } => out.show(&api.get(&route(&endpoint, ""))?, accounts),
        Credentials::Put {
            endpoint,
            bootstrap_identity,
            bootstrap_key,
            bootstrap_generate,
            management_identity,
            management_key,
            management_generate,
            role,
            generate,
            material,
            allow_nosec,
            profile,
        } => {
            let mut body = Map::new();
            for (role, identity, key, generate) in [
                ("bootstrap", bootstrap_identity, bootstrap_key, bootstrap_generate),
                ("management", management_identity, management_key, management_generate),
            ] {
                if generate {
                    body.insert(role.to_owned(), json!({ "generate": true }));
                } else if let (Some(identity), Some(key)) = (identity, key) {
                    let key = from_file("the key", key)?;
                    body.insert(role.to_owned(), json!({ "identity": identity, "key": key }));
                }
            }
            if let Some(mut given) = material.body()? {
                if generate {
                    given.insert("generate".to_owned(), json!(true));
                }
                match body.get_mut(&role).and_then(Value::as_object_mut) {
                    // Beside the identity and the key, or what is drawn: inside DTLS.
                    Some(known) if material.is_context_alone() => {
                        drop(known.insert("oscore".to_owned(), Value::Object(given)))
                    }
                    Some(_) => {
                        return Err(Failure::Arguments(format!(
                            "two credentials are given for the {role} account"
                        )));
                    }
                    None => drop(body.insert(role.clone(), Value::Object(given))),
                }
            } else if generate {
                return Err(Failure::Arguments("--generate: name the --mode".to_owned()));
            }
            if let Some(profile) = profile {
                let profile = from_file("--profile", profile)?;
                let profile = serde_json::from_str(&profile)
                    .map_err(|error| Failure::Arguments(format!("--profile is not JSON: {error}")))?;
                body.insert("profile".to_owned(), profile);
            }
            if let Some(allow) = allow_nosec {
                body.insert("allow_nosec".to_owned(), json!(allow));
            }
            let answer = api.put(&route(&endpoint, ""), &Value::Object(body))?;
            out.show(&answer, |answer| {
                let rows = rows(answer, "/created", |each| {
                    let given = "(given, or delivered by the bootstrap)";
                    let is_below =
                        ["private_key", "master_secret"].iter().any(|name| each.get(name).is_some());
                    let key = match is_below {
                        true => "(below)".to_owned(),
                        false => text(each, "/key").replace('-', given),
                    };
                    vec![text(each, "/role"), text(each, "/generation"), text(each, "/identity"), key]
                });
                if rows.is_empty() {
                    line(&format!("{endpoint}: no new credential"));
                } else {
                    table(&["ROLE", "GENERATION", "IDENTITY", "KEY (shown once)"], &rows);
                }
                let created = answer.get("created").and_then(Value::as_array);
                for each in created.into_iter().flatten() {
                    for name in ["private_key", "certificate"] {
                        if let Some(pem) = each.get(name).and_then(Value::as_str) {
                            line(pem.trim_end());
                        }
                    }
                    let context = each.get("oscore").unwrap_or(each);
                    for name in ["master_secret", "master_salt", "sender_id", "recipient_id"] {
                        if let Some(digits) = context.get(name).and_then(Value::as_str) {
                            line(&format!("{name} {digits}"));
                        }
                    }
                }
            })
        }
        Credentials::Rotate { endpoint, material, deadline, grace, server_uri, fetch, reason } => {
            let mut body = json!({
                "deadline": deadline, "grace": grace, "server_uri": server_uri, "fetch": fetch, "reason": reason
            });
            if let (Some(mut given), Some(body)) = (material.body()?, body.as_object_mut()) {
                // A mode alone: one that is drawn.
                match given.get("mode").filter(|_| given.len() == 1) {
                    Some(mode) => body.insert("mode".to_owned(), mode.clone()),
                    None => {
                        if given.len() == 2 && given.contains_key("mode") && given.contains_key("oscore") {
                            given.insert("generate".to_owned(), json!(true));
                        }
                        body.insert("credential".to_owned(), Value::Object(given))
                    }
                };
            }
            let answer = api.post(&route(&endpoint, "/rotate"), &body)?;
            out.show(&answer, |answer| {
                line(&format!(
                    "{endpoint}: generation {} staged as {}; follow it by: lwm2mctl credentials history {endpoint}",
                    text(answer, "/generation"),
                    text(answer, "/identity")
                ));
                for warning in answer.get("warnings").and_then(Value::as_array).into_iter().flatten() {
                    line(&format!("warning: {}", warning.as_str().unwrap_or_default()));
                }
            })
        }
        Credentials::Revoke { endpoint, role, reason } => {
            let body = json!({ "role": role, "reason": reason });
            let answer = api.post(&route(&endpoint, "/revoke"), &body)?;
            out.show(&answer, |answer| state(answer, &endpoint, "revoked"))
        }
        Credentials::Suspend { endpoint, reason } => {
            let answer = api.post(&route(&endpoint, "/suspend"), &json!({ "reason": reason }))?;
            out.show(&answer, |answer| state(answer, &endpoint, "suspended"))
        }
        Credentials::Resume { endpoint, reason } => {
            let answer = api.post(&route(&endpoint, "/resume"), &json!({ "reason": reason }))?;
            out.show(&answer, |answer| state(answer, &endpoint, "resumed"))
        }
        Credentials::Decommission { endpoint, reason } => {
            let answer = api.post(&route(&endpoint, "/decommission"), &json!({ "reason": reason }))?;
            out.show(&answer, |answer| state(answer, &endpoint, "decommissioned"))
        }
        Credentials::Pins { limit } => out.show(&api.get(&format!("/server-keys?limit={limit}"))?, pins),
        // Answered before anybody asks for a server.
        Credentials::Check(files) => check::check(&files, out.json),
        Credentials::History { endpoint, page } => {
            out.show(&api.get(&format!("{}?{}", route(&endpoint, "/history"), query(&page)))?, audit)
        }
    }
}

fn accounts(answer: &Value) {
    let mut all = Vec::new();
    for role in ["bootstrap", "management"] {
        let Some(account) = answer.get(role).filter(|account| account.is_object()) else { continue };
        line(&format!(
            "{role}: {}, last success {}",
            text(account, "/state"),
            time(account, "/last_success_ms")
        ));
        if account.get("note").is_some_and(Value::is_string) {
            line(&format!("  {}", text(account, "/note")));
        }
        if account.get("rotation").is_some_and(Value::is_object) {
            line(&format!(
                "  rotation {} -> {}, deadline {}",
                text(account, "/rotation/from"),
                text(account, "/rotation/to"),
                time(account, "/rotation/deadline_ms")
            ));
        }
        all.extend(rows(account, "/credentials", |each| {
            let within = if each.get("oscore").is_some() { ", oscore" } else { "" };
            vec![
                role.to_owned(),
                text(each, "/generation"),
                text(each, "/mode") + within,
                text(each, "/subject"),
                text(each, "/standing"),
                time(each, "/created_ms"),
                time(each, "/expires_ms"),
            ]
        }));
    }
    if answer.get("hold").is_some_and(Value::is_object) {
        line(&format!(
            "{} since {}: {}",
            text(answer, "/hold/kind"),
            time(answer, "/hold/since_ms"),
            text(answer, "/hold/reason")
        ));
    }
    table(&["ROLE", "GENERATION", "MODE", "IDENTITY", "STANDING", "CREATED", "EXPIRES"], &all);
    for role in ["bootstrap", "management"] {
        for credential in
            answer.pointer(&format!("/{role}/credentials")).and_then(Value::as_array).into_iter().flatten()
        {
            let certificates = credential.get("certificates").and_then(Value::as_array);
            for certificate in certificates.into_iter().flatten() {
                line(&format!(
                    "{role} {}: {} by {}, {} to {}, sha256 {}",
                    text(credential, "/generation"),
                    text(certificate, "/subject"),
                    text(certificate, "/issuer"),
                    text(certificate, "/not_before"),
                    text(certificate, "/not_after"),
                    text(certificate, "/sha256"),
                ));
            }
        }
    }
}

fn pins(answer: &Value) {
    let all = rows(answer, "/keys", |each| {
        let devices = each.get("devices").and_then(Value::as_array);
        let devices: Vec<&str> = devices.into_iter().flatten().filter_map(Value::as_str).collect();
        vec![
            text(each, "/of").replace('_', " "),
            text(each, "/sha256"),
            (if each.get("current") == Some(&json!(true)) { "yes" } else { "no" }).to_owned(),
            text(each, "/count"),
            if devices.is_empty() { "-".to_owned() } else { devices.join(" ") },
        ]
    });
    table(&["KEY OF THE SERVER", "SHA-256", "CURRENT", "COUNT", "DEVICES THAT EXPECT IT"], &all);
}
