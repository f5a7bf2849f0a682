//! Security mode 1: raw public keys, in storage or in a secure element, and each check that a handshake fails at (LwM2M
//! Transport 1.1.1 §5.2.8.2, RFC 7250).

use dtls_psk::Suites;
use lwm2m_client::objects::{Content, Format, Operation, Value};
use lwm2m_client::{
    Action, Credential, HandshakeReason, Key, Notice, RawPublicKey, Reason, Refusal, Role, ShortServerId,
    Suite,
};
use lwm2m_coap::Code;

use crate::prover::{Owner, public_key};
use crate::world::{BOOT, OLD, Script, World, account, account_of, bootstrap_account, target, tlv};

const BS: u16 = 5784;
const DM: u16 = 5684;

pub const DEVICE: [u8; 32] = [0xd1; 32];
pub const SERVER: [u8; 32] = [0x5e; 32];
const OTHER: [u8; 32] = [0x07; 32];

/// A OneAsymmetricKey.
pub fn private_key(secret: &[u8; 32]) -> Vec<u8> {
    let head = [
        0x30, 0x41, 2, 1, 0, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 3, 1, 7, 4, 0x27, 0x30, 0x25, 2, 1, 1, 4, 0x20,
    ];
    [&head[..], secret].concat()
}

/// What a device has, as a whole.
pub struct Keys {
    public: Vec<u8>,
    private: Vec<u8>,
    server: Vec<u8>,
}

impl Keys {
    pub fn new() -> Self {
        Keys { public: public_key(&DEVICE), private: private_key(&DEVICE), server: public_key(&SERVER) }
    }

    pub fn credential(&self) -> Credential<'_> {
        let Keys { public, private, server } = self;
        RawPublicKey { public_key: Some(public), private_key: Some(private), server_key: server }.into()
    }

    /// Without what a secure element has.
    fn of_element(&self) -> Credential<'_> {
        RawPublicKey { public_key: None, private_key: None, server_key: &self.server }.into()
    }
}

fn server() -> Script {
    Script::signing(DM, Owner::new(SERVER, &[&public_key(&DEVICE)]))
}

fn world_with(server: Script) -> World {
    World::durable(&[account_of(DM, Keys::new().credential())], vec![server])
}

fn replace(world: &mut World, key: Key, bytes: Option<&[u8]>) {
    let change = bytes.map_or(Action::Remove { key }, |bytes| Action::Stage { key, bytes });
    for action in [change, Action::Commit, Action::Confirm] {
        world.flash.store.apply(&action).unwrap();
    }
}

/// The credentials that were loaded.
fn loaded(world: &World) -> Vec<Key> {
    let keys = world.flash.loaded.iter().copied();
    keys.filter(|key| matches!(key, Key::Identity(_) | Key::Secret(_) | Key::ServerKey(_))).collect()
}

/// Why the registration did not come about.
fn reasons(world: &World) -> Vec<Reason> {
    let reasons = world.notices.iter().filter_map(|notice| match notice {
        Notice::RegistrationRetry { reason, .. } | Notice::RegistrationFailed { reason, .. } => Some(*reason),
        _ => None,
    });
    reasons.collect()
}

fn is_refused(mut world: World, reason: HandshakeReason, alert: u8) -> World {
    world.run(5);
    assert_eq!(reasons(&world), [Reason::Handshake(reason)]);
    assert_eq!(world.server(DM).handshakes, 0);
    let told = HandshakeReason::PeerAlert(dtls_psk::Alert(alert));
    assert_eq!(world.server(DM).owner.suspicions.last(), Some(&told));
    world
}

#[test]
fn both_sides_prove_their_keys_and_the_device_registers() {
    let mut world = world_with(server());
    assert!(world.run_until(10, |world| world.is_registered(DM)), "{:?}", world.notices);
    assert_eq!(world.server(DM).owner.presented, [public_key(&DEVICE)]);
    assert_eq!(loaded(&world), [Key::ServerKey(1), Key::Identity(1), Key::Secret(1)]);
    let role = Role::Server(ShortServerId::FIRST);
    assert!(world.notices.contains(&Notice::Secured { role, suite: Suite::EcdheEcdsaAes128Ccm8 }));
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
}

