//! The credential lifecycle of one device, as a pure machine: `(record, now, what happened)` → `(record, what follows)`.
//!
//! First life of a management account:
//! 1. *Imported*: an operator stored a credential. *Armed*: a bootstrap account is there too.
//! 2. *Bootstrapping*: the plan was handed out. *Provisioned*: the device acknowledged Bootstrap-Finish.
//! 3. *InUse*: a full handshake **and** a Register came with it (possible from any state before: a device may be
//!    provisioned in the factory, and the acknowledgement of a Finish may be lost).
//!
//! Rotation:
//! 1. *Staged*: old and new are accepted; the trigger is pending until a bootstrap fetched the new one.
//! 2. *Delivered*: Bootstrap-Finish was acknowledged. An Update over the old session proves nothing.
//! 3. *Proven*: a full handshake and a Register came with the new one. The grace time starts.
//! 4. *OldRetired*: after the grace time the old one is refused and its sessions are closed; *InUse* again.
//! 5. Deadline missed: *rolled back* when the device cannot hold the new one (never handed out) or came back with the
//!    old one by a full handshake and a Register after the last hand-out, when no Finish of it could arrive any more; else
//!    *Unreachable*, and both stay accepted.
//!
//! Invariants: a credential that the device was told to use, and may still hold, is accepted; a revoked one never is.
//! The bootstrap account is never rotated here and never deleted. Time is wall-clock milliseconds since 1970.

use super::date;
use super::device::{
    Account, Applied, Device, Fetch, Phase, Pin, Role, Rotation, Standing, State, Trigger, WARN_BEFORE_MS,
};
use super::{Command, Fact, Happened, TriggerAnswer};

/// Wait before a trigger that reached no one is sent again, unless the device shows up earlier.
const UNANSWERED_RETRY_MS: u64 = 60_000;
/// Wait for the Bootstrap-Request after an accepted trigger (EXCHANGE_LIFETIME and some more).
const ACCEPTED_RETRY_MS: u64 = 300_000;
/// A trigger whose answer was never reported counts as unanswered after this time.
const IN_FLIGHT_MS: u64 = 300_000;
/// First wait after a bootstrap or a trigger failed; doubles with each failure.
const FAILED_RETRY_MS: u64 = 10_000;
/// A bootstrap that was never reported finished counts as over after this time (EXCHANGE_LIFETIME is 247 s).
const ATTEMPT_MS: u64 = 300_000;
/// The longest time that a device may ask to be left alone before it is told again to bootstrap.
const LONGEST_WAIT_MS: u64 = 3_600_000;

/// What a step led to besides the changed record.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The change must be stored before anything follows from it.
    pub durable: bool,
    /// Rows for the audit log.
    pub happened: Vec<Happened>,
    /// What the server has to do once the change is stored.
    pub commands: Vec<Command>,
}

impl Outcome {
    pub(super) fn note(
        &mut self,
        role: Role,
        generation: u32,
        what: &'static str,
        detail: impl Into<String>,
    ) {
        self.durable = true;
        self.happened.push(Happened {
            role: Some(role),
            generation: Some(generation),
            what,
            detail: detail.into(),
        });
    }
}

