//! The `lwm2mctl` binary: the HTTP API of a server from a shell.
//!
//! Results go to standard output, as tables or with `--json` as the server's JSON; failures to standard error with the
//! reason and the next step. Exit codes: 0 done, 1 the server or the device refused, 2 bad arguments.

mod bootstrap;
mod check;
mod composite;
mod credentials;
mod http;
mod models;
mod observe;
mod requests;
mod run;
mod show;
mod tokens;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Manages LwM2M devices through a server's HTTP API.
#[derive(Parser)]
#[command(name = "lwm2mctl", version, disable_help_subcommand = true)]
struct Arguments {
    /// Server [default: environment LWM2M_URL, else http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// Bearer token, or @FILE [default: environment LWM2M_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print the server's JSON
    #[arg(long, global = true)]
    json: bool,
    /// Seconds that a request to a device may take, the wait for those before it included [default: 93]
    #[arg(long, global = true, value_name = "S")]
    timeout: Option<u64>,
    /// When a request to a device is queued [default: asleep, when the device sleeps or older ones wait for it]
    #[arg(long, global = true, value_name = "WHEN", value_parser = ["asleep", "never", "always"])]
    queue: Option<String>,
    /// Priority of a queued request: 0 to 255, the higher one goes first, or low, normal, high [default: normal, 128]
    #[arg(long, global = true, value_name = "P")]
    priority: Option<String>,
    /// Seconds after which a queued request is given up if it has not left [default: 604800]
    #[arg(long, global = true, value_name = "S")]
    expires: Option<u64>,
    /// Wait for the outcome of a queued request
    #[arg(long, global = true)]
    wait: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List devices, or show one
    Devices {
        /// Endpoint name
        endpoint: Option<String>,
        /// Only names that contain this
        #[arg(long, value_name = "TEXT", conflicts_with = "endpoint")]
        filter: Option<String>,
        /// Forget the registration of this device, which then registers anew; its credentials stay
        #[arg(long, requires = "endpoint")]
        forget: bool,
    },
    /// Read an object, instance, resource or resource instance
    Read {
        /// Endpoint name
        endpoint: String,
        /// Path as in /3303/0/5700
        path: String,
        /// text, opaque, tlv, senml-cbor or a content-format number
        #[arg(long)]
        format: Option<String>,
    },
    /// Write a resource, or several of an instance
    Write {
        /// Endpoint name
        endpoint: String,
        /// Path of a resource, resource instance or instance
        path: String,
        /// The value; below an instance ID=VALUE, several times
        #[arg(required = true, allow_hyphen_values = true)]
        values: Vec<String>,
        /// string, integer, unsigned, float, boolean, opaque (hex), time, objlink or corelnk
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// true removes what is left out, false keeps it
        #[arg(long, value_name = "BOOL")]
        replace: Option<bool>,
    },
    /// Execute a resource
    Execute {
        /// Endpoint name
        endpoint: String,
        /// Path of a resource
        path: String,
        /// Arguments as in 0='on',1
        #[arg(default_value = "")]
        arguments: String,
    },
    /// Create an object instance
    Create {
        /// Endpoint name
        endpoint: String,
        /// Path of an object as in /3303
        path: String,
        /// Instance id; the device chooses without
        #[arg(long, value_name = "ID")]
        instance: Option<u16>,
        /// ID=VALUE of each resource
        #[arg(allow_hyphen_values = true)]
        values: Vec<String>,
        /// Type of the values
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
    },
    /// Delete an object instance
    Delete {
        /// Endpoint name
        endpoint: String,
        /// Path of an instance
        path: String,
    },
    /// List what a device has
    Discover {
        /// Endpoint name
        endpoint: String,
        /// Path of an object, instance or resource
        path: String,
        /// 0 to 3 (LwM2M 1.2)
        #[arg(long)]
        depth: Option<u8>,
    },
    /// Observe a path and print what it notifies, until it is ended by --cancel; without a path list what is observed
    Observe {
        /// Endpoint name
        endpoint: String,
        /// Path to observe
        path: Option<String>,
        #[command(flatten)]
        how: observe::How,
        /// End this observation instead
        #[arg(long, value_name = "ID", conflicts_with = "path")]
        cancel: Option<u64>,
    },
    /// Set notification attributes: pmin=10 pmax=60; a name alone unsets it
    Attributes {
        /// Endpoint name
        endpoint: String,
        /// Path
        path: String,
        /// NAME=NUMBER or NAME
        #[arg(required = true)]
        attributes: Vec<String>,
    },
    /// List the queued requests of a device, show one, or cancel it
    Requests {
        /// Endpoint name
        endpoint: String,
        /// The request's id
        id: Option<u64>,
        /// Take it out before it leaves
        #[arg(long, requires = "id")]
        cancel: bool,
    },
    /// Read, write or observe several places at once
    #[command(subcommand)]
    Composite(composite::Composite),
    /// Definitions of objects
    #[command(subcommand)]
    Models(models::Models),
    /// What bootstraps write: profiles, and the devices that follow them
    #[command(subcommand)]
    Bootstrap(bootstrap::Bootstrap),
    /// Credentials and their lifecycle
    #[command(subcommand)]
    Credentials(Credentials),
    /// Tokens that open the HTTP API
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// Print the messages to and from a device as they come and go, decoded and without secrets
    Trace {
        /// Endpoint name
        endpoint: String,
    },
    /// Print events as they happen
    Events {
        /// Only of this device
        #[arg(long)]
        endpoint: Option<String>,
    },
    /// Print the audit log
    Audit {
        /// Only of this device
        #[arg(long)]
        endpoint: Option<String>,
        #[command(flatten)]
        page: Page,
    },
}

