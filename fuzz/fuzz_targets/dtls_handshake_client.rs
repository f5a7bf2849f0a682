#![no_main]
libfuzzer_sys::fuzz_target!(|script: &[u8]| lwm2m_fuzz::dtls::handshake_client(script));
