//! Links for the board when the target has no operating system.

fn main() {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    println!("cargo:rerun-if-changed=board.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").unwrap() == "none" {
        println!("cargo:rustc-link-arg-bins=-T{manifest}/board.ld");
    }
}
