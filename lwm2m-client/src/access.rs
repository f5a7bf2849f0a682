//! Access control: who may do what on which instance when several servers share the device.
//!
//! LwM2M Core 1.1.1 §7.3 and appendix E.3. With one management server access control is off and that server may do
//! everything. Invariant: without a rule that grants a right there is none.

use heapless::Vec;
use lwm2m_objects::{Access, At, Object, Right, Tree, Value};

use crate::account::{Instance, ShortServerId};
use crate::persist::{RecordReader, RecordWriter};

/// The most entries one instance of `/2` lists.
pub(crate) const ACL_CAPACITY: usize = 5;

/// What a server may do; the bits of `/2/x/2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Rights(u8);

impl Rights {
    /// Create; it counts only in an object-level instance of `/2`.
    pub(crate) const CREATE: Rights = Rights(0x10);
    /// Everything but Create: what an owner without an entry of its own has.
    pub(crate) const OWNER: Rights = Rights(0x0F);
    /// Everything.
    pub(crate) const ALL: Rights = Rights(0x1F);

    /// Reads a value of `/2/x/2`; unknown bits are refused.
    pub(crate) const fn from_value(value: i64) -> Option<Self> {
        if value >= 0 && value <= 0x1F {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in 0..=0x1F")]
            let bits = value as u8;
            Some(Rights(bits))
        } else {
            None
        }
    }

    /// How many of the rights to write and to delete are among them.
    pub(crate) const fn weight(self) -> u32 {
        (self.0 & (Right::Write as u8 | Right::Delete as u8)).count_ones()
    }

    /// The bits.
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }
}

/// One instance of the Access Control object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessControl {
    /// Instance id in `/2`.
    pub(crate) instance: u16,
    /// `/2/x/0`.
    pub(crate) object: Option<u16>,
    /// `/2/x/1`; 65535 speaks of the object as such, for Create.
    pub(crate) object_instance: Option<u16>,
    /// `/2/x/2` by its resource instance id, a Short Server ID or 0 for every other server.
    pub(crate) list: Vec<(u16, Rights), ACL_CAPACITY>,
    /// `/2/x/3`; 65535 belongs to the bootstrap interface.
    pub(crate) owner: Option<u16>,
}

impl Instance for AccessControl {
    fn instance(&self) -> u16 {
        self.instance
    }

    fn empty(instance: u16) -> Self {
        AccessControl { instance, object: None, object_instance: None, list: Vec::new(), owner: None }
    }
}

impl AccessControl {
    /// The object instance id that stands for the object as such.
    pub(crate) const OBJECT_LEVEL: u16 = u16::MAX;

    /// The owner that stands for the bootstrap interface.
    pub(crate) const BOOTSTRAP: u16 = u16::MAX;

    /// Sets or unsets what is a number: `/2/x/0`, `/2/x/1` and `/2/x/3`.
    pub(crate) const fn set(&mut self, resource: u16, number: Option<u16>) {
        match resource {
            0 => self.object = number,
            1 => self.object_instance = number,
            3 => self.owner = number,
            _ => {}
        }
    }

    /// Takes what names one of these servers away, the owner as well; whether there was something.
    pub(crate) fn forget(&mut self, gone: &[u16]) -> bool {
        let before = self.list.len();
        self.list.retain(|(server, _)| !gone.contains(server));
        let was_owned = self.owner.take_if(|owner| gone.contains(owner)).is_some();
        was_owned || self.list.len() < before
    }

    pub(crate) fn emit(&self, out: &mut RecordWriter<'_>) {
        out.number(0, self.object.map(u32::from));
        out.number(1, self.object_instance.map(u32::from));
        out.number(3, self.owner.map(u32::from));
        for (server, rights) in &self.list {
            let [high, low] = server.to_be_bytes();
            out.bytes(2, &[high, low, rights.bits()]);
        }
    }

    pub(crate) fn parse(instance: u16, bytes: &[u8]) -> Option<Self> {
        let mut access = AccessControl::empty(instance);
        for field in RecordReader::new(bytes) {
            let (tag, value) = field?;
            if tag == 2 {
                let [high, low, bits] = *value.first_chunk::<3>()?;
                let entry = (u16::from_be_bytes([high, low]), Rights::from_value(i64::from(bits))?);
                access.list.push(entry).ok()?;
                continue;
            }
            access.set(tag.into(), u16::try_from(RecordReader::number(value)?).ok());
        }
        Some(access)
    }
}

/// What one server may do, by the instances of `/2` in the tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    pub(crate) server: ShortServerId,
    /// Whether access control is on: there are several servers.
    pub(crate) is_on: bool,
}

impl Access for Guard {
    fn allows(&self, tree: &Tree<'_, '_, '_>, object: u16, instance: Option<u16>, right: Right) -> bool {
        if !self.is_on {
            return true;
        }
        let Some(table) = tree.object(ACCESS_CONTROL) else { return false };
        match (object, instance) {
            // Core 1.1.1 §7.3.1: what an instance of /2 says is changed by its owner alone.
            (ACCESS_CONTROL, Some(instance)) => match right {
                Right::Read => true,
                Right::Write => number(table, instance, 3, 0) == Some(i64::from(self.server.get())),
                _ => false,
            },
            (object, None) if right == Right::Create => self.may_create(table, object),
            (_, None) => true,
            (object, Some(instance)) => match about(table, object, instance) {
                Some(entry) => self.rights(table, entry).bits() & right as u8 != 0,
                None => false,
            },
        }
    }
}

/// What a server may do where there is no room for Access Control: everything while it is alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alone(pub(crate) bool);

