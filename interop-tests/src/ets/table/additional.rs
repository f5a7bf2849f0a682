//! Chapter 4.7: additional objects, numbers 1000 to 2099.

use super::super::case::Is::{Bytes, Exactly, Flag, Link, Number, OneOf, Text, There};
use super::super::case::Literal::{self, Boolean, Integer};
use super::super::case::{Case, Expected, Values};
use super::super::step::Step::{
    Becomes, Calm, Create, DeleteAll, Discover, Lists, NeedsValue, Registers, StaysRegistered, Updates,
    UpdatesObjects,
};
use super::{
    HAS_PORTFOLIO, PLACEHOLDER, TLV, attributes, execute, needs, notifies, observe, read, read_only, write,
    write_in,
};

const C10: &str =
    "C.10: as C.1, with Cellular Connectivity (/10), APN Connection Profile (/11), WLAN Connectivity (/12)";
const C11: &str = "C.11: as C.10, with version 1.1 of /10";
const C12: &str = "C.12: as C.3, with Portfolio (/16)";
const C15: &str = "C.15: as C.3, with two instances of BinaryAppDataContainer (/19)";
const C16: &str = "C.16: as C.3, with Event Log (/20)";

/// Resource 6, which the configuration has, is gone in version 1.1 of the object.
const TIMERS: Expected = &[("/4", Number), ("/5", Number), ("/8", There), ("/9", There), ("/11/x", Link)];
const TWO_IDENTITIES: Values =
    &[("/0/0", Literal::Text("Host Device ID #2")), ("/0/1", Literal::Text("Host Manufacturer #2"))];

