//! Firmware Update (`/5`), with the single instance 0 (LwM2M Core 1.2.1 Appendix E.6).
//!
//! 1. Idle: a server writes the package (push), or its URI (pull: the owner finds [`FirmwareRequest::Download`]).
//! 2. Downloading: chunks go to the [`Package`]; whatever fails leads back to Idle, with a result.
//! 3. Downloaded: a server executes Update; the owner finds [`FirmwareRequest::Install`].
//! 4. Updating: the owner installs, mostly over a reboot, and says [`installed`](FirmwareUpdate::installed) or
//!    [`failed`](FirmwareUpdate::failed).
//!
//! Invariant: what goes wrong with a package is told by state and result, never as an error of the Write.

use heapless::String;

use super::{Package, PackageFailure};
use crate::{Arguments, At, Change, Completion, Error, Object, ObjectDef, Value, defs};

/// What a device does about its firmware (resource 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirmwareState {
    /// There is no package.
    Idle,
    /// A package is on its way.
    Downloading,
    /// It is there and can be installed.
    Downloaded,
    /// It is being installed.
    Updating,
}

/// What the owner is to do. Look after each turn of the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirmwareRequest {
    /// Get the package from [`uri`](FirmwareUpdate::uri) and pass it to [`downloaded`](FirmwareUpdate::downloaded).
    Download,
    /// Stop downloading: the package is no longer wanted.
    Abandon,
    /// Install the package.
    Install,
}

/// The Firmware Update object. After each of its methods tell the client that `/5/0/3` and `/5/0/5` changed.
#[derive(Debug)]
pub struct FirmwareUpdate<P> {
    /// Where the package lies.
    pub package: P,
    state: FirmwareState,
    result: u8,
    uri: String<255>,
    /// A package is being pushed; else the bytes of one go nowhere, because it was given up.
    is_pushed: bool,
    requested: Option<FirmwareRequest>,
    protocols: &'static [u8],
}

const CANCELLED: u8 = 10;
const DEFERRED: u8 = 11;

impl<P: Package> FirmwareUpdate<P> {
    /// A device without a package, whose owner can download over these protocols (8): 0 CoAP, 1 CoAPS, 2 HTTP, 3 HTTPS, 4 CoAP over TCP,
    /// 5 CoAP over TLS. Without one packages are only pushed.
    pub const fn new(package: P, protocols: &'static [u8]) -> Self {
        Self {
            package,
            state: FirmwareState::Idle,
            result: 0,
            uri: String::new(),
            is_pushed: false,
            requested: None,
            protocols,
        }
    }

    /// Returns the state.
    pub const fn state(&self) -> FirmwareState {
        self.state
    }

    /// Returns where a server said that the package is.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Takes what a server asked for last.
    pub const fn take_requested(&mut self) -> Option<FirmwareRequest> {
        self.requested.take()
    }

    /// Takes bytes that the owner downloaded, in order. Tells whether to go on.
    pub fn downloaded(&mut self, offset: u32, chunk: &[u8], is_last: bool) -> bool {
        self.state == FirmwareState::Downloading && self.take(offset, chunk, is_last)
    }

    /// Says that the new firmware runs.
    pub fn installed(&mut self) {
        self.package.discard();
        self.end(1);
    }

    /// Says that a download or the installation failed. A package whose installation failed can be installed again.
    pub fn failed(&mut self, failure: PackageFailure) {
        match (self.state, failure) {
            (FirmwareState::Updating, PackageFailure::Installation) => {
                (self.state, self.result) = (FirmwareState::Downloaded, failure.firmware_result());
            }
            (FirmwareState::Updating | FirmwareState::Downloading, _) => {
                self.package.discard();
                self.end(failure.firmware_result());
            }
            _ => {}
        }
    }

    /// Says that the user put the installation off.
    pub fn deferred(&mut self) {
        if self.state == FirmwareState::Updating {
            (self.state, self.result) = (FirmwareState::Downloaded, DEFERRED);
        }
    }

