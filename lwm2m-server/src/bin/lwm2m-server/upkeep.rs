//! `backup`, `restore`, `verify`: the store as a file.

use std::io::{Read, Seek as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lwm2m_server::api::now_ms;
use lwm2m_server::credentials::utc;
use lwm2m_server::store::{RedbStore, Sealer, Store as _, StoreError, Verified, put_backup, restore, verify};

type Outcome = Result<(), Box<dyn core::error::Error>>;

/// Where the store and its key are.
#[derive(Args)]
struct Place {
    /// Data folder
    #[arg(long, value_name = "DIR", default_value = "lwm2m-data")]
    data: PathBuf,
    /// File with the key that seals secrets [default: environment LWM2M_SECRETS_KEY, else DIR/secrets.key]
    #[arg(long, value_name = "FILE")]
    secrets_key: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Backup {
    /// File to write; one that is there is left alone
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Ask this server, also if the data folder is elsewhere [default: environment LWM2M_URL, else http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Administrator token, or @FILE [default: environment LWM2M_TOKEN, else that in DIR/admin.token]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

#[derive(Args)]
pub(crate) struct Restore {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub(crate) struct Verify {
    /// A backup, or the data folder of a server that does not run
    path: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Read what can be read without the key that seals secrets
    #[arg(long, conflicts_with = "secrets_key")]
    without_key: bool,
    /// Number and hash of an audit row that was written down, as a backup prints them: the log must have it still
    #[arg(long, value_name = "SEQ:HASH", value_parser = row)]
    row: Option<(u64, String)>,
}

impl Place {
    fn sealer(&self) -> Result<Sealer, StoreError> {
        let environment = std::env::var_os("LWM2M_SECRETS_KEY").map(|key| key.to_string_lossy().into_owned());
        let found = Sealer::find(&self.data, self.secrets_key.as_deref(), environment.as_deref(), true);
        found.map(|(sealer, _)| sealer)
    }
}

fn row(text: &str) -> Result<(u64, String), String> {
    let parts = text.split_once(':').and_then(|(seq, hash)| Some((seq.parse().ok()?, hash.to_lowercase())));
    parts.ok_or_else(|| "a number, a colon and a hash".to_owned())
}

pub(crate) fn run(command: impl FnOnce() -> Outcome) -> ExitCode {
    // Damaged pages may panic inside the store, which makes an error of it: one line is enough.
    std::panic::set_hook(Box::new(|_| ()));
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lwm2m-server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Asks the server that runs, or reads the store if none does.
pub(crate) fn backup(asked: &Backup) -> Outcome {
    let Backup { file, place, .. } = asked;
    let written = match lock(asked)? {
        Some(lock) => {
            let store = RedbStore::open(&place.data, lock, place.sealer()?)?;
            let (mut copy, _) = store.backup(now_ms(), "server")?;
            copy.rewind()?;
            put_backup(copy, file)
        }
        None => {
            let (url, token) = asked.server()?;
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let answer = agent
                .post(format!("{}/api/v1/backup", url.trim_end_matches('/')))
                .header("authorization", format!("Bearer {token}"))
                .send_empty()
                .map_err(|error| format!("{url}: {error}: is the server running there?"))?;
            let status = answer.status().as_u16();
            let announced = answer.headers().get("content-length").cloned();
            let body = answer.into_body().into_with_config().limit(u64::MAX).reader();
            if status != 200 {
                let mut text = String::new();
                body.take(4096).read_to_string(&mut text)?;
                return Err(format!("{url} answered {status}: {text}").into());
            }
            let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
            put_backup(Whole { body, left: announced.ok_or("the server did not say how long it is")? }, file)
        }
    };
    let path = file.display();
    let length = written
        .map_err(|error| format!("{path}: {error}"))?
        .ok_or_else(|| format!("{path} is there: name another file"))?;
    let verified = verify(file, None, None)?;
    say!("{path}: {length} bytes");
    tell(&verified);
    say!("keep the secrets key apart from it: without that nothing in it opens");
    Ok(())
}

/// The lock of the data folder if the store in it is to be read, and no server runs on it.
fn lock(asked: &Backup) -> Result<Option<std::fs::File>, StoreError> {
    if asked.url.is_some() || asked.token.is_some() || !RedbStore::exists(&asked.place.data) {
        return Ok(None);
    }
    match RedbStore::lock(&asked.place.data) {
        Ok(lock) => Ok(Some(lock)),
        Err(StoreError::Locked(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Backup {
    fn server(&self) -> Result<(String, String), String> {
        let from = |given: &Option<String>, name| given.clone().or_else(|| std::env::var(name).ok());
        let url = from(&self.url, "LWM2M_URL").unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
        let token = from(&self.token, "LWM2M_TOKEN")
            .unwrap_or_else(|| format!("@{}", self.place.data.join("admin.token").display()));
        let token = match token.strip_prefix('@') {
            None => token,
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                format!(
                    "{path}: {error}: name the administrator token by --token, or the data folder by --data"
                )
            })?,
        };
        Ok((url, token.trim().to_owned()))
    }
}

/// A body that must not end before its length.
struct Whole<R> {
    body: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.body.read(into)?;
        self.left = self.left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        if read == 0 && !into.is_empty() && self.left > 0 {
            return Err(std::io::Error::other(format!(
                "the server went away {} bytes before the end",
                self.left
            )));
        }
        Ok(read)
    }
}

/// Puts a backup into a data folder without a store.
pub(crate) fn put_back(asked: &Restore) -> Outcome {
    let data = &asked.place.data;
    let lock = RedbStore::lock(data)?;
    let restored = restore(&asked.file, data, lock, asked.place.sealer()?, now_ms())?;
    match restored.backup {
        Some(backup) => say!("restored the backup of {}", utc(backup.made_ms / 1000)),
        None => say!("restored a copy of a store"),
    }
    say!("OSCORE contexts that leave numbers out: {}", restored.contexts);
    say!(
        "queued requests that end as unknown, because they may have been carried out since: {}",
        restored.requests
    );
    say!("campaigns that ran, and are paused: {}", restored.campaigns);
    say!(
        "a backup has no server.key and no admin.token: put those of the former data folder into {}, else devices that know the raw \
         public key of the server do not take it for theirs",
        data.display()
    );
    say!(
        "what was revoked, rotated or enrolled since then stands as it stood then: do it again before devices come"
    );
    Ok(())
}

/// Reads a backup or a store whole.
pub(crate) fn check(asked: &Verify) -> Outcome {
    let is_folder = asked.path.is_dir();
    let store = RedbStore::file(&asked.path);
    let path: &Path = if is_folder { &store } else { &asked.path };
    let _lock = is_folder.then(|| RedbStore::lock(&asked.path)).transpose()?;
    let place = match is_folder && asked.place.secrets_key.is_none() {
        true => &Place { data: asked.path.clone(), secrets_key: None },
        false => &asked.place,
    };
    let sealer = if asked.without_key { None } else { Some(place.sealer()?) };
    let written_down = asked.row.as_ref().map(|(seq, hash)| (*seq, hash.as_str()));
    let verified = verify(path, sealer.as_ref(), written_down)?;
    say!(
        "{} is whole{}",
        path.display(),
        if sealer.is_some() { "" } else { ", as far as can be read without the key" }
    );
    tell(&verified);
    Ok(())
}

fn tell(verified: &Verified) {
    if let Some(backup) = &verified.backup {
        say!("backup of {}", utc(backup.made_ms / 1000));
    }
    for (what, count) in [
        ("devices", verified.devices),
        ("sealed keys", verified.secrets),
        ("queued requests", verified.requests),
        ("lasting observations", verified.observations),
        ("object definitions", verified.models),
        ("campaigns", verified.campaigns),
        ("groups", verified.groups),
        ("bootstrap profiles, with their versions", verified.profiles),
        ("tokens", verified.tokens),
        ("OSCORE contexts", verified.contexts),
    ] {
        say!("{what}: {count}");
    }
    say!("audit log, number and hash of the last row: {}:{}", verified.audit, verified.hash);
}
