//! What the tests against foreign programs share: a virtual link, processes of peers, and where the peers are.
//!
//! Nothing here is part of the product. The conformance runner `lwm2m-interop` and the files in `tests/` use it.

pub mod account;
pub mod coap;
pub mod dtls;
pub mod ets;
pub mod leshan;
pub mod link;
pub mod load;
pub mod ours;
pub mod owner;
pub mod peers;
pub mod process;
pub mod proxy;
pub mod random;
pub mod relay;
pub mod seen;
pub mod simulation;
pub mod sniffer;
pub mod swarm;
