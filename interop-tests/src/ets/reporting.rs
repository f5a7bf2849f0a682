//! Steps of information reporting (LwM2M Core 1.1.1 §6.4, RFC 7641): Observe, notifications and their ends.

use std::time::Duration;

use lwm2m_coap::{Code, Kind};
use lwm2m_objects::Path;
use lwm2m_server::{Answer, Direction, ObservationId, Operation, RequestError, Value, WriteMode};

use super::case::Expected;
use super::message::Seen;
use super::operator::Operator;
use super::registration::SLACK;
use super::run::{self, Observed, Outcomes, Run, Source, Stop};

/// What a clock may take off a time.
const EARLY: u64 = 250;

impl Run<'_> {
    pub(crate) async fn observe(&mut self, path: &'static str) -> Outcomes {
        let path = self.resolve(path).await?;
        let id = match self.ask(Operation::Observe { path, format: None }).await {
            Ok(Answer::Observing(id, _)) => id,
            Ok(_) => return Err(Stop::failed("an observation", "another answer")),
            Err(error) => {
                let expected = format!("2.05 with Observe to GET {path} with Observe 0");
                return Err(Stop::failed(expected, error.to_string()));
            }
        };
        self.observes(path, id, path.to_string()).await
    }

    /// Observes several places at once, known as the root from here on.
    pub(crate) async fn observe_composite(
        &mut self,
        paths: &[&'static str],
        has: Expected,
        lacks: &[&str],
    ) -> Outcomes {
        let paths = self.resolve_all(paths).await?;
        match self.ask(Operation::ObserveComposite { paths, format: None }).await {
            Ok(Answer::Observing(id, content)) => {
                self.holds("", &content.items, has, lacks)?;
                self.observes(Path::ROOT, id, String::new()).await
            }
            Ok(_) => Err(Stop::failed("an observation", "another answer")),
            Err(error) => Err(Stop::failed("2.05 with Observe to FETCH with Observe 0", error.to_string())),
        }
    }

    async fn observes(&mut self, path: Path, id: ObservationId, at: String) -> Outcomes {
        let is_asked = |seen: &Seen| {
            seen.direction == Direction::ToDevice && seen.observe == Some(0) && seen.path.ends_with(&at)
        };
        let (request, answer) = self.exchange(&format!("Observe 0 to {path}"), is_asked).await?;
        let observed = Observed { id, token: request.token, since: answer.at, ended: None };
        self.near.observations.insert(path, observed);
        Ok(())
    }

    /// Waits for a notification that has certain values; those before it do not count.
    pub(crate) async fn notifies_of(
        &mut self,
        path: &'static str,
        has: Expected,
        lacks: &[&str],
        seconds: u64,
    ) -> Outcomes {
        let path = self.resolve(path).await?;
        let began = self.observed(path)?.since;
        let mut since = began;
        let most = Duration::from_secs(seconds).saturating_add(SLACK);
        let mut last = None;
        loop {
            let passed = Duration::from_millis(since.saturating_sub(began));
            let Some(seen) = self.notification(path, since, most.saturating_sub(passed)).await? else {
                let expected = format!("a notification of {path} within {seconds} s");
                return Err(last.unwrap_or_else(|| Stop::failed(expected, "none")));
            };
            since = seen.at;
            if let Some(observed) = self.near.observations.get_mut(&path) {
                observed.since = seen.at;
            }
            let values = seen.values.iter().filter_map(|(at, value)| Some((*at, value.clone()?)));
            match self.holds("", &values.collect::<Vec<_>>(), has, lacks) {
                Ok(()) => return Ok(()),
                Err(stop) => last = Some(stop),
            }
        }
    }

    /// Ends an observation by asking with Observe 1 under its token (RFC 7641 §3.6).
    pub(crate) async fn cancel(&mut self, path: &'static str) -> Outcomes {
        let path = self.resolve(path).await?;
        let (id, token) = self.observed(path).map(|observed| (observed.id, observed.token.clone()))?;
        if let Err(error) = self.ask(Operation::Cancel { observation: id }).await {
            return Err(Stop::failed(format!("2.05 to Observe 1 of {path}"), error.to_string()));
        }
        let is_asked = |seen: &Seen| seen.direction == Direction::ToDevice && seen.observe == Some(1);
        let (request, answer) = self.exchange(&format!("Observe 1 to {path}"), is_asked).await?;
        if request.token != token || answer.code != Code::CONTENT || answer.observe.is_some() {
            let expected = format!("2.05 without Observe to Observe 1 of {path} under the same token");
            return Err(Stop::failed(expected, answer.describe()));
        }
        if let Some(observed) = self.near.observations.get_mut(&path) {
            observed.ended = Some(answer.at);
        }
        Ok(())
    }

    /// Lets the device report by itself; not every device has the switch.
    pub(crate) async fn unmute(&mut self) -> Outcomes {
        if self.is_1_0() {
            return Err(Stop::NotApplicable("LwM2M 1.0 has no Send".to_owned()));
        }
        let path = self.resolve("/1/x/23").await?;
        let values = vec![(path, Value::Boolean(false))];
        let write = Operation::Write { path, mode: WriteMode::Replace, values, format: None };
        match self.ask(write).await {
            Ok(_) | Err(RequestError::Refused(..)) => Ok(()),
            Err(error) => Err(Stop::failed(format!("an answer to PUT {path}"), error.to_string())),
        }
    }

    /// A report of the device with values of objects that it registered, and its 2.04.
    pub(crate) async fn reports(&mut self, has: Expected) -> Outcomes {
        let Some(request) = self.wait(self.patience, is_report).await else {
            return Err(unreported(&self.near.log, self.patience.as_secs()));
        };
        let answer = self.answer(&request).await?;
        if answer.code != Code::CHANGED {
            return Err(Stop::failed("2.04 to POST /dp", answer.describe()));
        }
        if !matches!(request.format, Some(110 | 112)) {
            return Err(Stop::failed(
                "a report in content format 110 or 112",
                format!("{:?}", request.format),
            ));
        }
        let objects = self.near.registered.as_ref().map(|registered| registered.objects.clone());
        let objects = objects.unwrap_or_default();
        let is_listed = |path: &Path| objects.iter().any(|listed| listed.object_id() == path.object_id());
        if let Some((path, _)) = request.values.iter().find(|(path, _)| !is_listed(path)) {
            return Err(Stop::failed("only objects that were registered", path.to_string()));
        }
        let values = request.values.iter().filter_map(|(at, value)| Some((*at, value.clone()?)));
        let values: Vec<(Path, Value)> = values.collect();
        if values.is_empty() {
            return Err(Stop::failed("values in the report", "none that can be read"));
        }
        self.holds("", &values, has, &[])
    }

    pub(crate) async fn reports_nothing(&mut self, seconds: u64) -> Outcomes {
        self.catch_up().await;
        match self.wait(Duration::from_secs(seconds), is_report).await {
            None => Ok(()),
            Some(_) => Err(Stop::failed(format!("no POST /dp for {seconds} s"), "one")),
        }
    }

    /// Waits for notifications and judges the time between them; each moves the beginning of the next window.
    pub(crate) async fn notifies(
        &mut self,
        path: &'static str,
        times: usize,
        pmin: u64,
        pmax: u64,
    ) -> Outcomes {
        let path = self.resolve(path).await?;
        for _ in 0..times {
            let since = self.observed(path)?.since;
            let most = Duration::from_secs(pmax).saturating_add(SLACK);
            let Some(seen) = self.notification(path, since, most).await? else {
                let expected = format!("a notification of {path} within {pmax} s after the last one");
                return Err(Stop::failed(expected, "none"));
            };
            let passed = seen.at.saturating_sub(since);
            if passed.saturating_add(EARLY) < pmin.saturating_mul(1000) {
                let expected = format!("no notification of {path} before {pmin} s have passed");
                return Err(Stop::failed(expected, format!("one after {passed} ms")));
            }
            if passed > duration_ms(most) {
                let expected = format!("a notification of {path} within {pmax} s after the last one");
                return Err(Stop::failed(expected, format!("one after {passed} ms")));
            }
            if seen.code != Code::CONTENT {
                return Err(Stop::failed(format!("2.05 as notification of {path}"), seen.describe()));
            }
            if let Some(observed) = self.near.observations.get_mut(&path) {
                observed.since = seen.at;
            }
        }
        Ok(())
    }

    /// The server answers the next notification with a Reset.
    pub(crate) async fn reset(&mut self, path: &'static str, pmax: u64) -> Outcomes {
        let path = self.resolve(path).await?;
        self.catch_up().await;
        let last = self.last_notification(path)?;
        let id = self.observed(path)?.id;
        match &self.near.source {
            Source::Bench { server, .. } => {
                if !server.forget_observation(&self.values.endpoint, id).await {
                    return Err(Stop::failed("an observation to end", "it has ended already"));
                }
            }
            Source::Field(field) => {
                let paths = field.observed(id);
                let forget =
                    move |operator: &Operator, endpoint: &str| operator.forget_observation(endpoint, &paths);
                field.operate(&self.values.endpoint, forget).await?;
            }
        }
        let most = Duration::from_secs(pmax).saturating_add(SLACK);
        let Some(notification) = self.notification(path, last, most).await? else {
            return Err(Stop::failed(format!("one more notification of {path}"), "none"));
        };
        let is_reset = |seen: &Seen| {
            seen.direction == Direction::ToDevice && seen.kind == Kind::Reset && seen.id == notification.id
        };
        let Some(reset) = self.wait(self.patience, is_reset).await else {
            return Err(Stop::failed("a Reset from the server", "none"));
        };
        if let Some(observed) = self.near.observations.get_mut(&path) {
            observed.ended = Some(reset.at);
        }
        Ok(())
    }

    pub(crate) async fn stays_silent(&mut self, path: &'static str, seconds: u64) -> Outcomes {
        let path = self.resolve(path).await?;
        let reset = self.observed(path)?.ended.unwrap_or_default();
        // One may have been on its way.
        let from = reset.saturating_add(EARLY);
        match self.notification(path, from, Duration::from_secs(seconds)).await? {
            None => Ok(()),
            Some(seen) => {
                let after = seen.at.saturating_sub(reset);
                Err(Stop::failed(
                    format!("no more notifications of {path}"),
                    format!("one {after} ms after the end of the observation"),
                ))
            }
        }
    }

    /// Waits for the first notification after a moment; `limit` counts from that moment.
    async fn notification(&mut self, path: Path, after: u64, limit: Duration) -> Outcomes<Option<Seen>> {
        let token = self.observed(path)?.token.clone();
        let is_next = move |seen: &Seen| is_notification(seen, &token) && seen.at > after;
        let until = run::after(after, limit);
        loop {
            if let Some(seen) = self.near.log.iter().find(|seen| is_next(seen)) {
                return Ok(Some(seen.clone()));
            }
            if !self.receive(until).await {
                return Ok(None);
            }
        }
    }

    fn last_notification(&self, path: Path) -> Outcomes<u64> {
        let observed = self.observed(path)?;
        let last = self.near.log.iter().rev().find(|seen| is_notification(seen, &observed.token));
        Ok(last.map_or(observed.since, |seen| seen.at))
    }

    fn observed(&self, path: Path) -> Outcomes<&Observed> {
        self.near.observations.get(&path).ok_or_else(|| Stop::failed("an observation", "none"))
    }
}

