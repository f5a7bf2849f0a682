//! Lets the kernel bring a record with a Connection ID to the thread of its session (`SO_ATTACH_REUSEPORT_CBPF`).
//!
//! It spares the way from one thread to another and nothing else: what the kernel brings elsewhere is handed over. It is
//! tried where the kernel knows it, and a kernel that refuses it changes nothing.

use std::net::UdpSocket;
use std::num::NonZeroU8;

/// Steers all datagrams of the group that `socket` belongs to, which has one socket for each of `threads`, in their order.
#[cfg(target_os = "linux")]
pub(crate) fn steer(socket: &UdpSocket, threads: NonZeroU8) {
    use nix::libc::{
        BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MOD, BPF_RET, sock_filter,
        sock_fprog,
    };
    let step = |code: u32, jt: u8, jf: u8, k: u32| sock_filter { code: code as u16, jt, jf, k };
    let threads = u32::from(threads.get());
    // What is loaded is the UDP payload. A number that is no socket's lets the kernel choose by addresses, as it would
    // without this; so does a payload that is too short.
    let mut program = [
        step(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0),
        step(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, TLS12_CID),
        step(BPF_LD | BPF_B | BPF_ABS, 0, 0, VIRTUAL_SHARD),
        step(BPF_ALU | BPF_MOD | BPF_K, 0, 0, threads),
        step(BPF_RET | BPF_A, 0, 0, 0),
        step(BPF_RET | BPF_K, 0, 0, u32::MAX),
    ];
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    if let Err(error) =
        nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::AttachReusePortCbpf, &program)
    {
        tracing::debug!(%error, "the kernel does not steer by Connection ID; the threads hand datagrams over");
    }
}

/// Only Linux has it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn steer(_: &UdpSocket, _: NonZeroU8) {}

/// The content type of a record with a Connection ID (RFC 9146 §4).
#[cfg(target_os = "linux")]
const TLS12_CID: u32 = 25;

/// Where the virtual shard lies in such a record: the first byte of the Connection ID, behind type, version, epoch and
/// sequence number.
#[cfg(target_os = "linux")]
const VIRTUAL_SHARD: u32 = 11;
