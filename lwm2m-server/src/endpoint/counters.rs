//! What was counted since the start: what came, what was dropped and why.

use dtls_psk::Dropped;

use super::saved::NotRestored;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Names and values, for metrics.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counters! {
    /// Datagrams that came in.
    datagrams,
    /// CoAP messages that are malformed, of a wrong type or with an unknown critical option.
    malformed,
    /// Requests that were handled before and answered again.
    duplicates,
    /// Messages of unknown senders that were no Register and no Bootstrap-Request.
    strangers,
    /// Registers and Bootstrap-Requests without security that were answered with an Echo value.
    challenged,
    /// Notifications of no observation, answered with a Reset.
    unknown_notifications,
    /// Notifications that came after a newer one.
    stale_notifications,
    /// Datagrams that were longer than any this server takes.
    oversized,
    /// Datagrams that the system did not take to send.
    unsent,
    /// Messages that no record could be made of: the session ended, or its numbers are used up.
    seal_failed,
    /// Messages beyond the rate of one peer.
    over_rate,
    /// Datagrams that were not sent: an address that is not proven to be the peer's had three times what came from it.
    over_amplification,
    /// Sessions that moved to another address.
    moved,
    /// Datagrams that came in on another thread than their session's.
    passed_on,
    /// Such datagrams that were dropped because too many waited already.
    overrun,
    /// Registrations that another thread did not hand over in time.
    registrations_not_fetched,
    /// Messages beside another one of a session whose registration was on its way from another thread: the device repeats them.
    while_moving,
    /// Messages that came before their device was admitted: it repeats them.
    before_admission,
    /// Challenges to an address that a session was heard from newly.
    path_challenges,
    /// Answers to no such challenge that is out: to another one, from elsewhere, or too late.
    stale_path_answers,
    /// CoAP messages beside another one in a datagram: the device repeats them.
    crowded,
    /// Blocks of a notification that were not fetched because too many requests wait for the device.
    unfetched_blocks,
    /// Peers without security that were turned away because too many are unregistered.
    turned_away,
    /// Registers that were turned away because too many devices are registered.
    registers_turned_away,
    /// Registers and Updates that were turned away because the object lists of all devices take too much memory.
    lists_turned_away,
    /// Blocks of object lists that there was no memory for.
    blocks_turned_away,
    /// Datagrams with a Connection ID that no session has.
    records_without_session,
    /// DTLS records that could not be decoded.
    records_malformed,
    /// DTLS records of a version, type or epoch that is not in use.
    records_unsupported,
    /// DTLS records that came before, or too late.
    records_replayed,
    /// DTLS records that could not be authenticated.
    records_unauthenticated,
    /// DTLS messages that have no place where they came.
    records_unexpected,
    /// Handshake messages that came before: retransmissions of the peer.
    records_duplicate,
    /// Handshake messages too long for the memory they have.
    records_too_large,
    /// ClientHellos without a valid cookie that could not be answered with one.
    hellos_without_cookie,
    /// Handshakes of a remote that failed again and again and has to wait.
    handshakes_silenced,
    /// Handshakes that made room for newer ones.
    handshakes_displaced,
    /// Handshakes beyond the rate, of all or of their address group, that were dropped before anything was kept of them.
    handshakes_over_rate,
    /// ClientHellos that were left unanswered so that those of a fleet scatter: there was no handshake left for them.
    hellos_put_off,
    /// PSK identities that were asked for.
    look_ups,
    /// Handshakes that waited for an answer which another one had asked for.
    look_ups_shared,
    /// Handshakes that were dropped because their address group named too many identities, or presented too many keys.
    look_ups_over_rate,
    /// Messages under OSCORE that did not verify: forged, protected with other keys, or not at all.
    unverified,
    /// Requests under OSCORE whose number came before, or is too old to tell.
    requests_replayed,
    /// Requests under OSCORE whose keys nobody has, or that did not verify under them.
    contexts_unknown,
    /// Sequence numbers of OSCORE contexts that could not be reserved in the store.
    reservations_failed,
    /// … that another context with the same sender key had reserved, or another session of the same: it goes on behind them.
    reservations_overtaken,
    /// Pieces of work that handshakes had done: key agreements, signatures, certificates.
    works,
    /// Answers to a ClientHello without a valid cookie.
    cookies_sent,
    /// Handshakes begun: the cookie came back.
    handshakes_begun,
    /// Handshakes finished.
    handshakes_finished,
    /// Handshakes among them that took a session up again.
    sessions_resumed,
    /// Sessions that their devices get no ticket for: their names and the paths of their certificates are too long.
    tickets_too_long,
    /// Handshakes that were refused or not finished.
    handshakes_failed,
    /// Refusals that no event told of, because there were too many.
    untold_refusals,
    /// Registers accepted.
    registered,
    /// Updates accepted.
    updated,
    /// Registrations that expired.
    expired,
    /// Registers and Bootstrap-Requests refused.
    refused,
    /// Requests sent to devices, further blocks included.
    requests_sent,
    /// Requests to devices that had no usable answer.
    requests_failed,
    /// Fresh notifications.
    notifications,
    /// Reports of devices (Send) that were taken.
    reports,
    /// Bootstraps finished.
    bootstraps_finished,
    /// Bootstraps failed.
    bootstraps_failed,
    /// Sessions closed because their credential is no longer good, or by the operator.
    sessions_closed,
    /// Devices that go on after a planned restart, with a session, or with a registration if they had no session.
    restored,
    /// Devices that have to come again after a planned restart because they are not admitted any more.
    not_restored_not_admitted,
    /// Devices that have to come again after a planned restart because nobody listens any more at the port where they came in.
    not_restored_not_listening,
    /// Devices that have to come again after a planned restart because it took more than a day.
    not_restored_too_old,
    /// Devices that have to come again after a planned restart because what was saved of their sessions cannot be read.
    not_restored_unreadable,
    /// Devices that have to come again after a planned restart because there is no room for them.
    not_restored_no_room,
}

