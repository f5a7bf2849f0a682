//! A device without a network for a while: what was due meanwhile reaches our server and the reference implementation's,
//! Leshan 2.0.0-M18, in order.

use std::time::{Duration, Instant, SystemTime};

use interop_tests::leshan;
use interop_tests::ours;
use lwm2m_client::objects::ready::{Device, Sensor};
use lwm2m_client::objects::{Object, defs, path};
use lwm2m_client::{Config, FactoryAccount, Notice, Runner, Server, ShortServerId, Store, provision};
use serde_json::{Value, json};

/// A device with a thermometer.
struct Thermometer {
    runner: Runner<'static>,
    device: Device<'static>,
    temperature: Sensor,
}

impl Thermometer {
    fn new(endpoint: &'static str, uri: &str) -> Self {
        let mut store = Store::in_memory();
        let account = FactoryAccount::server(0, uri, Server::new(0, ShortServerId::FIRST, 300), None);
        provision(&[account], &mut |action| store.apply(action)).expect("memory takes it");
        let runner = Runner::new(Config::new(endpoint), store);
        let temperature = Sensor::new(&defs::TEMPERATURE, "Cel", 20.0);
        Thermometer { runner, device: Device::new("U"), temperature }
    }

    /// One turn of at most a tenth of a second; whether that was among what happened.
    fn turn(&mut self, is_it: impl Fn(&Notice) -> bool) -> bool {
        let mut objects: [&mut dyn Object; 2] = [&mut self.device, &mut self.temperature];
        self.runner.turn(&mut objects, Duration::from_millis(100)).iter().any(is_it)
    }

    fn register(&mut self) {
        while !self.turn(|notice| matches!(notice, Notice::Registered { .. })) {}
    }

    /// Measures while there is no network, a second apart.
    fn measure_offline(&mut self, values: &[f64]) {
        self.runner.set_offline(true);
        for value in values {
            assert!(self.temperature.measured(*value));
            self.runner.client().changed(path!("/3303/0/5700"));
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(1) {
                self.turn(|_| false);
            }
            assert!(self.runner.sent().is_empty());
        }
        self.runner.set_offline(false);
    }

    /// Takes turns while `ask` waits for something in a thread of its own.
    fn turn_while<T: Send>(&mut self, ask: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let asked = scope.spawn(ask);
            while !asked.is_finished() {
                self.turn(|_| false);
            }
            asked.join().expect("what was asked was answered")
        })
    }
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}

#[test]
fn our_server_is_told_what_happened_while_the_device_had_no_network() {
    let mut server = ours::Server::start(&["--allow-nosec"]);
    let mut device = Thermometer::new("away", &server.uri());
    device.register();
    let observe = json!({ "path": "/3303/0/5700", "format": "senml-cbor" });
    let asked = &mut server;
    device.turn_while(move || asked.must("POST", "/devices/away/observations", &observe));
    let mut last = now_ms();
    device.measure_offline(&[21.0, 22.0, 23.0]);
    for value in ["21", "22", "23"] {
        let told = device.turn_while(|| server.wait_for(&["notification", "/3303/0/5700"]));
        let (_, data) = told.split_once(' ').expect("name and data");
        let data: Value = serde_json::from_str(data).expect("JSON");
        // Its age tells when it was measured: before it came, and one after the other.
        let time = data.pointer("/values/0/time_ms").and_then(Value::as_i64).expect("the time of the value");
        assert!(time > last && time < now_ms(), "{last} {data}");
        last = time;
        assert_eq!(
            data.pointer("/values/0/value").map(Value::to_string).as_deref(),
            Some(&*format!("{value}.0"))
        );
    }
}

#[test]
fn leshans_server_is_told_what_happened_while_the_device_had_no_network() {
    let Some(mut server) = leshan::Server::start() else { return };
    let mut device = Thermometer::new("away", &server.uri());
    device.register();
    server.wait_for("registered away");
    let observed = device.turn_while(|| server.ask("observe away /3303/0/5700 SENML_CBOR"));
    assert!(observed.starts_with("205"), "{observed}");
    device.measure_offline(&[21.0, 22.0, 23.0]);
    for value in ["21.0", "22.0", "23.0"] {
        let told = device.turn_while(|| server.wait_for("notified away /3303/0/5700 205"));
        assert!(told.contains(value), "{value}: {told}");
    }
}
