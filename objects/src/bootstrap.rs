//! What a Bootstrap-Server learns from Bootstrap-Discover (LwM2M Core 1.2.1 §6.1.7.5).
//!
//! Invariant: parsing is tolerant; in the field the root link is seen as a bare `lwm2m=1.0`.

use lwm2m_coap::link;

use crate::decimal::parse_unsigned;
use crate::{Error, Path, Version};

/// The answer to a Bootstrap-Discover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Discovered<'a> {
    text: &'a str,
}

/// One object or instance in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiscoveredEntry<'a> {
    /// An object or an instance.
    pub path: Path,
    /// The Short Server ID of the account that the instance belongs to; none for that of a Bootstrap-Server.
    pub server: Option<u16>,
    /// Where the server of a security instance is.
    pub uri: Option<&'a str>,
    /// The version of the object, when it is given.
    pub version: Option<Version>,
}

impl<'a> Discovered<'a> {
    /// Parses the answer.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for what is no link-format.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let text = core::str::from_utf8(payload).map_err(|_| Error::BadRequest)?;
        let discovered = Self { text };
        if discovered.links().all(|link| link.is_ok()) { Ok(discovered) } else { Err(Error::BadRequest) }
    }

    /// Returns the enabler version of the client.
    pub fn version(&self) -> Option<Version> {
        // The legacy form has no link to hang the attribute on.
        let bare = self.text.trim_start().strip_prefix("lwm2m=").and_then(|rest| rest.split(',').next());
        let root = || {
            self.links().flatten().find(|link| link.path() == "/").and_then(|link| link.attribute("lwm2m"))
        };
        bare.map(|version| version.trim_matches('"')).or_else(root).and_then(Version::parse)
    }

    /// Iterates over objects and instances.
    pub fn iter(&self) -> impl Iterator<Item = DiscoveredEntry<'a>> + use<'a> {
        self.links().filter_map(|link| {
            let link = link.ok()?;
            let path = Path::parse(link.path()).ok().filter(|path| *path != Path::ROOT)?;
            let server = link.attribute("ssid").and_then(|number| parse_unsigned(number.as_bytes()));
            Some(DiscoveredEntry {
                path,
                server: server.and_then(|number| u16::try_from(number).ok()),
                uri: link.attribute("uri"),
                version: link.attribute("ver").and_then(Version::parse),
            })
        })
    }

    fn links(&self) -> link::Links<'a> {
        link::parse(self.text.find('<').and_then(|start| self.text.get(start..)).unwrap_or_default())
    }
}
