//! Groups of devices, for campaigns.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Failure;
use super::http::{Api, escape};
use super::run::{Out, from_file, rows};
use super::show::{line, table, text};

/// Devices by their names, or by what these look like.
#[derive(Args)]
pub(crate) struct Chosen {
    /// Endpoint name; may be repeated
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "pattern")]
    device: Vec<String>,
    /// File with an endpoint name in each line
    #[arg(long, value_name = "FILE", conflicts_with = "pattern")]
    file: Option<String>,
    /// Endpoint names in which * stands for any run of characters; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pattern: Vec<String>,
}

impl Chosen {
    pub(crate) fn body(self) -> Result<Value, Failure> {
        if !self.pattern.is_empty() {
            return Ok(json!({ "patterns": self.pattern }));
        }
        let mut names = self.device;
        if let Some(file) = self.file {
            let text = from_file("--file", format!("@{file}"))?;
            names.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        }
        Ok(json!({ "names": names }))
    }
}

#[derive(Subcommand)]
pub(crate) enum Groups {
    /// List them
    List,
    /// Show one
    Show {
        /// Its name
        name: String,
    },
    /// Put one in the place of a former one
    Put {
        /// Its name
        name: String,
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Remove one; campaigns that were made of it keep their devices
    Remove {
        /// Its name
        name: String,
    },
}

pub(crate) fn groups(api: &Api, out: &Out, command: Groups) -> Result<(), Failure> {
    let route = |name: &str| format!("/groups/{}", escape(name));
    match command {
        Groups::List => out.show(&api.get("/groups")?, list),
        Groups::Show { name } => out.show(&api.get(&route(&name))?, |group| {
            let devices = group.pointer("/devices/names").or_else(|| group.pointer("/devices/patterns"));
            for device in devices.and_then(Value::as_array).into_iter().flatten() {
                line(&text(device, ""));
            }
        }),
        Groups::Put { name, chosen } => out.show(&api.put(&route(&name), &chosen.body()?)?, |group| {
            line(&format!("{name}: {}", devices(group)))
        }),
        Groups::Remove { name } => {
            api.delete(&route(&name))?;
            out.done(&format!("{name} removed"))
        }
    }
}

fn devices(group: &Value) -> String {
    match group.pointer("/devices/names").and_then(Value::as_array) {
        Some(names) => format!("{} names", names.len()),
        None => {
            let patterns = group.pointer("/devices/patterns").and_then(Value::as_array).into_iter().flatten();
            patterns.map(|pattern| text(pattern, "")).collect::<Vec<_>>().join(" ")
        }
    }
}

fn list(answer: &Value) {
    let rows = rows(answer, "/groups", |group| vec![text(group, "/name"), devices(group)]);
    table(&["NAME", "DEVICES"], &rows);
}