impl Device {
    /// Takes in what happened on the wire, or that time passed.
    pub fn step(&mut self, now_ms: u64, fact: &Fact) -> Outcome {
        let mut outcome = Outcome::default();
        match fact {
            Fact::Handshake { who, full } => {
                if *full && let Some(account) = self.account_mut(who.role) {
                    // One before a Finish shows nothing after it; but it withdraws a proof.
                    let shows_nothing = account.rotation().is_some_and(|rotation| {
                        who.generation == rotation.from
                            && rotation.phase != Phase::Proven
                            && may_be_committed(rotation, now_ms)
                    });
                    account.handshake = Some(who.generation).filter(|_| !shows_nothing);
                }
            }
            Fact::Registered { who } => {
                if who.role == Role::Management && self.accepts(Role::Management, who.generation).is_ok() {
                    self.registered(now_ms, who.generation, &mut outcome);
                }
                self.emit_trigger(now_ms, true, &mut outcome);
            }
            Fact::BootstrapRequested { who } => {
                self.bootstrap_requested(now_ms, who.generation, &mut outcome)
            }
            Fact::KeysWorn { who, is_renewed } => {
                let detail = match is_renewed {
                    true => {
                        "the OSCORE keys have served long, or come from a backup: the next request of the device replaces them"
                    }
                    false => {
                        "the OSCORE keys have served long, or come from a backup, and the device is not known to replace them: rotate \
                         the credential"
                    }
                };
                outcome.note(who.role, who.generation, "keys worn", detail);
            }
            Fact::BootstrapDelivered { generation, .. } => self.delivered(now_ms, *generation, &mut outcome),
            Fact::BootstrapFailed { generation, step, code, .. } => {
                let reason = match code.as_deref() {
                    // LwM2M Core 1.2.1 §6.1.7.6: 4.06 says that no account can be used as it was written.
                    Some(code @ "4.06") if step.starts_with("Bootstrap-Finish") => {
                        format!(
                            "the device answered {code} to {step}: it finds the configuration inconsistent"
                        )
                    }
                    Some(code) => format!("the device answered {code} to {step}"),
                    None => format!("no answer to {step}"),
                };
                // A Finish without an answer may be on its way still.
                let is_uncertain = code.is_none() && step.starts_with("Bootstrap-Finish");
                self.bootstrap_failed(now_ms, *generation, (reason, is_uncertain), &mut outcome);
            }
            Fact::TriggerAnswered { answer, .. } => self.trigger_answered(now_ms, answer, &mut outcome),
            Fact::Tick => self.tick(now_ms, &mut outcome),
        }
        outcome
    }

