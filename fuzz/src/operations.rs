//! Operations of LwM2M as CoAP messages, on a tree of objects (LwM2M Core 1.2.1 §6; Transport 1.2.1 §6.4).

use std::collections::BTreeMap;

use lwm2m_coap::{Buffer, Header, Instant, Kind, Message, MessageId, Room, Token, Writer, link, udp};
use lwm2m_objects::ready::{Device, Location, PowerSource, Sensor};
use lwm2m_objects::{
    Arguments, At, Attributes, AttributesChange, Change, Completion, Context, Discovered, Error, Format,
    Object, ObjectDef, ObjectLink, Operation, Outcome, Path, Progress, Registered, Root, Samples, Tree,
    Value, Version, defs, mapping, object,
};

object! {
    /// Everything that a definition can say.
    NOTES = 42800 version 1.0, multiple, optional {
        0 RW S M String in 0, 20;
        1 RW S O Opaque;
        2 RW M O Integer in -10, 1000;
        3 E  S O Nothing;
        4 RW S O Unsigned in 0, 100;
        5 RW S O Boolean;
        6 RW S O Time;
        7 RW S O ObjectLink;
        8 RW S O Float in -1, 1;
        9 RW S O CoreLink;
        10 W S O Opaque;
    }
}

object! {
    /// OSCORE, as far as a bootstrap looks at it.
    OSCORE = 21 version 2.0, multiple, optional {
        1 - S M Opaque;
    }
}

/// The first byte says whose request it is and whether the device has an alternate path, the rest is a CoAP message. What is
/// read as an operation is written and read again as the same; the tree performs it, and its answer is read again.
pub fn operation(input: &[u8]) {
    let Some((choice, datagram)) = input.split_first() else { return };
    let Ok((_, message)) = udp::parse(datagram) else { return };
    let alternate = if choice & 0x04 == 0 { "" } else { "lwm2m" };
    let _ = (mapping::outcome(&message), mapping::location::<16>(&message));
    let read: fn(&Message<'_>, &'static str) -> Option<()> = match choice & 0x03 {
        0 | 1 => |message, alternate| check(message, |message| mapping::management(message, alternate)),
        2 => |message, _| check(message, mapping::bootstrap),
        _ => |message, _| check(message, mapping::registration),
    };
    read(&message, alternate);
}

fn check(
    message: &Message<'_>,
    read: impl for<'a> Fn(&Message<'a>) -> Result<Operation<'a>, Error>,
) -> Option<()> {
    let operation = match read(message) {
        Ok(operation) => operation,
        Err(error) => {
            let code = mapping::error_code(error);
            assert!(error.to_string().starts_with(&code.to_string()), "{error} is not {code}");
            return None;
        }
    };
    let mut buffer = vec![0; 4096];
    let mut writer = Writer::new(&mut buffer, Room::NONE, message.code);
    if mapping::emit(&operation, &mut writer).is_ok() && writer.payload(mapping::payload(&operation)).is_ok()
    {
        let header = Header { kind: Kind::Confirmable, id: MessageId(1) };
        let range = writer.finish().expect("it fits").emit(header, Token::default());
        let (_, again) = udp::parse(&buffer[range]).expect("what is emitted is a message");
        assert_eq!(read(&again).expect("it is read again"), operation);
    }
    assert!(!format!("{operation:?}").is_empty());
    lists(message.payload);
    if let Operation::Register { parameters, .. } | Operation::Update { parameters, .. } = operation {
        let _ = parameters.try_for_each_query(&mut |_| Ok(()));
    }
    if let Operation::WriteAttributes { change, .. } = operation {
        let wanted = *change.set();
        assert_eq!(AttributesChange::setting(wanted).is_empty(), wanted.is_empty());
        attributes(&change.apply(&Attributes { pmin: Some(1), gt: Some(5.0), ..Attributes::default() }));
    }
    if let Operation::Execute { arguments, .. } = operation {
        assert!(arguments.iter().count() <= 10);
        assert!((0..10).filter(|digit| arguments.value(*digit).is_some()).count() <= 10);
    }
    perform(&operation);
    Some(())
}

/// What a registration or a bootstrap says of a device.
fn lists(payload: &[u8]) {
    if let Ok(registered) = Registered::parse(payload) {
        let _ = (registered.alternate(), registered.formats().count());
        for entry in registered.iter() {
            let _ = registered.version(Version::new(1, 1), entry.path.object_id().unwrap_or(0));
        }
    }
    if let Ok(discovered) = Discovered::parse(payload) {
        let _ = (discovered.version(), discovered.iter().count());
    }
}