pub(super) const CASES: &[Case] = &[
    Case::new(
        "1200",
        "Cellular Connectivity: readable resources",
        C10,
        &[Registers, needs("/10"), read("/10/0", TLV, TIMERS)],
    ),
    Case::new(
        "1201",
        "Cellular Connectivity 1.1: readable resources",
        C11,
        &[
            Registers,
            needs("/10/0/13"),
            needs("/10/0/14"),
            Lists { object: 10, version: "1.1" },
            // Without resource 6, as in 1200.
            Discover {
                path: "/10",
                has: &[
                    ("/10", &[("ver", Some("1.1"))]),
                    ("/10/0/4", &[]),
                    ("/10/0/5", &[]),
                    ("/10/0/8", &[]),
                    ("/10/0/9", &[]),
                    ("/10/0/11", &[]),
                    ("/10/0/13", &[]),
                    ("/10/0/14", &[]),
                ],
                lacks: &[],
            },
            read(
                "/10/0",
                TLV,
                &[
                    ("/4", Number),
                    ("/5", Number),
                    ("/8", There),
                    ("/9", There),
                    ("/11/x", Link),
                    ("/13", Number),
                    ("/14", Number),
                ],
            ),
        ],
    ),
    Case::new(
        "1202",
        "Cellular Connectivity 1.1: setting the Power Saving Mode",
        C11,
        &[
            Registers,
            needs("/10/0/13"),
            needs("/10/0/14"),
            Discover { path: "/10", has: &[("/10/0/13", &[]), ("/10/0/14", &[])], lacks: &[] },
            read_only("/10/0/13", TLV, &[("", There)]),
            write_in("/10/0/14", TLV, &[("", Integer(2))]),
            read_only("/10/0/14", TLV, &[("", Exactly(Integer(2)))]),
        ],
    ),
    Case::new(
        "1203",
        "Cellular Connectivity 1.1: observing the Power Saving Mode",
        C11,
        // Shorter windows than 5 to 15 and 10 to 20 s, as in 1204.
        &[
            Registers,
            needs("/10/0/13"),
            needs("/10/0/14"),
            Calm,
            attributes("/10/0/13", "pmin=1&pmax=3"),
            attributes("/10/0/14", "pmin=2&pmax=4"),
            observe("/10/0/13"),
            observe("/10/0/14"),
            notifies("/10/0/13", 2, 1, 3),
            notifies("/10/0/14", 1, 2, 4),
        ],
    ),
    Case::new(
        "1204",
        "Cellular Connectivity: observing the timers",
        C10,
        &[
            Registers,
            needs("/10/0/4"),
            needs("/10/0/5"),
            needs("/10/0/8"),
            needs("/10/0/9"),
            Calm,
            attributes("/10/0/4", "pmin=1&pmax=3"),
            attributes("/10/0/5", "pmin=1&pmax=3"),
            attributes("/10/0/8", "pmin=2&pmax=4"),
            attributes("/10/0/9", "pmin=2&pmax=4"),
            observe("/10/0/4"),
            observe("/10/0/5"),
            observe("/10/0/8"),
            observe("/10/0/9"),
            notifies("/10/0/4", 2, 1, 3),
            notifies("/10/0/5", 2, 1, 3),
            notifies("/10/0/8", 1, 2, 4),
            notifies("/10/0/9", 1, 2, 4),
        ],
    ),
    Case::new(
        "1250",
        "APN Connection Profile: configuration",
        C10,
        &[
            Registers,
            needs("/10"),
            needs("/11"),
            Create {
                object: 11,
                instance: 1,
                values: &[
                    ("/0", Literal::Text("second")),
                    ("/1", Literal::Text("iot.example")),
                    ("/4", Integer(0)),
                ],
            },
            execute("/1/x/8"),
            UpdatesObjects { path: "/11/1" },
            write("/11/1/3", &[("", Boolean(true))]),
            read_only("/11/1/3", None, &[("", Exactly(Boolean(true)))]),
            read("/10/0/11", None, &[("/x", Exactly(Literal::Link(11, 1)))]),
        ],
    ),
    Case::new(
        "1350",
        "Bearer Selection",
        C10,
        // Which bearer a device on a desk has is simulated; the registration survives each change.
        &[
            Registers,
            needs("/10"),
            needs("/12"),
            needs("/13"),
            // WLAN preferred, and later 3GPP.
            Create { object: 13, instance: 0, values: &[("/0/0", Integer(7))] },
            UpdatesObjects { path: "/13/0" },
            read("/12/0", None, &[("/0", Text), ("/1", Flag), ("/3", Number)]),
            write("/13/0/0", &[("/0", Integer(1))]),
            Updates,
            read("/13/0/0", None, &[("/0", Exactly(Integer(1)))]),
            read("/10/0", None, &[("/4", Number)]),
            StaysRegistered { seconds: 1 },
        ],
    ),
    Case::left_out("1600", "Portfolio: readable resources", PLACEHOLDER),
    Case::left_out("1605", "Portfolio: writable resources", PLACEHOLDER),
    Case::left_out("1610", "Portfolio: basic observation", PLACEHOLDER),
    Case::left_out("1611", "Portfolio: extended observation", PLACEHOLDER),
    Case::left_out("1620", "Portfolio: multiple resource instances", PLACEHOLDER),
    Case::new(
        "1630",
        "Create Portfolio Object Instance",
        C12,
        &[
            Registers,
            HAS_PORTFOLIO,
            Discover { path: "/16/0", has: &[("/16/0/0", &[("dim", Some("4"))])], lacks: &[] },
            Create { object: 16, instance: 1, values: TWO_IDENTITIES },
            Discover { path: "/16/1", has: &[("/16/1/0", &[("dim", Some("2"))])], lacks: &[] },
            read(
                "/16",
                None,
                &[
                    ("/0/0/0", Text),
                    ("/1/0/0", Exactly(Literal::Text("Host Device ID #2"))),
                    ("/1/0/1", Exactly(Literal::Text("Host Manufacturer #2"))),
                ],
            ),
        ],
    ),
    Case::new(
        "1635",
        "Delete Portfolio Object Instances",
        C12,
        &[
            Registers,
            HAS_PORTFOLIO,
            Discover { path: "/16", has: &[("/16/0", &[])], lacks: &[] },
            DeleteAll { object: 16 },
            Discover { path: "/16", has: &[("/16", &[])], lacks: &["/16/0", "/16/1"] },
        ],
    ),
    Case::new(
        "1900",
        "BinaryAppDataContainer: observation",
        C15,
        // A shorter window than 300 to 3600 s.
        &[
            Registers,
            needs("/19/0/0"),
            Calm,
            Discover { path: "/19", has: &[("/19", &[]), ("/19/0/0", &[])], lacks: &[] },
            attributes("/19/0/0", "pmin=1&pmax=3"),
            observe("/19/0/0"),
            notifies("/19/0/0", 2, 1, 3),
        ],
    ),
    Case::new(
        "1901",
        "BinaryAppDataContainer: writing Data",
        C15,
        &[
            Registers,
            needs("/19/1"),
            // Data is a multiple resource.
            write("/19/1/0/0", &[("", Literal::Bytes(b"to the device"))]),
            read("/19/1/0", None, &[("/0", Exactly(Literal::Bytes(b"to the device")))]),
        ],
    ),
    Case::new(
        "2000",
        "Event Log: controlling the log function",
        C16,
        // 4011 is executed, as the registry has it; the specification of the case writes it. The lowest bit of 4013 says whether the
        // log is stopped.
        &[
            Registers,
            needs("/20"),
            NeedsValue {
                path: "/20/0/4013",
                is: OneOf(&[1, 3]),
                reason: "the log of the client runs from the start",
            },
            execute("/20/0/4011"),
            Becomes { path: "/20/0/4013", is: OneOf(&[0, 2]), seconds: 10 },
        ],
    ),
    Case::new(
        "2001",
        "Event Log: readable resources",
        C16,
        &[
            Registers,
            needs("/20"),
            NeedsValue { path: "/20/0/4014", is: Bytes, reason: "the log of the client is empty" },
            read("/20/0", TLV, &[("/4013", Number), ("/4014", Bytes)]),
        ],
    ),
];
