//! What happened lately, numbered: a listener that was cut off goes on behind the last event that it got.
//!
//! One task takes in what happens to devices and to their credentials and numbers it; every listener reads at its own pace. The number
//! of an event stands behind the start of the server that gave it, `18c2f3a91b0-42`, so that one of another run is known as such.
//!
//! Invariant: what is kept is bounded in number and bytes, whoever listens; what a listener did not get is told to it as lost.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};

use super::events::{LOST, emit, emit_step};
use crate::access::Scope;
use crate::credentials::{CredentialEvent, Credentials};
use crate::{Event, Reported, Server};

/// Events that are kept.
const MOST: usize = 4096;
/// Bytes of values in them.
const MOST_BYTES: usize = 16 << 20;
/// Events that are taken out at once, and that wait for a slow connection.
const BATCH: usize = 64;

/// Something that is told.
#[derive(Clone, Debug)]
enum Told {
    Device(Event),
    Step(CredentialEvent),
    /// The journal was too slow for so many.
    Lost(u64),
}

impl Told {
    fn emit(&self) -> (&'static str, Value) {
        match self {
            Self::Device(event) => emit(event),
            Self::Step(event) => emit_step(event),
            Self::Lost(events) => lost(Some(*events), "the server was too busy"),
        }
    }

    /// Whether who has these devices is told: of a campaign only who has all of its devices.
    fn is_for(&self, scope: &Scope) -> bool {
        match self {
            Self::Device(Event::Campaign { campaign, .. }) => scope.covers(&campaign.scope),
            _ => true,
        }
    }

    fn bytes(&self) -> usize {
        let Self::Device(Event::Notification { report, .. } | Event::Reported { report, .. }) = self else {
            return 0;
        };
        let held = report.values.iter().map(|reported| match &reported.value {
            crate::Value::String(text) | crate::Value::CoreLink(text) => text.len(),
            crate::Value::Opaque(bytes) => bytes.len(),
            _ => 0,
        });
        held.map(|bytes| bytes.saturating_add(size_of::<Reported>())).sum()
    }
}

fn lost(events: Option<u64>, reason: &str) -> (&'static str, Value) {
    (LOST, json!({ "events": events, "reason": reason }))
}

/// The events of one run of the server.
#[derive(Debug)]
pub(super) struct Journal {
    /// What tells this run from others.
    run: u64,
    kept: Mutex<Kept>,
    /// The number of the last event.
    last: watch::Sender<u64>,
    /// Events that somebody did not get.
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    /// The last of them has the number `last`, those before it one less each.
    told: VecDeque<Told>,
    last: u64,
    bytes: usize,
}

