//! A device maker's own object: a pump with a target flow, a running time, an emergency stop and a slow self-test.
//!
//! `cargo run --example pump -- coap://127.0.0.1:5683` registers it with a server. Everything that is special to the
//! product is in `Pump`; the rest is the runner.

use std::time::{Duration, Instant};

use lwm2m_client::objects::{
    Arguments, At, Change, Completion, Error, Object, ObjectDef, Path, Value, object, path,
};
use lwm2m_client::simulated::Device;
use lwm2m_client::{Config, FactoryAccount, Runner, Server, ShortServerId, Store, provision};

object! {
    /// A pump: an object in the range for private use.
    PUMP = 42769 version 1.0, single, optional {
        0 R  S M Float;                 // flow, in litres a minute
        1 RW S M Integer in 0, 120;     // target flow
        2 R  S M Integer;               // running time, in seconds
        3 E  S M Nothing;               // emergency stop
        4 E  S O Nothing;               // self-test, which takes a while
        5 RW S O String in 0, 32;       // where it stands
    }
}

/// How long a self-test takes.
const SELF_TEST: Duration = Duration::from_secs(3);

/// The product.
struct Pump {
    flow: f64,
    target: i64,
    seconds: i64,
    place: String,
    self_test: Option<Instant>,
}

impl Pump {
    /// A second has passed: the flow comes nearer to its target. What changed.
    fn tick(&mut self) -> Option<Path> {
        #[expect(clippy::cast_precision_loss, reason = "at most 120")]
        let difference = self.target as f64 - self.flow;
        if self.flow > 0.0 {
            self.seconds = self.seconds.saturating_add(1);
        }
        if difference.abs() < 0.1 {
            return None;
        }
        self.flow += difference.clamp(-5.0, 5.0);
        Some(path!("/42769/0/0"))
    }

    /// Whether a self-test came to its end.
    fn take_tested(&mut self) -> bool {
        self.self_test.take_if(|started| started.elapsed() >= SELF_TEST).is_some()
    }
}

impl Object for Pump {
    fn definition(&self) -> &'static ObjectDef {
        &PUMP
    }

    fn has(&self, _: u16, resource: u16) -> bool {
        resource <= 4 || !self.place.is_empty()
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        match at.resource {
            0 => Some(Value::Float(self.flow)),
            1 => Some(Value::Integer(self.target)),
            2 => Some(Value::Integer(self.seconds)),
            5 if !self.place.is_empty() => Some(Value::String(&self.place)),
            _ => None,
        }
    }

    // Types and ranges were checked against the table; what only the product knows is checked here, before anything of
    // the request is applied.
    fn validate(&self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match change {
            Change::Set { resource: 1, value: Value::Integer(1..5), .. } => Err(Error::BadRequest),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 1, value: Value::Integer(target), .. } => self.target = target,
            Change::Set { resource: 5, value: Value::String(place), .. } => self.place = place.into(),
            Change::Reset { resource: 1 } => self.target = 0,
            Change::Reset { resource: 5 } => self.place.clear(),
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(())
    }

    fn execute(&mut self, _: u16, resource: u16, _: Arguments<'_>) -> Result<Completion, Error> {
        match resource {
            3 => {
                self.target = 0;
                self.flow = 0.0;
                Ok(Completion::Done)
            }
            4 if self.self_test.is_some() => Err(Error::Unavailable),
            4 => {
                self.self_test = Some(Instant::now());
                // The server is answered when `Client::complete` says that it is done.
                Ok(Completion::Deferred)
            }
            _ => Err(Error::MethodNotAllowed),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let uri = std::env::args().nth(1).unwrap_or_else(|| "coap://127.0.0.1:5683".into());
    let server = Server::new(0, ShortServerId::FIRST, 300);
    let mut store = Store::in_memory();
    provision(&[FactoryAccount::server(0, &uri, server, None)], &mut |action| store.apply(action))?;

    let mut runner = Runner::new(Config::new("pump-1"), store);
    let mut device = Device::new("pump-1");
    let mut pump = Pump { flow: 0.0, target: 30, seconds: 0, place: String::new(), self_test: None };
    let mut ticked = Instant::now();
    loop {
        if ticked.elapsed() >= Duration::from_secs(1) {
            ticked = Instant::now();
            if let Some(path) = pump.tick() {
                runner.client().changed(path);
            }
        }
        if pump.take_tested() {
            runner.client().complete(path!("/42769/0/4"), Ok(()));
        }
        let mut objects: [&mut dyn Object; 2] = [&mut device, &mut pump];
        for notice in runner.turn(&mut objects, Duration::from_millis(200)) {
            tracing::info!("{notice:?}");
        }
    }
}
