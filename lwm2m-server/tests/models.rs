//! Object definitions of an operator: from a folder and over HTTP, for devices with two versions of a vendor's object.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod common;
#[path = "common/thing.rs"]
mod thing;

use std::fs;
use std::path::Path;

use common::{Served, serve_arguments, server};
use lwm2m_client::objects::{At, Change, Error, Object, ObjectDef, Value as Wire, object};
use serde_json::{Value, json};
use thing::Thing;

object! {
    /// A tank of a vendor.
    FIRST = 33000 version 1.0, single, optional {
        1 RW S M Integer;
        2 RW S M String;
    }
}

object! {
    /// The same, where all is different.
    SECOND = 33000 version 2.0, single, optional {
        1 RW S M Time;
        2 RW S M Float;
    }
}

/// A tank in its first version.
struct First(i64, String);

impl Object for First {
    fn definition(&self) -> &'static ObjectDef {
        &FIRST
    }

    fn read(&self, at: At) -> Option<Wire<'_>> {
        Some(if at.resource == 1 { Wire::Integer(self.0) } else { Wire::String(&self.1) })
    }

    fn apply(&mut self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { value: Wire::Integer(level), .. } => self.0 = level,
            Change::Set { value: Wire::String(text), .. } => text.clone_into(&mut self.1),
            _ => {}
        }
        Ok(())
    }
}

/// In its second version.
struct Second(i64, f64);

impl Object for Second {
    fn definition(&self) -> &'static ObjectDef {
        &SECOND
    }

    fn read(&self, at: At) -> Option<Wire<'_>> {
        Some(if at.resource == 1 { Wire::Time(self.0) } else { Wire::Float(self.1) })
    }

    fn apply(&mut self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { value: Wire::Time(time), .. } => self.0 = time,
            Change::Set { value: Wire::Float(level), .. } => self.1 = level,
            _ => {}
        }
        Ok(())
    }
}

/// The registry's form of a tank.
fn tank(version: &str, types: [&str; 2]) -> String {
    let item = |id: usize, kind: &str| {
        format!(
            "<Item ID=\"{id}\"><Name>Level {id}</Name><Operations>RW</Operations><MultipleInstances>Single</MultipleInstances>\
             <Mandatory>Mandatory</Mandatory><Type>{kind}</Type><RangeEnumeration>0..9</RangeEnumeration><Units>m</Units></Item>"
        )
    };
    let [one, two] = types;
    format!(
        "<?xml version=\"1.0\"?>\n<LWM2M><Object><Name>Tank</Name><ObjectID>33000</ObjectID><ObjectVersion>{version}</ObjectVersion>\
         <MultipleInstances>Single</MultipleInstances><Mandatory>Optional</Mandatory>\n<Resources>{}{}</Resources></Object></LWM2M>",
        item(1, one),
        item(2, two)
    )
}

fn arguments(data: &Path, models: &Path) -> Vec<String> {
    let mut arguments = serve_arguments(data);
    arguments.extend(["--allow-nosec".to_owned(), "--models".to_owned(), models.display().to_string()]);
    arguments
}