#[cfg(feature = "resumption")]
#[test]
fn a_session_that_signatures_made_is_taken_up_again_and_ends_with_its_credential() {
    let keys = Keys::new();
    let mut manager = server();
    manager.sessions = Some(Vec::new());
    let accounts = [bootstrap_account(BS, Some(BOOT)), account_of(DM, keys.credential())];
    let mut world = World::durable(&accounts, vec![Script::secured(BS, "boot", BOOT.key), manager]);
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    world.run(1);
    assert!(world.flash.store.load(Key::Session(1)).is_some());
    world.flash.loaded.clear();
    world.power_loss();
    assert!(world.run_until(10, |world| world.servers[1].resumed == 1 && world.client.is_registered()));
    assert!(loaded(&world).is_empty(), "nothing of the credential was needed");
    assert_eq!(world.read(DM, "/3/0/0", Format::TEXT).text(), "Acme");
    // The same credential written again is proven again.
    assert_eq!(world.execute(DM, "/1/1/9"), Code::CHANGED);
    bootstrap_asked(&mut world);
    world.write_credential(BS, DM, keys.credential());
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(10, |world| world.servers[1].handshakes == 3 && world.client.is_registered()));
    assert_eq!(world.server(DM).resumed, 1);
    // A server that forgot the session gets a full handshake.
    world.run(1);
    world.server(DM).sessions = Some(Vec::new());
    world.power_loss();
    assert!(world.run_until(10, |world| world.servers[1].handshakes == 4 && world.client.is_registered()));
    assert_eq!(world.server(DM).resumed, 1);
}

#[test]
fn a_private_key_is_taken_in_each_of_its_forms() {
    let ec = [&[0x30, 0x25, 2, 1, 1, 4, 0x20][..], &DEVICE].concat();
    for private in [DEVICE.to_vec(), ec] {
        let mut world = world_with(server());
        replace(&mut world, Key::Secret(1), Some(&private));
        assert!(world.run_until(10, |world| world.is_registered(DM)));
    }
}

#[test]
fn a_server_with_another_key_is_told_so_and_learns_nothing_of_the_device() {
    let server = Script::signing(DM, Owner::new(OTHER, &[&public_key(&DEVICE)]));
    let refusal = HandshakeReason::UntrustedPeer(Refusal::Unknown);
    let mut world = is_refused(world_with(server), refusal, 46);
    assert_eq!(loaded(&world), [Key::ServerKey(1)]);
    assert!(world.server(DM).owner.presented.is_empty());
    // It may have been somebody else: the server is tried again.
    world.server(DM).owner.secret = Some(SERVER);
    assert!(world.run_until(100, |world| world.is_registered(DM)));
}

#[test]
fn a_server_that_presents_the_key_and_does_not_have_it_is_refused() {
    let mut server = Script::signing(DM, Owner::new(OTHER, &[&public_key(&DEVICE)]));
    server.owner.impersonates = Some(public_key(&SERVER));
    let world = is_refused(world_with(server), HandshakeReason::BadSignature, 51);
    assert_eq!(loaded(&world), [Key::ServerKey(1)]);
}

#[test]
fn a_device_that_the_server_does_not_know_fails_for_good() {
    let mut server = server();
    server.owner.known.clear();
    let mut world = world_with(server);
    // The alert is in the clear, and believed when nothing else came.
    world.run(5);
    assert_eq!(reasons(&world), [Reason::Alert(46)]);
    assert!(world.notices.iter().any(|notice| matches!(notice, Notice::RegistrationFailed { .. })));
}

#[test]
fn a_credential_that_is_not_in_storage_or_cannot_be_read_is_named() {
    let keys = Keys::new();
    let longer = [&keys.private[..], &[0]].concat();
    let missing = Reason::NoCredential;
    let malformed = Reason::MalformedCredential;
    for (key, bytes, reason) in [
        (Key::ServerKey(1), None, missing),
        (Key::Identity(1), None, missing),
        (Key::Secret(1), None, missing),
        (Key::ServerKey(1), Some(&keys.server[..90]), malformed),
        (Key::ServerKey(1), Some(&[][..]), malformed),
        (Key::Identity(1), Some(&keys.public[1..]), malformed),
        (Key::Secret(1), Some(&longer), malformed),
        // Not between zero and the order of the group.
        (Key::Secret(1), Some(&[0; 32]), malformed),
        (Key::Secret(1), Some(&[0xff; 32]), malformed),
    ] {
        let mut world = world_with(server());
        replace(&mut world, key, bytes);
        world.run(5);
        assert_eq!(reasons(&world), [reason], "{key:?} {bytes:02x?}");
        replace(&mut world, Key::ServerKey(1), Some(&keys.server));
        replace(&mut world, Key::Identity(1), Some(&keys.public));
        replace(&mut world, Key::Secret(1), Some(&keys.private));
        assert!(world.run_until(100, |world| world.is_registered(DM)), "{:?}", world.notices);
    }
}

