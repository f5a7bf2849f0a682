//! Send: values that the device reports by itself (LwM2M Core 1.1.1 §6.4.5).
//!
//! Values are read when a message or a block of it is written, as for an answer, and held nowhere. Invariant: one report is
//! under way at a time; it ends with a notice.

use core::fmt;

use lwm2m_coap::block::{Szx, Upload, Uploaded};
use lwm2m_coap::{Code, Message, Writer};
use lwm2m_objects::{Content, Context, Format, Object, Operation, Path, Paths, Version, mapping};

use crate::account::ShortServerId;
use crate::client::Client;
use crate::composite::Places;
use crate::error::Reason;
use crate::event::{Notice, Role};
use crate::requests::{REQUEST_OVERHEAD, WriteFailed};
use crate::session::LARGEST;

/// `/1/x/23`: whether the device may not report by itself.
const MUTE_SEND: u16 = 23;

/// The report under way.
pub(crate) struct Report {
    slot: usize,
    server: ShortServerId,
    places: Places,
    /// Up to which time samples are reported, in seconds since 1970.
    until: Option<i64>,
    upload: Option<Upload>,
    /// How often it was begun again.
    restarts: u8,
}

/// How often a report is begun again because values changed between its blocks.
const RESTARTS: u8 = 3;

impl Report {
    const fn role(&self) -> Role {
        Role::Server(self.server)
    }
}

/// Why a report cannot be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSent {
    /// The device is not registered with this server.
    NotRegistered,
    /// The server does not want it: `/1/x/23` (Mute Send) is true, or not set.
    Muted,
    /// Another report is under way.
    Busy,
    /// There are no places, or more than 16.
    Places,
    /// LwM2M 1.0 has no Send.
    Version,
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotSent::NotRegistered => "the device is not registered with this server",
            NotSent::Muted => "the server does not want reports: /1/x/23 is true or not set",
            NotSent::Busy => "another report is under way",
            NotSent::Places => "a report is about 1 to 16 places",
            NotSent::Version => "LwM2M 1.0 has no Send",
        })
    }
}

