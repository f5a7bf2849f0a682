//! Reports that the device sends by itself (`--report`).

use std::time::{Duration, Instant};

use clap::Args;
use lwm2m_client::objects::Path;
use lwm2m_client::{NotSent, Notice, Runner, ShortServerId};

/// What is reported, and how often.
#[derive(Args)]
pub(crate) struct ReportOptions {
    /// Report by itself (Send) what is at this path, as in /3303/0/5700; several times for several paths, 16 at most. Temperatures
    /// are those measured since the report before, with their times, for the first of several servers. It begins when a server
    /// sets /1/x/23 (Mute Send) to false.
    #[arg(long = "report", value_name = "PATH")]
    paths: Vec<Path>,
    /// Seconds between two reports.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..), requires = "paths")]
    report_every: u64,
}

impl ReportOptions {
    /// Whether there is something to report.
    pub(crate) const fn is_some(&self) -> bool {
        !self.paths.is_empty()
    }
}

/// The reports to the servers that the device is registered with.
pub(crate) struct Reports<'o> {
    options: &'o ReportOptions,
    servers: Vec<ShortServerId>,
    /// Those that are to get the report that is due.
    waiting: Vec<ShortServerId>,
    due: Option<Instant>,
}

impl<'o> Reports<'o> {
    pub(crate) fn new(options: &'o ReportOptions) -> Self {
        Self { options, servers: Vec::new(), waiting: Vec::new(), due: Some(Instant::now()) }
    }

    pub(crate) fn note(&mut self, notice: &Notice) {
        match *notice {
            Notice::Registered { server } if !self.servers.contains(&server) => self.servers.push(server),
            Notice::Deregistered { server } => self.servers.retain(|other| *other != server),
            _ => {}
        }
    }

    /// Sends what is due.
    pub(crate) fn send(&mut self, runner: &mut Runner<'_>, unix_time: i64) {
        if !self.options.is_some() {
            return;
        }
        let now = Instant::now();
        if self.due.is_some_and(|due| due <= now) && !self.servers.is_empty() {
            self.waiting.clone_from(&self.servers);
            self.due = now.checked_add(Duration::from_secs(self.options.report_every));
        }
        let Some(server) = self.waiting.last() else { return };
        // Measurements go to one server, which has them then.
        let sent = if self.servers.first() == Some(server) {
            runner.client().send_dated(*server, &self.options.paths, unix_time.saturating_sub(1))
        } else {
            runner.client().send(*server, &self.options.paths)
        };
        match sent {
            // One report is under way at a time.
            Err(NotSent::Busy) => return,
            Err(error) => tracing::debug!(%error, "no report"),
            Ok(()) => {}
        }
        self.waiting.pop();
    }
}
