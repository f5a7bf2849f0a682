//! Software Management (`/9`), one instance for each package (OMA registry, 9 version 1.0).
//!
//! 1. Initial: a server writes the package (push), or its URI (pull: the owner finds [`SoftwareRequest::Download`]).
//! 2. Download started: chunks go to the [`Package`]; whatever fails leads back to Initial, with a result.
//! 3. Delivered: verified. A server executes Install; the owner finds [`SoftwareRequest::Install`].
//! 4. Installed: servers activate, deactivate and uninstall it.
//!
//! Invariant: what goes wrong with a package is told by state and result, never as an error of the Write.

use core::fmt;

use heapless::{String, Vec};
use zeroize::Zeroize;

use super::{Package, PackageFailure};
use crate::{Arguments, At, Change, Completion, Error, Object, ObjectDef, Value, defs};

/// Where a package of software is (resource 7). Downloaded, 2, passes at once: a package is verified with its last byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SoftwareState {
    /// There is none.
    Initial = 0,
    /// It is on its way.
    DownloadStarted = 1,
    /// It is there and can be installed.
    Delivered = 3,
    /// It is installed.
    Installed = 4,
}

/// What the owner is to do with the package of an instance. Look after each turn of the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SoftwareRequest {
    /// Get the package from [`uri`](SoftwareManagement::uri) and pass it to [`downloaded`](SoftwareManagement::downloaded).
    Download,
    /// Stop downloading: the package is no longer wanted.
    Abandon,
    /// Install the package; then say [`installed`](SoftwareManagement::installed) or [`failed`](SoftwareManagement::failed).
    Install,
    /// Remove the software from the device.
    Uninstall,
    /// Make ready for a package that takes its place; it stays meanwhile.
    PrepareUpdate,
    /// Let it run.
    Activate,
    /// Stop it.
    Deactivate,
}

/// The Software Management object with up to `N` packages. After each of its methods tell the client that the instance changed.
#[derive(Debug, Default)]
pub struct SoftwareManagement<P, const N: usize> {
    packages: Vec<(u16, Software<P>), N>,
    can_download: bool,
}

/// One package.
struct Software<P> {
    package: P,
    state: SoftwareState,
    result: u8,
    is_active: bool,
    /// The owner installs it.
    is_busy: bool,
    /// A package is being pushed; else the bytes of one go nowhere, because it was given up.
    is_pushed: bool,
    /// The owner removes it.
    is_going: bool,
    /// 8
    is_told_at_once: bool,
    uri: String<255>,
    user: String<255>,
    password: String<255>,
    requested: Option<SoftwareRequest>,
}

impl<P> Drop for Software<P> {
    fn drop(&mut self) {
        self.user.zeroize();
        self.password.zeroize();
    }
}

impl<P: fmt::Debug> fmt::Debug for Software<P> {
    /// Without user name and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Software")
            .field("package", &self.package)
            .field("state", &self.state)
            .field("result", &self.result)
            .finish_non_exhaustive()
    }
}

const DOWNLOADING: u8 = 1;
const INSTALLED: u8 = 2;
const DELIVERED: u8 = 3;
const NOT_UNINSTALLED: u8 = 59;

impl<P: Package> Software<P> {
    const fn new(package: P) -> Self {
        Self {
            package,
            state: SoftwareState::Initial,
            result: 0,
            is_active: false,
            is_busy: false,
            is_pushed: false,
            is_going: false,
            is_told_at_once: false,
            uri: String::new(),
            user: String::new(),
            password: String::new(),
            requested: None,
        }
    }

    /// Begins with another package.
    fn begin(&mut self) {
        let is_pulled = self.state == SoftwareState::DownloadStarted && !self.uri.is_empty();
        self.requested = is_pulled.then_some(SoftwareRequest::Abandon);
        self.package.discard();
        self.uri.clear();
        (self.is_pushed, self.is_going) = (false, false);
        (self.state, self.result) = (SoftwareState::Initial, 0);
    }

    fn take(&mut self, offset: u32, chunk: &[u8], is_last: bool) -> bool {
        let taken = self.package.write(offset, chunk);
        let done = if is_last { taken.and_then(|()| self.package.verify()) } else { taken };
        match done {
            Ok(()) if is_last => (self.state, self.result) = (SoftwareState::Delivered, DELIVERED),
            Ok(()) => {}
            Err(failure) => {
                self.package.discard();
                (self.state, self.result) = (SoftwareState::Initial, failure.software_result());
            }
        }
        done.is_ok()
    }

    /// Whether another package may come: not while one is installed or being installed.
    fn is_open(&self) -> Result<(), Error> {
        let is_taken = self.is_busy || self.state == SoftwareState::Installed;
        if is_taken { Err(Error::MethodNotAllowed) } else { Ok(()) }
    }

