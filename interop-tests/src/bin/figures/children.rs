//! Processes whose processor time is measured: this program again with another role, or a foreign one.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};

/// A child that is killed when dropped.
pub(crate) struct Child {
    child: std::process::Child,
    line: String,
}

impl Child {
    /// Starts this program in the role of `arguments`; the child says in its first line that it is ready.
    pub(crate) fn start(arguments: &[impl AsRef<std::ffi::OsStr>]) -> Self {
        let program = std::env::current_exe().expect("this program has a file");
        let mut command = Command::new(program);
        command.arg("child").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program starts again");
        let mut line = String::new();
        let output = child.stdout.take().expect("the output is a pipe");
        BufReader::new(output).read_line(&mut line).expect("the child is ready");
        Self { child, line: line.trim().to_owned() }
    }

    /// Takes over a child that was started in another way.
    pub(crate) fn adopt(child: std::process::Child) -> Self {
        Self { child, line: String::new() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.line.parse().expect("the child has printed its address")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The floor of every server: takes a datagram and sends it back.
pub(crate) fn echo() -> std::io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", socket.local_addr()?);
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(buffer.get(..length).unwrap_or_default(), from)?;
    }
}
