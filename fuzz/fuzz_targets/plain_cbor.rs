#![no_main]
use lwm2m_objects::Format;

libfuzzer_sys::fuzz_target!(|input: &[u8]| lwm2m_fuzz::formats::format(Format::CBOR, input));
