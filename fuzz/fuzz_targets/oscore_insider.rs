#![no_main]
libfuzzer_sys::fuzz_target!(|script: &[u8]| lwm2m_fuzz::oscore_ends::insider(script));
