#![no_main]
libfuzzer_sys::fuzz_target!(|value: &[u8]| lwm2m_fuzz::oscore::option(value));
