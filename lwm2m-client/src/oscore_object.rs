//! The OSCORE object (`/21`): what the Security Contexts with the servers are derived from.
//!
//! LwM2M Core 1.1.1 appendix E.4, RFC 8613 §3.2. Invariant: the Master Secret passes through [`Staging`] into storage; none of
//! it is readable, and no management server sees the object.

use heapless::Vec;
use lwm2m_objects::{At, Change, Error, Object, ObjectDef, Value, defs};
use oscore::{AeadAlgorithm, HmacAlgorithm, KeyId, MasterSecret, Parameters};

use crate::account::{Accounts, Instance, Security, delete_instance, instance_mut};
use crate::core_objects::{bytes_of, next_above};
use crate::persist::{Key, RecordReader, RecordWriter};
use crate::staging::Staging;

/// The Master Secret, which is not kept here.
const MASTER_SECRET: u16 = 0;

/// One instance of the OSCORE object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecurityContext {
    /// Instance id in `/21`.
    pub(crate) instance: u16,
    /// Whether `/21/x/0` is in storage.
    pub(crate) has_secret: bool,
    /// `/21/x/1`; one of no bytes is as good as any other.
    pub(crate) sender_id: Option<KeyId>,
    /// `/21/x/2`.
    pub(crate) recipient_id: Option<KeyId>,
    /// `/21/x/3`.
    pub(crate) aead: AeadAlgorithm,
    /// `/21/x/4`.
    pub(crate) hmac: HmacAlgorithm,
    /// `/21/x/5`.
    pub(crate) master_salt: Vec<u8, { Parameters::SALT_LENGTH }, u8>,
    /// `/21/x/6`; none if it is empty.
    // Departure: servers write empty what they do not use, so there is no ID Context of no bytes.
    pub(crate) id_context: Vec<u8, { Parameters::ID_CONTEXT_LENGTH }, u8>,
}

impl Instance for SecurityContext {
    fn instance(&self) -> u16 {
        self.instance
    }

    fn empty(instance: u16) -> Self {
        SecurityContext {
            instance,
            has_secret: false,
            sender_id: None,
            recipient_id: None,
            aead: AeadAlgorithm::default(),
            hmac: HmacAlgorithm::default(),
            master_salt: Vec::new(),
            id_context: Vec::new(),
        }
    }
}

impl SecurityContext {
    /// What the keys are derived from, with the Master Secret from storage; nothing unless it fits together.
    pub(crate) fn parameters(&self, secret: MasterSecret) -> Option<Parameters> {
        let parameters = Parameters::new(secret, self.sender_id?, self.recipient_id?).ok()?;
        let parameters = parameters.with_algorithms(self.aead, self.hmac).ok()?;
        let parameters = parameters.with_salt(&self.master_salt).ok()?;
        if self.id_context.is_empty() {
            return Some(parameters);
        }
        parameters.with_id_context(&self.id_context).ok()
    }

    /// Whether keys can be derived from it.
    pub(crate) fn is_whole(&self) -> bool {
        self.has_secret && MasterSecret::new(&[0]).and_then(|any| self.parameters(any)).is_some()
    }

    /// Sets a resource from its value, or takes it away; `None` for what cannot be used. Any other is ignored.
    pub(crate) fn set(&mut self, resource: u16, value: Option<&Value<'_>>) -> Option<()> {
        let bytes = value.map(bytes_of).unwrap_or_default();
        let number = match value {
            Some(Value::Integer(number)) => Some(i32::try_from(*number).unwrap_or(i32::MAX)),
            _ => None,
        };
        match resource {
            1 | 2 => {
                let id = KeyId::new(bytes)?;
                let place = if resource == 1 { &mut self.sender_id } else { &mut self.recipient_id };
                *place = value.map(|_| id);
            }
            3 => self.aead = number.map_or(Some(AeadAlgorithm::default()), AeadAlgorithm::from_cose)?,
            4 => self.hmac = number.map_or(Some(HmacAlgorithm::default()), HmacAlgorithm::from_cose)?,
            5 => self.master_salt = Vec::from_slice(bytes).ok()?,
            6 => self.id_context = Vec::from_slice(bytes).ok()?,
            _ => {}
        }
        Some(())
    }

    pub(crate) fn emit(&self, out: &mut RecordWriter<'_>) {
        out.number(0, Some(u32::from(self.has_secret)));
        if let Some(id) = &self.sender_id {
            out.bytes(1, id.bytes());
        }
        if let Some(id) = &self.recipient_id {
            out.bytes(2, id.bytes());
        }
        out.number(3, Some(u32::from(self.aead.cose())));
        out.number(4, Some(u32::from(self.hmac.cose())));
        out.bytes(5, &self.master_salt);
        out.bytes(6, &self.id_context);
    }

    pub(crate) fn parse(instance: u16, bytes: &[u8]) -> Option<Self> {
        let mut context = SecurityContext::empty(instance);
        for field in RecordReader::new(bytes) {
            let (tag, bytes) = field?;
            let value = match tag {
                0 => {
                    context.has_secret = RecordReader::number(bytes)? != 0;
                    continue;
                }
                3 | 4 => Value::Integer(RecordReader::number(bytes)?.into()),
                _ => Value::Opaque(bytes),
            };
            context.set(tag.into(), Some(&value))?;
        }
        Some(context)
    }
}

impl<const SERVERS: usize, const U: usize> Accounts<SERVERS, U> {
    /// The `/21` instance with this id.
    pub(crate) fn context(&self, instance: u16) -> Option<&SecurityContext> {
        self.contexts.iter().find(|context| context.instance == instance)
    }

    /// The `/21` instance with this id, made empty when there is none; `None` when the table is full.
    pub(crate) fn context_mut(&mut self, instance: u16) -> Option<&mut SecurityContext> {
        instance_mut(&mut self.contexts, instance)
    }