impl core::error::Error for NotSent {}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// Reports what is at these places, at any level, to a server: as much of it as the server may read, as it is when it is
    /// sent. Then drain [`Client::poll_transmit`]. How it ended is told by [`Notice::Reported`] or [`Notice::NotReported`].
    ///
    /// # Errors
    /// [`NotSent`]: nothing has changed.
    pub fn send(&mut self, server: ShortServerId, places: &[Path]) -> Result<(), NotSent> {
        self.begin_report(server, places, None)
    }

    /// The same with what objects kept of these places and its times ([`Object::dated`]), up to a time in seconds since 1970,
    /// instead of the values as they are. When it has arrived [`Object::reported`] says so: so the time must have passed, or what is
    /// measured in that second after it was sent goes unseen, and of several servers only one can have what was kept.
    ///
    /// # Errors
    /// [`NotSent`]: nothing has changed.
    pub fn send_dated(&mut self, server: ShortServerId, places: &[Path], until: i64) -> Result<(), NotSent> {
        self.begin_report(server, places, Some(until))
    }

    fn begin_report(
        &mut self,
        server: ShortServerId,
        places: &[Path],
        until: Option<i64>,
    ) -> Result<(), NotSent> {
        // One for an account that is no more does not count.
        if self.report.as_ref().is_some_and(|report| self.role_of(report.slot) == Some(report.role())) {
            return Err(NotSent::Busy);
        }
        let places = Places::from_slice(places).map_err(|_| NotSent::Places)?;
        if places.is_empty() {
            return Err(NotSent::Places);
        }
        let slot = self.sessions.iter().position(|session| {
            session.as_ref().is_some_and(|session| {
                session.role == Role::Server(server) && session.registration.is_alive()
            })
        });
        let slot = slot.ok_or(NotSent::NotRegistered)?;
        if self.version_of(slot) < Version::new(1, 1) {
            return Err(NotSent::Version);
        }
        let account = self.core.accounts.server_of(server);
        if account.and_then(|account| account.value(MUTE_SEND)) != Some(0) {
            return Err(NotSent::Muted);
        }
        self.report = Some(Report { slot, server, places, until, upload: None, restarts: 0 });
        self.is_due = true;
        Ok(())
    }

    /// Whether a report waits for this session.
    pub(crate) fn is_report_due(&self, slot: usize) -> bool {
        let report = self.report.as_ref().filter(|report| report.slot == slot);
        report.is_some_and(|report| self.role_of(slot) == Some(report.role()))
    }

    /// Writes the report, or the block of it that is due; the Request-Tag that belongs to it.
    pub(crate) fn write_report(
        &mut self,
        writer: &mut Writer<'_>,
        objects: &mut [&mut dyn Object],
    ) -> Result<Option<[u8; 4]>, WriteFailed> {
        let Some(mut report) = self.report.take() else { return Err(WriteFailed::TooLong) };
        let format = Format::SENML_CBOR;
        let send = Operation::Send { content: Content { format, payload: &[] } };
        let guard = self.guard(report.role());
        let version = self.config.version;
        let largest = Szx::fitting(LARGEST.saturating_sub(REQUEST_OVERHEAD).min(self.config.block_size));
        let mut upload = report.upload.take().unwrap_or(Upload::new(largest));
        let context = Context { access: Self::access(&guard), version, ..Context::default() };
        let (places, until) =
            (Paths::List { prefix: self.config.prefix(), paths: &report.places }, report.until);
        let written =
            mapping::emit_registration(&send, writer).map_err(|_| WriteFailed::TooLong).and_then(|()| {
                self.write_upload(&mut upload, writer, objects, &mut |tree, sink| {
                    tree.report(&places, until, &context, sink)
                })
            });
        // One whose values changed on the way is sent from its beginning.
        let is_changed = written == Err(WriteFailed::Changed);
        report.upload = if is_changed { None } else { Some(upload) };
        report.restarts = report.restarts.saturating_add(u8::from(is_changed));
        let is_hopeless = report.restarts > RESTARTS;
        self.report = Some(report);
        if is_hopeless {
            self.end_report(Some(Reason::Changing));
        }
        written
    }

    /// Takes the answer to a report or to a block of it.
    pub(crate) fn report_answered(&mut self, message: &Message<'_>, objects: &mut [&mut dyn Object]) {
        let Some(report) = self.report.as_mut() else { return };
        let progress = report.upload.as_mut().map(|upload| upload.handle(message));
        match progress {
            Some(Ok(Uploaded::Continue)) => {}
            Some(Ok(Uploaded::Done)) if message.code == Code::CHANGED => {
                if let Some(report) = self.report.as_ref()
                    && let Some(until) = report.until
                {
                    let (guard, places) =
                        (self.guard(report.role()), Paths::List { prefix: None, paths: &report.places });
                    let context = Context { access: Self::access(&guard), ..Context::default() };
                    // A list can be read.
                    let _ =
                        self.core.with_tree(false, objects, |tree| tree.reported(&places, until, &context));
                }
                self.end_report(None);
            }
            _ => self.end_report(Some(Reason::Refused(message.code.as_u8()))),
        }
    }

    /// The report has ended, or came to nothing.
    pub(crate) fn end_report(&mut self, failed: Option<Reason>) {
        let Some(Report { server, .. }) = self.report.take() else { return };
        self.notice(match failed {
            None => Notice::Reported { server },
            Some(reason) => Notice::NotReported { server, reason },
        });
        self.is_due = true;
    }

    /// The session with this server is gone, and a report to it with that.
    pub(crate) fn forget_report(&mut self, slot: usize, reason: Reason) {
        if self.is_report_due(slot) {
            self.end_report(Some(reason));
        }
    }
}
