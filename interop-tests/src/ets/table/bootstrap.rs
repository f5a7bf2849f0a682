//! Chapter 4.1: bootstrap, numbers 0 to 99.

use super::super::case::Is::{Exactly, Number};
use super::super::case::Literal::Integer;
use super::super::case::{Case, Enabler, Entry, Script, Security};
use super::super::step::Step::{
    AskedForNoBootstrap, AsksForBootstrap, CameSecured, FinishesBootstrap, RefusesFinish, Registers,
    ShowsAccounts, ShowsInBootstrap, ShowsNoAccount, TakesDelete, TakesWrite,
};
use super::{C13, DEVICE, OF_1_2, TLV, execute, read};

const ASKS: super::Step = AsksForBootstrap { after: 0 };
const SECURITY: super::Step = TakesWrite { path: "/0" };
const SERVER: super::Step = TakesWrite { path: "/1" };

pub(super) const CASES: &[Case] = &[
    Case::new(
        "0",
        "Client Initiated Bootstrap",
        C13,
        &[ASKS, SECURITY, SERVER, ShowsAccounts, FinishesBootstrap],
    )
    .by(Entry::Bootstrap),
    Case::new(
        "1",
        "Client Initiated Bootstrap Full (PSK)",
        C13,
        &[
            ASKS,
            SECURITY,
            SERVER,
            ShowsAccounts,
            FinishesBootstrap,
            Registers,
            read("/3/0", TLV, DEVICE),
            CameSecured,
        ],
    )
    .by(Entry::Bootstrap),
    Case::new(
        "2",
        "Client Initiated Bootstrap Full (Cert)",
        C13,
        &[
            ASKS,
            SECURITY,
            SERVER,
            ShowsAccounts,
            FinishesBootstrap,
            Registers,
            read("/3/0", TLV, DEVICE),
            CameSecured,
        ],
    )
    .by(Entry::Bootstrap)
    .with(Security::Certificate),
    Case::left_out("3", "Simple Bootstrap from Smartcard", "needs a smartcard in the device"),
    Case::new(
        "4",
        "Bootstrap Delete",
        C13,
        &[
            ASKS,
            SECURITY,
            SERVER,
            ShowsAccounts,
            ShowsInBootstrap { path: "/1", has: &[("/1/x/0", Exactly(Integer(1)))], lacks: &[] },
            TakesDelete { path: "/0" },
            TakesDelete { path: "/1" },
            ShowsNoAccount,
            ShowsInBootstrap { path: "/1", has: &[], lacks: &["/1"] },
            SECURITY,
            SERVER,
            ShowsAccounts,
            FinishesBootstrap,
            Registers,
        ],
    )
    .since(Enabler::V1_1)
    .by(Entry::Bootstrap)
    .scripted(&[
        Script::Account,
        Script::Discover,
        Script::Read("/1"),
        Script::Delete("/0"),
        Script::Delete("/1"),
        Script::Discover,
        Script::Read("/1"),
        Script::Account,
    ]),
    Case::new(
        "5",
        "Server Initiated Bootstrap",
        C13,
        &[
            FinishesBootstrap,
            Registers,
            execute("/1/x/9"),
            ASKS,
            SECURITY,
            SERVER,
            ShowsAccounts,
            FinishesBootstrap,
        ],
    )
    .since(Enabler::V1_1)
    .by(Entry::Bootstrap),
    Case::new(
        "6",
        "Bootstrap Sequence",
        "C.13, and an account of a server from the factory",
        // Of smartcard and factory a device on a desk has the factory. Its account comes before the bootstrap server, and the
        // bootstrap account is kept for when a server asks.
        &[
            Registers,
            AskedForNoBootstrap,
            execute("/1/x/9"),
            ASKS,
            SECURITY,
            SERVER,
            ShowsAccounts,
            FinishesBootstrap,
            Registers,
        ],
    )
    .since(Enabler::V1_1)
    .by(Entry::Both),
    Case::new(
        "7",
        "Fallback to bootstrap",
        "C.13, and an account of a server that does not exist",
        &[AsksForBootstrap { after: 120 }, SECURITY, SERVER, FinishesBootstrap, Registers],
    )
    .since(Enabler::V1_1)
    .by(Entry::Fallback),
    Case::new(
        "8",
        "Bootstrap Read",
        C13,
        &[
            ASKS,
            SECURITY,
            SERVER,
            TakesWrite { path: "/2" },
            ShowsInBootstrap {
                path: "/1",
                has: &[("/1/x/0", Exactly(Integer(1))), ("/1/x/1", Number)],
                lacks: &[],
            },
            ShowsInBootstrap {
                path: "/2",
                has: &[
                    ("/2/0/0", Exactly(Integer(3))),
                    ("/2/0/1", Exactly(Integer(0))),
                    ("/2/0/2/0", Exactly(Integer(31))),
                    ("/2/0/3", Exactly(Integer(65_535))),
                ],
                lacks: &[],
            },
            FinishesBootstrap,
        ],
    )
    .since(Enabler::V1_1)
    .by(Entry::Bootstrap)
    .scripted(&[
        Script::Account,
        Script::Write(
            "/2/0",
            &[("/0", Integer(3)), ("/1", Integer(0)), ("/2/0", Integer(31)), ("/3", Integer(65_535))],
        ),
        Script::Read("/1"),
        Script::Read("/2"),
    ]),
    Case::new(
        "9",
        "Bootstrap and Configuration Consistency",
        C13,
        &[ASKS, TakesWrite { path: "/1" }, RefusesFinish],
    )
    .since(Enabler::V1_1)
    .by(Entry::Bootstrap)
    .scripted(&[Script::Write("/1/0", &[("/5", Integer(86_400))])]),
    Case::left_out("10", "Client Initiated Bootstrap Full (EST)", "needs an EST server, mode 4 of /0/x/2")
        .since(Enabler::V1_1),
    Case::left_out("11", "Client Initiated Bootstrap (OSCORE)", OF_1_2).since(Enabler::V1_2),
    Case::left_out("12", "Bootstrap via Bootstrap-Pack-Request", OF_1_2).since(Enabler::V1_2),
    Case::left_out("19", "Client Initiated Bootstrap over MQTT", OF_1_2).since(Enabler::V1_2),
];
