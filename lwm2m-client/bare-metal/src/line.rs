//! The serial line of the board, which carries datagrams: the number of a socket, a length of two bytes, the bytes.

use crate::board;

/// Sends a datagram of this socket.
pub fn send(socket: usize, datagram: &[u8]) {
    board::send(socket as u8);
    for byte in (datagram.len() as u16).to_be_bytes().iter().chain(datagram) {
        board::send(*byte);
    }
}

/// A datagram that comes in byte by byte.
#[derive(Default)]
pub struct Line {
    head: [u8; 3],
    count: usize,
}

impl Line {
    /// Takes a byte; the socket and the length once a datagram is whole.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Option<(usize, usize)> {
        let byte = board::receive()?;
        let place = match self.count.checked_sub(self.head.len()) {
            None => self.head.get_mut(self.count),
            Some(at) => buffer.get_mut(at),
        };
        if let Some(place) = place {
            *place = byte;
        }
        self.count += 1;
        let [socket, high, low] = self.head;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if self.count < self.head.len() + length || self.count < self.head.len() {
            return None;
        }
        self.count = 0;
        Some((usize::from(socket), length))
    }

    /// Whether a part of a datagram has come in.
    pub fn is_busy(&self) -> bool {
        self.count > 0
    }
}
