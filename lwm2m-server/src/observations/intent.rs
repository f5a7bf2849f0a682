//! What is to be observed, as it lies in the store: JSON, so that a later version reads it.

use core::fmt::Write as _;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number};

use crate::operation::Operation;
use crate::queue::EPOCH;
use crate::{ObservationId, Path};

/// The names of the attributes that an observation may have (LwM2M Core 1.2.1 §5.1.2).
pub(crate) const ATTRIBUTES: [&str; 7] = ["pmin", "pmax", "gt", "lt", "st", "epmin", "epmax"];

/// A lasting observation: what is to be observed of a device, whenever it is registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Fencing epoch of the node that wrote it; always 1 on the embedded store.
    pub(crate) epoch: u64,
    /// What is observed: one place, or several at once.
    #[serde(flatten)]
    pub(crate) what: What,
    /// The content format to ask for.
    pub(crate) format: Option<u16>,
    /// What is written to each place before it is observed.
    pub(crate) attributes: Map<String, serde_json::Value>,
    /// Who asked for it, as in the audit log.
    pub(crate) actor: Arc<str>,
    /// When, in milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Why the device refused it the last time that it was asked.
    pub(crate) refused: Option<String>,
    /// Counts what was wanted under one id: what is found out about one says nothing about the next.
    #[serde(default)]
    pub(crate) version: u64,
    /// While its device was not asked for it in the place of another one: the attributes that are to be unset, because it leaves them
    /// out.
    #[serde(default)]
    pub(crate) unset: Option<BTreeSet<String>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    Path(String),
    Paths(Vec<String>),
}

impl From<&Places> for What {
    fn from(places: &Places) -> Self {
        match places {
            Places::One(path) => Self::Path(path.to_string()),
            Places::Several(paths) => Self::Paths(paths.iter().map(Path::to_string).collect()),
        }
    }
}

impl Intent {
    /// An intent of a place, or of several at once, that nobody was asked for yet.
    #[must_use]
    pub fn new(places: Places, format: Option<u16>, actor: Arc<str>, since_ms: u64) -> Self {
        let (what, attributes) = (What::from(&places), Map::new());
        Self {
            epoch: EPOCH,
            what,
            format,
            attributes,
            actor,
            since_ms,
            refused: None,
            version: 0,
            unset: None,
        }
    }

    /// The same with an attribute, of a name that an observation may have one of.
    #[must_use]
    pub fn with_attribute(mut self, name: &str, value: Number) -> Self {
        self.attributes.insert(name.to_owned(), value.into());
        self
    }

    /// This one in the place of another one of the same place, which the device may know.
    pub(crate) fn instead_of(mut self, former: &Self) -> Self {
        let names = former.attributes.keys().chain(former.unset.iter().flatten());
        let unset = names.filter(|name| !self.attributes.contains_key(*name)).cloned().collect();
        (self.unset, self.version) = (Some(unset), former.version.saturating_add(1));
        self
    }

    /// What is asked of the device, one after the other; the last one observes. `None` when no version of the server wrote this.
    pub(crate) fn operations(&self) -> Option<Vec<Operation>> {
        let parse = |path: &String| path.parse::<Path>().ok();
        let (paths, observe) = match &self.what {
            What::Path(path) => {
                let path = parse(path)?;
                (vec![path], Operation::Observe { path, format: self.format })
            }
            What::Paths(paths) => {
                let paths: Vec<Path> = paths.iter().map(parse).collect::<Option<_>>()?;
                (paths.clone(), Operation::ObserveComposite { paths, format: self.format })
            }
        };
        let mut attributes = self.attributes();
        // LwM2M Core 1.2.1 §5.1.2: a name without a value unsets it.
        for name in self.unset.iter().flatten() {
            let and = if attributes.is_empty() { "" } else { "&" };
            // Writing to a string does not fail.
            let _ = write!(attributes, "{and}{name}");
        }
        let written = paths.into_iter().filter(|_| !attributes.is_empty());
        let written = written.map(|path| Operation::WriteAttributes { path, attributes: attributes.clone() });
        Some(written.chain([observe]).collect())
    }

    fn attributes(&self) -> String {
        let each = self.attributes.iter().map(|(name, value)| format!("{name}={value}"));
        each.collect::<Vec<_>>().join("&")
    }

