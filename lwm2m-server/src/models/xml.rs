//! Object definitions as the OMA registry publishes them: XML of the form `LWM2M/Object`.
//!
//! The text is read once, as a stream, and only what a definition needs is kept of it. Invariants: a document type, and with it every
//! entity of its own, is refused before it means anything; what is kept is bounded by the length of the text; every refusal names the
//! line.

use lwm2m_objects::{Kind, Operations, UNASSIGNED, Version};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{Model, Resource};

/// Bytes that one file may take. The longest one of the registry takes 25,000.
pub const LONGEST: usize = 1 << 20;
/// Elements that may be open at once; a definition has five.
const DEEPEST: usize = 16;
/// Bytes that a name, a unit or a range may take.
const LONGEST_TEXT: usize = 1024;
/// Resources that one object may have.
const MOST_RESOURCES: usize = 1024;

/// Why a text is no definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl core::fmt::Display for Invalid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl core::error::Error for Invalid {}

/// Reads the definitions of a file: one or more objects.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse(xml: &[u8]) -> Result<Vec<Model>, Invalid> {
    let first = |what| Err(Invalid { line: 1, what });
    if xml.len() > LONGEST {
        return first(format!("the file takes {} bytes, and at most {LONGEST} are read", xml.len()));
    }
    let text = match core::str::from_utf8(xml) {
        Ok(text) => text.trim_start_matches('\u{feff}'),
        Err(error) => {
            let what = "a byte that is not of UTF-8: save the file in that encoding".to_owned();
            return Err(Invalid { line: line(xml, error.valid_up_to()), what });
        }
    };
    let mut reader = Reader::from_str(text);
    let mut document = Document::default();
    loop {
        let taken = reader.read_event().map_err(|error| error.to_string()).and_then(|event| match event {
            Event::Eof => document.end().map(|()| true),
            event => document.take(&event).map(|()| false),
        });
        match taken {
            Ok(false) => {}
            Ok(true) => return Ok(document.models),
            Err(what) => {
                let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
                return Err(Invalid { line: line(text.as_bytes(), at), what });
            }
        }
    }
}

/// The line of a byte, counted from 1.
fn line(text: &[u8], at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1)
}

/// The elements of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Lwm2m,
    Object,
    Resources,
    Item,
    Field(Field),
    /// It says nothing here: descriptions, and what is unknown.
    Other,
}

/// The elements that hold a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    ObjectId,
    ObjectVersion,
    Lwm2mVersion,
    MultipleInstances,
    Mandatory,
    Operations,
    Type,
    Range,
    Units,
}

impl Field {
    const ALL: [(Self, &str); 10] = [
        (Self::Name, "Name"),
        (Self::ObjectId, "ObjectID"),
        (Self::ObjectVersion, "ObjectVersion"),
        (Self::Lwm2mVersion, "LWM2MVersion"),
        (Self::MultipleInstances, "MultipleInstances"),
        (Self::Mandatory, "Mandatory"),
        (Self::Operations, "Operations"),
        (Self::Type, "Type"),
        (Self::Range, "RangeEnumeration"),
        (Self::Units, "Units"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(field, _)| *field == self).map_or("", |(_, name)| name)
    }
}

impl Tag {
    fn of(name: &str) -> Self {
        match name {
            "LWM2M" => Self::Lwm2m,
            "Object" => Self::Object,
            "Resources" => Self::Resources,
            "Item" => Self::Item,
            name => {
                let field = Field::ALL.iter().find(|(_, known)| *known == name);
                field.map_or(Self::Other, |(field, _)| Self::Field(*field))
            }
        }
    }
}

/// What was read so far.
#[derive(Default)]
struct Document {
    open: Vec<Tag>,
    /// The text of the innermost element.
    text: String,
    object: Draft,
    item: Draft,
    models: Vec<Model>,
}

/// An object or a resource of which not everything was read.
#[derive(Default)]
struct Draft {
    id: Option<u16>,
    texts: Vec<(Field, String)>,
    resources: Vec<Resource>,
}

