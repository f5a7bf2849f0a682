//! What Register and Update carry: parameters, and the list of objects (LwM2M Core 1.2.1 §6.2).
//!
//! Invariant: parsing is tolerant. Unknown parameters and links are ignored, versions may be quoted, a missing one is
//! what the enabler implies.

use lwm2m_coap::link::{self, LinkWriter};
use lwm2m_coap::{Full, Sink};

use crate::decimal::{emit_unsigned, parse_unsigned};
use crate::{Error, Format, Level, ObjectDef, Path, Version};

/// Parameters of Register and Update. In an Update only what changed is present.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Parameters<'a> {
    /// `ep`: the endpoint name; may be absent from 1.1 on when credentials identify the client.
    pub endpoint: Option<&'a str>,
    /// `lt`: lifetime in seconds; 0 is without end.
    pub lifetime: Option<u32>,
    /// `lwm2m`: the enabler version.
    pub version: Option<Version>,
    /// `b`: letters of the bindings; absent means `U`.
    pub binding: Option<&'a str>,
    /// `Q`: the client sleeps between its messages. In 1.0 a letter of `b`, which counts.
    pub queue_mode: bool,
    /// `sms`: the number for the SMS binding.
    pub sms: Option<&'a str>,
    /// `pid`: stands for a list of objects (1.2).
    pub profile: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    /// Takes one query parameter; an unknown one is ignored.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a value that is none, or a parameter that comes twice.
    pub fn query(&mut self, parameter: &'a [u8]) -> Result<(), Error> {
        let text = core::str::from_utf8(parameter).map_err(|_| Error::BadRequest)?;
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let twice = match name {
            "ep" => self.endpoint.replace(value).is_some() || value.is_empty(),
            "lt" => {
                let seconds =
                    parse_unsigned(value.as_bytes()).and_then(|seconds| u32::try_from(seconds).ok());
                self.lifetime.replace(seconds.ok_or(Error::BadRequest)?).is_some()
            }
            "lwm2m" => self.version.replace(Version::parse(value).ok_or(Error::BadRequest)?).is_some(),
            "b" => {
                self.queue_mode |= value.contains('Q');
                self.binding.replace(value).is_some()
            }
            "Q" => {
                self.queue_mode = true;
                false
            }
            "sms" => self.sms.replace(value).is_some(),
            "pid" => self.profile.replace(value).is_some(),
            _ => false,
        };
        if twice { Err(Error::BadRequest) } else { Ok(()) }
    }

    /// Calls `each` with every query parameter, of at most 255 bytes.
    ///
    /// # Errors
    /// Those of `each`, and [`Full`] for a parameter that is longer.
    pub fn try_for_each_query(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), Full>) -> Result<(), Full> {
        let mut text = heapless::Vec::<u8, 255>::new();
        let mut send = |name: &str, value: &str| {
            text.clear();
            Sink::write(&mut text, name.as_bytes())?;
            Sink::write(&mut text, value.as_bytes())?;
            each(&text)
        };
        if let Some(endpoint) = self.endpoint {
            send("ep=", endpoint)?;
        }
        if let Some(lifetime) = self.lifetime {
            let mut digits = heapless::Vec::<u8, 20>::new();
            emit_unsigned(u64::from(lifetime), &mut digits)?;
            send("lt=", core::str::from_utf8(&digits).unwrap_or_default())?;
        }
        if let Some(version) = self.version {
            send("lwm2m=", &version_text(version)?)?;
        }
        if let Some(binding) = self.binding {
            send("b=", binding)?;
        }
        // LwM2M 1.0 has the letter in `b`.
        if self.queue_mode && !self.binding.is_some_and(|binding| binding.contains('Q')) {
            send("Q", "")?;
        }
        if let Some(sms) = self.sms {
            send("sms=", sms)?;
        }
        if let Some(profile) = self.profile {
            send("pid=", profile)?;
        }
        Ok(())
    }
}

/// The name of a registration: what stands behind `/rd/` in its path, such as `5a3f`. A text that starts with a slash
/// is a whole path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Location<'a>(pub &'a str);

/// What the list of objects says about the client as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Root<'a> {
    /// The alternate path, such as `/lwm2m`; empty when objects lie at the root.
    pub alternate: &'a str,
    /// The formats that the client prefers.
    pub formats: &'a [Format],
}

impl Root<'_> {
    /// Writes the root link, if there is anything to say.
    pub(crate) fn emit(&self, links: &mut LinkWriter<'_, dyn Sink + '_>) -> Result<(), Full> {
        if self.alternate.is_empty() && self.formats.is_empty() {
            return Ok(());
        }
        links.path(self.alternate, &[])?;
        if !self.alternate.is_empty() {
            links.attribute("rt", "\"oma.lwm2m\"")?;
        }
        match self.formats {
            [] => {}
            [format] => {
                links.integer("ct", u32::from(format.0))?;
            }
            formats => {
                let mut text = heapless::Vec::<u8, 64>::new();
                for (index, format) in formats.iter().enumerate() {
                    Sink::write(&mut text, if index == 0 { b"\"" } else { b" " })?;
                    emit_unsigned(u64::from(format.0), &mut text)?;
                }
                Sink::write(&mut text, b"\"")?;
                links.attribute("ct", core::str::from_utf8(&text).unwrap_or_default())?;
            }
        }
        Ok(())
    }
}