    /// A bootstrap is about to write this generation, and this of the server's key: from here on the device may hold both.
    pub fn hand_out(&mut self, now_ms: u64, pin: Option<Pin>) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(account) = self.management.as_mut() else { return outcome };
        let generation = account.deliverable();
        if let Some(credential) = account.credential_mut(generation)
            && credential.pins.last() != pin.as_ref()
        {
            credential.pins.retain(|known| Some(known) != pin.as_ref());
            credential.pins.extend(pin);
            outcome.durable = true;
        }
        // A URI that was not proven may be why: the bootstrap writes the configured one over it.
        if let State::Unreachable(rotation) = &mut account.state
            && rotation.server_uri.take().is_some()
        {
            // Else a restart brings it back, and the proof of what was written instead would keep it.
            outcome.durable = true;
        }
        match &mut account.state {
            State::Imported | State::Armed | State::Provisioned => {
                account.state = State::Bootstrapping;
                outcome.note(Role::Management, generation, "bootstrapping", "");
            }
            State::Rotating(rotation) | State::Unreachable(rotation) => {
                // Evidence for the old one counts from the last hand-out on, and from a new handshake.
                rotation.attempt_ms = Some(now_ms);
                rotation.open_since_ms = Some(now_ms);
                outcome.durable = true;
                account.handshake = None;
                if !rotation.handed_out || rotation.old_seen {
                    rotation.handed_out = true;
                    rotation.old_seen = false;
                    outcome.note(Role::Management, generation, "handed out", "to a bootstrap");
                }
            }
            State::Bootstrapping | State::InUse | State::Revoked => {}
        }
        outcome
    }

    /// Whether time alone may change this record.
    #[must_use]
    pub fn has_timer(&self) -> bool {
        self.management.as_ref().is_some_and(|account| matches!(account.state, State::Rotating(_)))
    }

    fn registered(&mut self, now_ms: u64, generation: u32, outcome: &mut Outcome) {
        let Some(account) = self.management.as_mut() else { return };
        // An Update or a Register over an older session proves nothing: the handshake must have been a full one.
        if account.handshake != Some(generation) {
            return;
        }
        match &mut account.state {
            State::Imported | State::Armed | State::Bootstrapping | State::Provisioned => {
                account.state = State::InUse;
                account.last_success_ms = Some(now_ms);
                account.note = None;
                outcome.note(
                    Role::Management,
                    generation,
                    "in use",
                    "proven by a full handshake and a Register",
                );
            }
            State::Rotating(rotation) | State::Unreachable(rotation) if generation == rotation.to => {
                if rotation.phase == Phase::Proven {
                    return;
                }
                let mut rotation = rotation.clone();
                rotation.phase = Phase::Proven;
                rotation.trigger = None;
                (rotation.attempt_ms, rotation.open_since_ms) = (None, None);
                rotation.retire_ms = Some(now_ms.saturating_add(rotation.grace_ms));
                outcome.note(
                    Role::Management,
                    generation,
                    "proven",
                    "by a full handshake and a Register; the old one is accepted for the grace time",
                );
                account.last_success_ms = Some(now_ms);
                account.note = None;
                account.state = State::Rotating(rotation);
            }
            State::Rotating(rotation) if generation == rotation.from => {
                if rotation.phase == Phase::Proven {
                    // The answer to the proving Register may have been lost: the device went back.
                    rotation.phase = Phase::Delivered;
                    rotation.retire_ms = None;
                    rotation.old_seen = !may_be_committed(rotation, now_ms);
                    account.handshake = account.handshake.filter(|_| rotation.old_seen);
                    outcome.note(
                        Role::Management,
                        generation,
                        "proof withdrawn",
                        "the device registered with the old credential again within the grace time",
                    );
                } else if rotation.handed_out && !rotation.old_seen {
                    rotation.old_seen = true;
                    outcome.note(
                        Role::Management,
                        generation,
                        "old credential seen",
                        "full handshake and Register with it after the new one was handed out",
                    );
                }
            }
            State::Unreachable(rotation) if generation == rotation.from => {
                let rotation = rotation.clone();
                roll_back(
                    account,
                    &rotation,
                    &self.endpoint,
                    "the device came back with the old credential after the deadline".to_owned(),
                    outcome,
                );
            }
            _ => {}
        }
    }

    fn bootstrap_requested(&mut self, now_ms: u64, generation: u32, outcome: &mut Outcome) {
        if self.accepts(Role::Bootstrap, generation).is_err() {
            return;
        }
        let Some(account) = self.bootstrap.as_mut() else { return };
        if account.handshake == Some(generation) && matches!(account.state, State::Imported | State::Armed) {
            account.state = State::InUse;
            account.last_success_ms = Some(now_ms);
            outcome.note(
                Role::Bootstrap,
                generation,
                "in use",
                "proven by a full handshake and a Bootstrap-Request",
            );
        }
    }

    fn delivered(&mut self, now_ms: u64, generation: u32, outcome: &mut Outcome) {
        let mut detail = "the device acknowledged Bootstrap-Finish".to_owned();
        if let Some((name, version)) = self.handed.take().map(|handed| *handed) {
            detail.push_str(&format!(", by the profile {name}, version {version}"));
            self.applied = Some(Box::new(Applied { name, version, at_ms: now_ms }));
        }
        if let Some(bootstrap) = self.bootstrap.as_mut() {
            bootstrap.last_success_ms = Some(now_ms);
        }
        let Some(account) = self.management.as_mut().filter(|account| account.state != State::Revoked) else {
            return;
        };
        match &mut account.state {
            State::Imported | State::Armed | State::Bootstrapping if generation == account.current => {
                account.state = State::Provisioned;
            }
            State::Rotating(rotation) if generation == rotation.to => {
                (rotation.attempt_ms, rotation.open_since_ms) = (None, None);
                rotation.trigger = None;
                if rotation.phase == Phase::Staged {
                    rotation.phase = Phase::Delivered;
                }
            }
            State::Unreachable(rotation) if generation == rotation.to => {
                (rotation.attempt_ms, rotation.open_since_ms) = (None, None);
            }
            _ => {}
        }
        if let Some(credential) = account.credential_mut(generation) {
            let former = credential.pins.len().saturating_sub(1);
            credential.pins.drain(..former);
        }
        account.note = None;
        outcome.note(Role::Management, generation, "delivered", detail);
    }

    fn bootstrap_failed(
        &mut self,
        now_ms: u64,
        generation: u32,
        (reason, is_uncertain): (String, bool),
        outcome: &mut Outcome,
    ) {
        self.handed = None;
        let open_since_ms = is_uncertain.then_some(now_ms);
        let has_bootstrap = self.bootstrap.is_some();
        let Some(account) = self.management.as_mut().filter(|account| account.state != State::Revoked) else {
            return;
        };
        // Only the answer to its Finish was lost, when the device came with what was written.
        let mut is_proven = false;
        match &mut account.state {
            State::Bootstrapping if generation == account.current => {
                account.state = if has_bootstrap { State::Armed } else { State::Imported };
            }
            State::Rotating(rotation) if generation == rotation.to => {
                is_proven = rotation.phase == Phase::Proven;
                rotation.attempt_ms = None;
                rotation.open_since_ms = open_since_ms.filter(|_| !is_proven);
                if let Some(trigger) = rotation.trigger.as_mut() {
                    trigger.back_off(now_ms);
                }
            }
            State::Unreachable(rotation) if generation == rotation.to => {
                (rotation.attempt_ms, rotation.open_since_ms) = (None, open_since_ms);
            }
            _ => {}
        }
        outcome.note(Role::Management, generation, "bootstrap failed", reason.clone());
        if !is_proven {
            account.note = Some(reason);
        }
    }

    fn trigger_answered(&mut self, now_ms: u64, answer: &TriggerAnswer, outcome: &mut Outcome) {
        let Some(account) = self.management.as_mut() else { return };
        let State::Rotating(rotation) = &mut account.state else { return };
        let to = rotation.to;
        let Some(trigger) = rotation.trigger.as_mut() else { return };
        trigger.sent_ms = None;
        match answer {
            TriggerAnswer::Accepted => {
                trigger.not_before_ms = now_ms.saturating_add(ACCEPTED_RETRY_MS);
                trigger.on_contact = false;
                outcome.note(Role::Management, to, "triggered", "the device accepted Execute /1/x/9");
            }
            TriggerAnswer::Unanswered => {
                trigger.not_before_ms = now_ms.saturating_add(UNANSWERED_RETRY_MS);
                trigger.on_contact = true;
                account.note = Some("the device did not answer the bootstrap trigger".to_owned());
            }
            TriggerAnswer::Refused { code, .. }
                if code.starts_with("4.") && !rotation.handed_out && rotation.fetch == Fetch::Withhold =>
            {
                rotation.trigger = None;
                rotation.is_withheld = true;
                let reason = format!(
                    "the device refused Execute /1/x/9 with {code}: it is refused at Register until it bootstraps, or until the deadline"
                );
                outcome.note(Role::Management, to, "withheld", reason.clone());
                account.note = Some(reason);
                outcome
                    .commands
                    .push(Command::ForgetRegistration { endpoint: self.endpoint.as_str().into() });
            }
            TriggerAnswer::Refused { code, .. } if code.starts_with("4.") && !rotation.handed_out => {
                let rotation = rotation.clone();
                let reason = format!(
                    "the device refused the bootstrap trigger, Execute /1/x/9, with {code}; for one that does not know it, rotate with \
                     fetch \"wait\" or \"withhold\""
                );
                roll_back(account, &rotation, &self.endpoint, reason, outcome);
            }
            TriggerAnswer::Refused { code, after } => {
                trigger.back_off(now_ms);
                // Not so long, though, that a device could put the rotation off for ever.
                let after_ms =
                    after.map_or(0, |seconds| u64::from(seconds).saturating_mul(1000)).min(LONGEST_WAIT_MS);
                trigger.not_before_ms = trigger.not_before_ms.max(now_ms.saturating_add(after_ms));
                let reason = format!("the device answered {code} to the bootstrap trigger, Execute /1/x/9");
                outcome.note(Role::Management, to, "trigger refused", reason.clone());
                account.note = Some(reason);
            }
        }
    }

    /// Tells once of each accepted credential whose certificates end within 30 days, the one that ends first in its chain.
    fn warn(&mut self, now_ms: u64, outcome: &mut Outcome) {
        for role in Role::ALL {
            for credential in self.account_mut(role).into_iter().flat_map(|account| &mut account.credentials)
            {
                let Some(end) = credential.expires_ms.filter(|_| credential.is_to_be_warned_of()) else {
                    continue;
                };
                if end.saturating_sub(WARN_BEFORE_MS) <= now_ms {
                    credential.is_warned = true;
                    let detail = format!(
                        "a certificate of its chain ends at {}: rotate the credential, or renew the certificate",
                        date::utc(end / 1000)
                    );
                    outcome.note(role, credential.generation, "expires soon", detail);
                }
            }
        }
    }

    fn tick(&mut self, now_ms: u64, outcome: &mut Outcome) {
        self.warn(now_ms, outcome);
        // A suspended device cannot prove anything: its clock stands still.
        if self.hold.is_some() {
            return;
        }
        if let Some(account) = self.management.as_mut()
            && let State::Rotating(rotation) = &account.state
        {
            let rotation = rotation.clone();
            if let Some(retire_ms) = rotation.retire_ms {
                if retire_ms <= now_ms {
                    account.set_standing(rotation.from, Standing::Retired);
                    account.current = rotation.to;
                    account.state = State::InUse;
                    // Else the next bootstrap would move the device back.
                    if rotation.server_uri.is_some() {
                        self.profile.server_uri = rotation.server_uri;
                        let proven = "bootstraps write the server URI that was proven";
                        outcome.note(Role::Management, rotation.to, "profile", proven);
                    }
                    outcome.note(Role::Management, rotation.from, "old retired", "the grace time is over");
                    outcome.note(Role::Management, rotation.to, "in use", "the rotation is complete");
                    outcome.commands.push(Command::CloseSessions {
                        endpoint: self.endpoint.as_str().into(),
                        role: Role::Management,
                        generation: Some(rotation.from),
                    });
                }
            } else if rotation.deadline_ms <= now_ms && !is_open(&rotation, now_ms) {
                let last = account.note.clone().map_or_else(String::new, |note| format!(" ({note})"));
                if !rotation.handed_out {
                    let reason = format!("no bootstrap fetched the new credential before the deadline{last}");
                    roll_back(account, &rotation, &self.endpoint, reason, outcome);
                } else if rotation.old_seen {
                    let reason = format!(
                        "the new credential was not proven before the deadline and the device came back with the \
                         old one{last}"
                    );
                    roll_back(account, &rotation, &self.endpoint, reason, outcome);
                } else {
                    let reason = format!(
                        "the deadline passed and the device was seen with neither credential; both are kept{last}"
                    );
                    outcome.note(Role::Management, rotation.to, "unreachable", reason.clone());
                    account.note = Some(reason);
                    account.state = State::Unreachable(Rotation { trigger: None, ..rotation });
                }
            }
        }
        self.emit_trigger(now_ms, false, outcome);
    }

    /// Hands the pending trigger to the driver when it is due, or when the device just made contact.
    fn emit_trigger(&mut self, now_ms: u64, contact: bool, outcome: &mut Outcome) {
        if self.hold.is_some() {
            return;
        }
        let Some(account) = self.management.as_mut() else { return };
        let State::Rotating(rotation) = &mut account.state else { return };
        if is_open(rotation, now_ms) || rotation.deadline_ms <= now_ms {
            return;
        }
        if let Some(trigger) = rotation.trigger.as_mut()
            && trigger.sent_ms.is_none_or(|sent| now_ms.saturating_sub(sent) >= IN_FLIGHT_MS)
            && (trigger.not_before_ms <= now_ms || (contact && trigger.on_contact))
        {
            trigger.sent_ms = Some(now_ms);
            outcome.commands.push(Command::TriggerBootstrap { endpoint: self.endpoint.as_str().into() });
        }
    }

    /// Starts a rotation whose new credential was already added as `to`.
    pub fn start_rotation(&mut self, rotation: Rotation) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(account) = self.management.as_mut() else { return outcome };
        let (to, reason) = (rotation.to, rotation.reason.clone());
        account.note = None;
        account.state = State::Rotating(rotation);
        // The next tick sends the trigger: the driver carries it out and reports the answer.
        outcome.note(Role::Management, to, "staged", reason);
        outcome
    }
}