#[derive(Args)]
struct Page {
    /// Rows after this number; the newest without
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// At most so many rows
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// A credential that is no pre-shared key; files are PEM or DER.
#[derive(Args)]
struct Material {
    /// psk, rpk, x509 or oscore; of a rotation that gives nothing else, one drawn by the server
    #[arg(long, value_name = "MODE", value_parser = ["psk", "rpk", "x509", "oscore"])]
    mode: Option<String>,
    /// Raw public key of the device
    #[arg(long, value_name = "FILE")]
    public_key: Option<String>,
    /// Certificate of the device; those between it and an anchor behind it
    #[arg(long, value_name = "FILE")]
    certificate: Option<String>,
    /// Private key to deliver; without it the device has its own
    #[arg(long, value_name = "FILE")]
    private_key: Option<String>,
    /// SHA-256 of the public key (rpk) or of the certificate (x509) instead
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// What makes a certificate the device's: pinned, key or name
    #[arg(long, value_name = "HOW", value_parser = ["pinned", "key", "name"])]
    binding: Option<String>,
    /// Certificate of the authority that must have issued it, or the SHA-256 of its public key
    #[arg(long, value_name = "FILE|HEX")]
    issuer: Option<String>,
    /// OSCORE context as JSON, seen from the server, bytes in hex digits: master_secret, sender_id, recipient_id (the device's
    /// sender id), and perhaps master_salt, id_context, aead, hmac (COSE numbers), rederivation (never, offered, required); or
    /// {"generate": true}. With a credential of another mode beside it the context is inside DTLS
    #[arg(long, value_name = "FILE")]
    oscore: Option<String>,
}

/// Certificates and who is to trust them, in PEM or DER, or an OSCORE context.
#[derive(Args)]
struct Check {
    /// The certificates as they are presented, the own one first
    #[arg(required_unless_present = "oscore", value_name = "FILE")]
    files: Vec<std::path::PathBuf>,
    /// Say instead what a device meets with this OSCORE context, a file as that of `put --oscore`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files", "anchor", "crl", "name", "usage", "server_certificate"])]
    oscore: Option<std::path::PathBuf>,
    /// Authority that is trusted
    #[arg(long, value_name = "FILE")]
    anchor: Vec<std::path::PathBuf>,
    /// Revocation list (of devices' certificates)
    #[arg(long, value_name = "FILE")]
    crl: Vec<std::path::PathBuf>,
    /// Judge as a device does that reaches its server by this host
    #[arg(long, value_name = "HOST")]
    name: Option<String>,
    /// Judge as a device does with this certificate usage, /0/x/15 [default: 3]
    #[arg(long, value_name = "0..3", value_parser = clap::value_parser!(u8).range(0..=3))]
    usage: Option<u8>,
    /// What the device has in /0/x/4 [default: the certificate or authority that fits the usage]
    #[arg(long, value_name = "FILE")]
    server_certificate: Option<std::path::PathBuf>,
}

#[derive(Subcommand)]
enum Credentials {
    /// Show the accounts of a device, keys masked
    #[command(visible_alias = "show")]
    List {
        /// Endpoint name
        endpoint: String,
    },
    /// Enrol accounts
    Put {
        /// Endpoint name
        endpoint: String,
        /// PSK identity of the bootstrap account
        #[arg(long, value_name = "TEXT", requires = "bootstrap_key")]
        bootstrap_identity: Option<String>,
        /// Key of the bootstrap account in hex digits, or @FILE
        #[arg(long, value_name = "HEX", requires = "bootstrap_identity")]
        bootstrap_key: Option<String>,
        /// Draw identity and key of the bootstrap account and show them once
        #[arg(long, conflicts_with = "bootstrap_identity")]
        bootstrap_generate: bool,
        /// PSK identity of the management account
        #[arg(long, value_name = "TEXT", requires = "management_key")]
        management_identity: Option<String>,
        /// Key of the management account in hex digits, or @FILE
        #[arg(long, value_name = "HEX", requires = "management_identity")]
        management_key: Option<String>,
        /// Draw identity and key of the management account and show them once
        #[arg(long, conflicts_with = "management_identity")]
        management_generate: bool,
        /// The account that --mode and what follows are for
        #[arg(long, value_name = "ROLE", default_value = "management", value_parser = ["bootstrap", "management"])]
        role: String,
        /// Draw a credential of this --mode and show it once
        #[arg(long)]
        generate: bool,
        #[command(flatten)]
        material: Material,
        /// Whether plain coap is accepted while there is no account
        #[arg(long, value_name = "BOOL")]
        allow_nosec: Option<bool>,
        /// What its bootstrap writes otherwise than configured, or than the profile says that it follows, as JSON or @FILE: server_uri, lifetime, binding,
        /// notification_storing, write_blind, security_instance, server_instance, certificate_usage
        #[arg(long, value_name = "JSON")]
        profile: Option<String>,
    },
    /// Replace the management credential by way of a bootstrap, with proof and rollback
    Rotate {
        /// Endpoint name
        endpoint: String,
        #[command(flatten)]
        material: Material,
        /// Seconds until the new one must be proven [default: 86400]
        #[arg(long, value_name = "S")]
        deadline: Option<u64>,
        /// Seconds the old one is accepted after the proof [default: 600]
        #[arg(long, value_name = "S")]
        grace: Option<u64>,
        /// Server URI to write instead of the configured one
        #[arg(long, value_name = "URI")]
        server_uri: Option<String>,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Refuse an account, or the whole device, for good
    Revoke {
        /// Endpoint name
        endpoint: String,
        /// bootstrap or management; both without
        #[arg(long)]
        role: Option<String>,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Refuse a device until it is resumed
    Suspend {
        /// Endpoint name
        endpoint: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Lift a suspension
    Resume {
        /// Endpoint name
        endpoint: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Revoke a device and leave a tombstone under its name
    Decommission {
        /// Endpoint name
        endpoint: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// List the keys of the server that devices were told to expect, and who was
    Pins {
        /// At most so many devices for each key
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Say offline what a device, or the server, would make of certificates: exit code 1 if it would refuse them
    Check(Check),
    /// What happened to the credentials of a device
    History {
        /// Endpoint name
        endpoint: String,
        #[command(flatten)]
        page: Page,
    },
}

/// Why the command did not do what it was asked.
enum Failure {
    /// The arguments cannot be right.
    Arguments(String),
    /// The server could not be asked, or refused.
    Refused(String),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Arguments(what)) => {
            eprintln!("lwm2mctl: {what}");
            ExitCode::from(2)
        }
        Err(Failure::Refused(what)) => {
            eprintln!("lwm2mctl: {what}");
            ExitCode::FAILURE
        }
    }
}