    fn uninstall(&mut self, arguments: Arguments<'_>) -> Result<(), Error> {
        let mut names = arguments.iter();
        let is_update = match (names.next(), names.next()) {
            (None | Some((0, None)), None) => false,
            (Some((1, None)), None) => true,
            _ => return Err(Error::BadRequest),
        };
        if self.is_busy || !matches!(self.state, SoftwareState::Delivered | SoftwareState::Installed) {
            return Err(Error::MethodNotAllowed);
        }
        self.is_going = self.state == SoftwareState::Installed && !is_update;
        (self.state, self.result) = (SoftwareState::Initial, 0);
        self.requested = Some(if is_update {
            SoftwareRequest::PrepareUpdate
        } else {
            self.is_active = false;
            self.package.discard();
            SoftwareRequest::Uninstall
        });
        Ok(())
    }
}

impl<P: Package, const N: usize> SoftwareManagement<P, N> {
    /// A device without packages. `can_download` tells whether its owner follows URIs.
    pub const fn new(can_download: bool) -> Self {
        Self { packages: Vec::new(), can_download }
    }

    /// Adds an instance for a package, of which there is none yet.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when it is there already, [`Error::Internal`] when there is no room.
    pub fn add(&mut self, instance: u16, package: P) -> Result<(), Error> {
        if self.find(instance).is_some() || instance == u16::MAX {
            return Err(Error::BadRequest);
        }
        self.packages.push((instance, Software::new(package))).map_err(|_| Error::Internal)
    }

    /// Returns where the package of an instance is.
    pub fn state(&self, instance: u16) -> Option<SoftwareState> {
        self.find(instance).map(|software| software.state)
    }

    /// Returns the package of an instance.
    pub fn package(&self, instance: u16) -> Option<&P> {
        self.find(instance).map(|software| &software.package)
    }

    /// Tells whether software is active.
    pub fn is_active(&self, instance: u16) -> bool {
        self.find(instance).is_some_and(|software| software.is_active)
    }

    /// Returns where a server said that a package is.
    pub fn uri(&self, instance: u16) -> &str {
        self.find(instance).map_or("", |software| &software.uri)
    }

    /// Returns user name and password for that place; empty for none.
    pub fn login(&self, instance: u16) -> (&str, &str) {
        self.find(instance).map_or(("", ""), |software| (&software.user, &software.password))
    }

    /// Takes what a server asked for last, and of which instance.
    pub fn take_requested(&mut self) -> Option<(u16, SoftwareRequest)> {
        let mut all = self.packages.iter_mut();
        all.find_map(|(instance, software)| Some((*instance, software.requested.take()?)))
    }

    /// Takes bytes that the owner downloaded, in order. Tells whether to go on.
    pub fn downloaded(&mut self, instance: u16, offset: u32, chunk: &[u8], is_last: bool) -> bool {
        let software = self.find_mut(instance);
        let software = software.filter(|software| software.state == SoftwareState::DownloadStarted);
        software.is_some_and(|software| software.take(offset, chunk, is_last))
    }

    /// Says that a package is installed.
    pub fn installed(&mut self, instance: u16) {
        if let Some(software) = self.find_mut(instance).filter(|software| software.is_busy) {
            software.is_busy = false;
            (software.state, software.result) = (SoftwareState::Installed, INSTALLED);
        }
    }

    /// Says that a download or an installation failed. A package that could not be installed stays.
    pub fn failed(&mut self, instance: u16, failure: PackageFailure) {
        let Some(software) = self.find_mut(instance) else { return };
        match software.state {
            SoftwareState::DownloadStarted => {
                software.package.discard();
                (software.state, software.result) = (SoftwareState::Initial, failure.software_result());
            }
            SoftwareState::Delivered if software.is_busy => {
                (software.is_busy, software.result) = (false, failure.software_result());
            }
            _ => {}
        }
    }

    /// Says that software could not be removed: it is still there.
    pub fn not_uninstalled(&mut self, instance: u16) {
        if let Some(software) = self.find_mut(instance).filter(|software| software.is_going) {
            software.is_going = false;
            (software.state, software.result) = (SoftwareState::Installed, NOT_UNINSTALLED);
        }
    }

    fn find(&self, instance: u16) -> Option<&Software<P>> {
        self.packages.iter().find(|(other, _)| *other == instance).map(|(_, software)| software)
    }

    fn find_mut(&mut self, instance: u16) -> Option<&mut Software<P>> {
        self.packages.iter_mut().find(|(other, _)| *other == instance).map(|(_, software)| software)
    }
}

