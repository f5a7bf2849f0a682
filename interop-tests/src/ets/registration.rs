//! Steps of registration (LwM2M Core 1.1.1 §6.2): Register, Update, De-register, and what the server does to them.

use std::time::Duration;

use lwm2m_coap::{Code, link};
use lwm2m_server::{Direction, RequestError, WriteMode};

use super::case::Is;
use super::message::Seen;
use super::run::{Outcomes, Run, Stop, after};

/// What a clock and a busy machine may add to a time that the specification gives.
pub(crate) const SLACK: Duration = Duration::from_millis(1500);

impl Run<'_> {
    /// 101: a Register with everything it must carry, and its 2.01.
    pub(crate) async fn registers(&mut self) -> Outcomes {
        let expected = "POST /rd?lt=&lwm2m=[&ep=][&b=]… with the object list";
        let (request, answer) =
            self.exchange(expected, |seen| seen.asks(Code::POST, |path| path == "/rd")).await?;
        let told = request.describe();
        match request.parameter("ep") {
            Some(endpoint) if endpoint == self.values.endpoint => {}
            // From 1.1 on the security layer may tell the name.
            None if request.is_secure && request.parameter("lwm2m") != Some("1.0") => {}
            _ => return Err(Stop::failed(format!("ep={}", self.values.endpoint), told)),
        }
        let lifetime = request.parameter("lt").and_then(|lifetime| lifetime.parse::<u32>().ok());
        match lifetime {
            Some(lifetime) if self.expected_lifetime.is_none_or(|expected| lifetime == expected) => {
                self.lifetime = lifetime;
            }
            _ => {
                let number = || "with a number".to_owned();
                let expected = self.expected_lifetime.map_or_else(number, |lifetime| lifetime.to_string());
                return Err(Stop::failed(format!("lt={expected}"), told));
            }
        }
        if !request.parameter("lwm2m").is_some_and(|version| ["1.0", "1.1", "1.2"].contains(&version)) {
            return Err(Stop::failed("lwm2m=1.0, 1.1 or 1.2", told));
        }
        let is_binding =
            |letters: &str| letters.contains('U') && letters.chars().all(|letter| "UTSNMHQ".contains(letter));
        if !request.parameter("b").is_none_or(is_binding) {
            return Err(Stop::failed("b= with U among its letters, or no b", told));
        }
        objects(&request)?;
        if answer.code != Code::CREATED || !answer.location.starts_with("/rd/") {
            let seen = format!("{} {}", answer.describe(), answer.location);
            return Err(Stop::failed("2.01 with a location below /rd", seen));
        }
        let device = self.bench.server.device(&self.values.endpoint).await;
        let Some(device) = device.filter(|device| device.location == answer.location) else {
            return Err(Stop::failed("the client among the devices of the server", "it is not there"));
        };
        if Some(device.version.as_str()) != request.parameter("lwm2m") || device.lifetime != self.lifetime {
            let seen = format!("version {}, lifetime {}", device.version, device.lifetime);
            return Err(Stop::failed("the server keeps what was registered", seen));
        }
        self.registered = Some((request, answer));
        Ok(())
    }

    /// An Update that carries a lifetime, and its 2.04.
    pub(crate) async fn updates_lifetime(&mut self, lifetime: Option<u32>) -> Outcomes {
        let lifetime = lifetime.unwrap_or(self.lifetime);
        let expected = format!("POST {}?lt={lifetime}", self.location()?);
        let (request, answer) = self.update(&expected).await?;
        if request.parameter("lt").and_then(|lifetime| lifetime.parse().ok()) != Some(lifetime) {
            return Err(Stop::failed(expected, request.describe()));
        }
        is_changed(&request, &answer)?;
        self.expected_lifetime = Some(lifetime);
        match self.bench.server.device(&self.values.endpoint).await {
            Some(device) if device.lifetime == lifetime => Ok(()),
            device => Err(Stop::failed(
                format!("the server keeps {lifetime} s"),
                device.map_or("no registration".to_owned(), |device| format!("{} s", device.lifetime)),
            )),
        }
    }

    /// An Update without parameters and without an object list, and its 2.04.
    pub(crate) async fn updates_bare(&mut self, patience: Duration) -> Outcomes {
        let expected = format!("POST {} without parameters", self.location()?);
        let patience = core::mem::replace(&mut self.patience, patience);
        let exchange = self.update(&expected).await;
        self.patience = patience;
        let (request, answer) = exchange?;
        if !request.query.is_empty() || request.has_payload {
            let carried = if request.has_payload { "a payload" } else { "no payload" };
            return Err(Stop::failed(expected, format!("{} with {carried}", request.describe())));
        }
        is_changed(&request, &answer)
    }

    /// 102: an Update without parameters before the lifetime is over, or the end of the registration after it.
    pub(crate) async fn updates_bare_or_expires(&mut self, lifetime: u32) -> Outcomes {
        let lifetime = Duration::from_secs(u64::from(lifetime)).saturating_add(SLACK);
        let location = self.location()?;
        let mark = self.mark;
        if self.wait(lifetime, |seen| seen.asks(Code::POST, |path| path == location)).await.is_some() {
            self.mark = mark;
            return self.updates_bare(self.patience).await;
        }
        match self.bench.server.device(&self.values.endpoint).await {
            None => Ok(()),
            Some(_) => Err(Stop::failed("an Update or no registration", "neither")),
        }
    }

    /// 104: the registration stands although its first lifetime is over.
    pub(crate) async fn stays_registered(&mut self, seconds: u64) -> Outcomes {
        let Some((request, answer)) = self.registered.clone() else {
            return Err(Stop::failed("a registration", "none"));
        };
        let until = after(request.at, Duration::from_secs(seconds).saturating_add(SLACK));
        while self.receive(until).await {}
        let registers = self.log.iter().filter(|seen| seen.asks(Code::POST, |path| path == "/rd")).count();
        match self.bench.server.device(&self.values.endpoint).await {
            Some(device) if device.location == answer.location && registers == 1 => Ok(()),
            Some(_) => Err(Stop::failed("the same registration", "the client registered again")),
            None => Err(Stop::failed("the client is registered", "it is not")),
        }
    }

    /// 103: a De-register, its 2.02, and the client is gone from the list.
    pub(crate) async fn deregisters(&mut self) -> Outcomes {
        let location = self.location()?;
        let expected = format!("DELETE {location}");
        let (request, answer) =
            self.exchange(&expected, |seen| seen.asks(Code::DELETE, |path| path == location)).await?;
        if answer.code != Code::DELETED {
            return Err(Stop::failed(format!("2.02 to {}", request.describe()), answer.describe()));
        }
        match self.bench.server.device(&self.values.endpoint).await {
            None => Ok(()),
            Some(_) => Err(Stop::failed("the client is gone from the list", "it is still there")),
        }
    }

    /// 105: the server loses the registration.
    pub(crate) async fn forget(&mut self) -> Outcomes {
        self.catch_up().await;
        match self.bench.server.forget(&self.values.endpoint).await {
            true => Ok(()),
            false => Err(Stop::failed("a registration to forget", "none")),
        }
    }

    /// 105: the client does not know, and is told by 4.04.
    pub(crate) async fn update_is_not_found(&mut self) -> Outcomes {
        let expected = format!("POST {}", self.location()?);
        let (_, answer) = self.update(&expected).await?;
        match answer.code {
            Code::NOT_FOUND => Ok(()),
            _ => Err(Stop::failed("4.04", answer.describe())),
        }
    }

    /// 103 and 104: the server executes.
    pub(crate) async fn execute(&mut self, path: &'static str, is_optional: bool) -> Outcomes {
        let path = self.resolve(path).await?;
        let operation = lwm2m_server::Operation::Execute { path, arguments: String::new() };
        match self.ask(operation).await {
            Ok(_) => Ok(()),
            Err(RequestError::Refused((4, 4 | 5), _)) if is_optional => {
                Err(Stop::NotApplicable(format!("the client has no {path}, which is optional")))
            }
            Err(error) => Err(Stop::failed(format!("2.04 to POST {path}"), error.to_string())),
        }
    }

    async fn update(&mut self, expected: &str) -> Outcomes<(Seen, Seen)> {
        let location = self.location()?;
        self.exchange(expected, |seen| seen.asks(Code::POST, |path| path == location)).await
    }

    fn location(&self) -> Outcomes<String> {
        match &self.registered {
            Some((_, answer)) => Ok(answer.location.clone()),
            None => Err(Stop::failed("a registration", "none")),
        }
    }

    /// 401: nothing came without DTLS.
    pub(crate) fn came_secured(&mut self) -> Outcomes {
        let plain = self.log.iter().find(|seen| !seen.is_secure && seen.direction == Direction::FromDevice);
        match plain {
            None => Ok(()),
            Some(seen) => Err(Stop::failed("every message over DTLS", seen.describe())),
        }
    }

    /// Whether a value is what a case asks for.
    pub(crate) fn is(&self, is: Is, value: &lwm2m_server::Value) -> bool {
        use super::case::Literal;
        use lwm2m_server::Value;
        let number = match value {
            Value::Integer(number) => Some(*number),
            Value::Unsigned(number) => i64::try_from(*number).ok(),
            _ => None,
        };
        match is {
            Is::There => true,
            Is::Text => matches!(value, Value::String(text) if !text.is_empty()),
            Is::Number => number.is_some(),
            Is::Flag => matches!(value, Value::Boolean(_)),
            Is::Lifetime => number == Some(i64::from(self.lifetime)),
            Is::Exactly(Literal::Integer(exactly)) => number == Some(exactly),
            Is::Exactly(Literal::Boolean(exactly)) => *value == Value::Boolean(exactly),
            Is::Exactly(Literal::Text(exactly)) => matches!(value, Value::String(text) if text == exactly),
        }
    }
}

