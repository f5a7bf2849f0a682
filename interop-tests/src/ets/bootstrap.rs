//! Steps of bootstrap (LwM2M Core 1.1.1 §6.1.7): the request, the writes, the Discover after them, and Finish.

use lwm2m_coap::Code;
use lwm2m_objects::{Discovered, Path};
use lwm2m_server::Direction;

use super::message::Seen;
use super::run::{Outcomes, Run, Stop};

impl Run<'_> {
    pub(crate) async fn asks_for_bootstrap(&mut self) -> Outcomes {
        let (request, answer) =
            self.exchange("POST /bs?ep=", |seen| seen.asks(Code::POST, |path| path == "/bs")).await?;
        match request.parameter("ep") {
            Some(endpoint) if endpoint == self.values.endpoint => {}
            None if request.is_secure => {}
            _ => return Err(Stop::failed(format!("ep={}", self.values.endpoint), request.describe())),
        }
        is(&request, &answer, Code::CHANGED)
    }

    pub(crate) async fn takes_account(&mut self, object: u16) -> Outcomes {
        let start = format!("/{object}/");
        let is_write = |seen: &Seen| is_from_server(seen, Code::PUT) && seen.path.starts_with(&start);
        let (request, answer) = self.exchange(&format!("PUT /{object}/…"), is_write).await?;
        is(&request, &answer, Code::CHANGED)
    }

    /// The Discover after the writes: the enabler version, the account of the server with its Short Server ID, that of
    /// the bootstrap server without one, and Device.
    pub(crate) async fn shows_accounts(&mut self) -> Outcomes {
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
        let checks = [
            (instances(0, Some(1)) == 1, "one instance of /0 with ssid=1"),
            (instances(0, None) == 1, "one instance of /0, the bootstrap account, without ssid"),
            (instances(1, Some(1)) == 1, "one instance of /1 with ssid=1"),
            (instances(3, None) == 1, "/3/0"),
        ];
        match checks.iter().find(|(is_met, _)| !is_met) {
            Some((_, expected)) => Err(Stop::failed(*expected, text)),
            None => Ok(()),
        }
    }

    pub(crate) async fn finishes_bootstrap(&mut self) -> Outcomes {
        let is_finish = |seen: &Seen| is_from_server(seen, Code::POST) && seen.path == "/bs";
        let (request, answer) = self.exchange("Bootstrap-Finish", is_finish).await?;
        is(&request, &answer, Code::CHANGED)
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
