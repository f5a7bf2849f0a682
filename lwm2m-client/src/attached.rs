//! The attributes that servers attached to paths.
//!
//! LwM2M Core 1.1.1 §5.1.2. Invariant: attributes belong to the server that wrote them.

use heapless::Vec;
use lwm2m_objects::{Attributes, AttributesChange, Error, Path};

use crate::account::ShortServerId;

/// The attributes that a server attached to one path, in half the memory of [`Attributes`].
pub(crate) struct Attached {
    thresholds: [f64; 3],
    periods: [u32; 4],
    /// Bits: which periods are set, then which thresholds.
    present: u8,
    pub(crate) server: ShortServerId,
    pub(crate) path: Path,
}

impl Attached {
    fn new(server: ShortServerId, path: Path, attributes: &Attributes) -> Self {
        let Attributes { pmin, pmax, gt, lt, st, epmin, epmax } = *attributes;
        let (periods, thresholds) = ([pmin, pmax, epmin, epmax], [gt, lt, st]);
        let is_set = periods.iter().map(Option::is_some).chain(thresholds.iter().map(Option::is_some));
        Attached {
            present: is_set.rev().fold(0, |bits, is_set| bits << 1 | u8::from(is_set)),
            thresholds: thresholds.map(Option::unwrap_or_default),
            periods: periods.map(Option::unwrap_or_default),
            server,
            path,
        }
    }

    fn attributes(&self) -> Attributes {
        let ([pmin, pmax, epmin, epmax], [gt, lt, st]) = (self.periods, self.thresholds);
        let is_set = |bit: u8| self.present & 1 << bit != 0;
        Attributes {
            pmin: is_set(0).then_some(pmin),
            pmax: is_set(1).then_some(pmax),
            epmin: is_set(2).then_some(epmin),
            epmax: is_set(3).then_some(epmax),
            gt: is_set(4).then_some(gt),
            lt: is_set(5).then_some(lt),
            st: is_set(6).then_some(st),
        }
    }

    const fn has_thresholds(&self) -> bool {
        self.present >> 4 != 0
    }
}

/// Those of all servers, at `T` paths.
pub(crate) struct Attachments<const T: usize>(Vec<Attached, T>);

impl<const T: usize> Attachments<T> {
    pub(crate) const fn new() -> Self {
        Attachments(Vec::new())
    }

    /// The attributes that a server attached to exactly this path.
    pub(crate) fn at(&self, server: ShortServerId, path: Path) -> Attributes {
        let found = self.0.iter().find(|attached| attached.server == server && attached.path == path);
        found.map(Attached::attributes).unwrap_or_default()
    }

    /// The attributes that count for a path: its own, then those of the levels above.
    pub(crate) fn inherited(&self, server: ShortServerId, path: Path) -> Attributes {
        let mut attributes = self.at(server, path);
        let mut place = path;
        while let Some(parent) = place.parent() {
            place = parent;
            attributes = attributes.or(&self.at(server, place));
        }
        attributes
    }

    /// Where a server attached thresholds, at or below this path.
    pub(crate) fn thresholds(&self, server: ShortServerId, path: Path) -> impl Iterator<Item = Path> {
        let attached = self.0.iter().filter(move |attached| attached.server == server);
        let attached = attached.filter(|attached| attached.has_thresholds());
        attached.map(|attached| attached.path).filter(move |place| place.starts_with(path))
    }

    /// Changes what a server attached to a path.
    pub(crate) fn write(
        &mut self,
        server: ShortServerId,
        path: Path,
        change: &AttributesChange,
    ) -> Result<(), Error> {
        let attributes = change.apply(&self.at(server, path));
        attributes.check()?;
        let found = self.0.iter_mut().find(|attached| attached.server == server && attached.path == path);
        match found {
            Some(attached) => *attached = Attached::new(server, path, &attributes),
            None if attributes.is_empty() => {}
            None => {
                let attached = Attached::new(server, path, &attributes);
                self.0.push(attached).map_err(|_| Error::Internal)?;
            }
        }
        self.detach(&|attached| attached.present == 0);
        Ok(())
    }

    pub(crate) fn detach(&mut self, is_meant: &dyn Fn(&Attached) -> bool) {
        self.0.retain(|attached| !is_meant(attached));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attached_attributes_are_those_that_were_written() {
        let all = Attributes {
            pmin: Some(0),
            pmax: Some(60),
            gt: Some(21.5),
            lt: Some(-3.0),
            st: Some(0.0),
            epmin: Some(1),
            epmax: Some(u32::MAX),
        };
        let some = Attributes { pmax: Some(60), lt: Some(-3.0), epmax: Some(2), ..Attributes::default() };
        let others = Attributes { pmax: None, lt: None, epmax: None, ..all };
        for attributes in [all, some, others, Attributes::default()] {
            let attached = Attached::new(ShortServerId::FIRST, Path::ROOT, &attributes);
            assert_eq!(attached.attributes(), attributes);
            assert_eq!(attached.present == 0, attributes.is_empty());
        }
    }
}
