//! Steps of registration (LwM2M Core 1.1.1 §6.2): Register, Update, De-register, and what the server does to them.

use std::time::Duration;

use lwm2m_coap::{Code, link};
use lwm2m_objects::Path;
use lwm2m_server::{Direction, Event, Operation};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::case::DAY;
use super::field::Known;
use super::message::Seen;
use super::run::{Client, Outcomes, Registered, Run, Source, Stop, after};

/// What a clock and a busy machine may add to a time that the specification gives.
pub(crate) const SLACK: Duration = Duration::from_millis(1500);

/// Seconds in which a device that does not mind would have finished its handshake.
const HANDSHAKE: u64 = 10;

impl Run<'_> {
    /// 101: a Register with everything it must carry, and its 2.01.
    pub(crate) async fn registers(&mut self) -> Outcomes {
        let expected = "POST /rd?lt=&lwm2m=[&ep=][&b=]… with the object list";
        let (request, answer) =
            self.exchange_whole(expected, |seen| seen.asks(Code::POST, |path| path == "/rd")).await?;
        let told = request.describe();
        match request.parameter("ep") {
            Some(endpoint) if endpoint == self.values.endpoint => {}
            // From 1.1 on the security layer may tell the name.
            None if request.is_secure && request.parameter("lwm2m") != Some("1.0") => {}
            _ => return Err(Stop::failed(format!("ep={}", self.values.endpoint), told)),
        }
        match lifetime(&request) {
            Some(lifetime) if self.expected_lifetime.is_none_or(|expected| lifetime == expected) => {
                self.lifetime = lifetime;
            }
            _ => {
                let number = || "with a number".to_owned();
                let expected = self.expected_lifetime.map_or_else(number, |lifetime| lifetime.to_string());
                return Err(Stop::failed(format!("lt={expected}"), told));
            }
        }
        let version = request.parameter("lwm2m").unwrap_or_default();
        match &self.expected_version {
            Some(expected) if version != expected => {
                return Err(Stop::failed(format!("lwm2m={expected}"), told));
            }
            None if !["1.0", "1.1", "1.2"].contains(&version) => {
                return Err(Stop::failed("lwm2m=1.0, 1.1 or 1.2", told));
            }
            _ => {}
        }
        let is_binding =
            |letters: &str| letters.contains('U') && letters.chars().all(|letter| "UTSNMHQ".contains(letter));
        if !request.parameter("b").is_none_or(is_binding) {
            return Err(Stop::failed("b= with U among its letters, or no b", told));
        }
        let (prefix, objects) = objects(&request)?;
        if answer.code != Code::CREATED || !answer.location.starts_with("/rd/") {
            let seen = format!("{} {}", answer.describe(), answer.location);
            return Err(Stop::failed("2.01 with a location below /rd", seen));
        }
        match self.known().await {
            Known::Registered { location, .. }
                if location.as_ref().is_some_and(|at| *at != answer.location) =>
            {
                return Err(Stop::failed("the client among the devices of the server", "it is not there"));
            }
            Known::Registered { version, lifetime, .. }
                if version.as_deref().is_some_and(|version| Some(version) != request.parameter("lwm2m"))
                    || lifetime.is_some_and(|lifetime| lifetime != self.lifetime) =>
            {
                let seen = format!("version {version:?}, lifetime {lifetime:?}");
                return Err(Stop::failed("the server keeps what was registered", seen));
            }
            Known::Registered { .. } | Known::Unsaid => {}
            Known::Unknown => {
                return Err(Stop::failed("the client among the devices of the server", "it is not there"));
            }
        }
        self.near.registered = Some(Registered { request, answer, prefix, objects });
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
        match self.known().await {
            Known::Registered { lifetime: kept, .. } if kept.is_none_or(|kept| kept == lifetime) => Ok(()),
            Known::Unsaid => Ok(()),
            known => Err(Stop::failed(format!("the server keeps {lifetime} s"), known.told())),
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

    /// Any Update, and its 2.04.
    pub(crate) async fn updates(&mut self) -> Outcomes {
        let (request, answer) = self.update("an Update").await?;
        is_changed(&request, &answer)
    }

    /// An Update whose object list has an instance, and its 2.04. A device may send it before it is asked to.
    pub(crate) async fn updates_objects(&mut self, path: &'static str) -> Outcomes {
        let location = self.location()?;
        let expected = format!("POST {location} with an object list that has {path}");
        let until = Instant::now().checked_add(self.patience).unwrap_or_else(Instant::now);
        let mut at = 0;
        let mut body = Vec::new();
        loop {
            while let Some(seen) = self.near.log.get(at).cloned() {
                at = at.saturating_add(1);
                if !seen.asks(Code::POST, |path| path == location) {
                    continue;
                }
                body.extend_from_slice(&seen.payload);
                if seen.is_last {
                    let answer = self.answer_from(at, &seen).await?;
                    if self.lists(&core::mem::take(&mut body), path) {
                        return is_changed(&seen, &answer);
                    }
                }
            }
            if !self.receive(until).await {
                return Err(Stop::failed(expected, self.tell(0)));
            }
        }
    }

    async fn answer_from(&mut self, at: usize, request: &Seen) -> Outcomes<Seen> {
        let mark = core::mem::replace(&mut self.near.mark, at);
        let answer = self.answer(request).await;
        self.near.mark = mark;
        answer
    }

    /// The object list of the last Register names the version of an object (§7.2.2).
    pub(crate) fn lists_version(&self, object: u16, version: &str) -> Outcomes {
        let Some(Registered { request, prefix, .. }) = &self.near.registered else {
            return Err(Stop::failed("a registration", "none"));
        };
        let text = String::from_utf8_lossy(&request.payload);
        match names_version(&text, &format!("{prefix}/{object}"), version) {
            true => Ok(()),
            false => Err(Stop::failed(format!("an object list with </{object}>;ver={version}"), text)),
        }
    }

    /// Whether an object list has an instance.
    fn lists(&self, body: &[u8], path: &str) -> bool {
        let prefix = self.near.registered.as_ref().map_or("", |registered| registered.prefix.as_str());
        let text = String::from_utf8_lossy(body);
        link::parse(&text).filter_map(Result::ok).any(|link| link.path().strip_prefix(prefix) == Some(path))
    }

    /// 108: what the server takes the device for.
    pub(crate) async fn is_queued(&mut self) -> Outcomes {
        match self.known().await {
            Known::Registered { is_queued: Some(true) | None, .. } | Known::Unsaid => Ok(()),
            _ => {
                let request = self.near.registered.as_ref().map(|registered| registered.request.describe());
                Err(Stop::failed("queue mode: Q, or b=UQ in LwM2M 1.0", request.unwrap_or_default()))
            }
        }
    }

    /// 109: what is asked while the device sleeps waits until it is heard.
    pub(crate) async fn sleeps_and_is_asked(&mut self, path: &'static str) -> Outcomes {
        let path = self.resolve(path).await?;
        let until = Instant::now().checked_add(self.patience);
        while !self.is_asleep().await {
            if until.is_some_and(|until| until < Instant::now()) {
                return Err(match self.client {
                    Client::Process(_) => {
                        Stop::failed("the server takes the device for asleep", "it does not")
                    }
                    Client::Device(_) => Stop::NotApplicable(
                        "the server takes a device for awake for longer than this case waits".to_owned(),
                    ),
                });
            }
            // What it hears keeps it awake.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.catch_up().await;
        let before = self.near.mark;
        let patience = self.patience.saturating_add(Duration::from_secs(u64::from(self.lifetime)));
        let asked = self.ask_meanwhile(Operation::Read { path, format: None }, patience);
        let longest = core::mem::replace(&mut self.patience, patience);
        let updated = self.update("an Update of the device that slept").await;
        self.patience = longest;
        let (request, answer) = updated?;
        is_changed(&request, &answer)?;
        let is_read = |seen: &Seen| seen.direction == Direction::ToDevice && seen.code == Code::GET;
        let early = self.near.log.iter().take(self.near.mark).skip(before).any(is_read);
        if early {
            return Err(Stop::failed("nothing to the device while it sleeps", format!("GET {path}")));
        }
        let (read, answer) = self.exchange(&format!("GET {path}"), is_read).await?;
        if answer.code != Code::CONTENT {
            return Err(Stop::failed(format!("2.05 to {}", read.describe()), answer.describe()));
        }
        match asked.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Stop::failed(format!("2.05 to GET {path}"), error)),
            Err(_) => Err(Stop::failed(format!("2.05 to GET {path}"), "nothing was asked")),
        }
    }

    /// 102: an Update without parameters before the lifetime is over, or the end of the registration after it.
    pub(crate) async fn updates_bare_or_expires(&mut self, lifetime: u32) -> Outcomes {
        if let Client::Device(device) = &mut self.client {
            // In front of a server it is the end that is judged.
            device.stop();
            return self.is_dropped_after(lifetime).await;
        }
        let lifetime = Duration::from_secs(u64::from(lifetime)).saturating_add(SLACK);
        let location = self.location()?;
        let mark = self.near.mark;
        if self.wait(lifetime, |seen| seen.asks(Code::POST, |path| path == location)).await.is_some() {
            self.near.mark = mark;
            return self.updates_bare(self.patience).await;
        }
        match self.known().await {
            Known::Registered { .. } => Err(Stop::failed("an Update or no registration", "neither")),
            Known::Unknown | Known::Unsaid => Ok(()),
        }
    }

    /// 104: the registration stands although its first lifetime is over.
    pub(crate) async fn stays_registered(&mut self, seconds: u64) -> Outcomes {
        let Some(Registered { request, answer, .. }) = self.near.registered.clone() else {
            return Err(Stop::failed("a registration", "none"));
        };
        let until = after(request.at, Duration::from_secs(seconds).saturating_add(SLACK));
        while self.receive(until).await {}
        let is_register = |seen: &&Seen| seen.is_last && seen.asks(Code::POST, |path| path == "/rd");
        let registers = self.near.log.iter().filter(is_register).count();
        match self.known().await {
            Known::Unknown => Err(Stop::failed("the client is registered", "it is not")),
            Known::Registered { location, .. }
                if location.as_ref().is_some_and(|at| *at != answer.location) =>
            {
                Err(Stop::failed("the same registration", "another location"))
            }
            _ if registers != 1 => Err(Stop::failed("the same registration", "the client registered again")),
            _ => Ok(()),
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
        match self.known().await {
            Known::Registered { .. } => {
                Err(Stop::failed("the client is gone from the list", "it is still there"))
            }
            Known::Unknown | Known::Unsaid => Ok(()),
        }
    }

    /// 105: the server loses the registration.
    pub(crate) async fn forget(&mut self) -> Outcomes {
        self.catch_up().await;
        match &self.near.source {
            Source::Bench { server, .. } => match server.forget(&self.values.endpoint).await {
                true => Ok(()),
                false => Err(Stop::failed("a registration to forget", "none")),
            },
            Source::Field(field) => {
                field.operate(&self.values.endpoint, |operator, endpoint| operator.forget(endpoint)).await
            }
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

    async fn update(&mut self, expected: &str) -> Outcomes<(Seen, Seen)> {
        let location = self.location()?;
        self.exchange_whole(expected, |seen| seen.asks(Code::POST, |path| path == location)).await
    }

    /// 403: a handshake begins and does not come to its end, and no message comes. What tells the server that the device broke it
    /// off is not proven, so that it may learn of it late.
    pub(crate) async fn refuses_server(&mut self) -> Outcomes {
        let until = Instant::now().checked_add(Duration::from_secs(HANDSHAKE)).unwrap_or_else(Instant::now);
        let endpoint = self.values.endpoint.clone();
        let Source::Bench { server, events, .. } = &mut self.near.source else {
            return Err(Stop::NotApplicable("judges the client alone".to_owned()));
        };
        loop {
            match tokio::time::timeout_at(until, events.recv()).await {
                Ok(Ok(Event::SessionEstablished { endpoint: other, .. })) if *other == *endpoint => {
                    return Err(Stop::failed("no session", "the device finished the handshake"));
                }
                Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) | Err(_) => break,
            }
        }
        let counters = server.counters().await;
        let begun =
            counters.iter().find(|(name, _)| *name == "handshakes_begun").map_or(0, |(_, count)| *count);
        self.catch_up().await;
        match begun {
            0 => Err(Stop::failed("a handshake of the device", "none")),
            _ if self.near.log.is_empty() => Ok(()),
            _ => Err(Stop::failed("no message of the device", self.tell(0))),
        }
    }

    fn location(&self) -> Outcomes<String> {
        match &self.near.registered {
            Some(registered) => Ok(registered.answer.location.clone()),
            None => Err(Stop::failed("a registration", "none")),
        }
    }

    /// 401: nothing came without DTLS.
    pub(crate) fn came_secured(&mut self) -> Outcomes {
        let plain =
            self.near.log.iter().find(|seen| !seen.is_secure && seen.direction == Direction::FromDevice);
        match plain {
            None => Ok(()),
            Some(seen) => Err(Stop::failed("every message over DTLS", seen.describe())),
        }
    }
}

fn is_changed(request: &Seen, answer: &Seen) -> Outcomes {
    match answer.code {
        Code::CHANGED => Ok(()),
        _ => Err(Stop::failed(format!("2.04 to {}", request.describe()), answer.describe())),
    }
}

/// The lifetime of a Register. LwM2M 1.0 §5.3.1 lets it be left out.
fn lifetime(request: &Seen) -> Option<u32> {
    match request.parameter("lt") {
        None if request.parameter("lwm2m") == Some("1.0") => Some(DAY),
        given => given?.parse().ok(),
    }
}

/// Whether an object list names this version of an object.
fn names_version(list: &str, object: &str, version: &str) -> bool {
    let mut links = link::parse(list).filter_map(Result::ok);
    links.any(|link| link.path() == object && link.attribute("ver") == Some(version))
}

/// The object list: link-format, with /1 and /3, without the objects that only a bootstrap may see (§6.2.1). What stands in
/// front of its paths, and the paths.
fn objects(request: &Seen) -> Outcomes<(String, Vec<Path>)> {
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
            listed.push(path);
        }
    }
    let has = |object: &u16| listed.iter().any(|path| path.object_id() == Some(*object));
    if let Some(hidden) = [0, 21, 23].iter().find(|object| has(object)) {
        return Err(Stop::failed(format!("an object list without /{hidden}"), text));
    }
    match [1, 3].iter().find(|object| !has(object)) {
        Some(missing) => Err(Stop::failed(format!("an object list with /{missing}"), text)),
        None => Ok((prefix, listed)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use lwm2m_server::credentials::Role;
    use lwm2m_server::endpoint::Watcher;

    use super::*;

    #[test]
    fn a_device_of_1_0_may_leave_out_its_lifetime() {
        let of = |query: &str| {
            let mut message = b"\x40\x02\x00\x01\xb2rd".to_vec();
            for (number, parameter) in query.split('&').enumerate() {
                let delta = if number == 0 { 0x40 } else { 0 };
                message.push(delta | u8::try_from(parameter.len()).unwrap());
                message.extend(parameter.as_bytes());
            }
            let packet = Watcher::new("a", false).see(0, Role::Management, Direction::FromDevice, &message);
            lifetime(&Seen::read(&packet).unwrap())
        };
        assert_eq!(of("ep=a&lwm2m=1.0"), Some(DAY));
        assert_eq!(of("ep=a&lwm2m=1.0&lt=60"), Some(60));
        for query in ["ep=a&lwm2m=1.1", "ep=a&lwm2m=1.0&lt=", "ep=a&lwm2m=1.0&lt=x", "ep=a"] {
            assert_eq!(of(query), None, "{query}");
        }
    }

    #[test]
    fn a_version_stands_at_the_object_and_is_the_one_that_is_wanted() {
        assert!(names_version("</1/0>,</10>;ver=1.1,</10/0>", "/10", "1.1"));
        assert!(names_version("</lwm2m/10>;ver=\"1.1\"", "/lwm2m/10", "1.1"));
        for list in ["</10>,</10/0>", "</10>;ver=1.0", "</10/0>;ver=1.1", "</11>;ver=1.1"] {
            assert!(!names_version(list, "/10", "1.1"), "{list}");
        }
    }
}
