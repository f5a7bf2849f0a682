//! Which handshakes are begun, and which one makes room when too many are under way: by the group that an address belongs to.
//!
//! A group is an IPv4 network of 24 bits or an IPv6 one of 48, its members IPv4 addresses or IPv6 networks of 64 bits: what one
//! subscriber has to himself is one member. Many devices may share one, behind a translator.
//!
//! 1. A ClientHello whose cookie came back takes one of the tokens that a second brings. How many it has to spare depends on
//!    what its member and its group took lately: who takes much leaves some to everybody else, and who comes alone gets the
//!    last one. What is refused is dropped before anything is kept; the device repeats it.
//! 2. A ClientHello without a cookie that would be refused is left unanswered three times out of four. A fleet that comes back
//!    at once repeats at the same times, and this scatters them: who gets his cookie at another try counts anew from there.
//! 3. When as many handshakes are under way as may, the oldest one goes of the member with most of the group with most.
//!
//! Invariants: no handshake makes room whose group has fewer than another one, the newcomer counted; what is kept has a fixed
//! size, or belongs to a handshake under way; nobody is counted before its cookie came back.

use std::cmp::Reverse;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher as _;

use lwm2m_coap::{Instant, Rng};

use super::Address;
use super::slab::Key;

/// The first bits of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Prefix(u128);

impl Prefix {
    const MIN: Self = Self(0);
    const MAX: Self = Self(u128::MAX);

    fn member(address: Address) -> Self {
        let (ip, is_v4) = Self::ip(address);
        Self(if is_v4 { ip } else { ip & (u128::MAX << 64) })
    }

    fn group(address: Address) -> Self {
        let (ip, is_v4) = Self::ip(address);
        Self(ip & (u128::MAX << if is_v4 { 8 } else { 80 }))
    }

    fn ip(address: Address) -> (u128, bool) {
        let [ip @ .., _, _] = *address.bytes();
        let ip = u128::from_be_bytes(ip);
        // ::ffff:0:0/96 (RFC 4291 §2.5.5.2).
        (ip, ip >> 32 == 0xffff)
    }
}

/// Whether a handshake may begin, by the rate of all and of its group.
#[derive(Debug)]
pub(crate) struct Rates {
    /// Tokens a second, and most of them at once.
    rate: u32,
    /// In thousandths.
    tokens: u64,
    refilled: Instant,
    /// Look-ups of a group in a second.
    look_ups: u32,
    recent: Recent,
}

/// What is counted of an address lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Of {
    Member(Prefix),
    Group(Prefix),
    LookUps(Prefix),
}

/// A group may take as much as this many members.
const MEMBERS: u32 = 16;
/// This part of all tokens is for groups that took none lately.
const SPARED: u32 = 32;
/// Whoever took some lately spares one more for this many of them.
const FOR_A_TOKEN: u32 = 4;
const TOKEN: u64 = 1000;

impl Rates {
    /// `rate` handshakes and `look_ups` of each group in a second.
    pub(crate) fn new(rate: u32, look_ups: u32) -> Self {
        let tokens = u64::from(rate).saturating_mul(TOKEN);
        Self { rate, tokens, refilled: Instant::from_millis(0), look_ups, recent: Recent::new() }
    }

    /// Takes a token for a handshake, if it may begin.
    pub(crate) fn begin(&mut self, now: Instant, from: Address) -> bool {
        let may = self.may_begin(now, from);
        if may {
            self.tokens = self.tokens.saturating_sub(TOKEN);
            self.recent.count(Of::Member(Prefix::member(from)));
            self.recent.count(Of::Group(Prefix::group(from)));
        }
        may
    }

    /// Whether a handshake may begin now.
    pub(crate) fn may_begin(&mut self, now: Instant, from: Address) -> bool {
        self.pass(now);
        let group = self.recent.of(Of::Group(Prefix::group(from)));
        let taken = self.recent.of(Of::Member(Prefix::member(from))).max(group / MEMBERS);
        let spared = match group {
            0 => 0,
            _ => (self.rate / SPARED).saturating_add(taken / FOR_A_TOKEN),
        };
        self.tokens / TOKEN > spared.into()
    }