impl Trigger {
    /// A trigger that is due at once.
    #[must_use]
    pub fn new() -> Self {
        Self { not_before_ms: 0, failures: 0, on_contact: true, sent_ms: None }
    }

    fn back_off(&mut self, now_ms: u64) {
        let wait = FAILED_RETRY_MS.saturating_mul(1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        self.not_before_ms = now_ms.saturating_add(wait);
        self.on_contact = false;
        self.sent_ms = None;
    }
}

impl Default for Trigger {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a bootstrap that was handed the new credential may still be running.
fn is_open(rotation: &Rotation, now_ms: u64) -> bool {
    rotation.attempt_ms.is_some_and(|since| now_ms.saturating_sub(since) < ATTEMPT_MS)
}

/// Whether the device may still take in a Finish of a bootstrap that was handed the new credential.
fn may_be_committed(rotation: &Rotation, now_ms: u64) -> bool {
    rotation.open_since_ms.is_some_and(|since| now_ms.saturating_sub(since) < ATTEMPT_MS)
}

pub(super) fn roll_back(
    account: &mut Account,
    rotation: &Rotation,
    endpoint: &str,
    reason: String,
    outcome: &mut Outcome,
) {
    account.set_standing(rotation.to, Standing::RolledBack);
    account.current = rotation.from;
    account.state = State::InUse;
    outcome.note(Role::Management, rotation.to, "rolled back", reason.clone());
    outcome.commands.push(Command::CloseSessions {
        endpoint: endpoint.into(),
        role: Role::Management,
        generation: Some(rotation.to),
    });
    account.note = Some(format!("rolled back: {reason}"));
}
