//! Runs fuzz targets once over every file of their folders, without a fuzzer: `corpus TARGET FOLDER…`, for `.ci/coverage`.

use std::path::Path;
use std::process::ExitCode;

use lwm2m_fuzz::{
    blocks, certificate_paths, certificates, coap, credentials, devices, dtls, dtls_insider, dtls_kept,
    formats, link_format, models, operations, oscore, oscore_ends,
};
use lwm2m_objects::Format;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(target) = arguments.next() else {
        eprintln!("usage: corpus TARGET FOLDER…");
        return ExitCode::from(2);
    };
    let run: fn(&[u8]) = match target.as_str() {
        "certificate_paths" => certificate_paths::certificate_paths,
        "certificates" => certificates::certificates,
        "client_credentials" => credentials::credentials,
        "client_datagram" => devices::client_datagram,
        "coap_blocks" => blocks::blocks,
        "coap_message" => coap::message,
        "coap_peer" => coap::peer,
        "dtls_handshake_client" => dtls::handshake_client,
        "dtls_handshake_server" => dtls::handshake_server,
        "dtls_insider" => dtls_insider::insider,
        "dtls_kept" => dtls_kept::kept,
        "dtls_record" => dtls::record,
        "link_format" => |input| std::str::from_utf8(input).into_iter().for_each(link_format::link_format),
        "models" => models::models,
        "oma_json" => |input| formats::format(Format::JSON, input),
        "operation" => operations::operation,
        "oscore_ends" => oscore_ends::ends,
        "oscore_insider" => oscore_ends::insider,
        "oscore_option" => oscore::option,
        "plain_cbor" => |input| formats::format(Format::CBOR, input),
        "senml_cbor" => |input| formats::format(Format::SENML_CBOR, input),
        "senml_json" => |input| formats::format(Format::SENML_JSON, input),
        "server_datagram" => devices::server_datagram,
        "text" => |input| formats::format(Format::TEXT, input),
        "tlv" => |input| formats::format(Format::TLV, input),
        unknown => {
            eprintln!("{unknown} is no target that this program knows");
            return ExitCode::from(2);
        }
    };
    let mut count = 0_u64;
    for folder in arguments {
        for entry in Path::new(&folder).read_dir().into_iter().flatten().flatten() {
            if let Ok(input) = std::fs::read(entry.path()) {
                run(&input);
                count += 1;
            }
        }
    }
    println!("{target}: {count} inputs");
    ExitCode::SUCCESS
}
