//! Chapter 4.5: security, numbers 400 to 499.

use super::super::case::{Case, Enabler, Security};
use super::super::step::Step::{CameProtected, CameSecured, RefusesServer, Registers};
use super::{C1, DEVICE, OVER_TCP, TLV, read};

pub(super) const CASES: &[Case] = &[
    Case::new(
        "401",
        "UDP Channel Security - Pre-shared Key Mode",
        C1,
        &[Registers, read("/3/0", TLV, DEVICE), CameSecured],
    ),
    Case::new(
        "402",
        "UDP Channel Security - Certificate Mode",
        "C.17: as C.1 with certificates",
        &[Registers, read("/3/0", TLV, DEVICE), CameSecured],
    )
    .with(Security::Certificate),
    Case::new(
        "403",
        "Certificate mode, server identity failure",
        "C.18: as C.17, and the URI has another name than the certificate of the server",
        &[RefusesServer],
    )
    .with(Security::Mismatch),
    Case::left_out("404", "TCP Channel Security - Certificate Mode", OVER_TCP).since(Enabler::V1_1),
    Case::new(
        "405",
        "OSCORE",
        "C.22: as C.1 with an OSCORE context in place of DTLS",
        &[Registers, read("/3/0", TLV, DEVICE), CameProtected],
    )
    .with(Security::Oscore)
    .since(Enabler::V1_1),
    Case::left_out("406", "TCP Channel Security - PSK Mode", OVER_TCP).since(Enabler::V1_1),
];
