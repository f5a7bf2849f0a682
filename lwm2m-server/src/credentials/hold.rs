//! Refusing a device, or one of its accounts: revoked, suspended, decommissioned; and letting it in again.
//!
//! Invariant: what is refused keeps no session, and no bootstrap that writes it.

use super::device::{Account, Device, Hold, HoldKind, Phase, Role, Standing, State};
use super::lifecycle::{Outcome, roll_back};
use super::{Command, Happened};

impl Device {
    /// Refuses the credentials of one role, or of both, for good.
    pub fn revoke(&mut self, now_ms: u64, role: Option<Role>, reason: &str) -> Outcome {
        let mut outcome = Outcome::default();
        if role.is_none() {
            self.hold = Some(Hold { kind: HoldKind::Revoked, since_ms: now_ms, reason: reason.to_owned() });
        }
        for each in Role::ALL {
            if role.is_some_and(|only| only != each) {
                continue;
            }
            if let Some(account) = self.account_mut(each) {
                account.state = State::Revoked;
                account.note = Some(reason.to_owned());
                // What was refused before stays refused for its own reason.
                for credential in &mut account.credentials {
                    if credential.standing == Standing::Accepted {
                        credential.standing = Standing::Revoked;
                    }
                }
                let current = account.current;
                outcome.note(each, current, "revoked", reason);
            }
            self.close(each, &mut outcome);
        }
        match role {
            // A bootstrap under way is writing what was just revoked.
            Some(Role::Management) => self.close(Role::Bootstrap, &mut outcome),
            Some(Role::Bootstrap) => self.without_bootstrap(&mut outcome),
            None => {}
        }
        if outcome.happened.is_empty() {
            outcome.happened.push(Happened {
                role: None,
                generation: None,
                what: "revoked",
                detail: reason.to_owned(),
            });
        }
        outcome.durable = true;
        outcome
    }

    /// The bootstrap account was revoked: nothing delivers the new credential of a rotation any more.
    fn without_bootstrap(&mut self, outcome: &mut Outcome) {
        let Some(account) = self.management.as_mut() else { return };
        let State::Rotating(rotation) = &mut account.state else { return };
        rotation.trigger = None;
        // A device that brings its own key may prove it without a bootstrap.
        if !rotation.handed_out && rotation.phase == Phase::Staged {
            let rotation = rotation.clone();
            let reason =
                "the bootstrap account was revoked before a bootstrap fetched the new credential".to_owned();
            roll_back(account, &rotation, &self.endpoint, reason, outcome);
        }
    }

    /// Refuses the device as a whole until it is resumed, or for good.
    pub fn hold(&mut self, now_ms: u64, kind: HoldKind, reason: &str) -> Outcome {
        let mut outcome = Outcome { durable: true, ..Outcome::default() };
        self.hold = Some(Hold { kind, since_ms: now_ms, reason: reason.to_owned() });
        let what = match kind {
            HoldKind::Suspended => "suspended",
            HoldKind::Revoked => "revoked",
            HoldKind::Decommissioned => "decommissioned",
        };
        outcome.happened.push(Happened { role: None, generation: None, what, detail: reason.to_owned() });
        for role in Role::ALL {
            self.close(role, &mut outcome);
        }
        outcome
    }

    /// Lifts a suspension; deadlines move by the time it lasted.
    pub fn resume(&mut self, now_ms: u64, reason: &str) -> Outcome {
        let mut outcome = Outcome { durable: true, ..Outcome::default() };
        let since_ms = self.hold.take().map_or(now_ms, |hold| hold.since_ms);
        let lasted = now_ms.saturating_sub(since_ms);
        if let Some(Account { state: State::Rotating(rotation), .. }) = self.management.as_mut() {
            rotation.deadline_ms = rotation.deadline_ms.saturating_add(lasted);
            rotation.retire_ms = rotation.retire_ms.map(|at| at.saturating_add(lasted));
        }
        outcome.happened.push(Happened {
            role: None,
            generation: None,
            what: "resumed",
            detail: reason.to_owned(),
        });
        outcome
    }

    fn close(&mut self, role: Role, outcome: &mut Outcome) {
        if let Some(account) = self.account_mut(role) {
            account.handshake = None;
        }
        outcome.commands.push(Command::CloseSessions {
            endpoint: self.endpoint.as_str().into(),
            role,
            generation: None,
        });
    }
}