/// The list of objects of a registration, as a client sent it.
///
/// ```
/// use lwm2m_objects::{Registered, Version, path};
/// let list = Registered::parse(b"</>;ct=112,</1/0>,</3/0>,</44/0>;ver=2.2").unwrap();
/// assert!(list.iter().map(|entry| entry.path).eq([path!("/1/0"), path!("/3/0"), path!("/44/0")]));
/// assert_eq!(list.version(Version::new(1, 1), 44), Version::new(2, 2));
/// assert_eq!(list.version(Version::new(1, 1), 3), Version::new(1, 1));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registered<'a> {
    text: &'a str,
    alternate: &'a str,
    formats: &'a str,
}

/// One object or instance in the list of a registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// An object or an instance.
    pub path: Path,
    /// The version of the object, when it is given.
    pub version: Option<Version>,
}

impl<'a> Registered<'a> {
    /// Parses the list.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for what is no link-format.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let text = core::str::from_utf8(payload).map_err(|_| Error::BadRequest)?;
        let mut list = Self { text, alternate: "", formats: "" };
        for link in link::parse(text) {
            let link = link.map_err(|_| Error::BadRequest)?;
            let is_root =
                link.attribute("rt").is_some_and(|types| types.split(' ').any(|name| name == "oma.lwm2m"));
            if is_root {
                list.alternate = link.path().trim_end_matches('/');
            }
            if is_root || link.path() == "/" {
                list.formats = link.attribute("ct").unwrap_or(list.formats);
            }
        }
        Ok(list)
    }

    /// Returns the alternate path as the prefix of a [`Target`](crate::Target): without slashes at its ends.
    pub fn alternate(&self) -> Option<&'a str> {
        let prefix = self.alternate.trim_matches('/');
        (!prefix.is_empty()).then_some(prefix)
    }

    /// Iterates over the formats that the client prefers.
    pub fn formats(&self) -> impl Iterator<Item = Format> + use<'a> {
        let numbers = self.formats.split_ascii_whitespace().map(|number| parse_unsigned(number.as_bytes()));
        numbers.filter_map(|number| u16::try_from(number?).ok()).map(Format)
    }

    /// Iterates over objects and instances; other links are left out.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + use<'a> {
        let alternate = self.alternate;
        link::parse(self.text).filter_map(move |link| {
            let link = link.ok()?;
            let path = Path::parse(link.path().strip_prefix(alternate)?).ok()?;
            let listed = matches!(path.level(), Level::Object | Level::Instance);
            listed.then(|| Entry { path, version: link.attribute("ver").and_then(Version::parse) })
        })
    }

    /// Returns the version of an object: as given for it or for an instance of it, else what the enabler implies.
    pub fn version(&self, enabler: Version, object: u16) -> Version {
        let given = self
            .iter()
            .filter(|entry| entry.path.object_id() == Some(object))
            .find_map(|entry| entry.version);
        given.unwrap_or_else(|| implied_version(enabler, object))
    }
}

/// Returns the version of an object that an enabler version implies (LwM2M Core 1.2.1 §6.2.1).
pub fn implied_version(enabler: Version, object: u16) -> Version {
    let version = match (object, enabler.minor) {
        (4, 2..) => [1, 3],
        (4, 1) | (0 | 1 | 3, 2..) => [1, 2],
        (0 | 1 | 3, 1) | (2 | 5, 2..) => [1, 1],
        (21, 2..) => [2, 0],
        _ => [1, 0],
    };
    let [major, minor] = version;
    Version::new(major, minor)
}

/// Returns the version that must be announced. A core object with more than the enabler's has but optional additions: it
/// goes as the enabler's.
pub(crate) fn announced_version(enabler: Version, definition: &ObjectDef) -> Option<Version> {
    let (version, implied) = (definition.version, implied_version(enabler, definition.id));
    let is_core = matches!(definition.id, 0..=7 | 21 | 23..=27);
    let covered = version == implied || is_core && version.major == implied.major && version >= implied;
    (!covered).then_some(version)
}

pub(crate) fn emit_version(version: Version, links: &mut LinkWriter<'_, dyn Sink + '_>) -> Result<(), Full> {
    links.attribute("ver", &version_text(version)?)?;
    Ok(())
}

fn version_text(version: Version) -> Result<heapless::String<7>, Full> {
    let mut text = heapless::Vec::<u8, 7>::new();
    emit_unsigned(u64::from(version.major), &mut text)?;
    Sink::write(&mut text, b".")?;
    emit_unsigned(u64::from(version.minor), &mut text)?;
    heapless::String::from_utf8(text).map_err(|_| Full)
}