fn duration_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn is_notification(seen: &Seen, token: &[u8]) -> bool {
    seen.direction == Direction::FromDevice
        && seen.code.is_response()
        && seen.kind != Kind::Acknowledgement
        && seen.token == token
}

fn is_report(seen: &Seen) -> bool {
    seen.asks(Code::POST, |path| path == "/dp")
}

/// What it means that no report comes: a client that has reported before has stopped to, another one never began.
fn unreported(log: &[Seen], waited: u64) -> Stop {
    if log.iter().any(is_report) {
        return Stop::failed(format!("POST /dp within {waited} s, as before"), "none");
    }
    Stop::NotApplicable(format!(
        "the client reported nothing by itself in {waited} s: it has to be set up to"
    ))
}

#[cfg(test)]
mod tests {
    use lwm2m_server::credentials::Role;
    use lwm2m_server::endpoint::Watcher;

    use super::*;

    #[test]
    fn a_client_that_reported_once_has_to_go_on() {
        let mut watcher = Watcher::new("a", false);
        let mut log = Vec::new();
        // An Update, and a report of nothing.
        for message in [&b"\x40\x02\0\x01\xb2rd\x01a"[..], b"\x40\x02\0\x02\xb2dp\x11\x70\xff\x80"] {
            assert!(matches!(unreported(&log, 5), Stop::NotApplicable(_)));
            log.extend(Seen::read(&watcher.see(0, Role::Management, Direction::FromDevice, message)));
        }
        assert!(matches!(unreported(&log, 5), Stop::Failed { .. }));
    }
}
