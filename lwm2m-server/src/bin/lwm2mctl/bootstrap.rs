//! Bootstrap profiles, the devices that follow them, and what a bootstrap would do.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Failure;
use super::http::{Api, escape};
use super::run::{Out, from_file, rows};
use super::show::{line, table, text, time};

#[derive(Subcommand)]
pub(crate) enum Bootstrap {
    /// Profiles: what bootstraps write and delete
    #[command(subcommand)]
    Profiles(Profiles),
    /// Have the bootstraps of a device follow a profile
    Assign {
        /// Endpoint name
        endpoint: String,
        /// Name of the profile
        profile: String,
        /// Version of the profile [default: the newest]
        #[arg(long, value_name = "N")]
        version: Option<u32>,
        /// A variable of the device; may be repeated
        #[arg(long = "set", value_name = "NAME=VALUE")]
        variables: Vec<String>,
        /// A secret variable: a key in hex digits, or @FILE; may be repeated. Those given before stay
        #[arg(long = "secret", value_name = "NAME=HEX")]
        secrets: Vec<String>,
    },
    /// Have the bootstraps of a device follow no profile
    Unassign {
        /// Endpoint name
        endpoint: String,
    },
    /// Show which profile a device follows, and followed last
    Show {
        /// Endpoint name
        endpoint: String,
    },
    /// Show what a device is asked at its next bootstrap
    Preview {
        /// Endpoint name
        endpoint: String,
        #[command(flatten)]
        assumed: Assumed,
    },
}

#[derive(Subcommand)]
pub(crate) enum Profiles {
    /// List them
    List,
    /// Show a version
    Show {
        /// Name of the profile
        name: String,
        /// Version [default: the newest]
        #[arg(long, value_name = "N")]
        version: Option<u32>,
    },
    /// Make a version: what the newest one says already is no new one
    Put {
        /// Name of the profile
        name: String,
        /// What it says, as JSON or @FILE
        body: String,
    },
    /// Remove all versions
    Delete {
        /// Name of the profile
        name: String,
    },
    /// Show what a device would be asked if it followed the profile
    Preview {
        /// Name of the profile
        name: String,
        /// Endpoint name
        endpoint: String,
        /// Version [default: the newest]
        #[arg(long, value_name = "N")]
        version: Option<u32>,
        /// A variable, beside those that the device has; may be repeated
        #[arg(long = "set", value_name = "NAME=VALUE")]
        variables: Vec<String>,
        #[command(flatten)]
        assumed: Assumed,
    },
}

#[derive(Args)]
pub(crate) struct Assumed {
    /// What the device shows to a Discover, in link-format, or @FILE [default: its bootstrap account alone]
    #[arg(long, value_name = "LINKS")]
    discovered: Option<String>,
    /// The content format that it asks for [default: tlv]
    #[arg(long, value_name = "FORMAT", value_parser = ["tlv", "senml-cbor", "senml-json"])]
    format: Option<String>,
}

impl Assumed {
    fn query(self) -> Result<String, Failure> {
        let mut query = String::new();
        if let Some(discovered) = self.discovered {
            query.push_str(&format!("&discovered={}", escape(&from_file("--discovered", discovered)?)));
        }
        if let Some(format) = self.format {
            query.push_str(&format!("&format={format}"));
        }
        Ok(query)
    }
}

pub(crate) fn bootstrap(api: &Api, out: &Out, command: Bootstrap) -> Result<(), Failure> {
    match command {
        Bootstrap::Profiles(command) => profiles(api, out, command),
        Bootstrap::Assign { endpoint, profile, version, variables, secrets } => {
            let mut keys = Map::new();
            for (name, digits) in named("--secret", &secrets)? {
                let digits = digits.as_str().unwrap_or_default().to_owned();
                keys.insert(name, json!(from_file("--secret", digits)?));
            }
            let variables = named("--set", &variables)?;
            let body =
                json!({ "name": profile, "version": version, "variables": variables, "secrets": keys });
            out.show(&api.put(&route(&endpoint, "profile"), &body)?, follows)
        }
        Bootstrap::Unassign { endpoint } => {
            api.delete(&route(&endpoint, "profile"))?;
            out.done(&format!("{endpoint} follows no profile"))
        }
        Bootstrap::Show { endpoint } => out.show(&api.get(&route(&endpoint, "profile"))?, follows),
        Bootstrap::Preview { endpoint, assumed } => {
            let route = format!("{}?{}", route(&endpoint, "bootstrap"), assumed.query()?);
            out.show(&api.get(route.trim_end_matches('?'))?, requests)
        }
    }
}

