//! Connectivity Statistics (`/7`), with the single instance 0 (LwM2M Core 1.2.1 Appendix E.8).
//!
//! Invariant: what is sent and received counts only between start and stop, or until the period is over.

use crate::{Arguments, At, Change, Completion, Error, Object, ObjectDef, Value, defs};

/// How much was sent and received while a server wanted to know.
#[derive(Clone, Debug, Default)]
pub struct ConnectivityStatistics {
    sms_sent: u32,
    sms_received: u32,
    sent: u64,
    received: u64,
    messages: u32,
    largest: usize,
    /// 8: seconds that are counted; 0 until a server stops it.
    period: i64,
    /// For how many seconds it has counted, if it does.
    running: Option<i64>,
}

impl ConnectivityStatistics {
    /// Statistics that count nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets seconds pass.
    pub fn passed(&mut self, seconds: u32) {
        if let Some(running) = &mut self.running {
            *running = running.saturating_add(i64::from(seconds));
            if self.period > 0 && *running >= self.period {
                self.running = None;
            }
        }
    }

    /// Tells whether it counts.
    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// A datagram of that many bytes was sent.
    pub fn sent(&mut self, bytes: usize) {
        if self.is_running() {
            self.sent = add(self.sent, bytes);
            self.count(bytes);
        }
    }

    /// A datagram of that many bytes was received.
    pub fn received(&mut self, bytes: usize) {
        if self.is_running() {
            self.received = add(self.received, bytes);
            self.count(bytes);
        }
    }

    fn count(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_add(1);
        self.largest = self.largest.max(bytes);
    }

    /// A short message was sent.
    pub const fn sms_sent(&mut self) {
        if self.is_running() {
            self.sms_sent = self.sms_sent.saturating_add(1);
        }
    }

    /// A short message was received.
    pub const fn sms_received(&mut self) {
        if self.is_running() {
            self.sms_received = self.sms_received.saturating_add(1);
        }
    }

    fn number(&self, resource: u16) -> Option<i64> {
        let kilobytes = |bytes: u64| i64::try_from(bytes.div_ceil(1000)).unwrap_or(i64::MAX);
        Some(match resource {
            0 => i64::from(self.sms_sent),
            1 => i64::from(self.sms_received),
            2 => kilobytes(self.sent),
            3 => kilobytes(self.received),
            4 => i64::try_from(self.largest).unwrap_or(i64::MAX),
            5 => {
                let mean = self.sent.saturating_add(self.received).checked_div(u64::from(self.messages));
                mean.and_then(|mean| i64::try_from(mean).ok()).unwrap_or(0)
            }
            8 => self.period,
            _ => return None,
        })
    }
}

fn add(sum: u64, bytes: usize) -> u64 {
    sum.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX))
}

impl Object for ConnectivityStatistics {
    fn definition(&self) -> &'static ObjectDef {
        &defs::CONNECTIVITY_STATISTICS
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        self.number(at.resource).map(Value::Integer)
    }

    fn validate(&self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 8, value: Value::Integer(0..), .. } | Change::Reset { .. } => Ok(()),
            Change::Set { resource: 8, .. } => Err(Error::BadRequest),
            _ => Err(Error::MethodNotAllowed),
        }
    }

    fn apply(&mut self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 8, value: Value::Integer(period), .. } => self.period = period,
            Change::Reset { resource: 8 } => self.period = 0,
            Change::Reset { .. } => {}
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(())
    }

    fn execute(&mut self, _: u16, resource: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        match resource {
            6 => {
                let period = self.period;
                *self = Self { period, running: Some(0), ..Self::default() };
            }
            7 => self.running = None,
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(Completion::Done)
    }
}