fn said(served: &Served, arguments: &[&str]) -> (Option<i32>, String) {
    let output = served.ctl(arguments);
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn registered(served: &Served, name: &str) {
    served.client.until("the registration", || {
        let (_, answer) = served.call("GET", &format!("/devices/{name}"), None)?;
        (answer.pointer("/registered") == Some(&json!(true))).then_some(())
    });
}

/// What a Read in TLV, which does not tell types, is understood as.
fn read(served: &Served, name: &str) -> Value {
    let (status, answer) =
        served.call("GET", &format!("/devices/{name}/objects/33000/0?format=tlv"), None).unwrap();
    assert_eq!(status, 200, "{answer}");
    let values = answer["values"].as_array().unwrap();
    values.iter().map(|each| json!([each["type"], each["value"]])).collect()
}

fn write(served: &Served, name: &str, resources: &Value) {
    let body = json!({ "resources": resources });
    let (status, answer) =
        served.call("PUT", &format!("/devices/{name}/objects/33000/0"), Some(&body)).unwrap();
    assert_eq!(status, 204, "{answer}");
}

#[test]
fn values_have_the_types_of_the_version_that_their_device_registered() {
    let (folder, models) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(models.path().join("33000.xml"), tank("1.1", ["Integer", "String"])).unwrap();
    fs::write(models.path().join("README.md"), "no definition").unwrap();
    let served = Served::start_with(folder.path(), &arguments(folder.path(), models.path()));
    let _first = Thing::start("first", &served.addresses["coap"], First(5, "full".to_owned()), |_| None);
    let _second = Thing::start("second", &served.addresses["coap"], Second(7, 0.5), |_| None);
    for name in ["first", "second"] {
        registered(&served, name);
    }
    // 1.0 has what 1.1 has; of version 2 nothing is known.
    assert_eq!(read(&served, "first"), json!([["integer", 5], ["string", "full"]]));
    assert_eq!(read(&served, "second"), json!([["opaque", "07"], ["opaque", "3f000000"]]));
    // A text of digits: a bare number would not do without the type.
    write(&served, "first", &json!({ "1": 6, "2": 12 }));
    assert_eq!(read(&served, "first"), json!([["integer", 6], ["string", "12"]]));

    let file = folder.path().join("second.xml");
    fs::write(&file, tank("2.0", ["Time", "Float"])).unwrap();
    let file = file.display().to_string();
    let (code, text) = said(&served, &["models", "add", &file]);
    assert_eq!((code, text.as_str()), (Some(0), "object 33000 version 2.0 added\n"));
    assert_eq!(read(&served, "second"), json!([["time", 7], ["float", 0.5]]));
    write(&served, "second", &json!({ "1": 8, "2": 2 }));
    assert_eq!(read(&served, "second"), json!([["time", 8], ["float", 2.0]]));
    assert_eq!(read(&served, "first"), json!([["integer", 6], ["string", "12"]]), "it has the other version");

    // What was added is there after a crash, and is known before the devices come again.
    let addresses = served.addresses.clone();
    served.kill();
    let mut again = vec!["serve".to_owned(), "--data".to_owned(), folder.path().display().to_string()];
    addresses.iter().for_each(|(name, address)| again.extend([format!("--{name}"), address.clone()]));
    again.push("--allow-nosec".to_owned());
    let served = Served::start_with(folder.path(), &again);
    let (_, list) = said(&served, &["models", "list"]);
    assert!(list.contains("33000   2.0      Tank") && !list.contains("1.1      Tank"), "{list}");
    let _third = Thing::start("third", &served.addresses["coap"], Second(9, 1.5), |_| None);
    registered(&served, "third");
    assert_eq!(read(&served, "third"), json!([["time", 9], ["float", 1.5]]));
}

#[test]
fn definitions_are_listed_shown_and_replaced_and_those_of_files_are_not() {
    let (folder, models) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let in_file = models.path().join("device.xml");
    // In the place of the built-in one of the same version.
    let device = tank("1.2", ["Float", "Opaque"]).replace("33000", "3").replace("Tank", "Mine");
    fs::write(&in_file, &device).unwrap();
    let served = Served::start_with(folder.path(), &arguments(folder.path(), models.path()));
    let (code, list) = said(&served, &["models", "list"]);
    let row = list.lines().find(|line| line.starts_with("3 ")).unwrap();
    assert!(code == Some(0) && row.contains("Mine") && row.ends_with("device.xml"), "{list}");
    assert!(list.lines().any(|line| line.starts_with("3303") && line.ends_with("built-in")), "{list}");

    let file = folder.path().join("tank.xml");
    let add = |xml: &str| {
        fs::write(&file, xml).unwrap();
        said(&served, &["models", "add", &file.display().to_string()])
    };
    assert_eq!(add(&tank("1.0", ["Integer", "Integer"])).0, Some(0));
    assert_eq!(add(&tank("1.1", ["Integer", "String"])).0, Some(0));
    assert_eq!(add(&tank("1.0", ["Boolean", "Corelnk"])).0, Some(0));
    let (code, shown) = said(&served, &["models", "show", "33000", "--version", "1.0"]);
    assert_eq!(code, Some(0));
    for words in ["33000 Tank, version 1.0", "1   Level 1  RW          boolean", "corelnk", "0..9", "m"] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    let (status, newest) = served.call("GET", "/models/33000", None).unwrap();
    assert_eq!((status, &newest["version"], &newest["source"]), (200, &json!("1.1"), &json!("added")));
    assert_eq!(newest["resources"][1]["type"], "string", "{newest}");
    for (route, status) in
        [("/models/33000?version=3.0", 404), ("/models/33000?version=3", 400), ("/models/4711", 404)]
    {
        assert_eq!(served.call("GET", route, None).unwrap().0, status, "{route}");
    }

    // What is none is refused, and changes nothing.
    let before = served.call("GET", "/models", None).unwrap().1;
    let laughs = tank("1.0", ["Integer", "Integer"])
        .replace("<LWM2M>", "<!DOCTYPE LWM2M [<!ENTITY a \"&a;&a;\">]>\n<LWM2M>")
        .replace("Tank", "&a;");
    for (xml, words) in [
        (device.as_str(), "is defined in "),
        (laughs.as_str(), "line 2: a document type (DTD), which is not read"),
        (&tank("1.0", ["Integer", "Number"]), "line 3: 'Type' of resource 2 is 'Number'"),
        ("", "line 1: no 'Object' in the file"),
    ] {
        let (code, text) = add(xml);
        assert!(code != Some(0) && text.contains(words), "{text}");
    }
    let (status, answer) = served.call("POST", "/models", Some(&json!({ "id": 1 }))).unwrap();
    assert_eq!((status, &answer["title"]), (415, &json!("Not XML")), "{answer}");
    assert_eq!(served.call("GET", "/models", None).unwrap().1, before);
    let audit = served.call("GET", "/audit", None).unwrap().1.to_string();
    for row in ["object definition added", "object definition replaced", "object 33000 version 1.1"] {
        assert!(audit.contains(row), "{row} in {audit}");
    }
}

#[test]
fn the_server_does_not_start_with_a_file_that_is_none_and_says_why() {
    let (folder, models) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let good = models.path().join("a.xml");
    fs::write(&good, tank("1.0", ["Integer", "String"])).unwrap();
    let bad = models.path().join("b.xml");
    for (xml, words) in [
        (
            tank("1.0", ["Integer", "Number"]).replace("1.0\"?>", "1.0\"?>\n"),
            "b.xml:4: 'Type' of resource 2 is 'Number'",
        ),
        (tank("1.0", ["Time", "Time"]), "both define object 33000 version 1.0: remove one"),
        ("<DDFList/>".to_owned(), "b.xml:1: the file is about 'DDFList'"),
        (" ".repeat(2 << 20), "b.xml:1: the file takes 1048577 bytes, and at most 1048576 are read"),
    ] {
        fs::write(&bad, xml).unwrap();
        let output = server(&arguments(folder.path(), models.path()));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && text.contains(words), "{text}");
        assert!(output.stdout.is_empty(), "no socket was opened");
    }
    let output = server(&arguments(folder.path(), &models.path().join("missing")));
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing cannot be read"));
}
