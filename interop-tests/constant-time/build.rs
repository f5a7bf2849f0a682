//! Compiles the functions around valgrind's C macros.

fn main() {
    println!("cargo:rerun-if-changed=src/valgrind.c");
    #[cfg(feature = "valgrind")]
    cc::Build::new().file("src/valgrind.c").compile("valgrind_shim");
}
