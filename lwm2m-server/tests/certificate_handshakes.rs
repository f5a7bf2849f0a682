//! Handshakes with raw public keys and certificates: the server's own keys, and the work that is done elsewhere meanwhile.

#![expect(clippy::unwrap_used, reason = "test")]

mod issued;
mod support;

use dtls_psk::{Crypto as _, Purpose, Suite, Suites};
use lwm2m_server::Provider;
use lwm2m_server::credentials::{
    Authenticated, Binding, DeviceTrust, Enrol, EnrolAccount, Fingerprint, KeyMaterial, Role, Subject,
};
use lwm2m_server::endpoint::{Config, Done, Listener, NotRestored, Work};
use lwm2m_server::keys::{ServerKey, ServerKeys};
use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

use issued::{authority, key_of, params};
use support::*;

const SERVER: u8 = 0x51;

fn server_key(secret: u8) -> ServerKey {
    ServerKey::in_memory(&[secret; 32]).unwrap()
}

fn world_of(keys: Vec<ServerKey>) -> World {
    let mut config = Config::default();
    config.keys = ServerKeys::new(keys);
    World::with(config, false)
}

/// A server with one key, which knows the raw public key of the device `a`; and that device.
fn world() -> (World, Holder) {
    let mut world = world_of(vec![server_key(SERVER)]);
    let holder = Holder::of(0xc1, server_key(SERVER).raw_public_key());
    enrol(&mut world, "a", &holder);
    (world, holder)
}

fn enrol(world: &mut World, endpoint: &str, holder: &Holder) {
    let key =
        KeyMaterial::Public { subject: Subject::RawPublicKey(Fingerprint::of(&holder.public())), key: None };
    let accounts = vec![EnrolAccount { role: Role::Management, key }];
    let enrol = Enrol { accounts, ..Enrol::default() };
    world.credentials.enrol(world.now.as_millis(), "test", endpoint, &enrol).unwrap();
}

fn connected(world: &mut World, port: u16, holder: Holder) -> Device {
    let mut device = Device::plain(Listener::Coaps, port);
    device.connect_with_key(world, holder);
    device
}

const REGISTER: &str = "ep=a&lt=86400&lwm2m=1.1";
const LINKS: &str = "</1/0>,</3/0>";

#[test]
fn a_device_with_a_raw_public_key_registers_beside_one_with_a_pre_shared_key() {
    let (mut world, holder) = world();
    let identity = world.enrol("b", Role::Management);
    let mut device = connected(&mut world, 1, holder);
    assert!(device.established);
    device.register(&mut world, REGISTER, LINKS);
    let mut other = Device::secure(&mut world, Listener::Coaps, 2, &identity, &KEY);
    other.register(&mut world, "ep=b&lt=86400&lwm2m=1.1", LINKS);
    assert_eq!(
        world.told(),
        ["established a management", "registered a", "established b management", "registered b"]
    );
    // The server's share and signature, whose the key is, and the proof of it.
    assert_eq!(world.endpoint.counters().works, 4);
}

#[test]
fn an_endpoint_name_of_another_device_is_refused() {
    let (mut world, holder) = world();
    let mut device = connected(&mut world, 1, holder);
    let answer = device.request(&mut world, lwm2m_coap::Code::POST, "/rd?ep=b&lt=86400", b"</1/0>").unwrap();
    assert_eq!(answer.code, lwm2m_coap::Code::BAD_REQUEST);
}

#[test]
fn a_key_that_nobody_enrolled_is_refused_with_an_alert_and_told_once() {
    let (mut world, holder) = world();
    let stranger = Holder::of(0xc2, &holder.server);
    let hash = Fingerprint::of(&stranger.public());
    let device = connected(&mut world, 1, stranger);
    assert!(!device.established);
    assert_eq!(device.closed, None, "an alert during the handshake is not believed at once");
    let told = world.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        told.first().unwrap(),
        &format!(
            "handshake refused raw public key {hash}: no management account has the raw public key sha256:{hash}"
        )
    );
}

#[test]
fn a_key_of_somebody_else_proves_nothing_without_its_private_half() {
    let (mut world, holder) = world();
    let thief = Holder { signs_with: [0xc2; 32], ..holder };
    let device = connected(&mut world, 1, thief);
    assert!(!device.established);
    let told = world.told();
    assert!(told.len() == 1 && told.first().unwrap().contains("signature"), "{told:?}");
    assert_eq!(world.endpoint.counters().handshakes_finished, 0);
}

