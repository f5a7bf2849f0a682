#![no_main]
libfuzzer_sys::fuzz_target!(|text: &str| lwm2m_fuzz::link_format::link_format(text));
