//! Campaigns: the same for many devices, step by step.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Failure;
use super::groups::Chosen;
use super::http::Api;
use super::run::{Out, pages, rows, write_body};
use super::show::{line, table, text, time};

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, read at the start")]
pub(crate) enum Campaigns {
    /// Make one: --rotate, --write PATH VALUE or --execute PATH at the devices of a group, of names or of patterns
    Make(Make),
    /// List them, the newest first
    List,
    /// Show one
    Show {
        /// Its id
        id: u64,
    },
    /// List its devices and what became of each
    Devices {
        /// Its id
        id: u64,
        /// Only those that stand so
        #[arg(long, value_name = "STATE", value_parser = ["waiting", "started", "succeeded", "failed", "rolled-back", "unreachable", "skipped"])]
        state: Option<String>,
    },
    /// Let one begin that somebody else has made
    Approve {
        /// Its id
        id: u64,
    },
    /// Start no further device until it is resumed
    Pause {
        /// Its id
        id: u64,
    },
    /// Go on: what failed so far does not stop it again
    Resume {
        /// Its id
        id: u64,
    },
    /// Start no further device; what is under way comes to its end
    Cancel {
        /// Its id
        id: u64,
    },
    /// Take the devices of a finished one again that failed, were rolled back or unreachable
    Retry {
        /// Its id
        id: u64,
    },
    /// Print a line whenever it has changed, until it waits for somebody or has ended
    Watch {
        /// Its id
        id: u64,
    },
}