#[test]
fn a_revoked_key_is_refused_in_the_next_handshake() {
    let (mut world, holder) = world();
    let now = world.now.as_millis();
    world.credentials.revoke(now, "test", "a", Some(Role::Management), "lost").unwrap();
    let device = connected(&mut world, 1, holder);
    assert!(!device.established);
    assert!(world.told().iter().any(|told| told.ends_with(": revoked")));
}

#[test]
fn who_is_revoked_while_the_handshake_runs_is_not_let_in() {
    for is_revoked in [false, true] {
        let (mut world, holder) = world();
        let mut device = Device::plain(Listener::Coaps, 1);
        device.begin_with_key(&mut world, holder);
        for _ in 0..2 {
            for datagram in device.due(&world) {
                world.receive(device.local, device.address, &datagram);
            }
            device.take_all(&mut world);
        }
        for datagram in device.due(&world) {
            world.receive_unsettled(device.local, device.address, &datagram);
        }
        let (id, work) = world.endpoint.poll_work().unwrap();
        assert!(matches!(work, Work::CheckPeer { .. }));
        let now = world.now.as_millis();
        let done = work.run(now, &world.credentials);
        world.provide_work(id, done);
        if is_revoked {
            world.credentials.revoke(now, "test", "a", Some(Role::Management), "lost").unwrap();
        }
        world.settle();
        device.run(&mut world);
        let told = world.told();
        assert_eq!(told.contains(&"established a management".to_owned()), !is_revoked, "{told:?}");
    }
}

#[test]
fn a_server_without_keys_has_no_suite_for_them() {
    let mut world = World::new(false);
    let device = connected(&mut world, 1, Holder::of(0xc1, &[]));
    assert!(!device.established);
    assert_eq!(world.told(), ["handshake refused ?: there is no cipher suite in common"]);
}

#[test]
fn a_device_that_does_not_know_the_server_key_is_told_of() {
    let (mut world, holder) = world();
    let mut device = Device::plain(Listener::Coaps, 1);
    device
        .begin_with_key(&mut world, Holder { server: server_key(0x52).raw_public_key().to_vec(), ..holder });
    device.run(&mut world);
    assert!(!device.established);
    world.pass(std::time::Duration::from_secs(100));
    let told = world.told();
    assert!(told.len() == 1 && told.first().unwrap().contains("alert"), "{told:?}");
}

#[test]
fn each_listener_presents_its_own_key() {
    let keys = || {
        vec![
            server_key(0x52).for_role(Some(Role::Bootstrap)),
            server_key(SERVER).for_role(Some(Role::Management)),
        ]
    };
    let mut world = world_of(keys());
    for (server, is_known) in [(SERVER, true), (0x52, false)] {
        let holder = Holder::of(0xc1, server_key(server).raw_public_key());
        enrol(&mut world, "a", &holder);
        assert_eq!(connected(&mut world, u16::from(server), holder).established, is_known, "{server:x}");
    }
}

#[test]
fn work_beyond_what_may_be_out_waits_its_turn_and_what_is_lost_ends_its_handshake() {
    let mut config = Config::default();
    config.keys = ServerKeys::new(vec![server_key(SERVER)]);
    config.works = 1;
    let mut world = World::with(config, false);
    let holders = [1, 2, 3].map(|secret| Holder::of(secret, server_key(SERVER).raw_public_key()));
    let mut devices = holders.map(|holder| {
        let mut device = Device::plain(Listener::Coaps, holder.secret[0].into());
        device.begin_with_key(&mut world, holder);
        device
    });
    for device in &mut devices {
        send_hellos(&mut world, device);
    }
    let (id, work) = world.endpoint.poll_work().unwrap();
    assert!(matches!(work, Work::Compute(_)), "its share");
    assert!(world.endpoint.poll_work().is_none(), "one is out");
    let before = world.endpoint.associations();
    world.provide_work(id, Done::Lost);
    assert_eq!(world.endpoint.associations(), before.saturating_sub(1));
    // What is done for a handshake that is gone changes nothing.
    let (late, work) = world.endpoint.poll_work().unwrap();
    let done = work.run(world.now.as_millis(), &world.credentials);
    world.provide_work(id, Done::Signed(None));
    world.provide_work(late, done);
    assert!(world.endpoint.poll_work().is_some());
}