    /// Whether one who would be refused is not even given a cookie.
    pub(crate) fn puts_off(rng: &mut Rng<'_>) -> bool {
        let mut random = [0];
        rng(&mut random);
        random.iter().any(|byte| byte % 4 > 0)
    }

    /// Counts a look-up, if the group has one left.
    pub(crate) fn look_up(&mut self, now: Instant, from: Address) -> bool {
        let may = self.may_look_up(now, from);
        if may {
            self.recent.count(Of::LookUps(Prefix::group(from)));
        }
        may
    }

    /// Whether the group has a look-up left.
    pub(crate) fn may_look_up(&mut self, now: Instant, from: Address) -> bool {
        self.pass(now);
        // Halved each second, a steady rate is counted up to twice.
        self.recent.of(Of::LookUps(Prefix::group(from))) < self.look_ups.saturating_mul(2)
    }

    fn pass(&mut self, now: Instant) {
        let passed = u64::try_from(now.since(self.refilled).as_millis()).unwrap_or(u64::MAX);
        // In thousandths, so many as there are tokens a second come in a millisecond.
        let refill = passed.saturating_mul(self.rate.into());
        self.tokens = self.tokens.saturating_add(refill).min(u64::from(self.rate).saturating_mul(TOKEN));
        self.refilled = self.refilled.max(now);
        self.recent.pass(now);
    }
}

/// Counts of what happened lately, each second's half of the one before: a count-min sketch, which counts too much at
/// most, in a fixed memory.
struct Recent {
    rows: Box<[[u32; COLUMNS]; ROWS]>,
    hasher: RandomState,
    second: u64,
}

const ROWS: usize = 4;
const COLUMNS: usize = 1 << 12;

impl Recent {
    fn new() -> Self {
        Self { rows: Box::new([[0; COLUMNS]; ROWS]), hasher: RandomState::new(), second: 0 }
    }

    fn pass(&mut self, now: Instant) {
        let second = now.as_millis() / 1000;
        let passed = u32::try_from(second.saturating_sub(self.second)).unwrap_or(u32::MAX);
        if passed > 0 {
            self.second = second;
            for count in self.rows.as_flattened_mut() {
                *count = count.checked_shr(passed).unwrap_or(0);
            }
        }
    }

    fn of(&self, what: Of) -> u32 {
        let columns = self.columns(what);
        let counts = self.rows.iter().zip(columns).filter_map(|(row, column)| row.get(column).copied());
        counts.min().unwrap_or(0)
    }

    fn count(&mut self, what: Of) {
        let (least, columns) = (self.of(what), self.columns(what));
        for (row, column) in self.rows.iter_mut().zip(columns) {
            if let Some(count) = row.get_mut(column).filter(|count| **count == least) {
                *count = count.saturating_add(1);
            }
        }
    }

    fn columns(&self, what: Of) -> [usize; ROWS] {
        let hash = self.hasher.hash_one(what).to_le_bytes();
        let [a, b, c, d, e, f, g, h] = hash;
        [[a, b], [c, d], [e, f], [g, h]].map(|two| usize::from(u16::from_le_bytes(two)) % COLUMNS)
    }
}

impl core::fmt::Debug for Recent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Recent").field("second", &self.second).finish_non_exhaustive()
    }
}

/// The handshakes under way.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    handshakes: HashMap<Key, Handshake>,
    groups: Heaviest,
    members: Heaviest,
    /// The handshakes of each member, oldest first.
    oldest: BTreeMap<(Prefix, u64), Key>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Handshake {
    group: Prefix,
    member: Prefix,
    number: u64,
}

/// How many each of several has, in order.
#[derive(Debug, Default)]
struct Heaviest {
    counts: HashMap<Prefix, Count>,
    /// By what they belong to; the last one of that has most, and has it for longest.
    order: BTreeSet<(Prefix, u32, Reverse<u64>, Prefix)>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    count: u32,
    /// The number of the handshake that was its first.
    since: u64,
}

