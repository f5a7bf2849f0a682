//! Observations that last, as an operator asks for them, with devices of this project over UDP on loopback.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod common;
#[path = "common/thing.rs"]
mod thing;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Client, Served, serve_arguments};
use lwm2m_client::objects::{At, Object, ObjectDef, Value as Wire, defs, path};
use serde_json::{Value, json};
use thing::Thing;

/// A temperature that rises at each turn, as long as it can be measured.
#[derive(Default)]
struct Meter(f64, Arc<AtomicBool>);

impl Object for Meter {
    fn definition(&self) -> &'static ObjectDef {
        &defs::TEMPERATURE
    }

    fn has(&self, _: u16, resource: u16) -> bool {
        resource == 5701 || resource == 5700 && !self.1.load(Ordering::Relaxed)
    }

    fn read(&self, at: At) -> Option<Wire<'_>> {
        match at.resource {
            5700 => (!self.1.load(Ordering::Relaxed)).then_some(Wire::Float(self.0)),
            5701 => Some(Wire::String("Cel")),
            _ => None,
        }
    }
}

fn meter(name: &str, served: &Served) -> Thing {
    meter_with(name, served, Meter::default())
}

fn meter_with(name: &str, served: &Served, meter: Meter) -> Thing {
    let thing = Thing::start(name, &served.addresses["coap"], meter, |meter| {
        meter.0 += 0.5;
        Some(path!("/3303/0/5700"))
    });
    served.client.until("the registration", || {
        (get(&served.client, &format!("/devices/{name}"))["registered"] == true).then_some(())
    });
    thing
}

fn serve(data: &Path) -> Served {
    let mut arguments = serve_arguments(data);
    arguments.push("--allow-nosec".to_owned());
    Served::start_with(data, &arguments)
}

fn serve_at(data: &Path, addresses: &HashMap<String, String>) -> Served {
    let mut arguments = vec!["serve".to_owned(), "--data".to_owned(), data.display().to_string()];
    for (name, address) in addresses {
        arguments.extend([format!("--{name}"), address.clone()]);
    }
    arguments.push("--allow-nosec".to_owned());
    Served::start_with(data, &arguments)
}

fn get(client: &Client, route: &str) -> Value {
    client.call("GET", route, None).unwrap().1
}

fn post(served: &Served, name: &str, body: &Value) -> (u16, Value) {
    served.call("POST", &format!("/devices/{name}/observations"), Some(body)).unwrap()
}

/// Observes, and answers the id.
fn observed(served: &Served, name: &str, body: &Value) -> u64 {
    let (status, answer) = post(served, name, body);
    assert_eq!((status, &answer["lasting"]), (201, &json!(true)), "{answer}");
    assert!(!answer["values"].as_array().unwrap().is_empty(), "{answer}");
    answer["id"].as_u64().unwrap()
}

/// Id and state of what is observed of a device.
fn states(client: &Client, name: &str) -> Vec<(u64, String)> {
    let list = get(client, &format!("/devices/{name}/observations"));
    let each = list["observations"].as_array().into_iter().flatten();
    each.map(|one| (one["id"].as_u64().unwrap(), one["state"].as_str().unwrap().to_owned())).collect()
}

/// The events of a device from now on, for a minute at most.
struct Events(Box<dyn Iterator<Item = (String, Value)>>);

impl Events {
    fn of(client: &Client) -> Self {
        let mut lines = client.stream("/events", Duration::from_secs(60)).map_while(Result::ok);
        Self(Box::new(std::iter::from_fn(move || {
            let name = lines.find_map(|line| line.strip_prefix("event: ").map(str::to_owned))?;
            let data = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned))?;
            Some((name, serde_json::from_str(&data).unwrap()))
        })))
    }

    fn until(&mut self, name: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
        let found = self.0.find(|(other, data)| other == name && is_meant(data));
        found.unwrap_or_else(|| unreachable!("{name} did not come")).1
    }
}