#[derive(Args)]
pub(crate) struct Make {
    /// What it is for
    name: String,
    /// The devices of this group
    #[arg(long, value_name = "NAME", required_unless_present_any = ["device", "file", "pattern"], conflicts_with_all = ["device", "file", "pattern"])]
    group: Option<String>,
    #[command(flatten)]
    chosen: Chosen,
    /// Replace the management credential
    #[arg(long, required_unless_present_any = ["write", "execute"], conflicts_with_all = ["write", "execute"])]
    rotate: bool,
    /// The mode of the new credential [default: as it was]
    #[arg(long, value_name = "MODE", value_parser = ["psk", "rpk", "x509", "oscore"], requires = "rotate")]
    mode: Option<String>,
    /// Seconds the old credential is accepted after the proof [default: 600]
    #[arg(long, value_name = "S", requires = "rotate")]
    grace: Option<u64>,
    /// Server URI to write instead of the configured one
    #[arg(long, value_name = "URI", requires = "rotate")]
    server_uri: Option<String>,
    /// Write to this path: a value, or below an instance ID=VALUE
    #[arg(long, num_args = 2.., value_names = ["PATH", "VALUE"], allow_negative_numbers = true, conflicts_with = "execute")]
    write: Vec<String>,
    /// Type of the values: string, integer, unsigned, float, boolean, opaque (hex), time, objlink or corelnk
    #[arg(long = "type", value_name = "TYPE", requires = "write")]
    kind: Option<String>,
    /// Execute the resource of this path
    #[arg(long, value_name = "PATH")]
    execute: Option<String>,
    /// Arguments as in 0='on',1
    #[arg(long, value_name = "ARGUMENTS", requires = "execute", default_value = "")]
    arguments: String,
    /// How many devices were taken once each step has ended; the last one takes all [default: 1,1%,10%,100%]
    #[arg(long, value_name = "N|N%", value_delimiter = ',')]
    steps: Vec<String>,
    /// Devices that are started in a minute
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Devices that may be under way at once [default: 1000]
    #[arg(long, value_name = "N")]
    at_once: Option<u32>,
    /// The share of devices whose failure stops it [default: 5%]
    #[arg(long, value_name = "N%")]
    threshold: Option<String>,
    /// The fewest failures that stop it by their share of the devices that came to an end so far [default: 10]
    #[arg(long, value_name = "N")]
    least_failures: Option<u32>,
    /// Seconds that a step has to have been well before the next one begins [default: 0]
    #[arg(long, value_name = "S")]
    pause: Option<u32>,
    /// Seconds that a device may take [default: 86400]
    #[arg(long, value_name = "S")]
    deadline: Option<u32>,
    /// Whether somebody else has to approve of it; for many devices it cannot be false [default: false for --rotate, else true]
    #[arg(long, value_name = "BOOL")]
    approval: Option<bool>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn campaigns(api: &Api, out: &Out, command: Campaigns) -> Result<(), Failure> {
    let act = |id: u64, act: &str| {
        let campaign = api.post(&format!("/campaigns/{id}/{act}"), &json!({}))?;
        out.show(&campaign, |campaign| line(&told(campaign)))
    };
    match command {
        Campaigns::Make(make) if make.dry_run => {
            out.show(&api.post("/campaigns?dry_run=true", &make.body()?)?, would_do)
        }
        Campaigns::Make(make) => out.show(&api.post("/campaigns", &make.body()?)?, |campaign| {
            line(&told(campaign));
            if campaign.get("state") == Some(&json!("unapproved")) {
                let id = text(campaign, "/id");
                line(&format!(
                    "it begins when somebody else approves of it: lwm2mctl campaigns approve {id}"
                ));
            }
        }),
        Campaigns::List => out.show(&json!({ "campaigns": pages(api, "/campaigns?", "campaigns")? }), list),
        Campaigns::Show { id } => out.show(&api.get(&format!("/campaigns/{id}"))?, one),
        Campaigns::Devices { id, state } => {
            let state = state.map_or_else(String::new, |state| format!("state={state}&"));
            let found = pages(api, &format!("/campaigns/{id}/devices?{state}"), "devices")?;
            out.show(&json!({ "devices": found }), devices)
        }
        Campaigns::Approve { id } => act(id, "approve"),
        Campaigns::Pause { id } => act(id, "pause"),
        Campaigns::Resume { id } => act(id, "resume"),
        Campaigns::Cancel { id } => act(id, "cancel"),
        Campaigns::Retry { id } => act(id, "retry"),
        Campaigns::Watch { id } => watch(api, out, id),
    }
}

impl Make {
    fn body(self) -> Result<Value, Failure> {
        let action = if self.rotate {
            let mut how = json!({ "mode": self.mode, "grace": self.grace, "server_uri": self.server_uri });
            leave_out_null(&mut how);
            json!({ "rotate": how })
        } else if let Some(path) = self.execute {
            json!({ "execute": { "path": path, "arguments": self.arguments } })
        } else {
            let (path, values) = self.write.split_first().ok_or_else(|| {
                Failure::Arguments(
                    "what is to be done: --rotate, --write PATH VALUE or --execute PATH".to_owned(),
                )
            })?;
            let value = write_body(path, values, self.kind.as_deref())?;
            json!({ "write": { "path": path, "value": value } })
        };
        let devices = match self.group {
            Some(name) => json!({ "group": name }),
            None => self.chosen.body()?,
        };
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|step| step.parse::<u32>().map_or_else(|_| json!(step), |n| json!(n)))
            .collect();
        let mut body = json!({
            "name": self.name,
            "action": action,
            "devices": devices,
            "steps": Some(steps).filter(|steps| !steps.is_empty()),
            "rate": self.rate,
            "at_once": self.at_once,
            "threshold": self.threshold,
            "least_failures": self.least_failures,
            "pause": self.pause,
            "deadline": self.deadline,
            "approval": self.approval,
        });
        leave_out_null(&mut body);
        Ok(body)
    }
}

fn leave_out_null(body: &mut Value) {
    if let Some(body) = body.as_object_mut() {
        let kept: Map<String, Value> =
            core::mem::take(body).into_iter().filter(|(_, value)| !value.is_null()).collect();
        *body = kept;
    }
}

