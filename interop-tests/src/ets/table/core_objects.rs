//! Chapter 4.6: Server, Device and Access Control, numbers 500 to 699, and several servers, 950 to 999.

use lwm2m_server::WriteMode::Replace;

use super::super::case::Is::{Exactly, From, Text, Unchanged};
use super::super::case::Literal::{Integer, Text as Characters, Time};
use super::super::case::{Asked, Case, Entry, Links, Script};
use super::super::step::Step::{Discover, FinishesBootstrap, Refuses, Registers, Restore, Second};
use super::{C1, C6, PLACEHOLDER, TLV, attributes, needs, read, read_only, update_in};

const C14: &str = "C.14: one bootstrap account, which writes two server accounts and access rights; Device";

/// C.14 without what a device has from the start.
const TWO_SERVERS: &[Script] = &[
    Script::Account,
    Script::SecondAccount(2, 1),
    Script::Write(
        "/2/0",
        &[("/0", Integer(1)), ("/1", Integer(0)), ("/2/1", Integer(15)), ("/3", Integer(1))],
    ),
    Script::Write(
        "/2/1",
        &[("/0", Integer(1)), ("/1", Integer(1)), ("/2/2", Integer(15)), ("/3", Integer(2))],
    ),
    // The specification gives the rights of Device to the second server alone; then the first could set no attributes in 951.
    Script::Write(
        "/2/2",
        &[
            ("/0", Integer(3)),
            ("/1", Integer(0)),
            ("/2/1", Integer(15)),
            ("/2/2", Integer(15)),
            ("/3", Integer(65_535)),
        ],
    ),
];

const FIRST: Links = &[("/3/0", &[("pmin", Some("2")), ("pmax", Some("10"))])];
const OTHER: Links = &[("/3/0", &[("pmin", Some("15")), ("pmax", Some("50"))])];

pub(super) const CASES: &[Case] = &[
    Case::left_out("551", "Server: check access to the resources", "delegated to 215"),
    Case::left_out("555", "Server: disable", PLACEHOLDER),
    Case::left_out("556", "Server: update registration", "delegated to 104"),
    Case::left_out("560", "Server: delayed notification", PLACEHOLDER),
    Case::left_out("565", "Server: create", PLACEHOLDER),
    Case::left_out("566", "Server: delete", PLACEHOLDER),
    Case::new(
        "651",
        "Device: Check Access to the Resources",
        C6,
        &[
            Registers,
            needs("/3/0/13"),
            needs("/3/0/14"),
            needs("/3/0/15"),
            read("/3/0", TLV, &[("/14", Text), ("/15", Text)]),
            update_in(
                "/3/0",
                TLV,
                &[
                    ("/13", Time(1_367_491_215)),
                    ("/14", Characters("+02:00")),
                    ("/15", Characters("Europe/Paris")),
                ],
            ),
            read(
                "/3/0",
                TLV,
                &[
                    ("/13", From(1_367_491_215)),
                    ("/14", Exactly(Characters("+02:00"))),
                    ("/15", Exactly(Characters("Europe/Paris"))),
                ],
            ),
            Restore { path: "/3/0", resources: &[13, 14, 15], mode: Replace },
            read("/3/0", TLV, &[("/14", Unchanged), ("/15", Unchanged)]),
        ],
    ),
    Case::new(
        "652",
        "Querying the firmware version from the client",
        C6,
        &[Registers, read_only("/3/0/3", None, &[("", Text)])],
    ),
    Case::left_out("655", "Device: reboot capability", "delegated to 241"),
    Case::left_out("656", "Device: factory reset", PLACEHOLDER),
    Case::left_out("657", "Device: error code", PLACEHOLDER),
    Case::left_out("660", "Device: basic observation", "delegated to 301"),
    Case::left_out("661", "Device: extended observation", PLACEHOLDER),
    Case::left_out("670", "Device: multiple resource instances", PLACEHOLDER),
    Case::new(
        "680",
        "Device: Create Object Instance",
        C1,
        &[Registers, Refuses { asked: Asked::Create(3), codes: &[(4, 5)] }],
    ),
    Case::new(
        "685",
        "Device: Delete Object Instance",
        C1,
        &[Registers, Refuses { asked: Asked::Delete("/3/0"), codes: &[(4, 5)] }],
    ),
    Case::new("950", "Multi-Servers Registration", C14, &[FinishesBootstrap, Registers, Second(&Registers)])
        .by(Entry::Bootstrap)
        .scripted(TWO_SERVERS),
    Case::new(
        "951",
        "Multi-Servers and Attributes",
        C14,
        &[
            FinishesBootstrap,
            Registers,
            Second(&Registers),
            attributes("/3/0", "pmin=2&pmax=10"),
            Second(&attributes("/3/0", "pmin=15&pmax=50")),
            Discover { path: "/3/0", has: FIRST, lacks: &[] },
            Second(&Discover { path: "/3/0", has: OTHER, lacks: &[] }),
        ],
    )
    .by(Entry::Bootstrap)
    .scripted(TWO_SERVERS),
];