#[test]
fn after_kill_9_every_observation_notifies_again_under_its_id_without_being_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let devices = ["one", "two", "three"].map(|name| (name, meter(name, &served)));
    let wanted = [
        json!({ "path": "/3303/0/5700", "attributes": { "pmin": 1, "pmax": 2 } }),
        json!({ "paths": ["/3303/0/5701", "/1/0/1"], "attributes": { "pmax": 1 } }),
    ];
    let mut ids = HashMap::new();
    for (name, _) in &devices {
        ids.insert(*name, wanted.each_ref().map(|body| observed(&served, name, body)));
    }
    // What was deleted stays deleted.
    let deleted = observed(&served, "one", &json!({ "path": "/1/0/1" }));
    let route = format!("/devices/one/observations?id={deleted}");
    assert_eq!(served.call("DELETE", &route, None).unwrap().0, 204);
    assert_eq!(served.call("DELETE", &route, None).unwrap().0, 404);

    let addresses = served.addresses.clone();
    served.kill();
    let served = serve_at(folder.path(), &addresses);
    for (name, [single, _]) in &ids {
        assert_eq!(states(&served.client, name).len(), 2, "they are known before the device comes");
        assert!(states(&served.client, name).contains(&(*single, "waiting".to_owned())));
    }
    let mut events = Events::of(&served.client);
    devices.iter().for_each(|(_, device)| device.update());
    // The first value of each answers the Observe, and the next one comes by itself.
    let mut missing: HashMap<(String, u64), u32> =
        ids.iter().flat_map(|(name, ids)| ids.map(|id| (((*name).to_owned(), id), 2))).collect();
    while !missing.is_empty() {
        let told = events.until("notification", |_| true);
        let key = (told["endpoint"].as_str().unwrap().to_owned(), told["observation"].as_u64().unwrap());
        assert!(key.1 != deleted && ids[key.0.as_str()].contains(&key.1), "{told}");
        if let Some(left) = missing.get_mut(&key) {
            *left -= 1;
            if *left == 0 {
                missing.remove(&key);
            }
        }
    }
    for (name, [single, several]) in ids {
        let standing = |id| (id, "standing".to_owned());
        assert_eq!(states(&served.client, name), [standing(single), standing(several)]);
        let links = get(&served.client, &format!("/devices/{name}/discover/3303/0/5700"));
        assert_eq!(links["links"][0]["attributes"]["pmax"], "2", "they are written again: {links}");
    }
}

/// How many requests went to devices.
fn asked(served: &Served) -> String {
    let metrics = get(&served.client, "/metrics");
    let count = metrics.as_str().unwrap().lines().find(|line| line.starts_with("lwm2m_requests_sent_total "));
    count.unwrap().to_owned()
}

#[test]
fn what_a_device_ends_by_itself_is_asked_again_when_it_registers_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let is_broken = Arc::new(AtomicBool::new(false));
    let device = meter_with("one", &served, Meter(0.0, Arc::clone(&is_broken)));
    let id = observed(&served, "one", &json!({ "path": "/3303/0/5700" }));
    let mut events = Events::of(&served.client);
    is_broken.store(true, Ordering::Relaxed);
    let ended = events.until("observation-ended", |_| true);
    assert_eq!((&ended["observation"], &ended["lasting"]), (&json!(id), &json!(true)));
    let began = std::time::Instant::now();
    while states(&served.client, "one") != [(id, "refused".to_owned())] {
        assert!(began.elapsed() < Duration::from_secs(30), "the state did not come");
        // It is written behind the event, and no other one tells of it.
        std::thread::sleep(Duration::from_millis(10));
    }
    let before = asked(&served);
    is_broken.store(false, Ordering::Relaxed);
    device.update();
    events.until("updated", |_| true);
    // Somebody else asks: whatever was to be asked before that was asked by now.
    let read = served.call("GET", "/devices/one/objects/3303/0/5701", None).unwrap();
    assert_eq!(read.0, 200, "{}", read.1);
    assert_eq!(states(&served.client, "one"), [(id, "refused".to_owned())]);
    let one_more = before.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap().saturating_add(1);
    assert_eq!(asked(&served), format!("lwm2m_requests_sent_total {one_more}"));
    device.reboot();
    events.until("observation-stands", |told| told["observation"] == id);
    assert_eq!(states(&served.client, "one"), [(id, "standing".to_owned())]);
}

