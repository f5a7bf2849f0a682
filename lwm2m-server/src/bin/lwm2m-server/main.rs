//! The `lwm2m-server` binary; `serve` lands with the driver.
fn main() {}
