//! Bytes on air: what a device and the server of this project really send each other, beside the published recipe.

use std::sync::Arc;
use std::time::Duration;

use interop_tests::load::{Device, Objects, Order, Plan, Report};
use lwm2m_server::{Operation, Path};
use tokio::sync::mpsc;

use crate::server::{KEY, address, start_for};
use crate::table::Table;

/// 15 characters, as the recipe wants.
const ENDPOINT: &str = "urn:imei:123456";

/// Bytes up and down of one exchange.
#[derive(Clone, Copy, Default)]
struct Bytes {
    up: usize,
    down: usize,
}

pub(crate) async fn measure() -> Table {
    let mut table = Table::new("Bytes on air (UDP payload, up/down)", &["what", "measured", "goal"]);
    let [plain, secured] = [exchange(false).await, exchange(true).await];
    let pair = |bytes: Bytes| format!("{}/{}", bytes.up, bytes.down);
    table.row(["handshake with cookie, both ways".into(), sum(secured.handshake), "472".into()]);
    table.row(["Register, NoSec".into(), pair(plain.register), "84/16".into()]);
    table.row(["Register, DTLS".into(), pair(secured.register), "110/42".into()]);
    table.row(["Update, NoSec".into(), pair(plain.update), "16/8".into()]);
    table.row(["Update, DTLS".into(), pair(secured.update), "42/34".into()]);
    table.row(["notification, text of 4 characters, NoSec".into(), plain.text.up.to_string(), "16".into()]);
    table.row(["notification, text of 4 characters, DTLS".into(), secured.text.up.to_string(), "42".into()]);
    table.row([
        "notification, SenML CBOR of one float, NoSec".into(),
        plain.cbor.up.to_string(),
        "35".into(),
    ]);
    table.row([
        "notification, SenML CBOR of one float, DTLS".into(),
        secured.cbor.up.to_string(),
        "61".into(),
    ]);
    table.note(
        "Real datagrams between the client and the server of this project: endpoint and identity of 15 characters, \
         `lt=86400`, objects 1, 3, 4 and 5 for Register and Update, 1, 3 and 3303 for notifications.",
    );
    table
}

fn sum(bytes: Bytes) -> String {
    (bytes.up + bytes.down).to_string()
}

#[derive(Default)]
struct Exchanges {
    handshake: Bytes,
    register: Bytes,
    update: Bytes,
    text: Bytes,
    cbor: Bytes,
}

async fn exchange(is_secure: bool) -> Exchanges {
    let key = is_secure.then(|| KEY.to_vec());
    let mut exchanges = Exchanges::default();

    let running = start_for(ENDPOINT, is_secure).await;
    let plan =
        Plan { server: address(&running), key: key.clone(), lifetime: 86_400, objects: Objects::Recipe };
    let (reports, mut heard) = mpsc::unbounded_channel();
    let device = Device::start(Arc::new(plan), ENDPOINT.to_owned(), 0, true, reports);
    let datagrams = until(&mut heard, |report| matches!(report, Report::Registered(_))).await;
    // The last two are Register and its answer.
    let (handshake, register) = datagrams.split_at(datagrams.len().saturating_sub(2));
    exchanges.handshake = total(handshake);
    exchanges.register = total(register);
    device.order(Order::Update).await;
    exchanges.update = total(&until(&mut heard, |report| matches!(report, Report::Updated(_))).await);
    drop(device);

    for (format, value, exchange) in [(0, 21.5, &mut exchanges.text), (112, 21.5, &mut exchanges.cbor)] {
        let running = start_for(ENDPOINT, is_secure).await;
        let plan =
            Plan { server: address(&running), key: key.clone(), lifetime: 86_400, objects: Objects::Sensor };
        let (reports, mut heard) = mpsc::unbounded_channel();
        let device = Device::start(Arc::new(plan), ENDPOINT.to_owned(), 0, true, reports);
        until(&mut heard, |report| matches!(report, Report::Registered(_))).await;
        let observe = Operation::Observe { path: Path::resource(3303, 0, 5700), format: Some(format) };
        let observed = running.server.request(ENDPOINT, observe, Duration::from_secs(20)).await;
        assert!(observed.is_ok(), "the device is observed: {observed:?}");
        while heard.try_recv().is_ok() {}
        device.order(Order::Measure(value)).await;
        *exchange = total(&until(&mut heard, |report| matches!(report, Report::Sent(_))).await);
    }
    exchanges
}

/// The datagrams up to the report that ends the wait; positive up, negative down.
async fn until(
    heard: &mut mpsc::UnboundedReceiver<(usize, Report)>,
    is_end: impl Fn(&Report) -> bool,
) -> Vec<Report> {
    let mut datagrams = Vec::new();
    let wait = async {
        while let Some((_, report)) = heard.recv().await {
            if matches!(report, Report::Sent(_) | Report::Received(_)) {
                datagrams.push(report);
            }
            if is_end(&report) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("the device and the server understand each other");
    datagrams
}

fn total(datagrams: &[Report]) -> Bytes {
    datagrams.iter().fold(Bytes::default(), |bytes, report| match report {
        Report::Sent(length) => Bytes { up: bytes.up + length, ..bytes },
        Report::Received(length) => Bytes { down: bytes.down + length, ..bytes },
        _ => bytes,
    })
}
