//! The device and its server on the developer's machine, without std and without an allocator. Exit code 0 when all of it happened.
#![no_std]
#![no_main]

use lwm2m_bare_metal::scenario::{Security, run};

#[cfg(not(target_os = "none"))]
#[link(name = "c")]
unsafe extern "C" {
    fn abort() -> !;
}

#[cfg(not(target_os = "none"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: of the C library, without preconditions.
    unsafe { abort() }
}

/// What the C runtime calls.
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    let failed = Security::ALL.iter().position(|security| run(*security).is_none());
    failed.map_or(0, |number| number as i32 + 1)
}