#[test]
fn a_private_key_of_another_public_key_is_refused_by_the_server() {
    let mut world = world_with(server());
    replace(&mut world, Key::Secret(1), Some(&OTHER));
    world.run(5);
    assert_eq!(reasons(&world), [Reason::Alert(51)]);
    assert_eq!(world.server(DM).handshakes, 0);
}

#[test]
fn a_server_without_such_keys_and_a_device_without_have_nothing_in_common() {
    let mut signing = server();
    signing.suites = Suites::new(&[Suite::EcdheEcdsaAes128Ccm8]).unwrap();
    let secured = Script::secured(DM, "old", OLD.key);
    for (credential, server) in [(OLD.into(), signing), (Keys::new().credential(), secured)] {
        let mut world = World::new(&[account_of(DM, credential)], vec![server]);
        world.run(5);
        assert_eq!(reasons(&world), [Reason::Alert(40)]);
        assert_eq!(world.server(DM).handshakes, 0);
    }
}

#[cfg(feature = "suites")]
#[test]
fn an_account_that_names_no_suite_for_its_credential_has_nothing_to_offer() {
    let mut world = World::durable(
        &[bootstrap_account(BS, Some(BOOT))],
        vec![Script::secured(BS, "boot", BOOT.key), server()],
    );
    bootstrap_asked(&mut world);
    world.write_credential(BS, DM, Keys::new().credential());
    let suites = [("0", Value::Unsigned(0xc0a8))];
    assert_eq!(world.bootstrap_write(BS, "/0/1/16", &suites), Code::CHANGED);
    assert_eq!(world.finish(BS), Code::CHANGED);
    world.run(5);
    assert_eq!(reasons(&world), [Reason::NoSuite]);
}

fn bootstrap_asked(world: &mut World) {
    let is_asked = |world: &World| world.servers[0].requests.iter().any(|request| request.path == "/bs");
    assert!(world.run_until(10, is_asked), "{:?}", world.notices);
}

/// A device that is registered by a pre-shared key, and asked to bootstrap.
fn registered() -> World {
    let mut manager = server();
    manager.keys.insert(b"old".to_vec(), OLD.key.to_vec());
    let accounts = [bootstrap_account(BS, Some(BOOT)), account(1, DM, Some(OLD))];
    let mut world = World::durable(&accounts, vec![Script::secured(BS, "boot", BOOT.key), manager]);
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    assert_eq!(world.execute(DM, "/1/1/9"), Code::CHANGED);
    bootstrap_asked(&mut world);
    world
}

#[test]
fn what_a_mode_has_no_use_for_leaves_storage() {
    let mut world = registered();
    let keys = Keys::new();
    world.write_credential(BS, DM, keys.credential());
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(10, |world| world.servers[1].handshakes == 2 && world.client.is_registered()));
    assert_eq!(world.flash.store.load(Key::ServerKey(1)), Some(&*keys.server));
    assert_eq!(world.flash.store.load(Key::Secret(1)), Some(&*keys.private));
    let asked = world.count(BS, "/bs");
    assert_eq!(world.execute(DM, "/1/1/9"), Code::CHANGED);
    assert!(world.run_until(10, |world| {
        world.servers[0].requests.iter().filter(|request| request.path == "/bs").count() > asked
    }));
    world.write_credential(BS, DM, OLD.into());
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(10, |world| world.servers[1].handshakes == 3 && world.client.is_registered()));
    assert_eq!(world.flash.store.load(Key::ServerKey(1)), None);
    assert_eq!(world.flash.store.load(Key::Secret(1)), Some(OLD.key));
}

#[test]
fn an_account_that_lacks_a_part_is_not_taken() {
    for missing in ["3", "4", "5"] {
        let keys = Keys::new();
        let mut world = registered();
        world.write_credential(BS, DM, keys.credential());
        let payload = tlv("/0/1", &[(missing, Value::Opaque(&[]))]);
        let content = Content { format: Format::TLV, payload: &payload };
        let path = target(&format!("/0/1/{missing}")).path;
        let write = Operation::BootstrapWrite { path, content };
        assert_eq!(world.ask(BS, &write).code, Code::CHANGED);
        assert_eq!(world.finish(BS), Code::NOT_ACCEPTABLE, "{missing}");
    }
}

#[test]
fn accounts_for_a_server_with_another_key_are_rolled_back() {
    let mut world = registered();
    let keys = Keys { server: public_key(&OTHER), ..Keys::new() };
    world.write_credential(BS, DM, keys.credential());
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(3000, |world| world.notices.contains(&Notice::RolledBack)));
    assert!(world.run_until(10, |world| world.client.is_registered()));
    assert_eq!(world.flash.store.load(Key::ServerKey(1)), None);
    assert_eq!(world.flash.store.load(Key::Secret(1)), Some(OLD.key));
}

