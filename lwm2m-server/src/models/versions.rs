//! Which version of each object a device has (LwM2M Core 1.2.1 §6.2.1).

use lwm2m_objects::{Registered, Version, implied_version};

/// The versions that a device's list of objects gives, ascending by object; of the others the version of LwM2M tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Versions(Box<[(u16, Version)]>);

impl Versions {
    pub(crate) fn of(list: &Registered<'_>) -> Self {
        let given = list.iter().filter_map(|entry| Some((entry.path.object_id()?, entry.version?)));
        let mut given: Vec<_> = given.collect();
        given.sort_by_key(|(object, _)| *object);
        // The first one counts.
        given.dedup_by_key(|(object, _)| *object);
        Self(given.into())
    }

    /// The version of an object at a device with this version of LwM2M.
    pub(crate) fn version(&self, enabler: Version, object: u16) -> Version {
        let given = self.0.binary_search_by_key(&object, |(object, _)| *object).ok();
        given
            .and_then(|at| self.0.get(at))
            .map_or_else(|| implied_version(enabler, object), |(_, version)| *version)
    }

    /// How many bytes they take beside those of their place.
    pub(crate) fn size(&self) -> usize {
        size_of_val(&*self.0)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    #[test]
    fn what_the_list_gives_counts_and_else_what_the_enabler_implies() {
        let versions = |list: &str| Versions::of(&Registered::parse(list.as_bytes()).unwrap());
        let given =
            versions("</>;ct=112,</33000>;ver=2.1,</33000/0>,</3/0>;ver=\"1.0\",</3/1>;ver=1.1,</3303/0>");
        assert_eq!(given.size(), 8);
        for (enabler, object, version) in [
            (1, 33000, (2, 1)),
            (1, 3, (1, 0)),
            (1, 1, (1, 1)),
            (2, 1, (1, 2)),
            (2, 21, (2, 0)),
            (1, 3303, (1, 0)),
        ] {
            let (major, minor) = version;
            let found = given.version(Version::new(1, enabler), object);
            assert_eq!(found, Version::new(major, minor), "{object} at 1.{enabler}");
        }
        assert_eq!(versions(""), Versions::default());
    }
}