impl Counters {
    /// Counts a record or datagram that no session took.
    pub(crate) fn dropped(&mut self, dropped: Dropped) {
        let mut counted = dtls_psk::Counters::default();
        counted.count(dropped);
        self.records(&dtls_psk::Counters::default(), &counted);
    }

    /// Counts what a session dropped, which had counted `before` until then.
    pub(crate) fn records(&mut self, before: &dtls_psk::Counters, after: &dtls_psk::Counters) {
        if before == after {
            return;
        }
        for (counter, before, after) in [
            (&mut self.records_malformed, before.malformed, after.malformed),
            (&mut self.records_unsupported, before.unsupported, after.unsupported),
            (&mut self.records_replayed, before.replayed, after.replayed),
            (&mut self.records_unauthenticated, before.unauthenticated, after.unauthenticated),
            (&mut self.records_unexpected, before.unexpected, after.unexpected),
            (&mut self.records_duplicate, before.duplicate, after.duplicate),
            (&mut self.records_too_large, before.too_large, after.too_large),
            (&mut self.hellos_without_cookie, before.no_cookie, after.no_cookie),
        ] {
            *counter = counter.saturating_add(u64::from(after.saturating_sub(before)));
        }
    }

    /// The count of devices that have to come again after a planned restart for this reason.
    pub(crate) fn not_restored(&mut self, why: NotRestored) -> &mut u64 {
        match why {
            NotRestored::NotAdmitted => &mut self.not_restored_not_admitted,
            NotRestored::NotListening => &mut self.not_restored_not_listening,
            NotRestored::TooOld => &mut self.not_restored_too_old,
            NotRestored::Unreadable => &mut self.not_restored_unreadable,
            NotRestored::NoRoom => &mut self.not_restored_no_room,
        }
    }

    pub(crate) fn add(counter: &mut u64) {
        *counter = counter.saturating_add(1);
    }
}