impl Access for Alone {
    fn allows(&self, _: &Tree<'_, '_, '_>, _: u16, _: Option<u16>, _: Right) -> bool {
        self.0
    }
}

impl Guard {
    /// Core 1.1.1 §7.3.2: the own entry, else the owner has everything, else the entry for all others.
    pub(crate) fn rights(&self, table: &dyn Object, entry: u16) -> Rights {
        let of = |server| number(table, entry, 2, server).and_then(Rights::from_value);
        if let Some(own) = of(self.server.get()) {
            return own;
        }
        if number(table, entry, 3, 0) == Some(i64::from(self.server.get())) {
            return Rights::OWNER;
        }
        of(0).unwrap_or_default()
    }

    /// Core 1.1.1 §7.3.2.3: only the object-level instance grants Create.
    fn may_create(&self, table: &dyn Object, object: u16) -> bool {
        let bits = |entry, server| number(table, entry, 2, server);
        about(table, object, AccessControl::OBJECT_LEVEL).is_some_and(|entry| {
            let own = bits(entry, self.server.get()).or_else(|| bits(entry, 0));
            own.is_some_and(|bits| bits & i64::from(Rights::CREATE.bits()) != 0)
        })
    }
}

const ACCESS_CONTROL: u16 = 2;

fn number(table: &dyn Object, instance: u16, resource: u16, resource_instance: u16) -> Option<i64> {
    match table.read(At { instance, resource, resource_instance })? {
        Value::Integer(number) => Some(number),
        _ => None,
    }
}

/// The instance of `/2` that speaks of an object instance.
fn about(table: &dyn Object, object: u16, instance: u16) -> Option<u16> {
    let mut after = None;
    while let Some(entry) = table.next_instance(after) {
        after = Some(entry);
        let is_meant = number(table, entry, 0, 0) == Some(i64::from(object))
            && number(table, entry, 1, 0) == Some(i64::from(instance));
        if is_meant {
            return Some(entry);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "test")]
    use super::*;
    use crate::core_objects::AccessObject;

    fn id(id: u16) -> ShortServerId {
        ShortServerId::new(id).unwrap()
    }

    fn about(
        instance: u16,
        object: u16,
        object_instance: u16,
        owner: u16,
        list: &[(u16, u8)],
    ) -> AccessControl {
        let list = list.iter().map(|(server, bits)| (*server, Rights(*bits))).collect();
        AccessControl {
            instance,
            object: Some(object),
            object_instance: Some(object_instance),
            list,
            owner: Some(owner),
        }
    }

    fn allows(
        table: &[AccessControl],
        server: u16,
        object: u16,
        instance: Option<u16>,
        right: Right,
    ) -> bool {
        let mut table: Vec<AccessControl, 4> = table.iter().cloned().collect();
        let mut access = AccessObject { table: &mut table, is_bootstrap: false };
        let mut core: [&mut dyn Object; 1] = [&mut access];
        let tree = Tree::new(&mut core, &mut []);
        Guard { server: id(server), is_on: true }.allows(&tree, object, instance, right)
    }

    #[test]
    fn an_owner_without_an_entry_may_do_everything_but_create() {
        // LwM2M Core 1.1.1 §7.3.2
        let table = [about(0, 3, 0, 1, &[])];
        assert!(allows(&table, 1, 3, Some(0), Right::Delete));
        assert!(!allows(&table, 1, 3, None, Right::Create));
        assert!(!allows(&table, 2, 3, Some(0), Right::Read));
    }

    #[test]
    fn an_own_entry_counts_even_for_the_owner() {
        let table = [about(0, 3, 0, 1, &[(1, 0x01), (0, 0x07)])];
        assert!(allows(&table, 1, 3, Some(0), Right::Read));
        assert!(!allows(&table, 1, 3, Some(0), Right::Write));
        assert!(allows(&table, 2, 3, Some(0), Right::Execute));
        assert!(!allows(&table, 2, 3, Some(0), Right::Delete));
    }

    #[test]
    fn without_an_instance_nothing_is_granted() {
        assert!(!allows(&[about(0, 3, 0, 1, &[])], 1, 3, Some(1), Right::Read));
        assert!(!allows(&[], 1, 3, Some(0), Right::Read));
    }

    #[test]
    fn create_comes_from_the_object_level_instance_only() {
        let table = [about(0, 16, 65_535, 65_535, &[(2, 0x10)]), about(1, 16, 0, 1, &[(1, 0x1F)])];
        assert!(allows(&table, 2, 16, None, Right::Create));
        assert!(!allows(&table, 1, 16, None, Right::Create));
        assert!(!allows(&table, 2, 3, None, Right::Create));
    }

    #[test]
    fn an_instance_of_access_control_is_changed_by_its_owner_alone() {
        let table = [about(7, 3, 0, 1, &[(2, 0x1F)])];
        assert!(allows(&table, 1, 2, Some(7), Right::Write));
        assert!(!allows(&table, 2, 2, Some(7), Right::Write));
        assert!(allows(&table, 2, 2, Some(7), Right::Read));
        assert!(!allows(&table, 1, 2, Some(7), Right::Delete));
    }

    #[test]
    fn records_round_trip() {
        let mut buffer = [0; 64];
        let access = about(0, 16, 65_535, 65_535, &[(2, 0x10), (0, 0x01)]);
        let mut out = RecordWriter::new(&mut buffer);
        access.emit(&mut out);
        let bytes = out.finish().unwrap();
        assert_eq!(AccessControl::parse(0, bytes).unwrap(), access);
        for cut in 0..bytes.len() {
            let _ = AccessControl::parse(0, bytes.get(..cut).unwrap());
        }
    }
}