impl UnderWay {
    pub(crate) fn count(&self) -> usize {
        self.handshakes.len()
    }

    pub(crate) fn begin(&mut self, key: Key, from: Address) {
        let (group, member, number) = (Prefix::group(from), Prefix::member(from), self.next);
        self.next = number.saturating_add(1);
        self.handshakes.insert(key, Handshake { group, member, number });
        self.groups.add(Prefix::MIN, group, number);
        self.members.add(group, member, number);
        self.oldest.insert((member, number), key);
    }

    /// One has ended, however; harmless for one that has before.
    pub(crate) fn end(&mut self, key: Key) {
        let Some(Handshake { group, member, number }) = self.handshakes.remove(&key) else { return };
        self.groups.remove(Prefix::MIN, group);
        self.members.remove(group, member);
        self.oldest.remove(&(member, number));
    }

    /// The one that makes room for one from an address.
    pub(crate) fn displaced_by(&self, from: Address) -> Option<Key> {
        let group = self.groups.heaviest(Prefix::MIN, Prefix::group(from))?;
        let member = self.members.heaviest(group, Prefix::member(from))?;
        self.oldest.range((member, 0)..).next().map(|(_, key)| *key)
    }
}

impl Heaviest {
    fn add(&mut self, of: Prefix, one: Prefix, number: u64) {
        let known = self.counts.entry(one).or_insert(Count { count: 0, since: number });
        self.order.remove(&(of, known.count, Reverse(known.since), one));
        known.count = known.count.saturating_add(1);
        self.order.insert((of, known.count, Reverse(known.since), one));
    }

    fn remove(&mut self, of: Prefix, one: Prefix) {
        let Some(known) = self.counts.get_mut(&one) else { return };
        self.order.remove(&(of, known.count, Reverse(known.since), one));
        known.count = known.count.saturating_sub(1);
        if known.count == 0 {
            self.counts.remove(&one);
        } else {
            self.order.insert((of, known.count, Reverse(known.since), one));
        }
    }

    /// Which one of these has most when `newcomer` has one more: that one itself, if it has any and none has more.
    fn heaviest(&self, of: Prefix, newcomer: Prefix) -> Option<Prefix> {
        let range = (of, 0, Reverse(u64::MAX), Prefix::MIN)..=(of, u32::MAX, Reverse(0), Prefix::MAX);
        let (_, most, _, heaviest) = *self.order.range(range).next_back()?;
        let is_newcomer = self.counts.get(&newcomer).is_some_and(|known| {
            known.count >= most.saturating_sub(1)
                && self.order.contains(&(of, known.count, Reverse(known.since), newcomer))
        });
        Some(if is_newcomer { newcomer } else { heaviest })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::num::NonZeroU32;

    use super::*;

    fn at(ip: &str) -> Address {
        SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 5000).into()
    }

    fn v4(bits: u32) -> Address {
        SocketAddr::new(std::net::Ipv4Addr::from_bits(bits).into(), 5000).into()
    }

    fn key(slot: u32) -> Key {
        Key { slot, generation: NonZeroU32::MIN }
    }

    fn millis(millis: u64) -> Instant {
        Instant::from_millis(1_000_000_u64.saturating_add(millis))
    }

    #[test]
    fn groups_are_networks_and_members_what_one_subscriber_has() {
        let is_same = |of: fn(Address) -> Prefix, a: &str, b: &str| of(at(a)) == of(at(b));
        assert!(is_same(Prefix::group, "192.0.2.1", "192.0.2.255"));
        assert!(!is_same(Prefix::group, "192.0.2.1", "192.0.3.1"));
        assert!(!is_same(Prefix::member, "192.0.2.1", "192.0.2.2"));
        assert!(is_same(Prefix::member, "::ffff:192.0.2.1", "192.0.2.1"));
        assert!(is_same(Prefix::group, "2001:db8:1:2::1", "2001:db8:1:ffff::1"));
        assert!(!is_same(Prefix::group, "2001:db8:1::1", "2001:db8:2::1"));
        assert!(is_same(Prefix::member, "2001:db8:1:2::1", "2001:db8:1:2:ffff::1"));
        assert!(!is_same(Prefix::member, "2001:db8:1:2::1", "2001:db8:1:3::1"));
    }

