//! Where firmware images are offered for download: GET with Block2 over plain CoAP (RFC 7252, RFC 7959).
//!
//! Invariant: an answer follows from its request alone, so that nothing is kept of whoever asks.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lwm2m_coap::block::{Block, Szx};
use lwm2m_coap::{Code, udp};

use super::bench::Images;

/// A server of images; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Depot {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
}

/// How long it waits before it looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(500);

impl Depot {
    pub(crate) fn start(images: Images) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let address = socket.local_addr()?;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopped);
        thread::Builder::new().name("lwm2m-interop-depot".to_owned()).spawn(move || {
            let mut buffer = [0; 1280];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                if let Some(answer) = answer(&images, buffer.get(..length).unwrap_or_default()) {
                    // As lost on the way.
                    let _ = socket.send_to(&answer, from);
                }
            }
        })?;
        Ok(Self { address, is_stopped })
    }

    pub(crate) fn uri(&self, name: &str) -> String {
        format!("coap://{}/{name}", self.address)
    }
}

impl Drop for Depot {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// The answer to a request, piggybacked on its acknowledgement.
fn answer(images: &Images, datagram: &[u8]) -> Option<Vec<u8>> {
    let (header, message) = udp::parse(datagram).ok()?;
    if message.code != Code::GET {
        return None;
    }
    let name: Vec<&[u8]> = message.options.uri_path().collect();
    let image = images.iter().find(|(image, _)| name == [image.name().as_bytes()]).map(|(_, bytes)| bytes);
    let token = message.token.bytes();
    // Version 1, ACK.
    let mut answer = vec![0x60 | u8::try_from(token.len()).ok()?];
    answer.push(if image.is_some() { Code::CONTENT } else { Code::NOT_FOUND }.as_u8());
    answer.extend_from_slice(&header.id.0.to_be_bytes());
    answer.extend_from_slice(token);
    let Some(image) = image else { return Some(answer) };
    let block = message.options.block2().ok()?;
    let szx = block.map_or(Szx::fitting(512), |block| block.szx());
    let offset = block.map_or(0, |block| block.offset());
    let rest = image.get(usize::try_from(offset).ok()?..)?;
    let piece = rest.get(..szx.size()).unwrap_or(rest);
    let block = Block::at(offset, piece.len() < rest.len(), szx)?;
    let [_, high, middle, low] = block.value().to_be_bytes();
    // Delta 23 is 13 and 10 more.
    answer.extend_from_slice(&[0xd3, 10, high, middle, low, 0xff]);
    answer.extend_from_slice(piece);
    Some(answer)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::super::case::Image;
    use super::*;

    #[test]
    fn an_image_is_given_block_by_block_and_another_name_is_not_found() {
        let images = Images::from([(Image::Good, vec![7; 700])]);
        let ask = |name: &str, block: &[u8]| {
            let length = u8::try_from(name.len()).unwrap();
            let mut request = vec![0x41, 0x01, 0x12, 0x34, 0x99, 0xb0 | length];
            request.extend_from_slice(name.as_bytes());
            request.extend_from_slice(block);
            answer(&images, &request).unwrap()
        };
        let first = ask("good", &[]);
        let (header, message) = udp::parse(&first).unwrap();
        assert_eq!((header.id.0, message.token.bytes(), message.code), (0x1234, &[0x99][..], Code::CONTENT));
        let block = message.options.block2().unwrap().unwrap();
        assert_eq!((block.number(), block.more(), message.payload.len()), (0, true, 512));
        // Delta 12, one byte: NUM 1, SZX 5.
        let last = ask("good", &[0xc1, 0x15]);
        let message = udp::parse(&last).unwrap().1;
        let block = message.options.block2().unwrap().unwrap();
        assert_eq!((block.number(), block.more(), message.payload.len()), (1, false, 188));
        assert_eq!(udp::parse(&ask("bad", &[])).unwrap().1.code, Code::NOT_FOUND);
        assert_eq!(answer(&images, b"?"), None);
    }
}
