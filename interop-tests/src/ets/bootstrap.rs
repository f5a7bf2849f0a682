//! Steps of bootstrap (LwM2M Core 1.1.1 §6.1.7): the request, the writes, the Discover after them, and Finish.

use std::time::Duration;

use lwm2m_coap::Code;
use lwm2m_objects::{Discovered, Path};
use lwm2m_server::Direction;

use super::case::Expected;
use super::message::Seen;
use super::run::{Outcomes, Run, Stop};

impl Run<'_> {
    pub(crate) async fn asks_for_bootstrap(&mut self, after: u64) -> Outcomes {
        let patience = self.patience;
        self.patience = patience.saturating_add(Duration::from_secs(after));
        let exchange =
            self.exchange("POST /bs?ep=", |seen| seen.asks(Code::POST, |path| path == "/bs")).await;
        self.patience = patience;
        let (request, answer) = exchange?;
        match request.parameter("ep") {
            Some(endpoint) if endpoint == self.values.endpoint => {}
            None if request.is_secure => {}
            _ => return Err(Stop::failed(format!("ep={}", self.values.endpoint), request.describe())),
        }
        is(&request, &answer, Code::CHANGED)
    }

    pub(crate) async fn takes_write(&mut self, path: &str) -> Outcomes {
        let is_write = |seen: &Seen| is_from_server(seen, Code::PUT) && is_below(&seen.path, path);
        let (request, answer) = self.exchange_whole(&format!("PUT {path}/…"), is_write).await?;
        is(&request, &answer, Code::CHANGED)
    }

    pub(crate) async fn takes_delete(&mut self, path: &str) -> Outcomes {
        let is_delete = |seen: &Seen| is_from_server(seen, Code::DELETE) && seen.path == path;
        let (request, answer) = self.exchange(&format!("DELETE {path}"), is_delete).await?;
        is(&request, &answer, Code::DELETED)
    }

    /// The answer to a Bootstrap-Read; 4.04 is as good where nothing must come back.
    pub(crate) async fn shows_in_bootstrap(&mut self, path: &str, has: Expected, lacks: &[&str]) -> Outcomes {
        let is_read = |seen: &Seen| is_from_server(seen, Code::GET) && seen.path == path;
        let (request, answer) = self.exchange(&format!("GET {path}"), is_read).await?;
        if has.is_empty() && answer.code == Code::NOT_FOUND {
            return Ok(());
        }
        is(&request, &answer, Code::CONTENT)?;
        let values = answer.values.iter().filter_map(|(at, value)| Some((*at, value.clone()?)));
        self.holds("", &values.collect::<Vec<_>>(), has, lacks)
    }

    /// A Discover: the enabler version, the account of the bootstrap server without a Short Server ID, and Device; and the
    /// account of the server with its Short Server ID, or none.
    pub(crate) async fn shows_accounts(&mut self, has_server: bool) -> Outcomes {
        let is_discover = |seen: &Seen| is_from_server(seen, Code::GET) && seen.path.is_empty();
        let (request, answer) = self.exchange("GET /", is_discover).await?;
        is(&request, &answer, Code::CONTENT)?;
        let text = String::from_utf8_lossy(&answer.payload).into_owned();
        let Ok(found) = Discovered::parse(&answer.payload) else {
            return Err(Stop::failed("link-format", text));
        };
        if found.version().is_none() {
            return Err(Stop::failed("the enabler version at the root link", text));
        }
        let instances = |object: u16, server: Option<u16>| {
            let is_meant = |path: Path| path.object_id() == Some(object) && path.instance_id().is_some();
            found.iter().filter(|entry| is_meant(entry.path) && entry.server == server).count()
        };
        let (security, server) = match has_server {
            true => ("one instance of /0 with ssid=1", "one instance of /1 with ssid=1"),
            false => ("no instance of /0 with ssid=1", "no instance of /1"),
        };
        let wanted = usize::from(has_server);
        let checks = [
            (instances(0, Some(1)) == wanted, security),
            (instances(0, None) == 1, "one instance of /0, the bootstrap account, without ssid"),
            (instances(1, Some(1)) == wanted, server),
            (instances(3, None) == 1, "/3/0"),
        ];
        match checks.iter().find(|(is_met, _)| !is_met) {
            Some((_, expected)) => Err(Stop::failed(*expected, text)),
            None => Ok(()),
        }
    }

    pub(crate) async fn asked_for_no_bootstrap(&mut self) -> Outcomes {
        self.catch_up().await;
        match self.near.log.iter().find(|seen| seen.asks(Code::POST, |path| path == "/bs")) {
            Some(seen) => Err(Stop::failed("no Bootstrap-Request", seen.describe())),
            None => Ok(()),
        }
    }

    /// The answer to Bootstrap-Finish.
    pub(crate) async fn finishes_bootstrap(&mut self, code: Code) -> Outcomes {
        let is_finish = |seen: &Seen| is_from_server(seen, Code::POST) && seen.path == "/bs";
        let (request, answer) = self.exchange("Bootstrap-Finish", is_finish).await?;
        is(&request, &answer, code)
    }
}

fn is_from_server(seen: &Seen, code: Code) -> bool {
    seen.direction == Direction::ToDevice && seen.code == code
}

fn is(request: &Seen, answer: &Seen, code: Code) -> Outcomes {
    match answer.code == code {
        true => Ok(()),
        false => Err(Stop::failed(
            format!("{}.{:02} to {}", code.class(), code.detail(), request.describe()),
            answer.describe(),
        )),
    }
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