#[test]
fn what_a_device_with_a_pre_shared_key_waits_for_goes_before_the_signatures_of_others() {
    let mut config = Config::default();
    config.keys = ServerKeys::new(vec![server_key(SERVER)]);
    config.works = 1;
    let mut world = World::with(config, false);
    let holders = [1, 2].map(|secret| Holder::of(secret, server_key(SERVER).raw_public_key()));
    for holder in holders {
        let mut device = Device::plain(Listener::Coaps, holder.secret[0].into());
        device.begin_with_key(&mut world, holder);
        send_hellos(&mut world, &mut device);
        let (id, share) = world.endpoint.poll_work().unwrap();
        let done = share.run(world.now.as_millis(), &world.credentials);
        world.provide_work(id, done);
    }
    let identity = world.enrol("b", Role::Management);
    let mut device = Device::plain(Listener::Coaps, 3);
    device.dtls = device.dtls.with_suites(Suites::new(&[Suite::EcdhePskAes128Ccm8]).unwrap());
    device.begin(&mut world, &identity, &KEY);
    send_hellos(&mut world, &mut device);
    let (_, first) = world.endpoint.poll_work().unwrap();
    assert!(matches!(&first, Work::Compute(it) if it.purpose() == Purpose::Share), "{first:?}");
    let (_, second) = world.endpoint.poll_work().unwrap();
    assert!(matches!(second, Work::Sign { .. }), "whatever else is out: {second:?}");
    assert!(world.endpoint.poll_work().is_none(), "one signature is out");
}

#[test]
fn signatures_of_a_key_elsewhere_leave_room_for_those_of_keys_in_memory() {
    let mut config = Config::default();
    let point = Provider::p256_public(&[SERVER; 32]).unwrap();
    let elsewhere = ServerKey::elsewhere(&point, |_| None).for_role(Some(Role::Bootstrap));
    config.keys = ServerKeys::new(vec![elsewhere, server_key(SERVER).for_role(Some(Role::Management))]);
    config.works = 1;
    let mut world = World::with(config, false);
    let begin = |world: &mut World, listener, port| {
        let mut device = Device::plain(listener, port);
        device.begin_with_key(world, Holder::of(1, server_key(SERVER).raw_public_key()));
        send_hellos(world, &mut device);
        let (id, share) = world.endpoint.poll_work().unwrap();
        world.provide_work(id, share.run(world.now.as_millis(), &world.credentials));
        world.endpoint.poll_work()
    };
    assert!(begin(&mut world, Listener::BootstrapCoaps, 1).is_some());
    assert!(begin(&mut world, Listener::BootstrapCoaps, 2).is_none(), "one is out");
    assert!(matches!(begin(&mut world, Listener::Coaps, 3), Some((_, Work::Sign { .. }))));
}

/// The ClientHello and the one with the cookie; nobody does the work that follows.
fn send_hellos(world: &mut World, device: &mut Device) {
    for _ in 0..2 {
        for datagram in device.due(world) {
            world.receive_unsettled(device.local, device.address, &datagram);
        }
        device.take_all(world);
    }
}

#[test]
fn what_came_of_other_work_answers_nothing() {
    let (mut world, holder) = world();
    let mut device = Device::plain(Listener::Coaps, 1);
    device.begin_with_key(&mut world, holder);
    send_hellos(&mut world, &mut device);
    let (id, _) = world.endpoint.poll_work().unwrap();
    let who = Authenticated::new("a".into(), Role::Management, 1);
    world.provide_work(id, Done::Checked(Ok(who)));
    device.run(&mut world);
    assert!(!device.established);
    assert_eq!(world.told(), [""; 0]);
}

/// An authority that issues certificates of devices.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let (params, key) = (authority("Root"), key_of([0xa1; 32]));
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Whoever trusts it, and has its list with these serial numbers.
    fn trust(&self, revoked: &[u64]) -> DeviceTrust {
        let mut trust = DeviceTrust::default();
        trust.add_anchors(&self.certificate).unwrap();
        let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        trust.add_revocations(list.signed_by(&self.issuer).unwrap().der()).unwrap();
        trust
    }

    /// A device of this name, whose certificate ends with 2027.
    fn holder(&self, name: &str, serial: u64) -> Holder {
        let mut params = params(name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = date_time_ymd(2028, 1, 1);
        let certificate = params.signed_by(&key_of([0xc1; 32]), &self.issuer).unwrap().der().to_vec();
        let holder = Holder::of(0xc1, server_key(SERVER).raw_public_key());
        Holder { chain: Some(vec![certificate]), ..holder }
    }
}

/// A server that trusts an authority, and a device `a` with a certificate of it, which the server knows by the name in it.
fn world_of_certificates() -> (World, Authority, Holder) {
    let own = params("server").self_signed(&key_of([SERVER; 32])).unwrap().der().to_vec();
    let world = world_of(vec![server_key(SERVER).with_certificates(vec![own]).unwrap()]);
    let authority = Authority::new();
    world.credentials.set_trust(authority.trust(&[]));
    let key =
        KeyMaterial::Public { subject: Subject::Certificate(Binding::Name { issuer: None }), key: None };
    let accounts = vec![EnrolAccount { role: Role::Management, key }];
    let enrol = Enrol { accounts, ..Enrol::default() };
    world.credentials.enrol(world.now.as_millis(), "test", "a", &enrol).unwrap();
    let holder = authority.holder("a", 4_242);
    (world, authority, holder)
}

