//! Downloads of firmware from a CoAP server, block by block, beside everything else (`/5/0/1`; LwM2M Core 1.2.1 Appendix E.6).
//!
//! Invariant: there is one download at most, and what an abandoned one brings is dropped.

use std::net::{ToSocketAddrs, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant as Clock};

use lwm2m_coap::block::{Block, Download, Downloaded, Szx};
use lwm2m_coap::protect::Plain;
use lwm2m_coap::{
    Code, Delivery, Event, Input, Instant, OptionNumber, Parameters, Peer, Room, Stored, TokenPolicy, Writer,
};
use lwm2m_objects::ready::PackageFailure;

use super::Firmware;
use crate::ServerAddress;

/// The longest package that is asked for at all.
const LONGEST: u32 = 1 << 20;

/// How long nothing may come, and how long all of it may take.
const PATIENCE: Duration = Duration::from_secs(20);
const AT_MOST: Duration = Duration::from_secs(1800);

type Piece = Result<(u32, Vec<u8>, bool), PackageFailure>;

/// The download that is under way, if one is.
#[derive(Debug, Default)]
pub struct Downloads {
    pieces: Option<Receiver<Piece>>,
}

impl Downloads {
    /// What it speaks, as `/5/0/8` numbers it: CoAP.
    pub const PROTOCOLS: &'static [u8] = &[0];

    /// Begins and ends downloads as the object says, and hands over what came. Call it after each turn of the client.
    pub fn run(&mut self, firmware: &mut Firmware) {
        if let Some(uri) = firmware.take_download() {
            self.pieces = uri.map(begin);
        }
        while let Some(pieces) = &self.pieces {
            let goes_on = match pieces.try_recv() {
                Ok(Ok((offset, bytes, is_last))) => {
                    firmware.downloaded(offset, Ok((&bytes, is_last))) && !is_last
                }
                Ok(Err(failure)) => firmware.downloaded(0, Err(failure)),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => false,
            };
            if !goes_on {
                self.pieces = None;
            }
        }
    }
}

fn begin(uri: String) -> Receiver<Piece> {
    let (sender, receiver) = sync_channel(16);
    tracing::info!("downloading {uri}");
    thread::spawn(move || {
        if let Err(failure) = fetch(&uri, &sender) {
            tracing::warn!(?failure, "the download failed");
            // Nobody listens to a download that was abandoned.
            let _ = sender.send(Err(failure));
        }
    });
    receiver
}

/// A copy of a message.
struct Kept(Vec<u8>);

impl Stored for Kept {
    fn store(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.to_vec()))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn fetch(uri: &str, pieces: &SyncSender<Piece>) -> Result<(), PackageFailure> {
    let (scheme, rest) = uri.split_once("://").ok_or(PackageFailure::InvalidUri)?;
    if !scheme.eq_ignore_ascii_case("coap") {
        let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let is_other = is_scheme && scheme.starts_with(|first: char| first.is_ascii_alphabetic());
        return Err(if is_other { PackageFailure::UnsupportedProtocol } else { PackageFailure::InvalidUri });
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let server = format!("coap://{authority}");
    let server = ServerAddress::parse(&server).ok_or(PackageFailure::InvalidUri)?;
    let socket = connect(&server).map_err(|error| {
        tracing::debug!(%error, "no socket towards the server of the firmware");
        PackageFailure::ConnectionLost
    })?;

    let began = Clock::now();
    let now = || Instant::from_millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    let mut rng = |bytes: &mut [u8]| getrandom::fill(bytes).expect("the operating system has randomness");
    let mut peer: Peer<Kept, 1, 4> = Peer::new(&Parameters::DEFAULT, TokenPolicy::Random, &mut rng);
    let mut download = Download::new(Szx::LARGEST, LONGEST);
    loop {
        let token = peer.next_token(&mut rng, |_| false);
        let mut buffer = [0; 1280];
        let mut writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
        write_request(&mut writer, path, query, download.next_block())?;
        let asked = peer.request(now(), Delivery::Confirmable, token, writer, &mut Plain, &mut rng);
        let (request, range) = asked.map_err(|_| PackageFailure::InvalidUri)?;
        // As on any network: what cannot be sent is lost.
        let _ = socket.send(buffer.get(range).unwrap_or_default());
        let mut heard = Clock::now();
        let part = loop {
            if let Some(Event::Failed { .. }) = peer.poll_event(now()) {
                return Err(PackageFailure::ConnectionLost);
            }
            while let Some(length) = peer.poll_transmit(now(), &mut buffer) {
                let _ = socket.send(buffer.get(..length).unwrap_or_default());
            }
            if heard.elapsed() > PATIENCE || began.elapsed() > AT_MOST {
                return Err(PackageFailure::ConnectionLost);
            }
            let mut datagram = [0; 2048];
            let Ok(length) = socket.recv(&mut datagram) else { continue };
            heard = Clock::now();
            let input = peer.handle(now(), datagram.get_mut(..length).unwrap_or_default(), &mut Plain);
            if let Input::Response { request: answered, message } = input
                && answered == request
            {
                if !message.code.is_success() {
                    tracing::warn!("the server of the firmware answers {:?}", message.code);
                    return Err(PackageFailure::InvalidUri);
                }
                break match download.handle(&message) {
                    Ok(Downloaded::Part { offset, bytes, last }) => Some((offset, bytes.to_vec(), last)),
                    Ok(Downloaded::Restart) => None,
                    Err(error) => {
                        tracing::warn!(%error, "the download");
                        return Err(PackageFailure::ConnectionLost);
                    }
                };
            }
        };
        if let Some(part) = part {
            let is_last = part.2;
            if pieces.send(Ok(part)).is_err() || is_last {
                return Ok(());
            }
        }
    }
}

fn connect(server: &ServerAddress<'_>) -> std::io::Result<UdpSocket> {
    let address = (server.host, server.port).to_socket_addrs()?.next();
    let address = address.ok_or(std::io::ErrorKind::NotFound)?;
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

fn write_request(
    writer: &mut Writer<'_>,
    path: &str,
    query: &str,
    block: Block,
) -> Result<(), PackageFailure> {
    let invalid = |_| PackageFailure::InvalidUri;
    for (number, text, separator) in
        [(OptionNumber::URI_PATH, path, '/'), (OptionNumber::URI_QUERY, query, '&')]
    {
        if !text.is_empty() {
            for segment in text.split(separator) {
                writer.option(number, &decoded(segment)).map_err(invalid)?;
            }
        }
    }
    writer.block2(block).map_err(invalid).map(drop)
}

/// Undoes the percent-encoding (RFC 7252 §6.4).
fn decoded(segment: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|digits| hex::decode(digits).ok());
        match hex {
            Some(byte) => {
                bytes.extend(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_and_a_protocol_that_is_not_spoken_are_told_apart() {
        let (sender, _receiver) = sync_channel(1);
        for (uri, failure) in [
            ("http://127.0.0.1/fw", PackageFailure::UnsupportedProtocol),
            ("coaps://127.0.0.1/fw", PackageFailure::UnsupportedProtocol),
            ("no address", PackageFailure::InvalidUri),
            ("coap://", PackageFailure::InvalidUri),
            ("coap://a:x/fw", PackageFailure::InvalidUri),
            ("1 2://a/fw", PackageFailure::InvalidUri),
            ("coap://name.invalid/fw", PackageFailure::ConnectionLost),
        ] {
            assert_eq!(fetch(uri, &sender), Err(failure), "{uri}");
        }
    }

    #[test]
    fn segments_are_decoded() {
        assert_eq!(decoded("a%20b%zz%4"), b"a b%zz%4");
    }
}