    /// Begins one, and lets one make room if there are more than ten.
    fn begin(under_way: &mut UnderWay, slot: u32, from: Address) -> Option<Key> {
        let displaced = (under_way.count() >= 10).then(|| under_way.displaced_by(from).unwrap());
        displaced.into_iter().for_each(|key| under_way.end(key));
        under_way.begin(key(slot), from);
        displaced
    }

    #[test]
    fn who_has_most_makes_room_and_nobody_else() {
        let mut under_way = UnderWay::default();
        for slot in 0..3 {
            begin(&mut under_way, slot, v4(0xc000_0201_u32.saturating_add(slot << 8)));
        }
        // One member, then others of its group, then an honest one among them.
        for slot in 100..200 {
            let displaced = begin(&mut under_way, slot, at("10.0.0.1"));
            assert_eq!(displaced, (slot >= 107).then(|| key(slot.saturating_sub(7))), "its own oldest");
        }
        assert_eq!(begin(&mut under_way, 200, at("10.0.0.2")), Some(key(193)));
        for slot in 201..300 {
            let displaced = begin(&mut under_way, slot, at("10.0.0.1")).unwrap();
            assert!((194..300).contains(&displaced.slot) && displaced != key(200));
        }
        for slot in 300..400 {
            let other = v4(0x0b00_0000_u32.saturating_add(slot << 8));
            let displaced = begin(&mut under_way, slot, other).unwrap();
            assert_eq!(under_way.count(), 10);
            assert!(slot > 305 || displaced.slot > 200, "the heavy group makes room first: {displaced:?}");
        }
    }

    #[test]
    fn among_groups_with_as_many_the_one_makes_room_that_has_them_for_longest() {
        let mut under_way = UnderWay::default();
        for slot in 0..30 {
            let displaced = begin(&mut under_way, slot, v4(slot << 8));
            assert_eq!(displaced, slot.checked_sub(10).map(key));
        }
    }

    #[test]
    fn nothing_is_left_of_handshakes_that_ended() {
        let mut under_way = UnderWay::default();
        for slot in 0..1000_u32 {
            under_way.begin(key(slot), v4(slot.wrapping_mul(0x9e37_79b9)));
        }
        for slot in (0..1000).chain(0..1000) {
            under_way.end(key(slot));
        }
        assert_eq!(under_way.count(), 0);
        for of in [&under_way.groups, &under_way.members] {
            assert!(of.counts.is_empty() && of.order.is_empty());
        }
        assert!(under_way.oldest.is_empty());
        assert_eq!(under_way.displaced_by(at("10.0.0.1")), None);
    }

    #[test]
    fn one_member_alone_has_the_whole_rate_and_leaves_some_of_it_to_others() {
        let mut rates = Rates::new(1000, 10_000);
        let mut begun = 0;
        let mut honest = 0;
        for millisecond in 0..10_000 {
            let now = millis(millisecond);
            begun = (0..10).filter(|_| rates.begin(now, at("10.0.0.1"))).count().saturating_add(begun);
            // Ten a second, each from a network of its own.
            if millisecond % 100 == 0 {
                let from = v4(0xc0a8_0000_u32.saturating_add(u32::try_from(millisecond).unwrap() << 8));
                assert!(rates.begin(now, from), "at {millisecond}");
                honest = 1_usize.saturating_add(honest);
            }
        }
        assert_eq!(honest, 100);
        let whole = begun.saturating_add(honest);
        assert!((9_500..=11_000).contains(&whole), "{whole} of 1000 a second and 1000 at once");
    }