/// What ends a certificate's trust while its device is away.
type End = fn(&mut World, &Authority);

const ENDS: [(End, &str); 3] = [
    (
        |world, authority| world.credentials.set_trust(authority.trust(&[4_242])),
        "the certificate that it came with, or one above it, was revoked by its authority",
    ),
    (
        |world, _| world.credentials.set_trust(DeviceTrust::default()),
        "the authority of its certificate is not trusted any more",
    ),
    (
        // 2028-01-02.
        |world, _| world.now = lwm2m_coap::Instant::from_millis(1_830_384_000_000),
        "the certificate that it came with, or one above it, has expired",
    ),
];

/// The clock was behind, and is set to 2028-01-02.
const SET: (End, &str) = (
    |world, _| {
        let now = world.now;
        world.endpoint.set_wall_clock(now, 1_830_384_000_000);
    },
    "the certificate that it came with, or one above it, has expired",
);

#[test]
fn a_session_is_not_taken_up_again_once_its_certificate_is_no_longer_trusted() {
    for (end, reason) in ENDS.into_iter().chain([SET]) {
        let (mut world, authority, holder) = world_of_certificates();
        // As long as sessions are kept at most, so that the clock alone does not end it.
        world.now = lwm2m_coap::Instant::from_millis(1_830_384_000_000 - 86_400_000 + 1);
        let mut device = connected(&mut world, 1, holder.clone());
        assert!(device.established && device.kept.is_some());
        drop(world.told());
        world.credentials.set_trust(authority.trust(&[1]));
        device.connect_with_key(&mut world, holder.clone());
        assert_eq!(
            world.told(),
            ["closed a: another session was established from its address", "resumed a management"],
            "another's end is not its own"
        );
        end(&mut world, &authority);
        device.connect_with_key(&mut world, holder.clone());
        assert_eq!(world.told(), [format!("closed a: {reason}")]);
        device.connect_with_key(&mut world, holder);
        assert!(!device.established, "nor does it get a new one");
    }
}

#[test]
fn a_session_of_certificates_is_taken_up_under_the_name_that_it_was_made_under_and_no_other() {
    // RFC 6066 §3
    let (mut world, _, holder) = world_of_certificates();
    let named = |name: Option<&str>| Holder { server_name: name.map(str::to_owned), ..holder.clone() };
    let mut device = connected(&mut world, 1, named(Some("a.example")));
    for (name, is_taken_up) in [
        (Some("a.example"), true),
        (Some("A.Example"), true),
        (Some("b.example"), false),
        (Some("b.example"), true),
        (None, true),
        (Some("a.example"), false),
    ] {
        drop(world.told());
        device.connect_with_key(&mut world, named(name));
        assert!(device.established);
        let told = world.told();
        assert_eq!(told.contains(&"resumed a management".to_owned()), is_taken_up, "{name:?}: {told:?}");
    }
}

fn update(device: &mut Device, world: &mut World, location: &str) -> Option<Got> {
    device.request(world, lwm2m_coap::Code::POST, location, b"")
}

#[test]
fn whoever_stays_is_asked_for_the_certificate_at_the_first_message_of_a_minute() {
    for (end, reason) in ENDS.into_iter().chain([SET]) {
        let (mut world, authority, holder) = world_of_certificates();
        let mut device = connected(&mut world, 1, holder);
        let location = device.register(&mut world, REGISTER, LINKS);
        assert_eq!(update(&mut device, &mut world, &location).unwrap().code, lwm2m_coap::Code::CHANGED);
        drop(world.told());
        end(&mut world, &authority);
        world.pass(std::time::Duration::from_secs(60));
        update(&mut device, &mut world, &location);
        let told = world.told();
        assert!(told.contains(&format!("closed a: {reason}")), "{told:?}");
        assert_eq!(world.endpoint.associations(), 0);
    }
}

#[test]
fn a_planned_restart_brings_nobody_back_whose_certificate_is_no_longer_trusted() {
    for (end, _) in ENDS {
        let (mut world, authority, holder) = world_of_certificates();
        let mut device = connected(&mut world, 1, holder);
        device.register(&mut world, REGISTER, LINKS);
        let saved = world.stop();
        end(&mut world, &authority);
        let resumed = world.resume(1, saved, std::time::Duration::ZERO);
        assert_eq!(resumed.not_restored, [(NotRestored::NotAdmitted, 1)]);
    }
}