impl Document {
    fn take(&mut self, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Start(start) => self.open(start),
            Event::Empty(start) => {
                self.open(start)?;
                self.close()
            }
            Event::End(_) => self.close(),
            Event::Text(text) => self.append(text),
            Event::CData(text) => self.append(text),
            Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                Ok(Some(character)) => self.append(character.encode_utf8(&mut [0; 4])),
                Ok(None) => match quick_xml::escape::resolve_predefined_entity(reference) {
                    Some(text) => self.append(text),
                    None => Err(format!("the entity '{}' is none of XML itself", shortened(reference))),
                },
                Err(error) => Err(error.to_string()),
            },
            Event::DocType(_) => Err("a document type (DTD), which is not read: remove it".to_owned()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        let name = start.name().0;
        let tag = Tag::of(name);
        if self.open.is_empty() && tag != Tag::Lwm2m {
            let name = shortened(name);
            return Err(format!(
                "the file is about '{name}', and a definition is in 'LWM2M': leave the file out"
            ));
        }
        if self.open.is_empty() && !self.models.is_empty() {
            return Err("a second 'LWM2M' behind the first".to_owned());
        }
        if let Some(field) = self.field() {
            return Err(format!("'{}' in '{}', which holds a text alone", shortened(name), field.name()));
        }
        if self.open.len() >= DEEPEST {
            return Err(format!("more than {DEEPEST} elements in each other"));
        }
        self.open.push(tag);
        self.text.clear();
        match self.open.as_slice() {
            [Tag::Lwm2m, Tag::Object] => self.object = Draft::default(),
            [Tag::Lwm2m, Tag::Object, Tag::Resources, Tag::Item] => {
                let id = start.try_get_attribute("ID").map_err(|error| error.to_string())?;
                let id = id.ok_or("an 'Item' without its 'ID'")?;
                self.item = Draft { id: Some(number("the ID of an 'Item'", &id.value)?), ..Draft::default() };
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the innermost element is one whose text counts.
    fn field(&self) -> Option<Field> {
        match self.open.as_slice() {
            [Tag::Lwm2m, Tag::Object, Tag::Field(field)]
            | [Tag::Lwm2m, Tag::Object, Tag::Resources, Tag::Item, Tag::Field(field)] => Some(*field),
            _ => None,
        }
    }

    fn append(&mut self, text: &str) -> Result<(), String> {
        if let Some(field) = self.field() {
            self.text.push_str(text);
            if self.text.len() > LONGEST_TEXT {
                return Err(format!("'{}' takes more than {LONGEST_TEXT} bytes", field.name()));
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        if let Some(field) = self.field() {
            let draft = if self.open.len() == 3 { &mut self.object } else { &mut self.item };
            if draft.text(field).is_some() {
                return Err(format!("'{}' comes twice", field.name()));
            }
            let text = core::mem::take(&mut self.text);
            if field == Field::ObjectId {
                draft.id = Some(number("'ObjectID'", text.trim())?);
            }
            draft.texts.push((field, text.trim().to_owned()));
        }
        match self.open.as_slice() {
            [Tag::Lwm2m, Tag::Object, Tag::Resources, Tag::Item] => {
                let resource = core::mem::take(&mut self.item).resource()?;
                let resources = &mut self.object.resources;
                match resources.binary_search_by_key(&resource.id, |known| known.id) {
                    Ok(_) => return Err(format!("resource {} comes twice", resource.id)),
                    Err(_) if resources.len() >= MOST_RESOURCES => {
                        return Err(format!("more than {MOST_RESOURCES} resources in one object"));
                    }
                    Err(at) => resources.insert(at, resource),
                }
            }
            [Tag::Lwm2m, Tag::Object] => {
                let model = core::mem::take(&mut self.object).model()?;
                let is_same = |other: &Model| (other.id, other.version) == (model.id, model.version);
                if self.models.iter().any(is_same) {
                    return Err(format!("object {} comes twice with one version", model.id));
                }
                self.models.push(model);
            }
            _ => {}
        }
        self.open.pop();
        Ok(())
    }

    fn end(&self) -> Result<(), String> {
        if !self.open.is_empty() {
            return Err("the file ends in the middle of an element".to_owned());
        }
        if self.models.is_empty() {
            return Err("no 'Object' in the file".to_owned());
        }
        Ok(())
    }
}

impl Draft {
    fn text(&self, field: Field) -> Option<&str> {
        self.texts.iter().find(|(known, _)| *known == field).map(|(_, text)| text.as_str())
    }

    /// One of two words.
    fn choice(&self, of: &str, field: Field, [no, yes]: [&str; 2]) -> Result<bool, String> {
        match self.text(field) {
            Some(text) if text == yes => Ok(true),
            Some(text) if text == no => Ok(false),
            Some(text) => Err(format!("'{}' of {of} is '{}': {no} or {yes}", field.name(), shortened(text))),
            None => Err(format!("{of} has no '{}'", field.name())),
        }
    }

    fn is_multiple(&self, of: &str) -> Result<bool, String> {
        self.choice(of, Field::MultipleInstances, ["Single", "Multiple"])
    }

    fn is_mandatory(&self, of: &str) -> Result<bool, String> {
        self.choice(of, Field::Mandatory, ["Optional", "Mandatory"])
    }

    fn version(&self, field: Field) -> Result<Option<Version>, String> {
        let text = self.text(field).filter(|text| !text.is_empty());
        let version = text.map(|text| {
            Version::parse(text).ok_or_else(|| {
                format!("'{}' is '{}': two numbers up to 255 as in 1.0", field.name(), shortened(text))
            })
        });
        version.transpose()
    }

    fn owned(&self, field: Field) -> Box<str> {
        self.text(field).unwrap_or_default().into()
    }

    fn model(self) -> Result<Model, String> {
        let id = self.id.ok_or("an 'Object' without 'ObjectID'")?;
        let of = format!("object {id}");
        Ok(Model {
            id,
            version: self.version(Field::ObjectVersion)?.unwrap_or(Version::new(1, 0)),
            enabler: self.version(Field::Lwm2mVersion)?.unwrap_or(Version::new(1, 0)),
            name: self.owned(Field::Name),
            multiple: self.is_multiple(&of)?,
            mandatory: self.is_mandatory(&of)?,
            resources: self.resources.into(),
        })
    }

    fn resource(self) -> Result<Resource, String> {
        let id = self.id.ok_or("an 'Item' without its 'ID'")?;
        let of = format!("resource {id}");
        let operations = match self.text(Field::Operations).unwrap_or_default() {
            "" => Operations::NONE,
            "R" => Operations::R,
            "W" => Operations::W,
            "RW" => Operations::RW,
            "E" => Operations::E,
            other => {
                return Err(format!(
                    "'Operations' of {of} is '{}': R, W, RW, E or nothing",
                    shortened(other)
                ));
            }
        };
        let kind = match self.text(Field::Type).unwrap_or_default() {
            // One that is executed has no value, whatever is written there.
            _ if operations.is_executable() => Kind::Nothing,
            "String" => Kind::String,
            "Integer" => Kind::Integer,
            "Unsigned Integer" => Kind::Unsigned,
            "Float" => Kind::Float,
            "Boolean" => Kind::Boolean,
            "Opaque" => Kind::Opaque,
            "Time" => Kind::Time,
            "Objlnk" => Kind::ObjectLink,
            "Corelnk" => Kind::CoreLink,
            other => {
                return Err(format!(
                    "'Type' of {of} is '{}': String, Integer, Unsigned Integer, Float, Boolean, Opaque, Time, Objlnk \
                     or Corelnk",
                    shortened(other)
                ));
            }
        };
        Ok(Resource {
            id,
            name: self.owned(Field::Name),
            operations,
            multiple: self.is_multiple(&of)?,
            mandatory: self.is_mandatory(&of)?,
            kind,
            range: self.owned(Field::Range),
            units: self.owned(Field::Units),
        })
    }
}

/// An id: 65535 is none (LwM2M Core 1.2.1 §7.1).
fn number(of: &str, text: &str) -> Result<u16, String> {
    let wrong = || format!("{of} is '{}': a number from 0 to 65534", shortened(text));
    let is_digits = text.bytes().all(|digit| digit.is_ascii_digit());
    let id = text.parse().ok().filter(|id| is_digits && *id != UNASSIGNED);
    id.ok_or_else(wrong)
}

/// What was found, as much as fits into a line, without what drives a terminal.
fn shortened(text: &str) -> String {
    text.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    const RESOURCE: &str = "<Item ID=\"5\"><Name>Level &lt;&#x6d;&gt;</Name><Operations>RW</Operations>\
        <MultipleInstances>Single</MultipleInstances><Mandatory>Mandatory</Mandatory><Type>Unsigned Integer</Type>\
        <RangeEnumeration>0..9</RangeEnumeration><Units>m</Units><Description><b>any &amp;</b></Description></Item>";

    fn object(fields: &str, items: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!-- terms -->\n<LWM2M><Object ObjectType=\"MODefinition\">\n\
             <Name>Tank</Name>{fields}<MultipleInstances>Multiple</MultipleInstances><Mandatory>Optional</Mandatory>\n\
             <Resources>{items}</Resources><Description2/></Object></LWM2M>\n"
        )
    }

    fn refused(xml: &str) -> String {
        parse(xml.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_definition_is_read_with_all_that_is_said_of_its_resources() {
        let fields =
            "<ObjectID>33000</ObjectID><ObjectVersion>2.1</ObjectVersion><LWM2MVersion>1.1</LWM2MVersion>";
        let execute = "<Item ID=\"0\"><Name>Reset</Name><Operations>E</Operations><MultipleInstances>Single</MultipleInstances>\
            <Mandatory>Optional</Mandatory><Type></Type></Item>";
        let text = format!("\u{feff}{}", object(fields, &format!("{RESOURCE}{execute}")));
        let models = parse(text.as_bytes()).unwrap();
        let [model] = models.as_slice() else { unreachable!("{models:?}") };
        assert_eq!((model.id, model.version, model.enabler), (33000, Version::new(2, 1), Version::new(1, 1)));
        assert_eq!((&*model.name, model.multiple, model.mandatory), ("Tank", true, false));
        let [reset, level] = &*model.resources else { unreachable!("{model:?}") };
        assert_eq!((reset.id, reset.kind, reset.operations), (0, Kind::Nothing, Operations::E));
        assert_eq!(
            (&*level.name, level.kind, level.operations),
            ("Level <m>", Kind::Unsigned, Operations::RW)
        );
        assert_eq!((&*level.range, &*level.units, level.mandatory), ("0..9", "m", true));
        // Without a version it is 1.0.
        let model = parse(object("<ObjectID>7</ObjectID>", "").as_bytes()).unwrap().remove(0);
        assert_eq!((model.version, model.enabler), (Version::new(1, 0), Version::new(1, 0)));
    }

    #[test]
    fn a_document_type_is_refused_whatever_it_would_have_meant() {
        let laughs: String =
            (1..10).map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10))).collect();
        for dtd in [
            format!("<!DOCTYPE LWM2M [<!ENTITY l0 \"ha\">{laughs}]>"),
            "<!DOCTYPE LWM2M [<!ENTITY passwd SYSTEM \"file:///etc/passwd\">]>".to_owned(),
            "<!DOCTYPE LWM2M SYSTEM \"http://192.0.2.1/LWM2M.dtd\">".to_owned(),
        ] {
            let body = object("<ObjectID>7</ObjectID>", "").replace("Tank", "&l9;");
            assert_eq!(
                refused(&format!("{dtd}{body}")),
                "line 1: a document type (DTD), which is not read: remove it"
            );
        }
        for reference in ["&passwd;", "&l9;", "&#0;", "&#xd800;", "&"] {
            let text = refused(&object("<ObjectID>7</ObjectID>", "").replace("Tank", reference));
            assert!(text.starts_with("line 4: "), "{reference}: {text}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused_with_the_bound() {
        let deep = format!("<LWM2M>\n{}", "<a>".repeat(100_000));
        assert_eq!(refused(&deep), "line 2: more than 16 elements in each other");
        let huge = object("<ObjectID>7</ObjectID>", &" ".repeat(10 << 20));
        assert!(refused(&huge).ends_with("bytes, and at most 1048576 are read"), "{}", refused(&huge));
        let long = object("<ObjectID>7</ObjectID>", "").replace("Tank", &"T".repeat(1025));
        assert_eq!(refused(&long), "line 4: 'Name' takes more than 1024 bytes");
        let items: String =
            (0..=1024).map(|id| RESOURCE.replace("ID=\"5\"", &format!("ID=\"{id}\"")) + "\n").collect();
        assert!(
            refused(&object("<ObjectID>7</ObjectID>", &items))
                .ends_with("more than 1024 resources in one object")
        );
        // Attributes and namespaces by the thousand cost no more than their bytes.
        let attributes: String = (0..50_000).map(|n| format!(" xmlns:a{n}=\"{n}\"")).collect();
        let many =
            object("<ObjectID>7</ObjectID>", RESOURCE).replace("<LWM2M>", &format!("<LWM2M{attributes}>"));
        assert_eq!(parse(many.as_bytes()).map(|models| models.len()), Ok(1));
    }

    #[test]
    fn what_is_no_definition_is_refused_in_words() {
        let id = "<ObjectID>7</ObjectID>";
        let with = |from: &str, to: &str| refused(&object(id, RESOURCE).replace(from, to));
        for (xml, words) in [
            (String::new(), "line 1: no 'Object' in the file"),
            ("<LWM2M></LWM2M>".to_owned(), "line 1: no 'Object' in the file"),
            (
                "<DDFList/>".to_owned(),
                "line 1: the file is about 'DDFList', and a definition is in 'LWM2M': leave the file out",
            ),
            (object(id, "") + "<LWM2M/>", "line 6: a second 'LWM2M' behind the first"),
            (object("", ""), "line 5: an 'Object' without 'ObjectID'"),
            (object(&id.repeat(2), ""), "line 4: 'ObjectID' comes twice"),
            (object(id, &RESOURCE.repeat(2)), "line 5: resource 5 comes twice"),
            (object(id, "<Item/>"), "line 5: an 'Item' without its 'ID'"),
        ] {
            assert_eq!(refused(&xml), words);
        }
        for number in ["65535", "65536", "-1", "+1", "", "0x1", "1.0", "9999999999999999999999"] {
            let text = with(">7<", &format!(">{number}<"));
            assert_eq!(text, format!("line 4: 'ObjectID' is '{number}': a number from 0 to 65534"));
            let text = with("\"5\"", &format!("\"{number}\""));
            assert_eq!(text, format!("line 5: the ID of an 'Item' is '{number}': a number from 0 to 65534"));
        }
        for (from, to, words) in [
            ("Unsigned Integer", "Number", "line 5: 'Type' of resource 5 is 'Number': String, "),
            ("RW", "RX", "line 5: 'Operations' of resource 5 is 'RX': R, W, RW, E or nothing"),
            ("Single", "single", "line 5: 'MultipleInstances' of resource 5 is 'single': Single or Multiple"),
            ("Optional", "", "line 5: 'Mandatory' of object 7 is '': Optional or Mandatory"),
            ("<Mandatory>Mandatory</Mandatory>", "", "line 5: resource 5 has no 'Mandatory'"),
            (
                "</ObjectID>",
                "</ObjectID><ObjectVersion>1.256</ObjectVersion>",
                "line 5: 'ObjectVersion' is '1.256': two numbers",
            ),
            ("Tank", "a<b>x</b>c", "line 4: 'b' in 'Name', which holds a text alone"),
            (">m<", "><br/>m<", "line 5: 'br' in 'Units', which holds a text alone"),
            ("</Object>", "</Objekt>", "line 5: "),
            ("</LWM2M>", "", "line 6: the file ends in the middle of an element"),
        ] {
            let text = with(from, to);
            assert!(text.starts_with(words), "{text}");
        }
        let latin = object(id, "").replace("Tank", "T\u{e4}nk").into_bytes();
        let latin: Vec<u8> = latin.into_iter().filter(|byte| *byte != 0xc3).collect();
        assert_eq!(
            parse(&latin).unwrap_err().to_string(),
            "line 4: a byte that is not of UTF-8: save the file in that encoding"
        );
    }

    #[test]
    fn a_text_that_is_cut_anywhere_is_refused() {
        let whole = object("<ObjectID>7</ObjectID>", RESOURCE);
        let whole = whole.trim_end();
        for length in 0..whole.len() {
            assert!(parse(whole.as_bytes().get(..length).unwrap()).is_err(), "{length}");
        }
        assert!(parse(whole.as_bytes()).is_ok());
    }
}
