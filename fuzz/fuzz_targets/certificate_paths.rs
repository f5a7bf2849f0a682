#![no_main]
libfuzzer_sys::fuzz_target!(|script: &[u8]| lwm2m_fuzz::certificate_paths::certificate_paths(script));
