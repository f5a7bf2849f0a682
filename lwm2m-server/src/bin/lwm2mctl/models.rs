//! Definitions of objects: what the server knows, and what it is to know.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::Value;

use super::Failure;
use super::http::{Api, escape};
use super::run::{Out, rows};
use super::show::{line, table, text};

#[derive(Subcommand)]
pub(crate) enum Models {
    /// List them
    List,
    /// Show the resources of an object
    Show {
        /// Object id
        object: u16,
        /// Version as in 1.1; the newest without
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
    },
    /// Add the definition of an object, or of another version of one
    Add {
        /// XML as the OMA registry publishes it
        file: PathBuf,
    },
}

pub(crate) fn models(api: &Api, out: &Out, command: Models) -> Result<(), Failure> {
    match command {
        Models::List => out.show(&api.get("/models")?, list),
        Models::Show { object, version } => {
            let query = version.map_or_else(String::new, |version| format!("?version={}", escape(&version)));
            out.show(&api.get(&format!("/models/{object}{query}"))?, one)
        }
        Models::Add { file } => {
            let answer = api.post_xml("/models", read(&file)?)?;
            out.show(&answer, |answer| {
                line(&format!("object {} version {} added", text(answer, "/id"), text(answer, "/version")));
            })
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::Arguments(format!("{}: {error}", file.display())))
}

fn list(answer: &Value) {
    let rows = rows(answer, "/models", |model| {
        let source = match text(model, "/file").as_str() {
            "-" => text(model, "/source"),
            file => file.to_owned(),
        };
        let [id, version, name] = ["/id", "/version", "/name"].map(|at| text(model, at));
        vec![id, version, name, text(model, "/multiple"), text(model, "/resources"), source]
    });
    table(&["OBJECT", "VERSION", "NAME", "MULTIPLE", "RESOURCES", "SOURCE"], &rows);
}

fn one(model: &Value) {
    line(&format!("{} {}, version {}", text(model, "/id"), text(model, "/name"), text(model, "/version")));
    let rows = rows(model, "/resources", |resource| {
        ["/id", "/name", "/operations", "/type", "/multiple", "/mandatory", "/range", "/units"]
            .map(|at| text(resource, at))
            .to_vec()
    });
    table(&["ID", "NAME", "OPERATIONS", "TYPE", "MULTIPLE", "MANDATORY", "RANGE", "UNITS"], &rows);
}