/// Attributes that may stand together decide at any time, and end in waiting or idleness.
fn attributes(attributes: &Attributes) {
    let _ = (attributes.is_empty(), attributes.has_thresholds(), attributes.or(&Attributes::default()));
    if attributes.check().is_err() {
        return;
    }
    let at = Instant::from_millis;
    for (changed, due) in [(false, false), (true, false), (true, true)] {
        for now in [0, 2_000, 100_000_000] {
            let progress = Progress { notified: at(0), evaluated: at(1_000), changed, due };
            let _ = attributes.decide(at(now), &progress);
        }
    }
    for (notified, previous, current) in [(1.0, 2.0, 9.0), (9.0, 9.0, 1.0), (1.0, 1.0, 1.0)] {
        let sides = attributes.sides(previous);
        let _ = attributes.is_met(Samples { notified, sides, current });
    }
}

/// Performs an operation; what is read is of the format that was said.
fn perform(operation: &Operation<'_>) {
    let sources = [PowerSource { kind: 1, millivolts: 3800, milliamperes: 125 }];
    let mut device = Device {
        manufacturer: "ACME",
        power_sources: &sources,
        battery_level: Some(80),
        memory_free: Some(100),
        current_time: Some(1_700_000_000),
        battery_status: Some(0),
        ..Device::new("U")
    };
    let mut location = Location { altitude: Some(1.5), speed: Some(0.0), ..Location::default() };
    let mut temperature = Sensor::new(&defs::TEMPERATURE, "Cel", 20.5);
    temperature.measured(21.0);
    let mut notes = Notes::default();
    notes.create(0).expect("there is room");
    notes.create(7).expect("there is room");
    let mut objects: [&mut dyn Object; 4] = [&mut device, &mut location, &mut temperature, &mut notes];
    let (mut security, mut server, mut oscore) =
        (Account(&defs::SECURITY), Account(&defs::SERVER), Account(&OSCORE));
    let mut core: [&mut dyn Object; 3] = [&mut security, &mut server, &mut oscore];
    let mut tree = Tree::new(&mut core, &mut objects);
    let attached = |_| Attributes { pmin: Some(10), lt: Some(-1.5), ..Attributes::default() };
    let context = Context { attributes: &attached, ..Context::default() };
    let mut space = vec![0; 8192];
    let mut body = Buffer::new(&mut space);
    registers(&tree);
    let outcome = tree.perform(operation, &context, &mut body);
    registers(&tree);
    let mut buffer = [0; 128];
    let mut writer = Writer::new(&mut buffer, Room::NONE, mapping::code(&outcome));
    mapping::respond(&outcome, &mut writer).expect("code and options are short");
    let header = Header { kind: Kind::Acknowledgement, id: MessageId(1) };
    let range = writer.finish().expect("it is short").emit(header, Token::default());
    let (_, response) = udp::parse(&buffer[range]).expect("what is emitted is a message");
    match (outcome, mapping::outcome(&response)) {
        // What is deferred is not answered so.
        (Ok(Outcome::Deferred), _) => {}
        (outcome, again) => assert_eq!(outcome, again),
    }
    let is_discover = matches!(operation, Operation::Discover { .. } | Operation::BootstrapDiscover { .. });
    if outcome.is_ok() && is_discover {
        let text = std::str::from_utf8(body.written()).expect("link-format is text");
        assert!(link::parse(text).all(|link| link.is_ok()), "{text}");
    }
}

/// What a device says of its objects is read again.
fn registers(tree: &Tree<'_, '_, '_>) {
    for (alternate, formats) in
        [("", &[][..]), ("/lwm2m", &[Format::SENML_CBOR]), ("", &[Format::TLV, Format::JSON])]
    {
        let mut space = [0; 512];
        let mut list = Buffer::new(&mut space);
        let root = Root { alternate, formats };
        tree.emit_links(Version::new(1, 1), &root, &mut list).expect("there is room");
        let registered = Registered::parse(list.written()).expect("what is emitted is read");
        assert!(registered.formats().eq(formats.iter().copied()));
        assert_eq!(registered.alternate().unwrap_or_default(), alternate.trim_start_matches('/'));
        assert!(registered.iter().all(|entry| entry.path.to_string().parse::<Path>() == Ok(entry.path)));
    }
}

/// The account of a Bootstrap-Server in instance 0, and of a server in instance 1.
struct Account(&'static ObjectDef);

impl Object for Account {
    fn definition(&self) -> &'static ObjectDef {
        self.0
    }

    fn next_instance(&self, after: Option<u16>) -> Option<u16> {
        match after {
            None => Some(if self.0.id == 0 { 0 } else { 1 }),
            Some(0) => Some(1),
            Some(_) => None,
        }
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        Some(match (self.0.id, at.resource) {
            (0, 0) => Value::String(if at.instance == 0 { "coaps://a" } else { "coaps://b" }),
            (0, 1) => Value::Boolean(at.instance == 0),
            (0, 3..=5) | (21, 1) => Value::Opaque(&[1]),
            (0, 10) | (1, 0) => Value::Integer(101),
            (0, 17) if at.instance == 1 => Value::ObjectLink(ObjectLink { object: 21, instance: 1 }),
            (1, 1) => Value::Integer(300),
            _ => return None,
        })
    }
}