/// How a write is called on the wire.
pub(crate) const fn method(mode: WriteMode) -> &'static str {
    match mode {
        WriteMode::Replace => "PUT",
        WriteMode::Update => "POST",
    }
}

fn is_changed(request: &Seen, answer: &Seen) -> Outcomes {
    match answer.code {
        Code::CHANGED => Ok(()),
        _ => Err(Stop::failed(format!("2.04 to {}", request.describe()), answer.describe())),
    }
}

/// The object list: link-format, with /1 and /3, without the objects that only a bootstrap may see (§6.2.1).
fn objects(request: &Seen) -> Outcomes {
    const LINK_FORMAT: u16 = 40;
    let text = String::from_utf8_lossy(&request.payload);
    if request.format != Some(LINK_FORMAT) {
        return Err(Stop::failed("an object list in content format 40", format!("{:?}", request.format)));
    }
    let mut prefix = String::new();
    let mut listed = Vec::new();
    for link in link::parse(&text) {
        let Ok(link) = link else {
            return Err(Stop::failed("an object list in link-format", text));
        };
        if link.attribute("rt").is_some_and(|kinds| kinds.split(' ').any(|kind| kind == "oma.lwm2m")) {
            prefix = link.path().trim_end_matches('/').to_owned();
            continue;
        }
        if let Some(Ok(path)) = link.path().strip_prefix(&prefix).map(str::parse::<lwm2m_objects::Path>) {
            listed.extend(path.object_id());
        }
    }
    if let Some(hidden) = listed.iter().find(|object| [0, 21, 23].contains(*object)) {
        return Err(Stop::failed(format!("an object list without /{hidden}"), text));
    }
    match [1, 3].iter().find(|object| !listed.contains(object)) {
        Some(missing) => Err(Stop::failed(format!("an object list with /{missing}"), text)),
        None => Ok(()),
    }
}
