//! Firmware Update (`/5`) of a simulated device: packages that say of themselves what becomes of them.
//!
//! A package is lines of text, an empty line, and content of any kind:
//!
//! ```text
//! simulated firmware
//! version 1.1.0
//! bytes 4096          length of the content
//! sum 1a2b3c4d        FNV-1a over it, 32 bits
//! memory 100000       only where so much memory is needed
//! fails               only where it cannot be installed
//! ```
//!
//! Invariant: a package that is too large, incomplete or changed is never installed.

use lwm2m_objects::ready::{FirmwareRequest, FirmwareState, FirmwareUpdate, Package, PackageFailure};
use lwm2m_objects::{Arguments, At, Change, Completion, Error, Object, ObjectDef, Path, Value};

use super::UnixTime;

/// The largest package, in bytes.
const FLASH: usize = 65_536;
/// The memory that a package may need, in bytes.
const MEMORY: usize = 65_536;

const MAGIC: &str = "simulated firmware";

/// What can be wrong with a package.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// It is too large for the flash.
    TooLarge,
    /// It needs too much memory.
    NeedsMemory,
    /// A byte of it was changed.
    Changed,
    /// It is something else.
    Foreign,
    /// It is in order, but cannot be installed.
    Fails,
}

/// Makes a package with this version, of 4,000 bytes or so.
#[must_use]
pub fn package(version: &str, flaw: Option<Flaw>) -> Vec<u8> {
    let length: u32 = if flaw == Some(Flaw::TooLarge) { 100_000 } else { 4000 };
    let mut content: Vec<u8> = (0..length).map(|index| index.to_le_bytes()[0]).collect();
    let mut head = format!("{MAGIC}\nversion {version}\nbytes {length}\nsum {:08x}\n", sum(&content));
    match flaw {
        Some(Flaw::NeedsMemory) => head.push_str("memory 100000\n"),
        Some(Flaw::Fails) => head.push_str("fails\n"),
        Some(Flaw::Foreign) => head.insert(0, '#'),
        Some(Flaw::Changed) => content.reverse(),
        Some(Flaw::TooLarge) | None => {}
    }
    head.push('\n');
    [head.into_bytes(), content].concat()
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The memory in which a package lies until it is installed.
#[derive(Debug, Default)]
pub struct Bank {
    bytes: Vec<u8>,
    version: String,
    pub(super) fails: bool,
}

impl Package for Bank {
    fn write(&mut self, offset: u32, chunk: &[u8]) -> Result<(), PackageFailure> {
        if offset == 0 {
            self.discard();
        }
        if chunk.len() > FLASH.saturating_sub(self.bytes.len()) {
            return Err(PackageFailure::NotEnoughFlash);
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn verify(&mut self) -> Result<(), PackageFailure> {
        let end = self.bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or_default();
        let (head, content) = self.bytes.split_at_checked(end).ok_or(PackageFailure::Integrity)?;
        let content = content.get(2..).unwrap_or_default();
        let head = core::str::from_utf8(head).unwrap_or_default();
        let mut lines = head.lines();
        if lines.next() != Some(MAGIC) {
            return Err(PackageFailure::Unsupported);
        }
        let (mut is_whole, mut is_same, mut fails, mut version) = (false, false, false, "");
        for line in lines {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("version", text) => version = text,
                ("bytes", text) => is_whole = text.parse() == Ok(content.len()),
                ("sum", text) => is_same = u32::from_str_radix(text, 16) == Ok(sum(content)),
                ("memory", text) if text.parse::<usize>().is_ok_and(|bytes| bytes > MEMORY) => {
                    return Err(PackageFailure::OutOfMemory);
                }
                ("fails", _) => fails = true,
                _ => {}
            }
        }
        if !is_whole || !is_same {
            return Err(PackageFailure::Integrity);
        }
        self.version = version.into();
        self.fails = fails;
        Ok(())
    }

    fn discard(&mut self) {
        *self = Self::default();
    }

    fn name(&self) -> &str {
        if self.version.is_empty() { "" } else { MAGIC }
    }

    fn version(&self) -> &str {
        &self.version
    }
}

/// The Firmware Update object of a simulated device, which installs a package within two seconds.
#[derive(Debug)]
pub struct Firmware {
    object: FirmwareUpdate<Bank>,
    installed_at: Option<UnixTime>,
    told: (FirmwareState, Option<i64>),
}

impl Firmware {
    /// A device that downloads over these protocols, as `/5/0/8` numbers them.
    pub fn new(protocols: &'static [u8]) -> Self {
        let object = FirmwareUpdate::new(Bank::default(), protocols);
        Firmware { object, installed_at: None, told: (FirmwareState::Idle, Some(0)) }
    }

    /// Lets time pass; the version that was installed, when it was, after which the device has to reboot.
    pub fn sample(&mut self, now: UnixTime) -> Option<String> {
        let installed_at = *self.installed_at.get_or_insert(now);
        if self.object.state() != FirmwareState::Updating {
            self.installed_at = None;
        } else if now > installed_at.saturating_add(1) {
            self.installed_at = None;
            if self.object.package.fails {
                self.object.failed(PackageFailure::Installation);
                return None;
            }
            let version = core::mem::take(&mut self.object.package.version);
            self.object.installed();
            return Some(version);
        }
        None
    }

    /// What changed since the last call: state and result.
    pub fn changes(&mut self) -> impl Iterator<Item = Path> + use<> {
        let now = (self.object.state(), self.result());
        let before = core::mem::replace(&mut self.told, now);
        let state = (before.0 != now.0).then_some(Path::resource(5, 0, 3));
        let result = (before.1 != now.1).then_some(Path::resource(5, 0, 5));
        state.into_iter().chain(result)
    }

    fn result(&self) -> Option<i64> {
        match self.object.read(At { instance: 0, resource: 5, resource_instance: 0 }) {
            Some(Value::Integer(result)) => Some(result),
            _ => None,
        }
    }

    /// The URI to download from now, or nothing any more; each is said once.
    pub fn take_download(&mut self) -> Option<Option<String>> {
        match self.object.take_requested()? {
            FirmwareRequest::Download => Some(Some(self.object.uri().into())),
            FirmwareRequest::Abandon => Some(None),
            FirmwareRequest::Install => None,
        }
    }

    /// Takes what was downloaded: the next bytes, or why there are none.
    pub fn downloaded(&mut self, offset: u32, bytes: Result<(&[u8], bool), PackageFailure>) -> bool {
        match bytes {
            Ok((chunk, is_last)) => self.object.downloaded(offset, chunk, is_last),
            Err(failure) => {
                self.object.failed(failure);
                false
            }
        }
    }
}

impl Object for Firmware {
    fn definition(&self) -> &'static ObjectDef {
        self.object.definition()
    }

    fn has(&self, instance: u16, resource: u16) -> bool {
        self.object.has(instance, resource)
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        self.object.read(at)
    }

    fn validate(&self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        self.object.validate(instance, change)
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        self.object.apply(instance, change)
    }

    fn is_streamed(&self, resource: u16) -> bool {
        self.object.is_streamed(resource)
    }

    fn write_opaque(&mut self, at: At, offset: u32, chunk: &[u8], last: bool) -> Result<Completion, Error> {
        self.object.write_opaque(at, offset, chunk, last)
    }

    fn execute(
        &mut self,
        instance: u16,
        resource: u16,
        arguments: Arguments<'_>,
    ) -> Result<Completion, Error> {
        self.object.execute(instance, resource, arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(firmware: &mut Firmware, package: &[u8]) -> (FirmwareState, Option<i64>) {
        let at = At { instance: 0, resource: 0, resource_instance: 0 };
        let mut rest = package;
        for offset in (0..).step_by(512) {
            let (block, after) = rest.split_at_checked(512).unwrap_or((rest, &[]));
            assert!(firmware.write_opaque(at, offset, block, after.is_empty()).is_ok());
            if after.is_empty() {
                break;
            }
            rest = after;
        }
        (firmware.object.state(), firmware.result())
    }

    #[test]
    fn a_package_is_installed_after_a_while() {
        let mut firmware = Firmware::new(&[]);
        assert_eq!(push(&mut firmware, &package("9.8.7", None)), (FirmwareState::Downloaded, Some(0)));
        assert_eq!(firmware.changes().collect::<Vec<_>>(), [Path::resource(5, 0, 3)]);
        assert!(firmware.execute(0, 2, Arguments::NONE).is_ok());
        assert_eq!((firmware.sample(100), firmware.sample(101)), (None, None));
        assert_eq!(firmware.sample(102).as_deref(), Some("9.8.7"));
        assert_eq!((firmware.object.state(), firmware.result()), (FirmwareState::Idle, Some(1)));
    }

    #[test]
    fn every_flaw_has_its_result() {
        for (flaw, result) in
            [(Flaw::TooLarge, 2), (Flaw::NeedsMemory, 3), (Flaw::Changed, 5), (Flaw::Foreign, 6)]
        {
            let mut firmware = Firmware::new(&[]);
            let outcome = push(&mut firmware, &package("2", Some(flaw)));
            assert_eq!(outcome, (FirmwareState::Idle, Some(result)), "{flaw:?}");
        }
        let mut firmware = Firmware::new(&[]);
        assert_eq!(
            push(&mut firmware, &package("2", Some(Flaw::Fails))),
            (FirmwareState::Downloaded, Some(0))
        );
        assert!(firmware.execute(0, 2, Arguments::NONE).is_ok());
        assert_eq!((firmware.sample(5), firmware.sample(7)), (None, None));
        assert_eq!((firmware.object.state(), firmware.result()), (FirmwareState::Downloaded, Some(8)));
    }
}
