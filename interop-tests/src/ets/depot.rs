//! Where firmware images are offered for download: GET with Block2 over plain CoAP (RFC 7252, RFC 7959), whole, or as a slow or a
//! broken link would have them.
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
use super::case::Offer;

/// A server of images; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Depot {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
}

/// How long it waits before it looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(500);
/// How late a slow block comes, and how many of an image do: who looks in between sees a download under way.
const LATE: Duration = Duration::from_secs(1);
const SLOW: u32 = 4;

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
                let Some((late, answer)) = answer(&images, buffer.get(..length).unwrap_or_default()) else {
                    continue;
                };
                let send = move |socket: &UdpSocket| {
                    // As lost on the way.
                    let _ = socket.send_to(&answer, from);
                };
                match socket.try_clone() {
                    Ok(socket) if !late.is_zero() => drop(thread::spawn(move || {
                        thread::sleep(late);
                        send(&socket);
                    })),
                    _ => send(&socket),
                }
            }
        })?;
        Ok(Self { address, is_stopped })
    }

    pub(crate) fn uri(&self, name: &str, offer: Offer) -> String {
        format!("coap://{}/{}/{name}", self.address, segment(offer))
    }
}

/// Where images stand that are offered in this way.
const fn segment(offer: Offer) -> &'static str {
    match offer {
        Offer::Whole => "whole",
        Offer::Slowly => "slow",
        Offer::Cut => "cut",
    }
}

impl Drop for Depot {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// The answer to a request, piggybacked on its acknowledgement, and how late it comes.
fn answer(images: &Images, datagram: &[u8]) -> Option<(Duration, Vec<u8>)> {
    let (header, message) = udp::parse(datagram).ok()?;
    if message.code != Code::GET {
        return None;
    }
    let path: Vec<&[u8]> = message.options.uri_path().collect();
    let is_at = |offer: &Offer, name: &str| path == [segment(*offer).as_bytes(), name.as_bytes()];
    let found = images.iter().find_map(|(image, bytes)| {
        let offer = Offer::ALL.into_iter().find(|offer| is_at(offer, image.name()))?;
        Some((offer, bytes))
    });
    let token = message.token.bytes();
    // Version 1, ACK.
    let mut answer = vec![0x60 | u8::try_from(token.len()).ok()?];
    answer.push(if found.is_some() { Code::CONTENT } else { Code::NOT_FOUND }.as_u8());
    answer.extend_from_slice(&header.id.0.to_be_bytes());
    answer.extend_from_slice(token);
    let Some((offer, image)) = found else { return Some((Duration::ZERO, answer)) };
    let block = message.options.block2().ok()?;
    let number = block.map_or(0, |block| block.number());
    let szx = match offer {
        // The smallest, so that every image has more than the one that comes.
        Offer::Cut if number > 0 => return None,
        Offer::Cut => Szx::fitting(16),
        _ => block.map_or(Szx::fitting(512), |block| block.szx()),
    };
    let late = if offer == Offer::Slowly && number < SLOW { LATE } else { Duration::ZERO };
    let offset = block.map_or(0, |block| block.offset());
    let rest = image.get(usize::try_from(offset).ok()?..)?;
    let piece = rest.get(..szx.size()).unwrap_or(rest);
    let block = Block::at(offset, piece.len() < rest.len(), szx)?;
    let [_, high, middle, low] = block.value().to_be_bytes();
    // Delta 23 is 13 and 10 more.
    answer.extend_from_slice(&[0xd3, 10, high, middle, low, 0xff]);
    answer.extend_from_slice(piece);
    Some((late, answer))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::super::case::Image;
    use super::*;

    /// A GET of this path, with a Block2 behind it as it is on the wire.
    fn ask(path: [&str; 2], block: &[u8]) -> Option<(Duration, Vec<u8>)> {
        let images = Images::from([(Image::Good, vec![7; 700])]);
        let mut request = vec![0x41, 0x01, 0x12, 0x34, 0x99];
        for (segment, first) in path.into_iter().zip([0xb0, 0x00]) {
            request.push(first | u8::try_from(segment.len()).unwrap());
            request.extend_from_slice(segment.as_bytes());
        }
        request.extend_from_slice(block);
        answer(&images, &request)
    }

    /// Number, whether more come, and the length of a block.
    fn block(answer: &[u8]) -> (u32, bool, usize) {
        let message = udp::parse(answer).unwrap().1;
        let block = message.options.block2().unwrap().unwrap();
        (block.number(), block.more(), message.payload.len())
    }

    /// Delta 12, one byte: NUM 1, SZX 5.
    const SECOND: &[u8] = &[0xc1, 0x15];

    #[test]
    fn an_image_is_given_block_by_block_and_another_name_is_not_found() {
        let (late, first) = ask(["whole", "good"], &[]).unwrap();
        let (header, message) = udp::parse(&first).unwrap();
        assert_eq!((header.id.0, message.token.bytes(), message.code), (0x1234, &[0x99][..], Code::CONTENT));
        assert_eq!((late, block(&first)), (Duration::ZERO, (0, true, 512)));
        assert_eq!(block(&ask(["whole", "good"], SECOND).unwrap().1), (1, false, 188));
        for path in [["whole", "bad"], ["half", "good"]] {
            assert_eq!(udp::parse(&ask(path, &[]).unwrap().1).unwrap().1.code, Code::NOT_FOUND);
        }
        assert_eq!(answer(&Images::new(), b"?"), None);
    }

    #[test]
    fn a_slow_link_is_late_with_the_first_blocks_and_a_cut_one_gives_no_second() {
        let (late, first) = ask(["slow", "good"], &[]).unwrap();
        assert_eq!((late, block(&first)), (LATE, (0, true, 512)));
        assert_eq!(ask(["slow", "good"], &[0xc1, 0x45]), None, "behind the end");
        assert_eq!(block(&ask(["cut", "good"], &[]).unwrap().1), (0, true, 16));
        assert_eq!(ask(["cut", "good"], SECOND), None);
    }
}
