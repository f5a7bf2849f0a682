//! Several places of a device at once.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::Failure;
use super::http::{Api, escape};
use super::observe::{How, observe};
use super::requests::Manner;
use super::run::{Out, value, values};

#[derive(Subcommand)]
pub(crate) enum Composite {
    /// Read several places; what is not there is left out
    Read {
        /// Endpoint name
        endpoint: String,
        /// Paths as in /3303/0/5700
        #[arg(required = true)]
        paths: Vec<String>,
        /// senml-cbor or a content-format number
        #[arg(long)]
        format: Option<String>,
    },
    /// Write several resources or resource instances, all or none
    Write {
        /// Endpoint name
        endpoint: String,
        /// PATH=VALUE, as in /3/0/14=+01:00
        #[arg(required = true)]
        values: Vec<String>,
        /// Type of the values; that of each resource where the server knows its object
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
    },
    /// Observe several places and print what they notify together
    Observe {
        /// Endpoint name
        endpoint: String,
        /// Paths as in /3303/0/5700
        #[arg(required = true)]
        paths: Vec<String>,
        #[command(flatten)]
        how: How,
    },
}

pub(crate) fn composite(api: &Api, out: &Out, manner: &Manner, command: Composite) -> Result<(), Failure> {
    let route = |endpoint: &str| format!("/devices/{}/composite?{}", escape(endpoint), manner.query);
    match command {
        Composite::Read { endpoint, paths, format } => {
            let format = format.map_or_else(String::new, |format| format!("&format={}", escape(&format)));
            let route = format!("{}&paths={}{format}", route(&endpoint), escape(&paths.join(",")));
            match manner.ask(api, out, &endpoint, ("GET", &route, None))? {
                Some(answer) => out.show(&answer, values),
                None => Ok(()),
            }
        }
        Composite::Write { endpoint, values, kind } => {
            let mut body = Map::new();
            for each in &values {
                let (path, text) =
                    each.split_once('=').filter(|(path, _)| path.starts_with('/')).ok_or_else(|| {
                        Failure::Arguments(format!("'{each}' is not PATH=VALUE as in /1/0/1=60"))
                    })?;
                body.insert(path.to_owned(), value(text, kind.as_deref())?);
            }
            let places = values.len();
            let body = json!({ "values": Value::Object(body) });
            match manner.ask(api, out, &endpoint, ("PUT", &route(&endpoint), Some(&body)))? {
                Some(_) => out.done(&format!("{endpoint}: {places} values written")),
                None => Ok(()),
            }
        }
        Composite::Observe { endpoint, paths, how } => {
            observe(api, out, manner, &endpoint, json!({ "paths": paths }), &how)
        }
    }
}