#[test]
fn a_device_that_reboots_is_observed_again_and_one_that_updates_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let device = meter("one", &served);
    let id =
        observed(&served, "one", &json!({ "path": "/3303/0/5700", "attributes": { "gt": 10, "pmin": 0 } }));
    assert_eq!(
        observed(&served, "one", &json!({ "path": "/3303/0/5700" })),
        id,
        "the same place is the same one"
    );
    let mut events = Events::of(&served.client);
    device.update();
    events.until("updated", |_| true);
    let before = asked(&served);
    device.reboot();
    events.until("registered", |_| true);
    let stands = events.until("observation-stands", |_| true);
    assert_eq!((&stands["endpoint"], &stands["observation"]), (&json!("one"), &json!(id)));
    assert_ne!(asked(&served), before);
    for _ in 0..2 {
        events.until("notification", |told| told["observation"] == id);
    }

    // Ended by whoever wants it for a while, it would be gone.
    let (status, answer) = post(&served, "one", &json!({ "path": "/3303/0/5700", "lasting": false }));
    assert_eq!(status, 409, "{answer}");
    assert!(answer["detail"].as_str().unwrap().starts_with(&format!("observation {id} ")), "{answer}");
    // One that does not last is gone with the registration.
    let (status, passing) = post(&served, "one", &json!({ "path": "/3303/0/5701", "lasting": false }));
    assert_eq!((status, states(&served.client, "one").len()), (201, 2), "{passing}");
    device.reboot();
    events
        .until("observation-ended", |told| told["observation"] == passing["id"] && told["lasting"] == false);
    events.until("observation-stands", |told| told["observation"] == id);
    assert_eq!(states(&served.client, "one"), [(id, "standing".to_owned())]);
}

#[test]
fn over_a_planned_restart_what_stands_is_not_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = serve(folder.path());
    let _device = meter("one", &served);
    let id = observed(&served, "one", &json!({ "path": "/3303/0/5700" }));
    let pid = served.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
    let served = serve_at(folder.path(), &served.addresses);
    let mut events = Events::of(&served.client);
    for _ in 0..3 {
        events.until("notification", |told| told["observation"] == id);
    }
    assert_eq!(states(&served.client, "one"), [(id, "standing".to_owned())]);
    let metrics = get(&served.client, "/metrics");
    assert!(metrics.as_str().unwrap().contains("lwm2m_requests_sent_total 0\n"), "{metrics}");
}

#[test]
fn what_a_device_refuses_is_told_once_for_each_register_and_what_it_refuses_at_once_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let device = meter("one", &served);
    let missing = json!({ "path": "/3303/7/5700" });
    let (status, answer) = post(&served, "one", &missing);
    assert_eq!((status, &answer["device_code"]), (404, &json!("4.04")), "{answer}");
    assert!(states(&served.client, "one").is_empty());

    let mut events = Events::of(&served.client);
    // It is kept before anybody is asked.
    let (status, kept) =
        served.call("POST", "/devices/one/observations?queue=always", Some(&missing)).unwrap();
    assert_eq!((status, &kept["state"]), (202, &json!("waiting")), "{kept}");
    let good = observed(&served, "one", &json!({ "path": "/3303/0/5700" }));
    let refused = |told: &Value| told["observation"] == kept["id"];
    let told = events.until("observation-refused", refused);
    assert!(told["reason"].as_str().unwrap().contains("4.04"), "{told}");
    for _ in 0..2 {
        device.update();
        events.until("updated", |_| true);
        device.reboot();
        // Between two Registers there is one, in whatever order the two are asked.
        let mut count = 0;
        let mut stands = false;
        while count == 0 || !stands {
            let (name, told) = events.0.next().unwrap();
            stands |= name == "observation-stands" && told["observation"] == good;
            count += u32::from(name == "observation-refused" && refused(&told));
        }
        assert_eq!(count, 1);
    }
    let route = format!("/devices/one/observations/{}", kept["id"]);
    let shown = get(&served.client, &route);
    assert_eq!(shown["state"], "refused");
    assert!(shown["reason"].as_str().unwrap().contains("4.04"), "{shown}");
    let list = served.ctl(&["observe", "one"]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains("refused") && list.contains("standing") && list.contains("4.04"), "{list}");
    let id = kept["id"].to_string();
    assert_eq!(served.ctl(&["observe", "one", "--cancel", &id]).status.code(), Some(0));
    assert_eq!(states(&served.client, "one"), [(good, "standing".to_owned())]);
}

