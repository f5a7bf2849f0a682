//! Steps of information reporting (LwM2M Core 1.1.1 §6.4, RFC 7641): Observe, notifications and their ends.

use std::time::Duration;

use lwm2m_coap::{Code, Kind};
use lwm2m_objects::Path;
use lwm2m_server::{Answer, Direction, Operation};

use super::message::Seen;
use super::registration::SLACK;
use super::run::{self, Observed, Outcomes, Run, Stop};

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
        let text = path.to_string();
        let is_asked = |seen: &Seen| {
            seen.direction == Direction::ToDevice && seen.observe == Some(0) && seen.path.ends_with(&text)
        };
        let (request, answer) = self.exchange(&format!("GET {path} with Observe 0"), is_asked).await?;
        let observed = Observed { id, token: request.token, since: answer.at, reset: None };
        self.observations.insert(path, observed);
        Ok(())
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
            if let Some(observed) = self.observations.get_mut(&path) {
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
        if !self.bench.server.forget_observation(&self.values.endpoint, id).await {
            return Err(Stop::failed("an observation to end", "it has ended already"));
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
        if let Some(observed) = self.observations.get_mut(&path) {
            observed.reset = Some(reset.at);
        }
        Ok(())
    }

    pub(crate) async fn stays_silent(&mut self, path: &'static str, seconds: u64) -> Outcomes {
        let path = self.resolve(path).await?;
        let reset = self.observed(path)?.reset.unwrap_or_default();
        // One may have been on its way.
        let from = reset.saturating_add(EARLY);
        match self.notification(path, from, Duration::from_secs(seconds)).await? {
            None => Ok(()),
            Some(seen) => {
                let after = seen.at.saturating_sub(reset);
                Err(Stop::failed(
                    format!("no more notifications of {path}"),
                    format!("one {after} ms after the Reset"),
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
            if let Some(seen) = self.log.iter().find(|seen| is_next(seen)) {
                return Ok(Some(seen.clone()));
            }
            if !self.receive(until).await {
                return Ok(None);
            }
        }
    }

    fn last_notification(&self, path: Path) -> Outcomes<u64> {
        let observed = self.observed(path)?;
        let last = self.log.iter().rev().find(|seen| is_notification(seen, &observed.token));
        Ok(last.map_or(observed.since, |seen| seen.at))
    }

    fn observed(&self, path: Path) -> Outcomes<&Observed> {
        self.observations.get(&path).ok_or_else(|| Stop::failed("an observation", "none"))
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
