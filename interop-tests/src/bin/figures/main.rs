//! Measures what the project claims, and prints it as tables beside the goals and beside others in the same run.
//!
//! Processor time is that of the measured thread or process, not of the clock on the wall: on a machine where client and
//! server share the cores a rate mostly measures the load generator.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a measurement that goes wrong ends with a panic"
)]

mod bytes;
mod children;
mod machine;
mod protected;
mod security;
mod server;
mod signatures;
mod stalls;
mod table;
mod traffic;

use clap::{Parser, Subcommand, ValueEnum};

/// Measures the project on this machine and prints tables in Markdown.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Only this section; may be given several times. All when none is named.
    #[arg(long, value_enum)]
    section: Vec<Section>,
    /// Longer runs make steadier figures.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    effort: u32,
    /// How many devices the server has, 32 at least.
    #[arg(long, default_value_t = 10_000, value_parser = at_least_32)]
    devices: usize,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Section {
    /// Bytes on air.
    Bytes,
    /// DTLS handshakes and records, beside dimpl and OpenSSL.
    Dtls,
    /// Processor time of the server for each request, beside a bare echo.
    Server,
    /// How long devices wait for the server at half load, beside a bare echo.
    Latency,
    /// Memory of the server for each device.
    Memory,
    /// Flash and RAM of the client on a Cortex-M; runs lwm2m-client/bare-metal/run.
    Device,
}

#[derive(Subcommand)]
enum Role {
    /// What this program starts itself for.
    #[command(subcommand, hide = true)]
    Child(ChildRole),
}

#[derive(Subcommand)]
enum ChildRole {
    Echo,
    DtlsServer,
    SigningServer,
    Server {
        #[arg(long)]
        devices: usize,
        #[arg(long, conflicts_with = "oscore")]
        secure: bool,
        #[arg(long)]
        oscore: bool,
        #[arg(long)]
        observe: bool,
    },
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Arguments { mut section, effort, devices, role } = Arguments::parse();
    match role {
        Some(Role::Child(ChildRole::Echo)) => return children::echo(),
        Some(Role::Child(ChildRole::DtlsServer)) => return security::serve(),
        Some(Role::Child(ChildRole::SigningServer)) => {
            signatures::serve().await;
            return Ok(());
        }
        Some(Role::Child(ChildRole::Server { devices, secure, oscore, observe })) => {
            let admission = match (secure, oscore) {
                (true, _) => server::Admission::Dtls,
                (_, true) => server::Admission::Oscore,
                _ => server::Admission::Anybody,
            };
            server::serve(devices, admission, observe).await;
            return Ok(());
        }
        None => {}
    }
    if section.is_empty() {
        section = Section::value_variants().to_vec();
    }
    println!("# Figures\n\nMeasured on {}.", machine::describe());
    for section in section {
        match section {
            Section::Bytes => bytes::measure().await.print(),
            Section::Dtls => {
                security::measure(effort).print();
                signatures::measure(effort).print();
                stalls::measure(effort).print();
            }
            Section::Server => server::requests(effort, devices).print(),
            Section::Latency => server::latency(effort, devices).print(),
            Section::Memory => server::memory(devices).print(),
            Section::Device => device()?,
        }
    }
    Ok(())
}

fn at_least_32(text: &str) -> Result<usize, String> {
    let devices: usize = text.parse().map_err(|error| format!("{error}"))?;
    if devices < traffic::SOCKETS { Err("32 at least".to_owned()) } else { Ok(devices) }
}

/// The device's figures come from a workspace of their own.
fn device() -> std::io::Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../lwm2m-client/bare-metal/run");
    println!("\n## Device\n");
    let status = std::process::Command::new(script).status()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("{script} failed"))) }
}