fn profiles(api: &Api, out: &Out, command: Profiles) -> Result<(), Failure> {
    let route = |name: &str| format!("/bootstrap/profiles/{}", escape(name));
    let of = |version: Option<u32>| version.map_or_else(String::new, |version| format!("version={version}&"));
    match command {
        Profiles::List => out.show(&api.get("/bootstrap/profiles")?, list),
        Profiles::Show { name, version } => {
            out.show(&api.get(&format!("{}?{}", route(&name), of(version)))?, one)
        }
        Profiles::Put { name, body } => {
            let body: Value = serde_json::from_str(&from_file("the profile", body)?)
                .map_err(|error| Failure::Arguments(format!("the profile is no JSON: {error}")))?;
            let made =
                |made: &Value| line(&format!("{} version {}", text(made, "/name"), text(made, "/version")));
            out.show(&api.put(&route(&name), &body)?, made)
        }
        Profiles::Delete { name } => {
            api.delete(&route(&name))?;
            out.done(&format!("{name} removed"))
        }
        Profiles::Preview { name, endpoint, version, variables, assumed } => {
            let variables = escape(&Value::Object(named("--set", &variables)?).to_string());
            let query = format!("{}endpoint={}&variables={variables}", of(version), escape(&endpoint));
            let route = format!("{}/preview?{query}{}", route(&name), assumed.query()?);
            out.show(&api.get(&route)?, requests)
        }
    }
}

fn route(endpoint: &str, what: &str) -> String {
    format!("/devices/{}/{what}", escape(endpoint))
}

/// NAME=VALUE of each.
fn named(what: &str, pairs: &[String]) -> Result<Map<String, Value>, Failure> {
    let pair = |pair: &String| {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::Arguments(format!("{what}: it is not NAME=VALUE")))?;
        Ok((name.to_owned(), json!(value)))
    };
    pairs.iter().map(pair).collect()
}

fn list(answer: &Value) {
    let rows = rows(answer, "/profiles", |profile| {
        let [name, version, devices, description] =
            ["/name", "/version", "/devices", "/description"].map(|at| text(profile, at));
        vec![name, version, time(profile, "/created_ms"), devices, description]
    });
    table(&["NAME", "VERSION", "MADE", "DEVICES", "DESCRIPTION"], &rows);
}

fn one(profile: &Value) {
    let [name, version, versions, devices] =
        ["/name", "/version", "/versions", "/devices"].map(|at| text(profile, at));
    line(&format!(
        "{name}, version {version} of {versions}, made {}, {devices} devices",
        time(profile, "/created_ms")
    ));
    for (what, at) in [("variables", "/variables"), ("secret variables", "/secrets")] {
        line(&format!("{what}: {}", words(profile, at)));
    }
    // What is edited and put again.
    let body = profile.get("body").unwrap_or(&Value::Null);
    line(&serde_json::to_string_pretty(body).unwrap_or_default());
}

fn follows(answer: &Value) {
    let profile = |at: &str| match answer.pointer(at) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(of) => format!("{} version {}", text(of, "/name"), text(of, "/version")),
    };
    let variables = answer.pointer("/assigned/variables").and_then(Value::as_object);
    let variables: Vec<String> =
        variables.into_iter().flatten().map(|(name, value)| format!("{name}={}", text(value, ""))).collect();
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let rows = [
        row("endpoint", text(answer, "/endpoint")),
        row("profile", profile("/assigned")),
        row("newest version", text(answer, "/assigned/newest")),
        row("variables", variables.join(" ")),
        row("secret variables", words(answer, "/assigned/secrets")),
        row("applied last", profile("/applied")),
        row("at", time(answer, "/applied/at_ms")),
    ];
    table(&["", ""], &rows);
}

fn requests(answer: &Value) {
    let missing = words(answer, "/missing");
    if missing != "-" {
        line(&format!("secret variables that are not given yet: {missing}"));
    }
    line(&format!("a device that shows {}:", text(answer, "/discovered")));
    let mut rows = Vec::new();
    for request in answer.pointer("/requests").and_then(Value::as_array).into_iter().flatten() {
        let depends = request.pointer("/depends_on_discover") == Some(&Value::Bool(true));
        let place = if depends { "by Discover" } else { "" }.to_owned();
        let [operation, path, format, length] =
            ["/operation", "/path", "/format", "/length"].map(|at| text(request, at));
        rows.push(vec![operation, path, format, length, place, String::new()]);
        for value in request.pointer("/values").and_then(Value::as_array).into_iter().flatten() {
            let mut row = vec![String::new(); 5];
            row.push(format!("{} = {}", text(value, "/path"), text(value, "/value")));
            rows.push(row);
        }
    }
    table(&["OPERATION", "PATH", "FORMAT", "BYTES", "PLACED", "VALUES"], &rows);
}

fn words(answer: &Value, at: &str) -> String {
    let words: Vec<String> = answer
        .pointer(at)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|word| text(word, ""))
        .collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}