    #[test]
    fn many_groups_and_networks_of_one_attacker_leave_some_to_others_too() {
        // 64 groups, and one IPv6 network with a member for each handshake.
        let mut rates = Rates::new(1000, 10_000);
        for millisecond in 0..10_000_u32 {
            let now = millis(millisecond.into());
            for n in 0..10_u32 {
                rates.begin(now, v4(0x0a00_0000 | (n.wrapping_add(millisecond) % 64) << 8));
                let member = u128::from(millisecond) << 68 | u128::from(n) << 64 | 0x2001_0db8 << 96;
                rates.begin(now, SocketAddr::new(std::net::Ipv6Addr::from_bits(member).into(), 1).into());
            }
            if millisecond > 1000 && millisecond % 100 == 0 {
                assert!(rates.begin(now, v4(0xc0a8_0000 | millisecond << 8)), "at {millisecond}");
            }
        }
    }

    #[test]
    fn look_ups_of_a_group_have_a_rate_of_their_own() {
        let mut rates = Rates::new(1000, 50);
        let taken: Vec<_> = (0..10)
            .map(|second| (0..200).filter(|_| rates.look_up(millis(second * 1000), at("10.0.0.1"))).count())
            .collect();
        assert_eq!(taken, [100, 50, 50, 50, 50, 50, 50, 50, 50, 50]);
        assert!(!rates.may_look_up(millis(9000), at("10.0.0.9")), "the group");
        assert!(rates.look_up(millis(9000), at("10.0.1.1")), "and no other");
    }

    /// 100,000 devices behind a power cut, that all say hello within a second and repeat at the same times: 1, 2, 4 and up to
    /// 60 s after each other (RFC 6347 §4.2.4.1). Answers when the last one was let in, and how many were in one second.
    fn storm(scatters: bool) -> (u64, usize) {
        const RATE: u32 = 10_000;
        let mut rates = Rates::new(RATE, RATE);
        let mut due: BTreeMap<u64, Vec<(u32, bool, u64)>> = BTreeMap::new();
        for device in 0..100_000_u32 {
            due.entry(u64::from(device) / 100).or_default().push((device, false, 1000));
        }
        let (mut last, mut seconds) = (0, BTreeMap::<u64, usize>::new());
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u32::try_from(state >> 32).unwrap()
        };
        while let Some((now, mut devices)) = due.pop_first() {
            // Those of a millisecond come in any order.
            devices.sort_by_cached_key(|_| random());
            for (device, has_cookie, wait) in devices {
                // A thousand networks.
                let from =
                    v4(0x0a00_0000_u32.saturating_add((device % 1000) << 8).saturating_add(device / 1000));
                let is_refused = match has_cookie {
                    true => !rates.begin(millis(now), from),
                    false => scatters && random() % 4 > 0 && !rates.may_begin(millis(now), from),
                };
                let again = now.saturating_add(if is_refused { wait } else { 20 });
                match (is_refused, has_cookie) {
                    (true, _) => {
                        let wait = wait.saturating_mul(2).min(60_000);
                        due.entry(again).or_default().push((device, has_cookie, wait));
                    }
                    (false, false) => due.entry(again).or_default().push((device, true, 1000)),
                    (false, true) => {
                        last = now;
                        let second = seconds.entry(now / 1000).or_default();
                        *second = second.saturating_add(1);
                    }
                }
            }
        }
        (last, seconds.values().copied().max().unwrap())
    }

    #[test]
    fn a_fleet_behind_a_power_cut_is_let_in_at_the_rate_and_scattered() {
        let (last, most) = storm(true);
        println!(
            "100,000 devices, 10,000 a second: the last one after {last} ms, at most {most} in a second"
        );
        assert!(most <= 20_000, "{most}: those of a second, and those that a second without any left");
        assert!(last < 40_000, "{last} ms");
        let (unscattered, _) = storm(false);
        assert!(unscattered > last.saturating_mul(2), "{unscattered} ms without");
    }
}
