//! A store of any object, for tests: values by instance, resource and resource instance.

use std::collections::BTreeMap;

use lwm2m_coap::{Full, Sink};
use lwm2m_objects::{
    Access, Arguments, At, Change, Completion, Context, Error, Object, ObjectDef, ObjectLink, Operation,
    Outcome, Right, Tree, Value,
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owned {
    Text(String),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Boolean(bool),
    Opaque(Vec<u8>),
    Time(i64),
    Link(ObjectLink),
    CoreLink(String),
}

impl From<Value<'_>> for Owned {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::String(text) => Self::Text(text.into()),
            Value::Integer(value) => Self::Integer(value),
            Value::Unsigned(value) => Self::Unsigned(value),
            Value::Float(value) => Self::Float(value),
            Value::Boolean(value) => Self::Boolean(value),
            Value::Opaque(bytes) => Self::Opaque(bytes.into()),
            Value::Time(value) => Self::Time(value),
            Value::ObjectLink(link) => Self::Link(link),
            Value::CoreLink(text) => Self::CoreLink(text.into()),
        }
    }
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::String(text),
            Self::Integer(value) => Value::Integer(*value),
            Self::Unsigned(value) => Value::Unsigned(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Opaque(bytes) => Value::Opaque(bytes),
            Self::Time(value) => Value::Time(*value),
            Self::Link(link) => Value::ObjectLink(*link),
            Self::CoreLink(text) => Value::CoreLink(text),
        }
    }
}

type Instance = BTreeMap<(u16, u16), Owned>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Store {
    pub(crate) definition: &'static ObjectDef,
    pub(crate) instances: BTreeMap<u16, Instance>,
    pub(crate) executed: Vec<(u16, u16, String)>,
    /// How many instances fit.
    pub(crate) capacity: usize,
    /// An `apply` to this resource fails, against the rules.
    pub(crate) broken: Option<u16>,
}

impl Store {
    pub(crate) fn new(definition: &'static ObjectDef) -> Self {
        Self { definition, instances: BTreeMap::new(), executed: Vec::new(), capacity: 8, broken: None }
    }

    pub(crate) fn with(mut self, instance: u16, values: &[(u16, Value<'_>)]) -> Self {
        let place = self.instances.entry(instance).or_default();
        place.extend(values.iter().map(|(resource, value)| ((*resource, 0), Owned::from(*value))));
        self
    }

    pub(crate) fn array(mut self, instance: u16, resource: u16, values: &[(u16, Value<'_>)]) -> Self {
        let place = self.instances.entry(instance).or_default();
        place.extend(values.iter().map(|(index, value)| ((resource, *index), Owned::from(*value))));
        self
    }
}

impl Object for Store {
    fn definition(&self) -> &'static ObjectDef {
        self.definition
    }

    fn next_instance(&self, after: Option<u16>) -> Option<u16> {
        self.instances.keys().copied().find(|id| after.is_none_or(|after| *id > after))
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        self.instances.get(&at.instance)?.get(&(at.resource, at.resource_instance)).map(Owned::value)
    }

    fn next_resource_instance(&self, instance: u16, resource: u16, after: Option<u16>) -> Option<u16> {
        let all = self.instances.get(&instance)?.keys();
        all.filter(|(id, _)| *id == resource)
            .map(|(_, index)| *index)
            .find(|id| after.is_none_or(|after| *id > after))
    }

    fn validate(&self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match change {
            Change::Set { value: Value::String("bad"), .. } => Err(Error::BadRequest),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        let place = self.instances.get_mut(&instance).ok_or(Error::Internal)?;
        match *change {
            Change::Set { resource, .. } if self.broken == Some(resource) => return Err(Error::Internal),
            Change::Set { resource, resource_instance, value } => {
                place.insert((resource, resource_instance), value.into());
            }
            Change::Reset { resource } => place.retain(|(id, _), _| *id != resource),
            Change::Remove { resource, resource_instance } => {
                place.remove(&(resource, resource_instance));
            }
        }
        Ok(())
    }

    fn execute(
        &mut self,
        instance: u16,
        resource: u16,
        arguments: Arguments<'_>,
    ) -> Result<Completion, Error> {
        self.executed.push((instance, resource, arguments.as_str().into()));
        Ok(if arguments.value(9).is_some() { Completion::Deferred } else { Completion::Done })
    }

    fn create(&mut self, instance: u16) -> Result<(), Error> {
        if self.instances.len() >= self.capacity {
            return Err(Error::Internal);
        }
        self.instances.entry(instance).or_default();
        Ok(())
    }

    fn delete(&mut self, instance: u16) -> Result<(), Error> {
        self.instances.remove(&instance).map(|_| ()).ok_or(Error::Internal)
    }
}

pub(crate) struct Body(pub(crate) Vec<u8>);

impl Sink for Body {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

pub(crate) fn perform(
    objects: &mut [&mut dyn Object],
    operation: &Operation<'_>,
    context: &Context<'_>,
) -> (Result<Outcome, Error>, Vec<u8>) {
    let mut body = Body(Vec::new());
    let result = Tree::new(&mut [], objects).perform(operation, context, &mut body);
    (result, body.0)
}

/// Allows the listed rights to instances, and to whole objects under 65535.
pub(crate) struct Rights(pub(crate) Vec<(u16, u16, u8)>);

impl Access for Rights {
    fn allows(&self, _: &Tree<'_, '_, '_>, object: u16, instance: Option<u16>, right: Right) -> bool {
        let instance = instance.unwrap_or(65535);
        self.0.iter().any(|(o, i, rights)| *o == object && *i == instance && rights & right as u8 != 0)
    }
}