/// Asks every second: a token may hear of no events of a campaign that somebody with another scope has made.
fn watch(api: &Api, out: &Out, id: u64) -> Result<(), Failure> {
    let mut former = Value::Null;
    loop {
        let campaign = api.get(&format!("/campaigns/{id}"))?;
        if campaign != former {
            out.show(&campaign, |campaign| line(&told(campaign)))?;
        }
        let is_over = matches!(campaign.get("state").and_then(Value::as_str), Some("finished" | "cancelled"));
        if is_over && campaign.pointer("/counts/started") == Some(&json!(0)) {
            return Ok(());
        }
        if campaign.get("state") == Some(&json!("paused")) {
            return Err(Failure::Refused(format!("it is paused: {}", text(&campaign, "/reason"))));
        }
        former = campaign;
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Where a campaign stands, in a line.
fn told(campaign: &Value) -> String {
    let steps = campaign.get("targets").and_then(Value::as_array).map_or(0, Vec::len);
    let [id, state, name, round, step] =
        ["/id", "/state", "/name", "/round", "/step"].map(|at| text(campaign, at));
    let reason = match text(campaign, "/reason").as_str() {
        "-" => String::new(),
        reason => format!(" ({reason})"),
    };
    format!(
        "campaign {id} '{name}' {state}{reason}: round {round}, step {step} of {steps}: {}",
        counts(campaign)
    )
}

fn counts(campaign: &Value) -> String {
    let of = |name: &str| text(campaign, &format!("/counts/{name}"));
    let mut words =
        format!("{} succeeded, {} under way, {} waiting", of("succeeded"), of("started"), of("waiting"));
    for (name, what) in [
        ("failed", "failed"),
        ("rolled_back", "rolled back"),
        ("unreachable", "unreachable"),
        ("skipped", "skipped"),
    ] {
        if of(name) != "0" {
            words.push_str(&format!(", {} {what}", of(name)));
        }
    }
    words
}

fn action(campaign: &Value) -> String {
    let action = campaign.get("action").and_then(Value::as_object).and_then(|action| action.iter().next());
    action.map_or_else(String::new, |(what, how)| match how.get("path").and_then(Value::as_str) {
        Some(path) => format!("{what} {path}"),
        None => what.clone(),
    })
}

fn list(answer: &Value) {
    let rows = rows(answer, "/campaigns", |campaign| {
        vec![
            text(campaign, "/id"),
            text(campaign, "/name"),
            action(campaign),
            text(campaign, "/devices"),
            text(campaign, "/state"),
            counts(campaign),
            time(campaign, "/made_at_ms"),
            text(campaign, "/made_by"),
        ]
    });
    table(&["ID", "NAME", "ACTION", "DEVICES", "STATE", "COUNTS", "MADE", "BY"], &rows);
}

fn one(campaign: &Value) {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let list = |at: &str| {
        let all = campaign.pointer(at).and_then(Value::as_array).into_iter().flatten();
        all.map(|each| text(each, "")).collect::<Vec<_>>().join(" ")
    };
    let rows = [
        row("id", text(campaign, "/id")),
        row("name", text(campaign, "/name")),
        row("action", action(campaign)),
        row("devices", text(campaign, "/devices")),
        row("state", text(campaign, "/state")),
        row("reason", text(campaign, "/reason")),
        row("round", text(campaign, "/round")),
        row("step", text(campaign, "/step")),
        row("steps", list("/plan/steps")),
        row("of this round", list("/targets")),
        row("counts", counts(campaign)),
        row("rate", text(campaign, "/plan/rate")),
        row("at once", text(campaign, "/plan/at_once")),
        row("threshold", text(campaign, "/plan/threshold")),
        row("least failures", text(campaign, "/plan/least_failures")),
        row("pause", text(campaign, "/plan/pause")),
        row("deadline", text(campaign, "/plan/deadline")),
        row("made by", text(campaign, "/made_by")),
        row("made", time(campaign, "/made_at_ms")),
        row("approval", text(campaign, "/plan/approval")),
        row("approved by", text(campaign, "/approved_by")),
        row("ended", time(campaign, "/ended_at_ms")),
    ];
    table(&["", ""], &rows);
}

fn devices(answer: &Value) {
    let rows = rows(answer, "/devices", |device| {
        let last = device.get("outcomes").and_then(Value::as_array).and_then(|all| all.last());
        let last = last.unwrap_or(&Value::Null);
        vec![
            text(device, "/endpoint"),
            text(device, "/state"),
            text(last, "/round"),
            time(last, "/started_ms"),
            time(last, "/ended_ms"),
            text(last, "/request"),
            text(last, "/reason"),
        ]
    });
    table(&["ENDPOINT", "STATE", "ROUND", "STARTED", "ENDED", "REQUEST", "REASON"], &rows);
}

fn would_do(told: &Value) {
    let targets: Vec<String> =
        told.get("targets").and_then(Value::as_array).into_iter().flatten().map(Value::to_string).collect();
    line(&format!("{} devices, in steps up to {}", text(told, "/devices"), targets.join(", ")));
    if told.get("approval") == Some(&json!(true)) {
        line("somebody else has to approve of it");
    }
    line(&format!("{} left out", text(told, "/skipped")));
    let rows =
        rows(told, "/skipped_devices", |device| vec![text(device, "/endpoint"), text(device, "/reason")]);
    if !rows.is_empty() {
        table(&["ENDPOINT", "REASON"], &rows);
    }
}