#[test]
fn a_device_that_is_not_registered_is_waited_for_and_bounds_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let wanted = json!({ "path": "/3303/0/5700" });
    assert_eq!(post(&served, "nobody", &wanted).0, 404);
    let enrol = json!({ "allow_nosec": true });
    let (status, answer) = served.call("PUT", "/devices/one/credentials", Some(&enrol)).unwrap();
    assert_eq!(status, 200, "{answer}");
    let (status, kept) = post(&served, "one", &wanted);
    assert_eq!((status, &kept["state"]), (202, &json!("waiting")), "{kept}");
    for resource in 0..63 {
        assert_eq!(post(&served, "one", &json!({ "path": format!("/3/0/{resource}") })).0, 202);
    }
    let (status, answer) = post(&served, "one", &json!({ "path": "/3/0/63" }));
    assert_eq!(status, 429, "{answer}");
    assert!(answer["detail"].as_str().unwrap().starts_with("64 lasting observations"), "{answer}");
    for (body, words) in [
        (json!({}), "what to observe"),
        (json!({ "path": "/" }), "at least an object"),
        (json!({ "path": "/3", "paths": ["/3"] }), "what to observe"),
        (json!({ "paths": [] }), "1 to 256 places"),
        (json!({ "path": "/3", "attributes": { "pmin": -1 } }), "seconds, 0 or more"),
        (json!({ "path": "/3", "attributes": { "pmin": null } }), "is a number"),
        (json!({ "path": "/3", "attributes": { "dim": 1 } }), "unknown attribute 'dim'"),
        (json!({ "path": "/3", "attributes": { "gt": 1 }, "lasting": false }), "that lasts"),
    ] {
        let (status, answer) = post(&served, "one", &body);
        assert_eq!(status, 400, "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(words), "{answer}");
    }
    let mut events = Events::of(&served.client);
    let _device = meter("one", &served);
    events.until("observation-stands", |told| told["observation"] == kept["id"]);
    // Of what it does not have each is told.
    for _ in 0..63 {
        events.until("observation-refused", |_| true);
    }
    let states = states(&served.client, "one");
    assert_eq!(states.iter().filter(|(_, state)| state == "refused").count(), 63, "{states:?}");
}

#[test]
fn lwm2mctl_goes_on_following_when_the_device_registers_anew() {
    use std::io::BufRead as _;
    let folder = tempfile::tempdir().unwrap();
    let served = serve(folder.path());
    let device = meter("one", &served);
    let mut ctl = common::binary(env!("CARGO_BIN_EXE_lwm2mctl"))
        .args(["--url", &format!("http://{}", served.client.http), "--token", &served.client.token, "--json"])
        .args(["observe", "one", "/3303/0/5700", "--attribute", "pmin=0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(ctl.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let id = next()["id"].clone();
    let mut events = Events::of(&served.client);
    device.reboot();
    events.until("observation-stands", |_| true);
    let value = |told: &Value| told["values"][0]["value"].as_f64().unwrap();
    let stood = events.until("notification", |_| true);
    let mut told = next();
    while value(&told) <= value(&stood) {
        assert_eq!(told["observation"], id);
        told = next();
    }
    ctl.kill().unwrap();
    ctl.wait().unwrap();
}
