//! The command line `lwm2m-client`: a simulated device.
fn main() {}
