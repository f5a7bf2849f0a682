//! The server of a device that runs in an emulator, on the developer's machine: `server nosec|oscore|psk|rpk|known|path COMMAND…` starts
//! the emulator, whose standard input and output are the device's serial line. Ends with success when all of it happened and the
//! device ended with success as well.

use std::error::Error;
use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};

use lwm2m_bare_metal::scenario::{Bytes, Peer, Security};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let security = match arguments.next().as_deref() {
        Some("nosec") => Security::NoSec,
        Some("oscore") => Security::Oscore,
        Some("psk") => Security::Psk,
        Some("rpk") => Security::RawPublicKey,
        Some("known") => Security::Known,
        Some("path") => Security::Path,
        other => return Err(format!("{other:?} is no kind of security").into()),
    };
    let program = arguments.next().ok_or("no emulator is named")?;
    let mut emulator =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut to_device, mut from_device) =
        emulator.stdin.take().zip(emulator.stdout.take()).ok_or("no pipe")?;
    let mut peer = Peer::new(security).ok_or("no keys")?;
    while !peer.is_done() {
        let mut head = [0; 3];
        from_device.read_exact(&mut head)?;
        let [socket, length @ ..] = head;
        let mut datagram = Bytes::new();
        datagram.resize_default(u16::from_be_bytes(length).into()).map_err(|_| "a datagram too long")?;
        from_device.read_exact(&mut datagram)?;
        for answer in peer.receive(&mut datagram).ok_or("the device did something wrong")? {
            to_device.write_all(&[socket])?;
            to_device.write_all(&(answer.len() as u16).to_be_bytes())?;
            to_device.write_all(&answer)?;
        }
        to_device.flush()?;
    }
    let is_success = emulator.wait()?.success();
    Ok(if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
