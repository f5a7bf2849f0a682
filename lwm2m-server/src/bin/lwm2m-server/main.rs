//! The `lwm2m-server` binary: `serve` runs the server, `demo` tells its story on the terminal, `openapi` prints what there is over HTTP,
//! `backup`, `restore` and `verify` are for its store.
//!
//! Results go to standard output, logs to standard error. Exit codes: 0 stopped as asked, 1 failed, 2 bad arguments.

/// Prints a line; that nobody reads it is no reason to stop.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($text)*)));
    }};
}

#[cfg(feature = "demo")]
mod demo;
mod serve;
mod upkeep;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use lwm2m_server::config::{
    AdmissionConfig, BootstrapConfig, CampaignsConfig, Config, DtlsConfig, Listen, ListenConfig, QueueConfig,
    TrustConfig,
};
use tracing_subscriber::EnvFilter;

/// LwM2M server and bootstrap server.
#[derive(Parser)]
#[command(version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server until SIGINT or SIGTERM. Its sessions go on in the next run; a second signal ends it at once, without them.
    Serve(Box<Serve>),
    /// Print the OpenAPI document of the HTTP interface.
    Openapi,
    /// Run server and simulated devices on loopback and show what they do.
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
    /// Copy the store to a file, keys sealed: of the server that runs, else of the data folder
    Backup(upkeep::Backup),
    /// Put a backup into a data folder without a store
    Restore(upkeep::Restore),
    /// Read a backup, or the store of a stopped server, whole: each record, each key, the chain of the audit log
    Verify(upkeep::Verify),
}

#[derive(Args)]
struct Serve {
    /// TOML file; flags override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder; survives restarts and kill -9 [default: lwm2m-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Management over plain CoAP, or off [default: 0.0.0.0:5683]
    #[arg(long, value_name = "ADDR")]
    coap: Option<Listen>,
    /// Management over DTLS, or off [default: 0.0.0.0:5684]
    #[arg(long, value_name = "ADDR")]
    coaps: Option<Listen>,
    /// Bootstrap over plain CoAP, or off [default: 0.0.0.0:5783]
    #[arg(long, value_name = "ADDR")]
    bootstrap_coap: Option<Listen>,
    /// Bootstrap over DTLS, or off [default: 0.0.0.0:5784]
    #[arg(long, value_name = "ADDR")]
    bootstrap_coaps: Option<Listen>,
    /// HTTP API, or off [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<Listen>,
    /// Let HTTP listen on an address that is not loopback, without TLS
    #[arg(long)]
    http_public: bool,
    /// Accept plain coap from devices that have no credential
    #[arg(long)]
    allow_nosec: bool,
    /// Threads that read packets, 1 to 255 [default: one for each processor]
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroU8>,
    /// Seconds for which a device in queue mode listens after it was heard, 1 to 86400 [default: 93]
    #[arg(long, value_name = "SECONDS")]
    awake: Option<std::num::NonZeroU32>,
    /// File with the key that seals secrets: 32 bytes or 64 hex digits
    /// [default: environment LWM2M_SECRETS_KEY, else DIR/secrets.key]
    #[arg(long, value_name = "FILE")]
    secrets_key: Option<PathBuf>,
    /// Folder with object definitions: every *.xml of it, as the OMA registry publishes them
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// URI under which devices reach the management server, written at bootstrap
    #[arg(long, value_name = "URI")]
    server_uri: Option<String>,
}

impl Serve {
    fn config(self) -> (Option<PathBuf>, Config) {
        let flags = Config {
            data: self.data,
            secrets_key: self.secrets_key,
            models: self.models,
            allow_nosec: self.allow_nosec.then_some(true),
            challenge: None,
            threads: self.threads,
            workers: None,
            listen: ListenConfig {
                coap: self.coap,
                coaps: self.coaps,
                bootstrap_coap: self.bootstrap_coap,
                bootstrap_coaps: self.bootstrap_coaps,
                former_coaps: None,
                former_bootstrap_coaps: None,
                http: self.http,
                http_public: self.http_public.then_some(true),
            },
            dtls: DtlsConfig::default(),
            server_keys: None,
            trust: TrustConfig::default(),
            admission: AdmissionConfig::default(),
            queue: QueueConfig { awake: self.awake, ..QueueConfig::default() },
            campaigns: CampaignsConfig::default(),
            bootstrap: BootstrapConfig { server_uri: self.server_uri, ..BootstrapConfig::default() },
        };
        (self.config, flags)
    }
}

/// Keys are in the memory of this process: it leaves no core file, and no other process of the same user looks into it.
fn close_memory() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = close_memory() {
        eprintln!("lwm2m-server: the memory cannot be kept from other processes: {error}");
        return ExitCode::FAILURE;
    }
    let default = match arguments.command {
        Command::Serve(_) => "info",
        Command::Openapi => "off",
        #[cfg(feature = "demo")]
        Command::Demo(_) => "off",
        Command::Backup(_) | Command::Restore(_) | Command::Verify(_) => "warn",
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default)))
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match arguments.command {
        Command::Serve(serve) => {
            let (file, flags) = serve.config();
            serve::run(file, flags)
        }
        Command::Openapi => match lwm2m_server::api::document().to_pretty_json() {
            Ok(document) => {
                say!("{document}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("lwm2m-server: the document cannot be written: {error}");
                ExitCode::FAILURE
            }
        },
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Backup(asked) => upkeep::run(|| upkeep::backup(&asked)),
        Command::Restore(asked) => upkeep::run(|| upkeep::put_back(&asked)),
        Command::Verify(asked) => upkeep::run(|| upkeep::check(&asked)),
    }
}
