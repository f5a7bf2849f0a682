//! Chapter 4.4: information reporting, numbers 300 to 399.

use super::super::case::Is::{Lifetime, Number, Text};
use super::super::case::Literal::Boolean;
use super::super::case::{Case, Enabler, Literal, Values};
use super::super::step::Step::{
    Calm, Cancel, Create, Delete, NotifiesOf, ObserveComposite, Registers, Reports, ReportsNothing, Reset,
    StaysSilent, Unmute,
};
use super::{C1, C4, HAS_PORTFOLIO, OF_1_2, PORTFOLIO, attributes, needs, notifies, observe, read, write};

const VOLTAGE: &str = "/3/0/7";
const CURRENT: &str = "/3/0/8";
const SECOND: Values = &[("/0/0", Literal::Text("Host Device ID #2"))];

pub(super) const CASES: &[Case] = &[
    Case::new(
        "301",
        "Observation and Notification of parameter values",
        C4,
        &[
            Registers,
            needs("/3/0/6"),
            needs(VOLTAGE),
            needs(CURRENT),
            Calm,
            read("/3/0/6", None, &[("/x", Number)]),
            attributes(VOLTAGE, "pmin=5&pmax=15"),
            attributes(CURRENT, "pmin=10&pmax=20"),
            observe(VOLTAGE),
            observe(CURRENT),
            notifies(VOLTAGE, 2, 5, 15),
            notifies(CURRENT, 1, 10, 20),
        ],
    ),
    Case::new(
        "302",
        "Cancel Observations using Reset Operation",
        C4,
        &[
            Registers,
            needs(VOLTAGE),
            needs(CURRENT),
            Calm,
            // Shorter windows than those of 301: this case judges the end of the notifications, not their times.
            attributes(VOLTAGE, "pmin=1&pmax=3"),
            attributes(CURRENT, "pmin=2&pmax=4"),
            observe(VOLTAGE),
            observe(CURRENT),
            notifies(VOLTAGE, 1, 1, 3),
            notifies(CURRENT, 1, 2, 4),
            Reset { path: VOLTAGE, pmax: 3 },
            StaysSilent { path: VOLTAGE, seconds: 7 },
            // The other one goes on.
            notifies(CURRENT, 2, 2, 4),
            Reset { path: CURRENT, pmax: 4 },
            StaysSilent { path: CURRENT, seconds: 9 },
        ],
    ),
    Case::new(
        "303",
        "Cancel Observations using Observe with Cancel parameter",
        C4,
        &[
            Registers,
            needs(VOLTAGE),
            needs(CURRENT),
            Calm,
            // As in 302.
            attributes(VOLTAGE, "pmin=1&pmax=3"),
            attributes(CURRENT, "pmin=2&pmax=4"),
            observe(VOLTAGE),
            observe(CURRENT),
            notifies(VOLTAGE, 1, 1, 3),
            notifies(CURRENT, 1, 2, 4),
            Cancel { path: VOLTAGE },
            StaysSilent { path: VOLTAGE, seconds: 7 },
            Cancel { path: CURRENT },
            StaysSilent { path: CURRENT, seconds: 9 },
        ],
    ),
    Case::new(
        "304",
        "Observe-Composite Operation",
        C1,
        &[
            Registers,
            Calm,
            attributes("/1/x/1", "pmin=30&pmax=45"),
            ObserveComposite {
                paths: &["/1/x/1", "/3/0/11/x", "/3/0/16"],
                has: &[("/1/x/1", Lifetime), ("/3/0/11/x", Number), ("/3/0/16", Text)],
                lacks: &[],
            },
            notifies("/", 1, 30, 45),
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "305",
        "Cancel Observation-Composite Operation",
        C1,
        &[
            Registers,
            Calm,
            attributes("/1/x/1", "pmin=1&pmax=3"),
            ObserveComposite {
                paths: &["/1/x/1", "/3/0/11/x", "/3/0/16"],
                has: &[("/1/x/1", Lifetime), ("/3/0/11/x", Number), ("/3/0/16", Text)],
                lacks: &[],
            },
            Cancel { path: "/" },
            StaysSilent { path: "/", seconds: 7 },
        ],
    )
    .since(Enabler::V1_1),
    Case::new("306", "Send", C1, &[Registers, Unmute, Reports { has: &[] }]).since(Enabler::V1_1),
    Case::new(
        "307",
        "Muting Send",
        C1,
        &[
            Registers,
            // Where it was never set it is not there yet.
            Unmute,
            needs("/1/x/23"),
            Reports { has: &[] },
            write("/1/x/23", &[("", Boolean(true))]),
            ReportsNothing { seconds: 6 },
            write("/1/x/23", &[("", Boolean(false))]),
            Reports { has: &[] },
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "308",
        "Observe-Composite and Creating Object Instance",
        PORTFOLIO,
        &[
            Registers,
            HAS_PORTFOLIO,
            Calm,
            // Shorter than 30 to 45 s: this case judges what a notification has.
            attributes("/16/0", "pmin=1&pmax=3"),
            ObserveComposite { paths: &["/16/0", "/16/1"], has: &[("/16/0/0/x", Text)], lacks: &["/16/1"] },
            NotifiesOf { path: "/", has: &[("/16/0/0/x", Text)], lacks: &["/16/1"], seconds: 5 },
            Create { object: 16, instance: 1, values: SECOND },
            NotifiesOf {
                path: "/",
                has: &[("/16/0/0/x", Text), ("/16/1/0/x", Text)],
                lacks: &[],
                seconds: 7,
            },
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "309",
        "Observe-Composite and Deleting Object Instance",
        PORTFOLIO,
        &[
            Registers,
            HAS_PORTFOLIO,
            Create { object: 16, instance: 1, values: SECOND },
            Calm,
            // As in 308.
            attributes("/16/0", "pmin=1&pmax=3"),
            ObserveComposite {
                paths: &["/16/0", "/16/1"],
                has: &[("/16/0/0/x", Text), ("/16/1/0/x", Text)],
                lacks: &[],
            },
            Delete { path: "/16/1" },
            NotifiesOf { path: "/", has: &[("/16/0/0/x", Text)], lacks: &["/16/1"], seconds: 7 },
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "310",
        "Observe-Composite and modification of parameter values",
        C1,
        &[
            Registers,
            Calm,
            // /1/x/3 is perhaps not there; the lifetime serves as well.
            ObserveComposite {
                paths: &["/1/x/1", "/3/0"],
                has: &[("/1/x/1", Lifetime), ("/3/0/16", Text)],
                lacks: &[],
            },
            attributes("/3", "pmax=5"),
            NotifiesOf { path: "/", has: &[("/1/x/1", Lifetime), ("/3/0/16", Text)], lacks: &[], seconds: 7 },
            notifies("/", 2, 0, 5),
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "311",
        "Send command",
        C1,
        &[Registers, Unmute, Reports { has: &[("/1/x/1", Lifetime), ("/3/0/11/0", Number)] }],
    )
    .since(Enabler::V1_1),
    Case::left_out("312", "Observe with attributes as parameters", OF_1_2).since(Enabler::V1_2),
    Case::left_out("313", "Observe parameters override attached attributes", OF_1_2).since(Enabler::V1_2),
];