/// One event as a listener gets it: its number, name and body.
pub(super) type Numbered = (Option<String>, &'static str, Value);

impl Journal {
    /// Numbers what happens from now on.
    pub(super) fn start(run: u64, server: &Server, credentials: &Credentials) -> Arc<Self> {
        let (last, lost) = (watch::channel(0).0, AtomicU64::new(0));
        let journal = Arc::new(Self { run, kept: Mutex::default(), last, lost });
        let (mut events, mut steps) = (server.events(), credentials.subscribe());
        let kept = Arc::downgrade(&journal);
        tokio::spawn(async move {
            loop {
                let told = tokio::select! {
                    event = next(&mut events, Told::Device) => event,
                    step = next(&mut steps, Told::Step) => step,
                };
                // Without either the server has ended.
                let (Some(told), Some(journal)) = (told, kept.upgrade()) else { return };
                journal.write(told);
            }
        });
        journal
    }

    /// How many events somebody did not get.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Counts what a listener did not get.
    pub(super) fn lose(&self, events: u64) {
        self.lost.fetch_add(events, Ordering::Relaxed);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, told: Told) {
        if let Told::Lost(events) = &told {
            self.lose(*events);
        }
        let last = {
            let mut kept = self.kept();
            kept.bytes = kept.bytes.saturating_add(told.bytes());
            kept.told.push_back(told);
            while kept.told.len() > MOST || (kept.bytes > MOST_BYTES && kept.told.len() > 1) {
                let gone = kept.told.pop_front().map_or(0, |gone| gone.bytes());
                kept.bytes = kept.bytes.saturating_sub(gone);
            }
            kept.last = kept.last.saturating_add(1);
            kept.last
        };
        self.last.send_replace(last);
    }

    /// What happens from now on to who has these devices, or happened behind the event of this number. Nothing comes any more once the receiver is gone.
    pub(super) fn listen(self: &Arc<Self>, behind: Option<&str>, scope: &Scope) -> mpsc::Receiver<Numbered> {
        let scope = scope.clone();
        let (sender, receiver) = mpsc::channel(BATCH);
        let present = self.kept().last;
        let behind = behind.map(|number| self.number(number).filter(|number| *number <= present));
        let journal = Arc::clone(self);
        let at = match behind {
            None => present,
            Some(Some(number)) => number,
            Some(None) => 0,
        };
        let is_of_another_run = behind == Some(None);
        tokio::spawn(async move {
            if is_of_another_run {
                let (name, body) =
                    lost(None, "the server was started again: what it told in between is not known");
                if sender.send((None, name, body)).await.is_err() {
                    return;
                }
            }
            journal.tell(at, &scope, &sender).await;
        });
        receiver
    }

    /// The number in what a listener names; `None` when this run did not give it.
    fn number(&self, named: &str) -> Option<u64> {
        let (run, number) = named.trim().split_once('-')?;
        (u64::from_str_radix(run, 16) == Ok(self.run)).then(|| number.parse().ok()).flatten()
    }

    async fn tell(&self, mut at: u64, scope: &Scope, listener: &mpsc::Sender<Numbered>) {
        let mut last = self.last.subscribe();
        loop {
            let (missed, batch) = self.behind(at);
            if missed > 0 {
                self.lose(missed);
                at = at.saturating_add(missed);
                let (name, body) = lost(Some(missed), "the listener was too slow");
                if listener.send((None, name, body)).await.is_err() {
                    return;
                }
            }
            let is_empty = batch.is_empty();
            for told in batch {
                at = at.saturating_add(1);
                if !told.is_for(scope) {
                    continue;
                }
                let (name, body) = told.emit();
                let number = format!("{:x}-{at}", self.run);
                if listener.send((Some(number), name, body)).await.is_err() {
                    return;
                }
            }
            if is_empty {
                tokio::select! {
                    changed = last.wait_for(|last| *last > at) => if changed.is_err() { return },
                    () = listener.closed() => return,
                }
            }
        }
    }

    /// How many events behind this number are not kept any more, and the first of the others.
    fn behind(&self, at: u64) -> (u64, Vec<Told>) {
        let kept = self.kept();
        let held = u64::try_from(kept.told.len()).unwrap_or(u64::MAX);
        let first = kept.last.saturating_sub(held);
        let missed = first.saturating_sub(at);
        let skipped = usize::try_from(at.saturating_sub(first)).unwrap_or(usize::MAX);
        (missed, kept.told.iter().skip(skipped).take(BATCH).cloned().collect())
    }
}

/// The next of a channel; `None` when it has ended.
async fn next<T: Clone>(from: &mut Receiver<T>, told: impl Fn(T) -> Told) -> Option<Told> {
    match from.recv().await {
        Ok(happened) => Some(told(happened)),
        Err(RecvError::Lagged(events)) => Some(Told::Lost(events)),
        Err(RecvError::Closed) => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use crate::{Report, Reported};

    fn journal() -> Arc<Journal> {
        let (last, lost) = (watch::channel(0).0, AtomicU64::new(0));
        Arc::new(Journal { run: 0xab, kept: Mutex::default(), last, lost })
    }

    fn happen(journal: &Journal, names: core::ops::Range<usize>) {
        for name in names {
            journal.write(Told::Device(Event::Updated { endpoint: name.to_string().into() }));
        }
    }

    /// Number and device of the next event, or how many were lost.
    async fn next(listener: &mut mpsc::Receiver<Numbered>) -> (String, Value) {
        let (number, name, body) = listener.recv().await.unwrap();
        match name {
            LOST => ("lost".to_owned(), body.get("events").cloned().unwrap()),
            _ => (number.unwrap(), body.get("endpoint").cloned().unwrap()),
        }
    }

    #[tokio::test]
    async fn a_listener_that_was_cut_off_goes_on_behind_what_it_got() {
        let journal = journal();
        let mut first = journal.listen(None, &Scope::default());
        happen(&journal, 1..4);
        assert_eq!(next(&mut first).await, ("ab-1".to_owned(), json!("1")));
        assert_eq!(next(&mut first).await, ("ab-2".to_owned(), json!("2")));
        drop(first);
        let mut again = journal.listen(Some("ab-2"), &Scope::default());
        happen(&journal, 4..5);
        assert_eq!(next(&mut again).await, ("ab-3".to_owned(), json!("3")));
        assert_eq!(next(&mut again).await, ("ab-4".to_owned(), json!("4")));
        assert_eq!(journal.lost(), 0);
        let mut from_now = journal.listen(None, &Scope::default());
        happen(&journal, 5..6);
        assert_eq!(next(&mut from_now).await.0, "ab-5");
    }

    #[tokio::test]
    async fn a_number_of_another_run_or_of_none_is_told_and_all_that_is_kept_follows() {
        let journal = journal();
        happen(&journal, 1..3);
        for named in ["ac-1", "ab-3", "ab", "", "ab-x", "zz-1", "ab-99999999999999999999"] {
            let mut listener = journal.listen(Some(named), &Scope::default());
            assert_eq!(next(&mut listener).await, ("lost".to_owned(), Value::Null), "{named}");
            assert_eq!(next(&mut listener).await.0, "ab-1", "{named}");
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_what_is_gone_is_told_and_counted() {
        let journal = journal();
        happen(&journal, 1..MOST + 11);
        let mut listener = journal.listen(Some("ab-4"), &Scope::default());
        assert_eq!(next(&mut listener).await, ("lost".to_owned(), json!(6)));
        assert_eq!(next(&mut listener).await.0, "ab-11");
        assert_eq!(journal.lost(), 6);
        let value = crate::Value::Opaque(vec![0; MOST_BYTES / 4]);
        let values = vec![Reported { path: "/1".parse().unwrap(), value, time: None }];
        let report = Arc::new(Report { format: 0, values });
        for _ in 0..8 {
            journal
                .write(Told::Device(Event::Reported { endpoint: "a".into(), report: Arc::clone(&report) }));
        }
        assert_eq!(journal.kept().told.len(), 3, "of a quarter each, with what holds them");
    }

    #[tokio::test]
    async fn a_listener_that_went_away_is_forgotten() {
        let journal = journal();
        let listener = journal.listen(None, &Scope::default());
        drop(listener);
        // It notices without that anything happens.
        while Arc::strong_count(&journal) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