#[test]
fn a_handshake_begins_anew_when_its_account_is_rewritten() {
    const OPEN: u16 = 5683;
    const BS: u16 = 5783;
    let keys = Keys::new();
    let accounts = [bootstrap_account(BS, None), account_of(DM, keys.credential()), account(2, OPEN, None)];
    let mut manager = server();
    manager.is_dead = true;
    let mut world = World::durable(&accounts, vec![Script::new(BS), manager, Script::new(OPEN)]);
    // Its handshake is under way, and hears nothing.
    assert!(world.run_until(2, |world| world.is_registered(OPEN)));
    world.client.bootstrap();
    bootstrap_asked(&mut world);
    let other = Keys { server: public_key(&OTHER), ..Keys::new() };
    world.write_credential(BS, DM, other.credential());
    // What the server says now must not be judged by a key that does not count yet.
    world.server(DM).is_dead = false;
    world.run(20);
    assert_eq!((world.server(DM).handshakes, reasons(&world)), (0, vec![]));
    assert!(world.server(DM).offered.is_empty(), "nobody is greeted meanwhile");
    world.write_credential(BS, DM, keys.credential());
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(100, |world| world.is_registered(DM)), "{:?}", world.notices);
}

fn of_element() -> World {
    let mut world = World::durable(&[account_of(DM, Keys::new().of_element())], vec![server()]);
    world.element.secret = Some(DEVICE);
    world.flash.own = Some(public_key(&DEVICE));
    world
}

#[test]
fn a_device_signs_by_itself_and_its_key_is_in_no_storage() {
    let mut world = of_element();
    assert!(world.run_until(10, |world| world.is_registered(DM)));
    assert_eq!(world.element.asked, [1]);
    assert_eq!(loaded(&world), [Key::ServerKey(1), Key::Identity(1)]);
    assert_eq!(world.flash.store.load(Key::Secret(1)), None);
    assert_eq!(world.server(DM).owner.presented, [public_key(&DEVICE)]);
}

#[test]
fn a_signature_may_take_its_time_and_not_more_than_the_handshake_has() {
    let mut world = of_element();
    world.element.waiting = Some(Vec::new());
    world.run(80);
    assert_eq!(world.element.asked, [1]);
    let (id, signature) = world.element.waiting.as_mut().unwrap().remove(0);
    world.client.signed(id, signature.as_ref());
    assert!(world.run_until(5, |world| world.is_registered(DM)));
    // What comes twice is no answer to anything.
    world.client.signed(id, signature.as_ref());
    world.power_loss();
    world.run(95);
    assert_eq!(reasons(&world), [Reason::Handshake(HandshakeReason::OperationUnanswered)]);
    let (late, signature) = world.element.waiting.as_mut().unwrap().remove(0);
    world.client.signed(late, signature.as_ref());
    world.element.waiting = None;
    assert!(world.run_until(100, |world| world.client.is_registered()));
}

#[test]
fn an_element_that_does_not_sign_ends_the_handshake() {
    let mut world = of_element();
    world.element.secret = None;
    is_refused(world, HandshakeReason::NothingToPresent, 80);
}

#[test]
fn a_signature_of_another_key_is_refused_by_the_server() {
    let mut world = of_element();
    world.element.secret = Some(OTHER);
    world.run(5);
    assert_eq!(reasons(&world), [Reason::Alert(51)]);
}

#[test]
fn an_account_without_a_private_key_is_whole_on_a_device_that_has_one() {
    for (has_secure_element, code) in [(false, Code::NOT_ACCEPTABLE), (true, Code::CHANGED)] {
        let keys = Keys::new();
        let mut world = registered();
        world.config.has_secure_element = has_secure_element;
        world.power_loss();
        assert!(world.run_until(10, |world| world.client.is_registered()));
        let asked = world.count(BS, "/bs");
        assert_eq!(world.execute(DM, "/1/1/9"), Code::CHANGED);
        assert!(world.run_until(10, |world| {
            world.servers[0].requests.iter().filter(|request| request.path == "/bs").count() > asked
        }));
        world.element.secret = Some(DEVICE);
        world.flash.own = Some(public_key(&DEVICE));
        world.write_credential(BS, DM, keys.of_element());
        assert_eq!(world.finish(BS), code);
        if has_secure_element {
            assert!(
                world.run_until(10, |world| !world.element.asked.is_empty() && world.client.is_registered())
            );
            assert_eq!(world.flash.store.load(Key::Secret(1)), None);
        }
    }
}
