#![no_main]
libfuzzer_sys::fuzz_target!(|datagram: &[u8]| lwm2m_fuzz::coap::message(datagram));
