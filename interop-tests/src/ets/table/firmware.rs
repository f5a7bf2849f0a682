//! Chapter 4.6: Firmware Update (`/5`), numbers 750 to 799.
//!
//! What a device does with an image is its own: images that fail in a certain way are given to the run.

use super::super::case::Is::{Changed, Exactly, Number, OneOf, Text, Unchanged};
use super::super::case::Literal::{Bytes, Image as Package, ImageUri, Integer, Text as Characters};
use super::super::case::{Asked, Case, Image, Is, Offer};
use super::super::step::Step::{self, Becomes, Calm, NeedsValue, NeverShows, NotifiesOf, Refuses, Registers};
use super::{PLACEHOLDER, TLV, attributes, execute, needs, observe, read, read_only, write, write_in};

const C8: &str = "C.8: as C.3, with Firmware Update (/5)";

const STATE: &str = "/5/0/3";
const RESULT: &str = "/5/0/5";

/// In which a package can be taken block by block.
const OPAQUE: Option<u16> = Some(42);

const ZERO: Is = Exactly(Integer(0));
const ONE: Is = Exactly(Integer(1));
const TWO: Is = Exactly(Integer(2));

const fn becomes(path: &'static str, value: i64) -> Step {
    Becomes { path, is: Exactly(Integer(value)), seconds: 60 }
}

/// Packages are taken by a Write: method 1 or 2 of `/5/0/9`.
const TAKES_PUSH: Step = NeedsValue {
    path: "/5/0/9",
    is: OneOf(&[1, 2]),
    reason: "the client fetches its packages and is not written any",
};
/// Packages are fetched from a URI: method 0 or 2.
const TAKES_PULL: Step = NeedsValue {
    path: "/5/0/9",
    is: OneOf(&[0, 2]),
    reason: "the client is written its packages and fetches none",
};
const IDLE: Step = read("/5/0", TLV, &[("/3", ZERO)]);
/// One NUL byte in place of a package starts over.
const STARTS_OVER: Step = write("/5/0/0", &[("", Bytes(&[0]))]);

/// While a package is pushed nothing else is asked of the device: it has to tell of this state by itself.
const PASSES_DOWNLOADING: Step = NotifiesOf { path: STATE, has: &[(STATE, ONE)], lacks: &[], seconds: 60 };

macro_rules! pushed {
    ($number:literal, $title:literal, $image:expr, $result:expr $(, $passes:expr)?) => {
        Case::new(
            $number,
            $title,
            C8,
            &[
                Registers,
                needs("/5"),
                TAKES_PUSH,
                IDLE,
                Calm,
                observe(STATE),
                // An image that is refused at its beginning may be answered with an error.
                Step::Offer { path: "/5/0/0", values: &[("", Package($image))] },
                $($passes,)?
                Becomes { path: RESULT, is: $result, seconds: 60 },
                becomes(STATE, 0),
                Becomes { path: RESULT, is: $result, seconds: 2 },
                NeverShows { path: STATE, is: TWO },
            ],
        )
    };
}

