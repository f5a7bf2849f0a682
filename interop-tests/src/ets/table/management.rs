//! Chapter 4.3: device management and service enablement, numbers 200 to 239: reading and writing.

use lwm2m_server::WriteMode::{Replace, Update};

use super::super::case::Is::{Exactly, Flag, Lifetime, Number, Text, Unchanged};
use super::super::case::Literal::{Boolean, Integer};
use super::super::case::{Asked, Case, Enabler, Expected, Literal, Values};
use super::super::step::Step::{
    ReadComposite, Refuses, Registers, Restore, UpdatesLifetime, Write, WriteComposite,
};
use super::{
    ANY, C1, C3, CBOR, DEVICE, HAS_PORTFOLIO, JSON, PLACEHOLDER, PLAIN, PORTFOLIO, SENML_CBOR, SENML_JSON,
    SERVER, TLV, needs, read, read_only, restore, update_in, write, write_in,
};

/// What 203 and 204 ask of Device.
const BASIC: Expected = &[
    ("/0", Text),
    ("/1", Text),
    ("/2", Text),
    ("/3", Text),
    ("/11/x", Number),
    ("/16", Exactly(Literal::Text("U"))),
];

/// What 215 and 220 set.
const SETTINGS: Values = &[
    ("/2", Integer(101)),
    ("/3", Integer(1010)),
    ("/5", Integer(2000)),
    ("/6", Boolean(true)),
    ("/7", Literal::Text("U")),
];
const SETTINGS_SET: Expected = &[
    ("/2", Exactly(Integer(101))),
    ("/3", Exactly(Integer(1010))),
    ("/5", Exactly(Integer(2000))),
    ("/6", Exactly(Boolean(true))),
    ("/7", Exactly(Literal::Text("U"))),
];
const SETTINGS_BEFORE: Expected =
    &[("/2", Unchanged), ("/3", Unchanged), ("/5", Unchanged), ("/6", Unchanged), ("/7", Unchanged)];