    fn end(&mut self, result: u8) {
        (self.state, self.result) = (FirmwareState::Idle, result);
    }

    /// Forgets the package; a download of the owner ends.
    fn reset(&mut self, result: u8) {
        let is_pulled = self.state == FirmwareState::Downloading && !self.uri.is_empty();
        self.requested = is_pulled.then_some(FirmwareRequest::Abandon);
        self.package.discard();
        self.uri.clear();
        self.is_pushed = false;
        self.end(result);
    }

    fn take(&mut self, offset: u32, chunk: &[u8], is_last: bool) -> bool {
        let taken = self.package.write(offset, chunk);
        let done = match taken {
            Ok(()) if is_last => self.package.verify().map(|()| self.state = FirmwareState::Downloaded),
            other => other,
        };
        if let Err(failure) = done {
            self.failed(failure);
        }
        done.is_ok()
    }

    fn is_updating(&self) -> Result<(), Error> {
        if self.state == FirmwareState::Updating { Err(Error::MethodNotAllowed) } else { Ok(()) }
    }
}

impl<P: Package> Object for FirmwareUpdate<P> {
    fn definition(&self) -> &'static ObjectDef {
        &defs::FIRMWARE_UPDATE
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        let text = |text| Some(text).filter(|text: &&str| !text.is_empty()).map(Value::String);
        match at.resource {
            1 => Some(Value::String(&self.uri)),
            3 => Some(Value::Integer(self.state as i64)),
            5 => Some(Value::Integer(i64::from(self.result))),
            6 => text(self.package.name()),
            7 => text(self.package.version()),
            8 => {
                let protocol = self.protocols.get(usize::from(at.resource_instance))?;
                Some(Value::Integer(i64::from(*protocol)))
            }
            // Push only, or both.
            9 => Some(Value::Integer(if self.protocols.is_empty() { 1 } else { 2 })),
            _ => None,
        }
    }

    fn has(&self, instance: u16, resource: u16) -> bool {
        matches!(resource, 0 | 2 | 10) || self.read(At { instance, resource, resource_instance: 0 }).is_some()
    }

    fn validate(&self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 1, value: Value::String(_), .. } => self.is_updating(),
            // Of several resources that are written at once those that are left out stay.
            Change::Reset { .. } => Ok(()),
            _ => Err(Error::MethodNotAllowed),
        }
    }

    fn apply(&mut self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 1, value: Value::String(uri), .. } => {
                self.reset(0);
                if uri.is_empty() {
                    return Ok(());
                }
                if self.protocols.is_empty() {
                    self.result = PackageFailure::UnsupportedProtocol.firmware_result();
                    return Ok(());
                }
                self.uri = uri.try_into().map_err(|_| Error::BadRequest)?;
                self.state = FirmwareState::Downloading;
                self.requested = Some(FirmwareRequest::Download);
                Ok(())
            }
            Change::Reset { .. } => Ok(()),
            _ => Err(Error::MethodNotAllowed),
        }
    }

    fn is_streamed(&self, resource: u16) -> bool {
        resource == 0
    }

    fn write_opaque(&mut self, _: At, offset: u32, chunk: &[u8], is_last: bool) -> Result<Completion, Error> {
        self.is_updating()?;
        if offset == 0 {
            self.reset(0);
            if is_last && matches!(chunk, [] | [0]) {
                return Ok(Completion::Done);
            }
            self.state = FirmwareState::Downloading;
            self.is_pushed = true;
        }
        if self.is_pushed {
            self.is_pushed = self.take(offset, chunk, is_last) && !is_last;
        }
        Ok(Completion::Done)
    }

    fn execute(&mut self, _: u16, resource: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        match (resource, self.state) {
            (2, FirmwareState::Downloaded) => {
                (self.state, self.result) = (FirmwareState::Updating, 0);
                self.requested = Some(FirmwareRequest::Install);
            }
            (10, FirmwareState::Downloading | FirmwareState::Downloaded) => self.reset(CANCELLED),
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(Completion::Done)
    }
}
