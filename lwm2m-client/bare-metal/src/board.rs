//! The board: ARM MPS2 with a Cortex-M4F (AN386), as QEMU emulates it. Entry point, serial line, clock, end.
//!
//! Only this module is unsafe: registers, and memory before anything else runs.

use core::ptr::{read_volatile, write_volatile};
use core::sync::atomic::{AtomicUsize, Ordering};

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

// Memory is copied and filled byte by byte, as newlib-nano does it: what comes with the compiler is made for speed and takes
// 3 kB. The names with a number promise an alignment that byte loops do not need.
core::arch::global_asm!(
    ".syntax unified",
    ".pushsection .text.memory, \"ax\", %progbits",
    ".global memcpy, memmove, memset",
    ".global __aeabi_memcpy, __aeabi_memcpy4, __aeabi_memcpy8",
    ".global __aeabi_memmove, __aeabi_memmove4, __aeabi_memmove8",
    ".global __aeabi_memset, __aeabi_memset4, __aeabi_memset8",
    ".global __aeabi_memclr, __aeabi_memclr4, __aeabi_memclr8",
    // Destination in r0, source in r1, length in r2.
    ".thumb_func",
    "memmove:",
    ".thumb_func",
    "__aeabi_memmove:",
    ".thumb_func",
    "__aeabi_memmove4:",
    ".thumb_func",
    "__aeabi_memmove8:",
    "cmp r0, r1",
    "bls memcpy",
    "push {{r4, lr}}",
    "1: subs r2, #1",
    "blo 2f",
    "ldrb r4, [r1, r2]",
    "strb r4, [r0, r2]",
    "b 1b",
    ".thumb_func",
    "memcpy:",
    ".thumb_func",
    "__aeabi_memcpy:",
    ".thumb_func",
    "__aeabi_memcpy4:",
    ".thumb_func",
    "__aeabi_memcpy8:",
    "push {{r4, lr}}",
    "movs r3, #0",
    "1: cmp r3, r2",
    "bhs 2f",
    "ldrb r4, [r1, r3]",
    "strb r4, [r0, r3]",
    "adds r3, #1",
    "b 1b",
    "2: pop {{r4, pc}}",
    // Here the value comes before the length, or is zero.
    ".thumb_func",
    "__aeabi_memclr:",
    ".thumb_func",
    "__aeabi_memclr4:",
    ".thumb_func",
    "__aeabi_memclr8:",
    "movs r2, #0",
    ".thumb_func",
    "__aeabi_memset:",
    ".thumb_func",
    "__aeabi_memset4:",
    ".thumb_func",
    "__aeabi_memset8:",
    "mov r3, r1",
    "mov r1, r2",
    "mov r2, r3",
    ".thumb_func",
    "memset:",
    "1: subs r2, #1",
    "blo 2f",
    "strb r1, [r0, r2]",
    "b 1b",
    "2: bx lr",
    ".popsection",
);

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

/// Paints what lies below the frame of the caller, for [`exit`] to see how much of it was used.
#[inline(always)]
pub fn paint_stack() {
    let here: usize;
    // SAFETY: nothing is below the stack pointer but memory that belongs to nobody, down to the end of what is static; nothing
    // interrupts.
    unsafe {
        core::arch::asm!("mov {}, sp", out(reg) here);
        let mut word = &raw mut bss_end;
        while (word as usize) < here {
            write_volatile(word, PAINT);
            word = word.add(1);
        }
    }
    PAINTED.store(here, Ordering::Relaxed);
}

const PAINT: u32 = 0xa5c3_5a3c;

static PAINTED: AtomicUsize = AtomicUsize::new(0);

/// Tells a debugger how many bytes of stack were used below the frame that painted it.
fn tell_stack() {
    let painted = PAINTED.load(Ordering::Relaxed);
    let mut word = &raw const bss_end;
    // SAFETY: it was painted.
    while (word as usize) < painted && unsafe { read_volatile(word) } == PAINT {
        word = word.wrapping_add(1);
    }
    let used = painted - word as usize;
    let mut divisor = 100_000;
    while divisor > 0 {
        let digit = b'0' + (used / divisor % 10) as u8;
        // SAFETY: SYS_WRITEC of the semihosting interface.
        unsafe { core::arch::asm!("bkpt 0xab", inlateout("r0") 3 => _, in("r1") &raw const digit) };
        divisor /= 10;
    }
}

/// Ends the program; an emulator that was started with semihosting ends too. Success says first how much stack was used.
pub fn exit(is_success: bool) -> ! {
    if is_success {
        tell_stack();
    }
    let reason: u32 = if is_success { 0x2_0026 } else { 0x2_0023 };
    // SAFETY: SYS_EXIT of the semihosting interface; without a debugger it is a fault, which ends here again.
    unsafe {
        core::arch::asm!("bkpt 0xab", in("r0") 0x18, in("r1") reason);
    }
    loop {}
}