pub(super) const CASES: &[Case] = &[
    Case::new(
        "201",
        "Querying basic information in Plain Text format",
        C1,
        &[
            Registers,
            read_only("/3/0/0", PLAIN, &[("", Text)]),
            read_only("/3/0/1", PLAIN, &[("", Text)]),
            read_only("/3/0/2", PLAIN, &[("", Text)]),
        ],
    ),
    Case::left_out("202", "Querying basic information in Opaque format", PLACEHOLDER),
    Case::new("203", "Querying basic information in TLV format", C1, &[Registers, read("/3/0", TLV, BASIC)]),
    Case::new(
        "204",
        "Querying basic information in JSON format",
        C1,
        &[Registers, read("/3/0", JSON, BASIC)],
    )
    .of_1_0(),
    Case::new(
        "205",
        "Setting basic information in Plain Text format",
        C3,
        &[
            Registers,
            needs("/1/x/2"),
            needs("/1/x/3"),
            needs("/1/x/5"),
            read("/1/x", TLV, SERVER),
            write_in("/1/x/2", PLAIN, &[("", Integer(101))]),
            write_in("/1/x/3", PLAIN, &[("", Integer(1010))]),
            write_in("/1/x/5", PLAIN, &[("", Integer(2000))]),
            read(
                "/1/x",
                TLV,
                &[
                    ("/2", Exactly(Integer(101))),
                    ("/3", Exactly(Integer(1010))),
                    ("/5", Exactly(Integer(2000))),
                ],
            ),
            restore("/1/x", &[2, 3, 5]),
            read("/1/x", TLV, &[("/2", Unchanged), ("/3", Unchanged), ("/5", Unchanged)]),
        ],
    ),
    Case::left_out("210", "Setting basic information in Opaque format", PLACEHOLDER),
    Case::new(
        "211",
        "Querying basic information in CBOR format",
        C1,
        &[
            Registers,
            read_only("/1/x/0", CBOR, &[("", Number)]),
            read_only("/1/x/6", CBOR, &[("", Flag)]),
            read_only("/1/x/7", CBOR, &[("", Text)]),
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "212",
        "Setting basic information in CBOR format",
        C3,
        &[
            Registers,
            needs("/1/x/2"),
            needs("/1/x/3"),
            write_in("/1/x/2", CBOR, &[("", Integer(101))]),
            write_in("/1/x/3", CBOR, &[("", Integer(1010))]),
            write_in("/1/x/6", CBOR, &[("", Boolean(true))]),
            read(
                "/1/x",
                None,
                &[
                    ("/2", Exactly(Integer(101))),
                    ("/3", Exactly(Integer(1010))),
                    ("/6", Exactly(Boolean(true))),
                ],
            ),
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "215",
        "Setting basic information in TLV format",
        C3,
        &[
            Registers,
            needs("/1/x/2"),
            needs("/1/x/3"),
            needs("/1/x/5"),
            read("/1/x", TLV, SERVER),
            update_in("/1/x", TLV, SETTINGS),
            read("/1/x", TLV, SETTINGS_SET),
            Restore { path: "/1/x", resources: &[1, 2, 3, 5, 6, 7], mode: Replace },
            read("/1/x", TLV, SETTINGS_BEFORE),
        ],
    ),
    Case::new(
        "220",
        "Setting basic information in JSON format",
        C3,
        &[
            Registers,
            needs("/1/x/2"),
            needs("/1/x/3"),
            needs("/1/x/5"),
            read("/1/x", JSON, SERVER),
            update_in("/1/x", JSON, SETTINGS),
            read("/1/x", JSON, SETTINGS_SET),
            Restore { path: "/1/x", resources: &[1, 2, 3, 5, 6, 7], mode: Replace },
            read("/1/x", JSON, SETTINGS_BEFORE),
        ],
    )
    .of_1_0(),
    Case::new(
        "221",
        "Attempt to perform operations on Security",
        C1,
        &[
            Registers,
            Refuses { asked: Asked::Read("/0"), codes: &[(4, 1)] },
            Refuses {
                asked: Asked::Write("/0/0/0", Replace, &[("", Literal::Text("coap://127.0.0.1"))]),
                codes: &[(4, 1)],
            },
            Refuses { asked: Asked::Attributes("/0", "pmin=30&pmax=45"), codes: &[(4, 1)] },
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "222",
        "Read on Object",
        C1,
        &[
            Registers,
            read("/1", None, &[("/x/0", Number), ("/x/1", Lifetime), ("/x/6", Flag), ("/x/7", Text)]),
            read("/3", None, &[("/0/0", Text), ("/0/11/x", Number), ("/0/16", Text)]),
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "223",
        "Read on Object Instance",
        C1,
        &[Registers, read("/1/x", None, SERVER), read("/3/0", None, DEVICE)],
    )
    .since(Enabler::V1_1),
    Case::new(
        "224",
        "Read on Resource",
        C1,
        &[
            Registers,
            read_only("/1/x/0", None, &[("", Number)]),
            read_only("/1/x/1", None, &[("", Lifetime)]),
            read_only("/1/x/6", None, &[("", Flag)]),
            read_only("/1/x/7", None, &[("", Text)]),
            read_only("/3/0/16", None, &[("", Text)]),
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "225",
        "Read on Resource Instance",
        C1,
        &[Registers, read_only("/3/0/11/x", None, &[("", Number)])],
    )
    .since(Enabler::V1_1),
    Case::new(
        "226",
        "Write (Partial Update) on Object Instance",
        C1,
        &[
            Registers,
            read("/1/x", None, SERVER),
            Write {
                path: "/1/x",
                mode: Update,
                values: &[("/1", Integer(61)), ("/6", Boolean(true))],
                format: None,
            },
            UpdatesLifetime { lifetime: Some(61) },
            read(
                "/1/x",
                None,
                &[("/0", Number), ("/1", Exactly(Integer(61))), ("/6", Exactly(Boolean(true)))],
            ),
            restore("/1/x", &[1, 6]),
            UpdatesLifetime { lifetime: None },
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "227",
        "Write (Replace) on Resource",
        C1,
        &[
            Registers,
            read_only("/1/x/1", None, &[("", Lifetime)]),
            write("/1/x/1", &[("", Integer(63))]),
            UpdatesLifetime { lifetime: Some(63) },
            read_only("/1/x/1", None, &[("", Exactly(Integer(63)))]),
            Restore { path: "/1/x/1", resources: &[], mode: Replace },
            UpdatesLifetime { lifetime: None },
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "228",
        "Write on Resource Instance",
        PORTFOLIO,
        &[
            Registers,
            HAS_PORTFOLIO,
            write("/16/0/0/1", &[("", Literal::Text("test"))]),
            read_only("/16/0/0/1", None, &[("", Exactly(Literal::Text("test")))]),
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "229",
        "Read-Composite Operation",
        C1,
        &[
            Registers,
            ReadComposite {
                paths: &["/3", "/1/x", "/1/x/1", "/3/0/11/0"],
                has: &[("/3/0/0", Text), ("/3/0/16", Text), ("/3/0/11/0", Number), ("/1/x/1", Lifetime)],
                lacks: &["/0"],
            },
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "230",
        "Write-Composite Operation",
        PORTFOLIO,
        &[
            Registers,
            HAS_PORTFOLIO,
            WriteComposite {
                values: &[
                    ("/1/x/1", Integer(61)),
                    ("/1/x/6", Boolean(true)),
                    ("/16/0/0/0", Literal::Text("aa")),
                    ("/16/0/0/1", Literal::Text("bb")),
                    ("/16/0/0/2", Literal::Text("cc")),
                    ("/16/0/0/3", Literal::Text("dd")),
                ],
            },
            UpdatesLifetime { lifetime: Some(61) },
            read("/1/x", None, &[("/1", Exactly(Integer(61))), ("/6", Exactly(Boolean(true)))]),
            read(
                "/16",
                None,
                &[
                    ("/0/0/0", Exactly(Literal::Text("aa"))),
                    ("/0/0/1", Exactly(Literal::Text("bb"))),
                    ("/0/0/2", Exactly(Literal::Text("cc"))),
                    ("/0/0/3", Exactly(Literal::Text("dd"))),
                ],
            ),
        ],
    )
    .since(Enabler::V1_1),
    querying("231", "Querying basic information in SenML JSON format", &LEVELS_IN_JSON),
    querying("232", "Querying basic information in SenML CBOR format", &LEVELS_IN_CBOR),
    Case::new("233", "Setting basic information in SenML CBOR format", PORTFOLIO, &SETTING_IN_CBOR)
        .since(Enabler::V1_1),
    Case::new("234", "Setting basic information in SenML JSON format", PORTFOLIO, &SETTING_IN_JSON)
        .since(Enabler::V1_1),
    Case::new(
        "235",
        "Read-Composite Operation on root path",
        C1,
        &[
            Registers,
            ReadComposite {
                paths: &["/"],
                has: &[("/1/x/0", Number), ("/1/x/1", Lifetime), ("/3/0/0", Text), ("/3/0/16", Text)],
                lacks: &["/0", "/21", "/23"],
            },
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "236",
        "Read-Composite - Partial Presence",
        C1,
        &[
            Registers,
            ReadComposite {
                paths: &["/1/x", "/1/x/1", "/3/0/11/0", "/3339/0/5522", "/3353/0/6030"],
                has: &[("/1/x/0", Number), ("/1/x/1", Lifetime), ("/3/0/11/0", Number)],
                lacks: &["/3339", "/3353"],
            },
        ],
    )
    .since(Enabler::V1_1),
    Case::new(
        "237",
        "Read on Object without specifying Content-Type",
        C1,
        &[
            Registers,
            read("/1", ANY, &[("/x/0", Number), ("/x/1", Lifetime)]),
            read("/3", ANY, &[("/0/0", Text), ("/0/16", Text)]),
        ],
    )
    .since(Enabler::V1_1),
];

const fn querying(number: &'static str, title: &'static str, steps: &'static [super::Step]) -> Case {
    Case::new(number, title, C1, steps).since(Enabler::V1_1)
}

const LEVELS_IN_JSON: [super::Step; 5] = levels(SENML_JSON);
const LEVELS_IN_CBOR: [super::Step; 5] = levels(SENML_CBOR);
const SETTING_IN_JSON: [super::Step; 10] = setting(SENML_JSON);
const SETTING_IN_CBOR: [super::Step; 10] = setting(SENML_CBOR);

/// 231 and 232: a format at all levels.
const fn levels(format: Option<u16>) -> [super::Step; 5] {
    [
        Registers,
        read("/1", format, &[("/x/0", Number), ("/x/1", Lifetime)]),
        read("/3/0", format, DEVICE),
        read_only("/3/0/16", format, &[("", Text)]),
        read_only("/3/0/11/x", format, &[("", Number)]),
    ]
}

/// 233 and 234: a format for an instance, a resource instance and a resource.
const fn setting(format: Option<u16>) -> [super::Step; 10] {
    [
        Registers,
        HAS_PORTFOLIO,
        update_in("/1/x", format, &[("/1", Integer(61)), ("/6", Boolean(true))]),
        UpdatesLifetime { lifetime: Some(61) },
        read("/1", None, &[("/x/1", Exactly(Integer(61))), ("/x/6", Exactly(Boolean(true)))]),
        write_in("/16/0/0/0", format, &[("", Literal::Text("test_value"))]),
        read("/16", None, &[("/0/0/0", Exactly(Literal::Text("test_value")))]),
        write_in("/1/x/1", format, &[("", Integer(63))]),
        UpdatesLifetime { lifetime: Some(63) },
        read_only("/1/x/1", None, &[("", Exactly(Integer(63)))]),
    ]
}