/// Instances with every type of value.
#[derive(Default)]
struct Notes(BTreeMap<u16, Note>);

#[derive(Default)]
struct Note {
    name: String,
    blob: Vec<u8>,
    numbers: BTreeMap<u16, i64>,
    unsigned: Option<u64>,
    flag: Option<bool>,
    time: Option<i64>,
    link: Option<lwm2m_objects::ObjectLink>,
    float: Option<f64>,
    links: String,
}

impl Object for Notes {
    fn definition(&self) -> &'static ObjectDef {
        &NOTES
    }

    fn next_instance(&self, after: Option<u16>) -> Option<u16> {
        let from = after.map_or(Some(0), |after| after.checked_add(1))?;
        self.0.range(from..).next().map(|(instance, _)| *instance)
    }

    fn next_resource_instance(&self, instance: u16, resource: u16, after: Option<u16>) -> Option<u16> {
        let from = after.map_or(Some(0), |after| after.checked_add(1))?;
        let note = self.0.get(&instance).filter(|_| resource == 2)?;
        note.numbers.range(from..).next().map(|(instance, _)| *instance)
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        let note = self.0.get(&at.instance)?;
        Some(match at.resource {
            0 => Value::String(&note.name),
            2 => Value::Integer(*note.numbers.get(&at.resource_instance)?),
            4 => Value::Unsigned(note.unsigned?),
            5 => Value::Boolean(note.flag?),
            6 => Value::Time(note.time?),
            7 => Value::ObjectLink(note.link?),
            8 => Value::Float(note.float?),
            9 => Value::CoreLink(&note.links),
            _ => return None,
        })
    }

    fn opaque_length(&self, at: At) -> Option<u32> {
        let note = self.0.get(&at.instance).filter(|_| at.resource == 1)?;
        u32::try_from(note.blob.len()).ok()
    }

    fn read_opaque(&self, at: At, offset: u32, out: &mut [u8]) -> Result<usize, Error> {
        let note = self.0.get(&at.instance).ok_or(Error::NotFound)?;
        let rest = note.blob.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn is_streamed(&self, resource: u16) -> bool {
        resource == 10
    }

    fn write_opaque(&mut self, at: At, offset: u32, chunk: &[u8], last: bool) -> Result<Completion, Error> {
        let note = self.0.get_mut(&at.instance).ok_or(Error::NotFound)?;
        note.blob.truncate(offset as usize);
        note.blob.extend_from_slice(chunk);
        Ok(if last { Completion::Deferred } else { Completion::Done })
    }

    fn validate(&self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match change {
            Change::Set { value: Value::String("bad"), .. } => Err(Error::BadRequest),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        let note = self.0.get_mut(&instance).ok_or(Error::NotFound)?;
        match *change {
            Change::Set { value: Value::String(text), .. } => note.name = text.to_owned(),
            Change::Set { value: Value::Opaque(bytes), .. } => note.blob = bytes.to_vec(),
            Change::Set { resource_instance, value: Value::Integer(value), .. } => {
                note.numbers.insert(resource_instance, value);
            }
            Change::Set { value: Value::Unsigned(value), .. } => note.unsigned = Some(value),
            Change::Set { value: Value::Boolean(value), .. } => note.flag = Some(value),
            Change::Set { value: Value::Time(value), .. } => note.time = Some(value),
            Change::Set { value: Value::ObjectLink(value), .. } => note.link = Some(value),
            Change::Set { value: Value::Float(value), .. } => note.float = Some(value),
            Change::Set { value: Value::CoreLink(text), .. } => note.links = text.to_owned(),
            Change::Reset { resource: 2 } => note.numbers.clear(),
            Change::Reset { .. } => {}
            Change::Remove { resource_instance, .. } => {
                note.numbers.remove(&resource_instance);
            }
        }
        Ok(())
    }

    fn execute(&mut self, instance: u16, _: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        Ok(if instance == 0 { Completion::Done } else { Completion::Deferred })
    }

    fn create(&mut self, instance: u16) -> Result<(), Error> {
        if self.0.len() > 8 {
            return Err(Error::Internal);
        }
        let numbers = [(0, 5), (3, -1)].into();
        self.0.insert(
            instance,
            Note { name: "note".to_owned(), blob: vec![7; 60], numbers, ..Note::default() },
        );
        Ok(())
    }

    fn delete(&mut self, instance: u16) -> Result<(), Error> {
        self.0.remove(&instance).map(|_| ()).ok_or(Error::NotFound)
    }
}