    /// What it is, for the audit log.
    pub(crate) fn described(&self) -> String {
        let places = match &self.what {
            What::Path(path) => path.clone(),
            What::Paths(paths) => paths.join(", "),
        };
        format!("{places} {}", self.attributes()).trim_end().to_owned()
    }

    /// The place that its values are below.
    pub(crate) fn path(&self) -> Path {
        match &self.what {
            What::Path(path) => path.parse().unwrap_or(Path::ROOT),
            What::Paths(_) => Path::ROOT,
        }
    }
}

/// What is observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Places {
    /// One place.
    One(Path),
    /// Several, whose values come together (Observe-Composite).
    Several(Vec<Path>),
}

/// What becomes of a stored intent. What an answer of the device says is about the intent that was asked for, and about no other one
/// that is wanted in its place by now.
#[derive(Clone, Debug)]
pub enum IntentChange {
    /// Somebody removed it.
    Removed {
        /// Who, as in the audit log.
        actor: Arc<str>,
        /// When, in milliseconds since 1970.
        now_ms: u64,
    },
    /// The device refused it at once: there is the former one again, or none.
    Undone {
        /// What was asked.
        asked: Intent,
        /// What was wanted before.
        former: Option<Intent>,
        /// Why.
        why: String,
        /// When, in milliseconds since 1970.
        now_ms: u64,
    },
    /// It stands at the device. Where another one is wanted by now, that one is to be asked for again.
    Stands(Intent),
    /// The device refused it, and why.
    Refused(Intent, String),
    /// The device ended what stood, and why.
    Ended(String),
}

/// An intent in the store.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The id of its observation.
    pub id: ObservationId,
    /// What is to be asked of the device.
    pub intent: Intent,
    /// The one whose place it took.
    pub former: Option<Intent>,
}

/// Intents of one device with their ids, in the order of these.
pub type Intents = Vec<(ObservationId, Intent)>;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    #[test]
    fn attributes_are_written_to_each_place_before_it_is_observed() {
        let places = Places::Several(vec![path("/3303/0/5700"), path("/3/0/9")]);
        let intent = Intent::new(places, Some(112), "test".into(), 1)
            .with_attribute("pmin", 10.into())
            .with_attribute("gt", Number::from_f64(2.5).unwrap());
        let stored = serde_json::to_vec(&intent).unwrap();
        let intent: Intent = serde_json::from_slice(&stored).unwrap();
        let attributes = "gt=2.5&pmin=10";
        let write = |at| Operation::WriteAttributes { path: path(at), attributes: attributes.to_owned() };
        let paths = vec![path("/3303/0/5700"), path("/3/0/9")];
        let observe = Operation::ObserveComposite { paths, format: Some(112) };
        assert_eq!(intent.operations().unwrap(), [write("/3303/0/5700"), write("/3/0/9"), observe]);
        assert_eq!(intent.path(), Path::ROOT);

        let one = Intent::new(Places::One(path("/3/0/9")), None, "test".into(), 1);
        let observe = Operation::Observe { path: path("/3/0/9"), format: None };
        assert_eq!((one.operations().unwrap(), one.path()), (vec![observe], path("/3/0/9")));
        let broken = Intent { what: What::Path("/x".to_owned()), ..one };
        assert_eq!(broken.operations(), None);
    }

    #[test]
    fn what_the_former_one_had_and_a_new_one_leaves_out_is_unset() {
        let wanted = || Intent::new(Places::One(path("/3/0/9")), None, "test".into(), 1);
        let written = |intent: &Intent| match intent.operations().unwrap().first().cloned() {
            Some(Operation::WriteAttributes { attributes, .. }) => attributes,
            other => unreachable!("{other:?}"),
        };
        let first = wanted().with_attribute("pmin", 10.into()).with_attribute("gt", 30.into());
        let second = wanted().with_attribute("pmax", 60.into()).instead_of(&first);
        assert_eq!(written(&second), "pmax=60&gt&pmin");
        // The device may know the first one still.
        let third = wanted().with_attribute("gt", 5.into()).instead_of(&second);
        assert_eq!(written(&third), "gt=5&pmax&pmin");
        let first = first.instead_of(&third);
        assert_eq!((written(&first).as_str(), first.version), ("gt=30&pmin=10&pmax", 3));
    }
}
