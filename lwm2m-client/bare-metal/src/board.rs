//! The board: ARM MPS2 with a Cortex-M4F (AN386), as QEMU emulates it. Entry point, serial line, clock, end.
//!
//! Only this module is unsafe: registers, and memory before anything else runs.

use core::ptr::{read_volatile, write_volatile};

const UART_DATA: *mut u32 = 0x4000_4000 as *mut u32;
const UART_STATE: *mut u32 = 0x4000_4004 as *mut u32;
const UART_CONTROL: *mut u32 = 0x4000_4008 as *mut u32;
const UART_DIVIDER: *mut u32 = 0x4000_4010 as *mut u32;
const CLOCK_100_HZ: *const u32 = 0x4002_8014 as *const u32;
const COUNTER_25_MHZ: *const u32 = 0x4002_8018 as *const u32;

unsafe extern "C" {
    static mut data_start: u32;
    static mut data_end: u32;
    static data_load: u32;
    static mut bss_start: u32;
    static mut bss_end: u32;
    fn program() -> !;
}

/// The vectors behind the stack pointer: reset, then faults up to the hard fault and beyond.
#[used]
#[unsafe(link_section = ".vectors")]
static VECTORS: [unsafe extern "C" fn() -> !; 6] = [reset, fault, fault, fault, fault, fault];

#[unsafe(no_mangle)]
unsafe extern "C" fn reset() -> ! {
    // SAFETY: nothing runs yet; the symbols delimit memory that belongs to this program alone.
    unsafe {
        // The floating-point unit is off after reset; the target's code may use it.
        #[cfg(target_abi = "eabihf")]
        {
            let control = 0xe000_ed88 as *mut u32;
            write_volatile(control, read_volatile(control) | 0xf << 20);
            core::arch::asm!("dsb", "isb");
        }
        let mut from = &raw const data_load;
        let mut to = &raw mut data_start;
        while to < &raw mut data_end {
            write_volatile(to, read_volatile(from));
            to = to.add(1);
            from = from.add(1);
        }
        let mut to = &raw mut bss_start;
        while to < &raw mut bss_end {
            write_volatile(to, 0);
            to = to.add(1);
        }
        write_volatile(UART_DIVIDER, 16);
        write_volatile(UART_CONTROL, 3);
        program()
    }
}

unsafe extern "C" fn fault() -> ! {
    exit(false)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(false)
}

/// The next byte of the serial line.
pub fn receive() -> Option<u8> {
    // SAFETY: registers of the board.
    unsafe { (read_volatile(UART_STATE) & 2 != 0).then(|| read_volatile(UART_DATA) as u8) }
}

/// Sends a byte on the serial line.
pub fn send(byte: u8) {
    // SAFETY: registers of the board.
    unsafe {
        while read_volatile(UART_STATE) & 1 != 0 {}
        write_volatile(UART_DATA, u32::from(byte));
    }
}

/// Milliseconds since reset.
pub fn now() -> u64 {
    // SAFETY: a register of the board. A product would extend it beyond 32 bits.
    u64::from(unsafe { read_volatile(CLOCK_100_HZ) }) * 10
}

/// What stands in for the randomness that this board does not have: never do this in a product.
pub fn random(bytes: &mut [u8]) {
    for byte in bytes {
        // SAFETY: a register of the board.
        let count = unsafe { read_volatile(COUNTER_25_MHZ) };
        *byte = (count.wrapping_mul(0x9e37_79b1) >> 24) as u8;
    }
}

/// Ends the program; an emulator that was started with semihosting ends too.
pub fn exit(is_success: bool) -> ! {
    let reason: u32 = if is_success { 0x2_0026 } else { 0x2_0023 };
    // SAFETY: SYS_EXIT of the semihosting interface; without a debugger it is a fault, which ends here again.
    unsafe {
        core::arch::asm!("bkpt 0xab", in("r0") 0x18, in("r1") reason);
    }
    loop {}
}
