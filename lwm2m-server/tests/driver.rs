//! The driver on loopback: sockets, the handle, events, and a stop.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

use std::sync::Arc;
use std::time::Duration;

use lwm2m_coap::{Code, Header, Kind, OptionNumber, Room, Writer, udp};
use lwm2m_server::credentials::{Credentials, Settings};
use lwm2m_server::driver::{self, Addresses};
use lwm2m_server::store::{RedbStore, Sealer};
use lwm2m_server::{Event, RequestError, Value};
use tokio::net::UdpSocket;

#[tokio::test]
async fn a_device_registers_over_udp_is_read_and_the_driver_ends_with_its_handles() {
    let store = RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap();
    let settings = Settings { allow_nosec: true, ..Settings::default() };
    let credentials = Arc::new(Credentials::open(Arc::new(store), settings).unwrap());
    let addresses = Addresses { coap: Some("127.0.0.1:0".parse().unwrap()), ..Addresses::default() };
    let running =
        driver::start(driver::Settings { addresses, ..Default::default() }, credentials).await.unwrap();
    let server = running.server;
    let mut events = server.events();

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(running.addresses.coap.unwrap()).await.unwrap();
    let device = tokio::spawn(async move {
        let register = b"\x40\x02\x12\x34\xb2rd\x11\x28\x34ep=a\x07lt=3600\x09lwm2m=1.1\xff</3/0>".as_slice();
        // Longer than any message: the driver drops it before the endpoint sees it.
        socket.send(&[0; 4000]).await.unwrap();
        // The option deltas: Uri-Path 11, Content-Format 12, Uri-Query 15.
        socket.send(register).await.unwrap();
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).await.unwrap();
        let (_, answer) = udp::parse(&buffer[..length]).unwrap();
        assert_eq!(answer.code, Code::CREATED);

        let length = socket.recv(&mut buffer).await.unwrap();
        let (header, asked) = udp::parse(&buffer[..length]).unwrap();
        let mut out = [0; 200];
        let mut writer = Writer::new(&mut out, Room::NONE, Code::CONTENT);
        writer.option(OptionNumber::CONTENT_FORMAT, &[]).unwrap();
        writer.payload(b"95").unwrap();
        let header = Header { kind: Kind::Acknowledgement, id: header.id };
        let range = writer.finish().unwrap().emit(header, asked.token);
        socket.send(&out[range]).await.unwrap();
        socket
    });
    let told = tokio::time::timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap();
    assert!(matches!(told, Event::Registered { endpoint } if &*endpoint == "a"));
    assert_eq!(server.devices().await.len(), 1);
    let content = server.read("a", "/3/0/9".parse().unwrap()).await.unwrap();
    assert_eq!(content.items, [("/3/0/9".parse().unwrap(), Value::Integer(95))]);
    assert_eq!(server.read("b", "/3/0/9".parse().unwrap()).await, Err(RequestError::UnknownDevice));
    let counters = server.counters().await;
    for counted in [("registered", 1), ("oversized", 1), ("unsent", 0)] {
        assert!(counters.contains(&counted), "{counted:?} of {counters:?}");
    }
    device.await.unwrap();

    drop(server);
    tokio::time::timeout(Duration::from_secs(20), running.task).await.unwrap().unwrap();
}