impl<P: Package + Default, const N: usize> Object for SoftwareManagement<P, N> {
    fn definition(&self) -> &'static ObjectDef {
        &defs::SOFTWARE_MANAGEMENT
    }

    fn next_instance(&self, after: Option<u16>) -> Option<u16> {
        let ids = self.packages.iter().map(|(instance, _)| *instance);
        ids.filter(|instance| after.is_none_or(|after| *instance > after)).min()
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        let software = self.find(at.instance)?;
        match at.resource {
            0 => Some(Value::String(software.package.name())),
            1 => Some(Value::String(software.package.version())),
            7 => Some(Value::Integer(software.state as i64)),
            8 => Some(Value::Boolean(software.is_told_at_once)),
            9 => Some(Value::Integer(i64::from(software.result))),
            12 => Some(Value::Boolean(software.is_active)),
            _ => None,
        }
    }

    fn has(&self, _: u16, resource: u16) -> bool {
        matches!(resource, 0..=2 | 4 | 6..=12 | 14 | 15) || resource == 3 && self.can_download
    }

    fn validate(&self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 3, .. } if !self.can_download => Err(Error::MethodNotAllowed),
            Change::Set { resource: 3, .. } => self.find(instance).map_or(Ok(()), Software::is_open),
            Change::Set { resource: 8 | 14 | 15, .. } | Change::Reset { .. } => Ok(()),
            _ => Err(Error::MethodNotAllowed),
        }
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        let software = self.find_mut(instance).ok_or(Error::NotFound)?;
        match *change {
            Change::Set { resource: 3, value: Value::String(uri), .. } => {
                software.begin();
                if !uri.is_empty() {
                    software.uri = uri.try_into().map_err(|_| Error::BadRequest)?;
                    (software.state, software.result) = (SoftwareState::DownloadStarted, DOWNLOADING);
                    software.requested = Some(SoftwareRequest::Download);
                }
            }
            Change::Set { resource: 8, value: Value::Boolean(value), .. } => software.is_told_at_once = value,
            Change::Set { resource: 14, value: Value::String(user), .. } => {
                software.user = user.try_into().map_err(|_| Error::BadRequest)?;
            }
            Change::Set { resource: 15, value: Value::String(password), .. } => {
                software.password.zeroize();
                software.password = password.try_into().map_err(|_| Error::BadRequest)?;
            }
            Change::Reset { resource: 8 } => software.is_told_at_once = false,
            Change::Reset { resource: 14 } => software.user.clear(),
            Change::Reset { resource: 15 } => software.password.zeroize(),
            Change::Reset { .. } => {}
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(())
    }

    fn is_streamed(&self, resource: u16) -> bool {
        resource == 2
    }

    fn write_opaque(
        &mut self,
        at: At,
        offset: u32,
        chunk: &[u8],
        is_last: bool,
    ) -> Result<Completion, Error> {
        let software = self.find_mut(at.instance).ok_or(Error::NotFound)?;
        software.is_open()?;
        if offset == 0 {
            software.begin();
            software.is_pushed = true;
            (software.state, software.result) = (SoftwareState::DownloadStarted, DOWNLOADING);
        }
        if software.is_pushed {
            software.is_pushed = software.take(offset, chunk, is_last) && !is_last;
        }
        Ok(Completion::Done)
    }

    fn execute(
        &mut self,
        instance: u16,
        resource: u16,
        arguments: Arguments<'_>,
    ) -> Result<Completion, Error> {
        let software = self.find_mut(instance).ok_or(Error::NotFound)?;
        match (resource, software.state) {
            (4, SoftwareState::Delivered) if !software.is_busy => {
                software.is_busy = true;
                software.requested = Some(SoftwareRequest::Install);
            }
            (6, _) => software.uninstall(arguments)?,
            (10, SoftwareState::Installed) => {
                software.is_active = true;
                software.requested = Some(SoftwareRequest::Activate);
            }
            (11, SoftwareState::Installed) => {
                software.is_active = false;
                software.requested = Some(SoftwareRequest::Deactivate);
            }
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(Completion::Done)
    }

    fn create(&mut self, instance: u16) -> Result<(), Error> {
        self.add(instance, P::default())
    }

    fn delete(&mut self, instance: u16) -> Result<(), Error> {
        let index = self.packages.iter().position(|(other, _)| *other == instance).ok_or(Error::NotFound)?;
        // What is installed is uninstalled first.
        let is_there = self.find(instance).is_some_and(|software| software.is_open().is_err());
        if is_there {
            return Err(Error::MethodNotAllowed);
        }
        self.packages.swap_remove(index);
        Ok(())
    }
}
