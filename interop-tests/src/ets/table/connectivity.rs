//! Chapter 4.6: Connectivity Monitoring (`/4`), Location (`/6`) and Connectivity Statistics (`/7`), numbers 700 to 749 and 800 to
//! 949.

use super::super::case::Is::{AtLeast, Exactly, Float, Number, Text, There, Unchanged};
use super::super::case::Literal::Integer;
use super::super::case::{Case, Expected};
use super::super::step::Step::{Calm, Cancel, Registers, StaysSilent, Times};
use super::{PLACEHOLDER, TLV, attributes, execute, needs, notifies, observe, read, read_only, write};

const C5: &str = "C.5: as C.3, with Connectivity Monitoring (/4)";
const C7: &str = "C.7: as C.3, with Location (/6)";
const C9: &str = "C.9: as C.3, with Connectivity Statistics (/7)";

const CONNECTIVITY: Expected = &[
    ("/0", Number),
    ("/1/x", Number),
    ("/2", Number),
    ("/3", Number),
    ("/4/x", Text),
    ("/5/x", Text),
    ("/6", Number),
    ("/7/x", Text),
    ("/8", Number),
    ("/9", Number),
    ("/10", Number),
];

const NOTHING_WRITABLE: &str = "the object has nothing that can be written";
const WINDOW: &str = "pmin=2&pmax=10";

pub(super) const CASES: &[Case] = &[
    Case::new(
        "701",
        "Connectivity Monitoring: readable resources",
        C5,
        &[
            Registers,
            needs("/4"),
            // What the configuration has beyond what every device with the object has.
            needs("/4/0/3"),
            needs("/4/0/5"),
            needs("/4/0/6"),
            needs("/4/0/7"),
            needs("/4/0/8"),
            needs("/4/0/9"),
            needs("/4/0/10"),
            read("/4/0", None, CONNECTIVITY),
        ],
    ),
    Case::left_out("705", "Connectivity Monitoring: writable resources", NOTHING_WRITABLE),
    Case::new(
        "710",
        "Connectivity Monitoring: basic observation",
        C5,
        &[
            Registers,
            needs("/4"),
            Calm,
            attributes("/4/0", WINDOW),
            observe("/4/0"),
            notifies("/4/0", 2, 2, 10),
        ],
    ),
    Case::left_out("711", "Connectivity Monitoring: extended observation", PLACEHOLDER),
    Case::left_out("720", "Connectivity Monitoring: multiple resource instances", PLACEHOLDER),
    Case::left_out("730", "Connectivity Monitoring: create", PLACEHOLDER),
    Case::left_out("735", "Connectivity Monitoring: delete", PLACEHOLDER),
    Case::new(
        "801",
        "Location: readable resources",
        C7,
        &[Registers, needs("/6"), read("/6/0", None, &[("/0", Float), ("/1", Float), ("/5", There)])],
    ),
    Case::left_out("805", "Location: writable resources", NOTHING_WRITABLE),
    Case::new(
        "810",
        "Location: basic observation",
        C7,
        &[
            Registers,
            needs("/6"),
            Calm,
            attributes("/6/0", WINDOW),
            observe("/6/0"),
            notifies("/6/0", 2, 2, 10),
        ],
    ),
    Case::left_out("811", "Location: extended observation", PLACEHOLDER),
    Case::left_out("820", "Location: multiple resource instances", PLACEHOLDER),
    Case::left_out("830", "Location: create", PLACEHOLDER),
    Case::left_out("835", "Location: delete", PLACEHOLDER),
    Case::new(
        "901",
        "Connectivity Statistics: data collection",
        C9,
        &[
            Registers,
            needs("/7"),
            execute("/7/0/6"),
            // More than a kilobyte in each direction, of which the object counts whole ones.
            Times(100, &read("/3/0", None, &[])),
            execute("/7/0/7"),
            read("/7/0", TLV, &[("/2", AtLeast(1)), ("/3", AtLeast(1))]),
            Times(100, &read("/3/0", None, &[])),
            read("/7/0", TLV, &[("/2", Unchanged), ("/3", Unchanged)]),
        ],
    ),
    Case::new(
        "905",
        "Connectivity Statistics: writable resources",
        C9,
        &[
            Registers,
            needs("/7"),
            needs("/7/0/8"),
            read("/7/0", None, &[("/8", Number)]),
            write("/7/0/8", &[("", Integer(30))]),
            read_only("/7/0/8", None, &[("", Exactly(Integer(30)))]),
        ],
    ),
    Case::new(
        "910",
        "Connectivity Statistics: basic observation",
        C9,
        &[
            Registers,
            needs("/7"),
            Calm,
            attributes("/7/0", WINDOW),
            write("/7/0/8", &[("", Integer(0))]),
            observe("/7/0"),
            execute("/7/0/6"),
            notifies("/7/0", 2, 2, 10),
            execute("/7/0/7"),
            Cancel { path: "/7/0" },
            StaysSilent { path: "/7/0", seconds: 12 },
        ],
    ),
    Case::left_out("911", "Connectivity Statistics: extended observation", PLACEHOLDER),
    Case::left_out("920", "Connectivity Statistics: multiple resource instances", PLACEHOLDER),
    Case::left_out("930", "Connectivity Statistics: create", PLACEHOLDER),
    Case::left_out("935", "Connectivity Statistics: delete", PLACEHOLDER),
];