    /// Whether the link of an account to its Security Context (`/0/x/17`), if it has one, leads to one that is whole and
    /// no other account's.
    pub(crate) fn has_context(&self, security: &Security<U>) -> bool {
        security.oscore.is_none_or(|instance| {
            let is_shared = |other: &&Security<U>| other.oscore == Some(instance);
            self.context(instance).is_some_and(SecurityContext::is_whole)
                && self.securities.iter().filter(is_shared).count() == 1
        })
    }
}

/// The OSCORE object over the account table.
pub(crate) struct OscoreObject<'a, const SERVERS: usize> {
    pub(crate) contexts: &'a mut Vec<SecurityContext, SERVERS>,
    pub(crate) staging: &'a mut Staging,
}

impl<const SERVERS: usize> Object for OscoreObject<'_, SERVERS> {
    fn definition(&self) -> &'static ObjectDef {
        &defs::OSCORE
    }

    fn next_instance(&self, after: Option<u16>) -> Option<u16> {
        next_above(self.contexts.iter().map(|context| &context.instance), after)
    }

    fn read(&self, _: At) -> Option<Value<'_>> {
        None
    }

    fn validate(&self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        let Change::Set { resource, ref value, .. } = *change else { return Ok(()) };
        if resource == MASTER_SECRET {
            let bytes = bytes_of(value);
            let is_fitting = bytes.len() <= MasterSecret::MAX_LENGTH && self.staging.has_room(bytes.len());
            return if is_fitting { Ok(()) } else { Err(Error::TooLarge) };
        }
        SecurityContext::empty(0).set(resource, Some(value)).ok_or(Error::BadRequest)
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        let found = self.contexts.iter_mut().find(|context| context.instance == instance);
        let context = found.ok_or(Error::NotFound)?;
        let (resource, value) = match *change {
            Change::Set { resource, ref value, .. } => (resource, Some(value)),
            Change::Reset { resource } | Change::Remove { resource, .. } => (resource, None),
        };
        if resource != MASTER_SECRET {
            return context.set(resource, value).ok_or(Error::BadRequest);
        }
        let key = Key::MasterSecret(instance);
        let bytes = value.map(bytes_of).filter(|bytes| !bytes.is_empty());
        if bytes.is_none() && !context.has_secret {
            return Ok(());
        }
        let is_staged = match bytes {
            Some(bytes) => self.staging.stage(key, bytes),
            None => self.staging.remove(key),
        };
        context.has_secret = is_staged && bytes.is_some();
        if is_staged { Ok(()) } else { Err(Error::TooLarge) }
    }

    fn create(&mut self, instance: u16) -> Result<(), Error> {
        instance_mut(self.contexts, instance).map(|_| ()).ok_or(Error::Internal)
    }

    fn delete(&mut self, instance: u16) -> Result<(), Error> {
        delete_instance(self.contexts, instance);
        let is_staged =
            self.staging.remove(Key::Oscore(instance)) && self.staging.remove(Key::MasterSecret(instance));
        if is_staged { Ok(()) } else { Err(Error::Internal) }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn context() -> SecurityContext {
        let mut context = SecurityContext { has_secret: true, ..SecurityContext::empty(3) };
        for (resource, bytes) in [(1, &[1, 2][..]), (2, &[]), (5, b"salt"), (6, b"context")] {
            assert!(context.set(resource, Some(&Value::Opaque(bytes))).is_some());
        }
        context
    }

    #[test]
    fn records_round_trip_and_survive_truncation() {
        let context = context();
        let mut buffer = [0; crate::persist::RECORD_CAPACITY];
        let mut out = RecordWriter::new(&mut buffer);
        context.emit(&mut out);
        let bytes = out.finish().unwrap();
        assert_eq!(SecurityContext::parse(3, bytes).as_ref(), Some(&context));
        for cut in 0..bytes.len() {
            let _ = SecurityContext::parse(3, bytes.get(..cut).unwrap());
        }
    }

    #[test]
    fn algorithms_have_their_cose_numbers_and_the_field_has_two_for_hmac() {
        let mut context = context();
        for number in [5, -10] {
            assert!(context.set(4, Some(&Value::Integer(number))).is_some(), "{number}");
        }
        assert!(context.set(3, Some(&Value::Integer(10))).is_some());
        for (resource, number) in [(3, 0), (3, 4), (3, i64::MAX), (4, 4), (4, -1), (4, i64::MIN)] {
            assert!(context.set(resource, Some(&Value::Integer(number))).is_none(), "{resource} {number}");
        }
        #[cfg(feature = "oscore-algorithms")]
        assert!([6, 7, -11].iter().all(|number| context.set(4, Some(&Value::Integer(*number))).is_some()));
    }

    #[test]
    fn what_keys_cannot_be_derived_from_is_not_whole() {
        assert!(context().is_whole());
        assert!(!SecurityContext { has_secret: false, ..context() }.is_whole());
        assert!(!SecurityContext { sender_id: None, ..context() }.is_whole());
        let id = context().sender_id;
        assert!(!SecurityContext { recipient_id: id, ..context() }.is_whole(), "both ends the same");
        let mut long = context();
        assert!(long.set(1, Some(&Value::Opaque(&[0; 8]))).is_none());
        assert!(long.set(5, Some(&Value::Opaque(&[0; 33]))).is_none());
        assert!(long.set(6, Some(&Value::Opaque(&[0; 41]))).is_none());
        assert_eq!(long, context());
        #[cfg(feature = "oscore-algorithms")]
        {
            // Its nonce leaves one byte for ids.
            assert!(long.set(3, Some(&Value::Integer(12))).is_some());
            assert!(!long.is_whole());
        }
    }
}