pub(super) const CASES: &[Case] = &[
    Case::new(
        "751",
        "Firmware Update: Querying the readable resources",
        C8,
        &[Registers, needs("/5"), read("/5/0", TLV, &[("/3", ZERO), ("/5", ZERO), ("/9", Number)])],
    ),
    Case::new(
        "755",
        "Firmware Update: Setting the writable Resource Package",
        C8,
        &[
            Registers,
            needs("/5"),
            TAKES_PUSH,
            STARTS_OVER,
            read("/5/0", None, &[("/3", ZERO), ("/5", ZERO)]),
            write("/5/0/0", &[("", Package(Image::Good))]),
            becomes(STATE, 2),
            read_only(RESULT, None, &[("", ZERO)]),
        ],
    ),
    Case::new(
        "756",
        "Firmware Update: Setting the writable Resource Package URI",
        C8,
        &[
            Registers,
            needs("/5"),
            TAKES_PULL,
            write("/5/0/1", &[("", Characters(""))]),
            read("/5/0", None, &[("/3", ZERO), ("/5", ZERO)]),
            write("/5/0/1", &[("", ImageUri(Image::Good, Offer::Whole))]),
            becomes(STATE, 2),
            read_only(RESULT, None, &[("", ZERO)]),
        ],
    ),
    Case::new(
        "760",
        "Firmware Update: Basic Observation and Notification",
        C8,
        &[
            Registers,
            needs("/5"),
            TAKES_PUSH,
            attributes("/5/0", "pmin=2&pmax=10"),
            observe(STATE),
            write("/5/0/0", &[("", Package(Image::Good))]),
            NotifiesOf { path: STATE, has: &[(STATE, TWO)], lacks: &[], seconds: 40 },
        ],
    ),
    Case::new(
        "770",
        "Firmware Update: Successful update via CoAP",
        C8,
        &[
            Registers,
            needs("/5"),
            TAKES_PUSH,
            read_only("/3/0/3", None, &[("", Text)]),
            STARTS_OVER,
            Calm,
            observe(STATE),
            write_in("/5/0/0", OPAQUE, &[("", Package(Image::Good))]),
            PASSES_DOWNLOADING,
            becomes(STATE, 2),
            execute("/5/0/2"),
            becomes(RESULT, 1),
            becomes(STATE, 0),
            read_only("/3/0/3", None, &[("", Changed)]),
        ],
    ),
    Case::new(
        "771",
        "Firmware Update: Successful update via alternative mechanism",
        C8,
        &[
            Registers,
            needs("/5"),
            TAKES_PULL,
            read_only("/3/0/3", None, &[("", Text)]),
            write("/5/0/1", &[("", ImageUri(Image::Good, Offer::Slowly))]),
            becomes(STATE, 1),
            becomes(STATE, 2),
            execute("/5/0/2"),
            becomes(RESULT, 1),
            becomes(STATE, 0),
            read_only("/3/0/3", None, &[("", Changed)]),
        ],
    ),
    Case::new(
        "772",
        "Firmware Update error 1: install without downloaded package",
        C8,
        &[
            Registers,
            needs("/5"),
            read("/5/0", None, &[("/3", OneOf(&[0, 1])), ("/5", Number)]),
            Refuses { asked: Asked::Execute("/5/0/2"), codes: &[(4, 5)] },
            read("/5/0", None, &[("/3", Unchanged), ("/5", Unchanged)]),
        ],
    ),
    pushed!(
        "773",
        "Firmware Update error 2: shortage of storage memory",
        Image::TooLarge,
        TWO,
        PASSES_DOWNLOADING
    ),
    pushed!(
        "774",
        "Firmware Update error 3: out of memory",
        Image::TooMuchMemory,
        // The object has 3 for this, the specification of the case prints 2.
        OneOf(&[2, 3])
    ),
    Case::new(
        "775",
        "Firmware Update error 4: connection lost during download",
        C8,
        &[
            Registers,
            needs("/5"),
            TAKES_PULL,
            IDLE,
            write("/5/0/1", &[("", ImageUri(Image::Good, Offer::Cut))]),
            becomes(STATE, 1),
            Becomes { path: RESULT, is: Exactly(Integer(4)), seconds: 180 },
            becomes(STATE, 0),
            Becomes { path: RESULT, is: Exactly(Integer(4)), seconds: 2 },
            NeverShows { path: STATE, is: TWO },
        ],
    ),
    pushed!(
        "776",
        "Firmware Update error 5: package integrity check failure",
        Image::Corrupt,
        Exactly(Integer(5)),
        PASSES_DOWNLOADING
    ),
    pushed!(
        "777",
        "Firmware Update error 6: unsupported package type",
        Image::WrongType,
        Exactly(Integer(6))
    ),
    Case::new(
        "778",
        "Firmware Update error 7: invalid URI",
        C8,
        &[
            Registers,
            needs("/5"),
            TAKES_PULL,
            IDLE,
            write("/5/0/1", &[("", Characters("coap://"))]),
            becomes(RESULT, 7),
            becomes(STATE, 0),
        ],
    ),
    Case::new(
        "779",
        "Firmware Update error 8: unsuccessful firmware update",
        C8,
        &[
            Registers,
            needs("/5"),
            TAKES_PUSH,
            read_only("/3/0/3", None, &[("", Text)]),
            write("/5/0/0", &[("", Package(Image::Failing))]),
            becomes(STATE, 2),
            execute("/5/0/2"),
            becomes(RESULT, 8),
            // The specification ends in Downloaded; the state machine of the object goes back to Idle as well.
            Becomes { path: STATE, is: OneOf(&[0, 2]), seconds: 60 },
            read_only("/3/0/3", None, &[("", Unchanged)]),
        ],
    ),
    Case::left_out("780", "Firmware Update error 9: unsupported protocol", PLACEHOLDER),
];
