//! What a program takes that does nothing but start: the share of the board in the figures.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn program() -> ! {
    use lwm2m_bare_metal::board;
    board::paint_stack();
    while let Some(byte) = board::receive() {
        board::send(byte);
    }
    board::exit(board::now() > 0)
}

#[cfg(not(target_os = "none"))]
fn main() {}
