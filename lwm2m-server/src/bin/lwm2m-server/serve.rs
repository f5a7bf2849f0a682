//! `serve`: opens the store, the sockets and the HTTP interface, and runs until SIGINT or SIGTERM.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lwm2m_server::access::Tokens;
use lwm2m_server::api::{self, Services, now_ms};
use lwm2m_server::campaigns::Campaigns;
use lwm2m_server::config::{Config, Settled, TrustConfig, local_uri};
use lwm2m_server::credentials::{Credentials, DeviceTrust, Role};
use lwm2m_server::driver::{self, LastRun};
use lwm2m_server::endpoint::{Addresses, Saved, Sessions};
use lwm2m_server::keys::ServerKeys;
use lwm2m_server::models::{Catalog, Models};
use lwm2m_server::observations::{self, Observations};
use lwm2m_server::queue::Queue;
use lwm2m_server::store::{KeySource, RedbStore, Sealer, SessionFile, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// How often the files of `[trust]` are read again.
const TRUST: Duration = Duration::from_secs(60);

/// How long the sockets may take to say good-bye.
const STOP: Duration = Duration::from_secs(2);

pub(crate) fn run(file: Option<PathBuf>, flags: Config) -> ExitCode {
    // A value that the flags alone would not do with is a bad argument; else the file is at fault.
    let fault = if flags.clone().settle().is_err() { ExitCode::from(2) } else { ExitCode::FAILURE };
    let settled = file
        .map_or_else(|| Ok(Config::default()), |path| Config::read(&path))
        .and_then(|config| config.overridden(flags).settle());
    let settled = match settled {
        Ok(settled) => settled,
        Err(error) => {
            eprintln!("lwm2m-server: {error}");
            return fault;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("lwm2m-server: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(settled)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lwm2m-server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads whom the configuration trusts to issue certificates of devices.
fn trust(named: &TrustConfig) -> Result<DeviceTrust, Box<dyn core::error::Error>> {
    let mut trust = DeviceTrust::default();
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    for path in named.anchors.iter().flatten() {
        trust.add_anchors(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for path in named.revocation_lists.iter().flatten() {
        trust.add_revocations(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(trust)
}

/// Reads it again from time to time and at SIGHUP: revocation lists are renewed.
fn follow_trust(named: TrustConfig, credentials: Arc<Credentials>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            let is_asked = tokio::select! {
                () = tokio::time::sleep(TRUST) => false,
                _ = hangup.recv() => true,
            };
            let (named, credentials) = (named.clone(), Arc::clone(&credentials));
            let reading = tokio::task::spawn_blocking(move || match trust(&named) {
                Ok(trust) => {
                    credentials.set_trust(trust);
                    if is_asked {
                        tracing::info!("SIGHUP: whom to trust was read again");
                    }
                }
                Err(error) => tracing::error!(%error, "whom to trust is what was read before"),
            });
            if let Err(error) = reading.await {
                tracing::error!(%error, "whom to trust is what was read before");
            }
        }
    });
    Ok(())
}

async fn serve(settled: Settled) -> Result<(), Box<dyn core::error::Error>> {
    let data = settled.data.as_path();
    let lock = RedbStore::lock(data)?;
    // One that is no text is no key either, and is told as such.
    let environment = std::env::var_os("LWM2M_SECRETS_KEY").map(|key| key.to_string_lossy().into_owned());
    let had_key = data.join("secrets.key").exists();
    let (sealer, source) =
        Sealer::find(data, settled.secrets_key.as_deref(), environment.as_deref(), RedbStore::exists(data))?;
    if let KeySource::Beside(path) = &source {
        let made = if had_key { "" } else { "made just now and " };
        tracing::warn!(
            "the secrets key {} is {made}beside the store it protects: keep it out of backups, or give one by --secrets-key",
            path.display()
        );
    }
    // Damaged pages may panic inside the store, which makes an error of it: one line is enough.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let opened = RedbStore::open(data, lock, sealer.clone());
    std::panic::set_hook(hook);
    let store: Arc<dyn Store> = Arc::new(opened?);
    let sessions = SessionFile::new(data, sealer, Arc::clone(&store));
    let models = Models::built_in().with_added(&*store)?;
    let models = Arc::new(match &settled.models {
        Some(folder) => models.with_folder(folder)?,
        None => models,
    });
    let tokens = Tokens::open(Arc::clone(&store), data, now_ms())?;
    if tokens.is_first_start() {
        tracing::info!("the administrator token is in {}", data.join("admin.token").display());
    }
    let resumable = Sessions::default().with_tickets(&*store.ticket_root()?);
    let credentials = Arc::new(Credentials::open(Arc::clone(&store), settled.credentials.clone())?);
    credentials.set_trust(trust(&settled.trust)?);
    follow_trust(settled.trust.clone(), Arc::clone(&credentials))?;
    let pinned = credentials.pinned();
    let own = data.join("server.key");
    let (keys, is_new) = ServerKeys::load(&settled.server_keys, &own, !pinned.is_empty())?;
    for (pin, devices) in pinned.iter().filter(|(pin, _)| !keys.has(pin)) {
        tracing::warn!(
            "{} devices were told to expect a server with sha256 {}, which it is not any more: they have to be bootstrapped",
            devices.len(),
            pin.sha256
        );
    }
    for role in Role::ALL {
        credentials.set_server_keys(role, keys.public(role));
    }
    for key in keys.iter() {
        let made = if is_new { ", made just now" } else { "" };
        tracing::info!("server key {}{made}: certificates {}", key.fingerprint(), key.chain().len());
    }
    let addresses = Addresses {
        coap: settled.coap,
        coaps: settled.coaps,
        bootstrap_coap: settled.bootstrap_coap,
        bootstrap_coaps: settled.bootstrap_coaps,
        former_coaps: settled.former_coaps,
        former_bootstrap_coaps: settled.former_bootstrap_coaps,
    };
    let http = match settled.http {
        Some(address) => Some(api::listen(address, settled.http_public).await?),
        None => None,
    };
    let mut settings = driver::Settings {
        addresses,
        threads: settled.threads,
        workers: settled.workers,
        ..driver::Settings::default()
    };
    settings.endpoint.keys = keys;
    settings.endpoint.short_server_id = settled.credentials.short_server_id;
    settings.endpoint.connection_ids = settled.connection_ids;
    settings.endpoint.challenge = settled.challenge;
    settings.endpoint.models = Arc::clone(&models);
    settled.admission.apply(&mut settings.endpoint);
    let limits = settled.queue.apply(&mut settings.endpoint);
    settings.endpoint.sessions = resumable;
    settings.endpoint.dtls = settings.endpoint.dtls.with_suites(settled.suites);
    // From here on a stop is a planned one: what is taken of the last run is not lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let running = driver::resume(settings, Arc::clone(&credentials), || {
        // Without them the devices come again by themselves: no reason not to start.
        let saved = sessions.take(now_ms()).unwrap_or_else(|error| {
            tracing::warn!(%error, "the sessions of the last run are lost");
            None
        });
        let (age, addresses) = saved.as_ref().map(|saved| (saved.age, saved.addresses)).unwrap_or_default();
        LastRun { remotes: saved.into_iter().flatten(), age, addresses }
    })
    .await?;
    for (name, address) in [
        ("coap", running.addresses.coap),
        ("coaps", running.addresses.coaps),
        ("bootstrap-coap", running.addresses.bootstrap_coap),
        ("bootstrap-coaps", running.addresses.bootstrap_coaps),
        ("former-coaps", running.addresses.former_coaps),
        ("former-bootstrap-coaps", running.addresses.former_bootstrap_coaps),
        ("http", http.as_ref().and_then(|http| http.local_addr().ok())),
    ] {
        if let Some(address) = address {
            say!("listening {name} {address}");
        }
    }
    if !settled.has_server_uri {
        // The port may have been chosen by the system.
        let mut settings = settled.credentials.clone();
        settings.server_uri = local_uri("coaps", running.addresses.coaps, settings.server_uri);
        settings.server_uri_nosec = local_uri("coap", running.addresses.coap, settings.server_uri_nosec);
        tracing::warn!(
            "bootstraps write {}, which only this machine reaches: name the server by --server-uri",
            settings.server_uri
        );
        credentials.set_settings(settings);
    }
    if settled.credentials.allow_nosec {
        tracing::warn!("plain coap is accepted from every device without a credential (--allow-nosec)");
    }
    let mut signalled = async move || {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    };
    let (disarm, disarmed) = oneshot::channel::<()>();
    let stop = async move {
        let name = signalled().await;
        tracing::info!("{name}: stopping; a second signal ends at once, and the devices have to come again");
        tokio::spawn(async move {
            let name = tokio::select! {
                name = signalled() => name,
                _ = disarmed => return,
            };
            tracing::warn!("{name} again: ended at once");
            // As after a crash: what was acknowledged is in the store.
            std::process::exit(1);
        });
    };
    let driver::Running { server, addresses, mut task } = running;
    let queue = Queue::start(server.clone(), Arc::clone(&store), limits)?;
    let observations =
        Observations::start(server.clone(), Arc::clone(&store), observations::Limits::default())?;
    let campaigns = Campaigns::start(
        server.clone(),
        Arc::clone(&credentials),
        queue.clone(),
        Arc::clone(&store),
        settled.campaigns.limits(),
    )?;
    let catalog = Catalog::new(models, store, server.clone());
    let services = Services {
        server: server.clone(),
        credentials,
        queue: queue.clone(),
        observations: observations.clone(),
        campaigns: campaigns.clone(),
        catalog,
        tokens,
    };
    match http {
        Some(listener) => {
            tokio::select! {
                () = api::serve(listener, services, stop) => {}
                _ = &mut task => return Err("the driver ended; the log above says why".into()),
            }
        }
        None => {
            tokio::select! {
                () = stop => {}
                _ = &mut task => return Err("the driver ended; the log above says why".into()),
            }
        }
    }
    let (keep, mut remotes) = mpsc::channel::<Vec<Saved>>(4);
    let writing = tokio::task::spawn_blocking(move || {
        sessions.put(now_ms(), &addresses, core::iter::from_fn(|| remotes.blocking_recv()).flatten())
    });
    server.stop(keep).await;
    // What was on its way has ended by now, or is gone on with by the next run.
    let ended = async { tokio::join!(queue.stop(), observations.stop(), campaigns.stop()) };
    let _ = tokio::time::timeout(STOP, ended).await;
    match writing.await? {
        Ok(saved) => {
            // What is left takes no longer than `STOP`.
            drop(disarm);
            tracing::info!(saved, "sessions for the next run");
        }
        Err(error) => tracing::error!(%error, "the sessions are not saved: the devices have to come again"),
    }
    drop(server);
    if let Ok(ended) = tokio::time::timeout(STOP, task).await {
        ended.map_err(|_| "a thread of the driver ended too early; the log above says why")?;
    }
    tracing::info!("stopped");
    Ok(())
}
