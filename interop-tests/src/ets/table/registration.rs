//! Chapter 4.2: registration, numbers 100 to 199.

use super::super::case::Literal::Integer;
use super::super::case::{Case, Enabler};
use super::super::step::Step::{
    Deregisters, Execute, Forget, IsQueued, Registers, SleepsAndIsAsked, StaysRegistered, UpdateIsNotFound,
    UpdatesBare, UpdatesBareOrExpires, UpdatesLifetime,
};
use super::{C1, C3, OF_1_2, OVER_TCP, execute, write};

const QUEUED: &str = "C.1, with a device in queue mode";

pub(super) const CASES: &[Case] = &[
    Case::new("101", "Initial Registration", C1, &[Registers]),
    Case::new(
        "102",
        "Registration Update",
        C1,
        &[
            Registers,
            write("/1/x/1", &[("", Integer(20))]),
            UpdatesLifetime { lifetime: Some(20) },
            UpdatesBareOrExpires { lifetime: 20 },
        ],
    ),
    Case::new(
        "103",
        "Deregistration",
        C3,
        &[Registers, Execute { path: "/1/x/4", is_optional: true }, Deregisters],
    ),
    Case::new(
        "104",
        "Registration Update Trigger",
        C1,
        &[Registers, execute("/1/x/8"), UpdatesBare, StaysRegistered { seconds: 21 }],
    )
    .lifetime(20),
    Case::new(
        "105",
        "Discarded Register Update",
        C1,
        &[
            Registers,
            // The specification says only that it is short.
            write("/1/x/1", &[("", Integer(10))]),
            UpdatesLifetime { lifetime: Some(10) },
            Forget,
            UpdateIsNotFound,
            Registers,
        ],
    )
    .since(Enabler::V1_1),
    Case::left_out("106", "TCP Binding", OVER_TCP).since(Enabler::V1_1),
    Case::new(
        "107",
        "Extending the lifetime of a registration",
        C1,
        // A quarter of the times of the specification, which leaves them in their proportion.
        &[
            Registers,
            write("/1/x/1", &[("", Integer(30))]),
            UpdatesLifetime { lifetime: Some(30) },
            UpdatesBare,
            StaysRegistered { seconds: 16 },
        ],
    )
    .since(Enabler::V1_1)
    .lifetime(15),
    Case::new("108", "Turn on Queue Mode", QUEUED, &[Registers, IsQueued]).since(Enabler::V1_1).queued(),
    Case::new(
        "109",
        "Behaviour in Queue Mode",
        QUEUED,
        // The server of the run takes a device for asleep after five seconds instead of 93, and so a lifetime of 40 s serves as
        // well as one of 240 s.
        &[
            Registers,
            IsQueued,
            write("/1/x/1", &[("", Integer(40))]),
            UpdatesLifetime { lifetime: Some(40) },
            SleepsAndIsAsked { path: "/3/0/0" },
        ],
    )
    .since(Enabler::V1_1)
    .queued(),
    Case::left_out("110", "Initial Registration using Profile ID", OF_1_2).since(Enabler::V1_2),
    Case::left_out("111", "Registration using Profile ID and Object List", OF_1_2).since(Enabler::V1_2),
];
