//! Chapter 4.3: device management and service enablement, numbers 240 to 299: executing, discovering, composites.

use lwm2m_server::WriteMode::Replace;

use super::super::case::Is::{Exactly, Flag, From, Lifetime, Number, Text, Unchanged};
use super::super::case::Literal::{Boolean, Integer, Time};
use super::super::case::{Asked, Case, Enabler, Links};
use super::super::step::Step::{Discover, ReadComposite, Refuses, Registers, WriteComposite};
use super::{C1, C4, C6, OF_1_2, PLACEHOLDER, attributes, execute, needs, read, read_only};

const DEVICE: Links = &[
    ("/3", &[]),
    ("/3/0", &[]),
    ("/3/0/6", &[("dim", Some("2"))]),
    ("/3/0/7", &[("dim", Some("2"))]),
    ("/3/0/8", &[("dim", Some("2"))]),
    ("/3/0/16", &[]),
];

/// Of the two that the configuration has.
const POWER_SOURCES: Links = &[
    ("/3/0/6", &[("dim", Some("2"))]),
    ("/3/0/7", &[("dim", Some("2"))]),
    ("/3/0/8", &[("dim", Some("2"))]),
];

pub(super) const CASES: &[Case] = &[
    Case::new(
        "241",
        "Executable Resource: Rebooting the device",
        C1,
        &[Registers, execute("/3/0/4"), Registers],
    ),
    Case::new(
        "256",
        "Write Operation Failure",
        C1,
        &[
            Registers,
            read_only("/1/x/0", None, &[("", Number)]),
            Refuses { asked: Asked::Write("/1/x/0", Replace, &[("", Integer(123))]), codes: &[(4, 5)] },
            read_only("/1/x/0", None, &[("", Unchanged)]),
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "257",
        "Write-Composite Operation",
        C6,
        &[
            Registers,
            needs("/1/x/2"),
            needs("/3/0/13"),
            read("/1", None, &[("/x/0", Number)]),
            read("/3", None, &[("/0/16", Text)]),
            WriteComposite {
                values: &[("/1/x/2", Integer(101)), ("/1/x/6", Boolean(true)), ("/3/0/13", Time(0))],
            },
            read("/1", None, &[("/x/2", Exactly(Integer(101))), ("/x/6", Exactly(Boolean(true)))]),
            read("/3", None, &[("/0/13", From(0)), ("/0/16", Unchanged)]),
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "260",
        "Discover Command",
        C4,
        &[
            Registers,
            needs("/3/0/6"),
            needs("/3/0/7"),
            needs("/3/0/8"),
            Discover { path: "/3", has: DEVICE, lacks: &["/1"] },
            attributes("/3", "pmin=10&pmax=200"),
            Discover {
                path: "/3",
                has: &[("/3", &[("pmin", Some("10")), ("pmax", Some("200"))])],
                lacks: &[],
            },
            attributes("/3/0/7", "lt=1&gt=6&st=1"),
            Discover { path: "/3/0", has: POWER_SOURCES, lacks: &[] },
            Discover {
                path: "/3/0/7",
                has: &[(
                    "/3/0/7",
                    &[
                        ("pmin", Some("10")),
                        ("pmax", Some("200")),
                        ("dim", Some("2")),
                        ("lt", Some("1")),
                        ("gt", Some("6")),
                        ("st", Some("1")),
                    ],
                )],
                lacks: &["/3/0/6"],
            },
        ],
    ),
    Case::new(
        "261",
        "Write-Attributes on a multiple resource",
        C1,
        &[
            Registers,
            Discover { path: "/3/0/11", has: &[("/3/0/11", &[("dim", None)])], lacks: &["/3/0/16"] },
            attributes("/3", "pmin=10&pmax=200"),
            attributes("/3/0", "pmax=320"),
            attributes("/3/0/11/0", "pmax=100&epmin=1&epmax=20"),
            Discover {
                path: "/3/0/11",
                has: &[
                    ("/3/0/11", &[("dim", None), ("pmin", Some("10")), ("pmax", Some("320"))]),
                    ("/3/0/11/0", &[("pmax", Some("100")), ("epmin", Some("1")), ("epmax", Some("20"))]),
                ],
                lacks: &[],
            },
        ],
    )
    .since(Enabler::V1_1),
    Case::left_out("264", "Discover with depth 1", OF_1_2).since(Enabler::V1_2),
    Case::left_out("266", "Discover with depth 3", OF_1_2).since(Enabler::V1_2),
    Case::left_out("270", "Create Object Instance", "delegated to 1630"),
    Case::left_out("271", "Create Multiple Resource Instance", PLACEHOLDER),
    Case::new(
        "280",
        "Successful Read-Composite Operation",
        C1,
        &[
            Registers,
            ReadComposite {
                paths: &["/3/0/16", "/3/0/11/0", "/1/x"],
                has: &[
                    ("/3/0/16", Text),
                    ("/3/0/11/0", Number),
                    ("/1/x/0", Number),
                    ("/1/x/1", Lifetime),
                    ("/1/x/6", Flag),
                    ("/1/x/7", Text),
                ],
                lacks: &["/3/0/0", "/3/0/1", "/3/0/2", "/3/0/3"],
            },
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "281",
        "Partially Successful Read-Composite Operation",
        C1,
        &[
            Registers,
            ReadComposite {
                paths: &["/1/x/1", "/1/x/7", "/1/x/8"],
                has: &[("/1/x/1", Lifetime), ("/1/x/7", Text)],
                lacks: &["/1/x/8", "/1/x/0"],
            },
        ],
    )
    .since(Enabler::V1_1),
    Case::left_out("290", "Delete Object Instance", "delegated to 1635"),
];
