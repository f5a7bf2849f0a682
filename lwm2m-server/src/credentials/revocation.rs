//! Revocation lists that the operator gives (RFC 5280 §5): for `rustls-webpki`, which looks a path up in them, and as a set to ask
//! without one.

use std::collections::HashSet;

use rustls_pki_types::pem::SectionKind;
use webpki::{BorrowedCertRevocationList, CertRevocationList};

use super::certificate::{distinguished_name, time};
use super::date;
use super::der::{self, INTEGER, Reader, SEQUENCE};
use super::encoding;
use super::trust::TrustError;
use super::validity::Mark;

/// How long before a list has to be renewed it is told of, in seconds: an authority is locked out with the passing of it.
const WARN_BEFORE: u64 = 86_400;

/// The lists of any number of issuers.
#[derive(Default)]
pub(super) struct RevocationLists {
    lists: Vec<CertRevocationList<'static>>,
    /// What is in any of them.
    revoked: HashSet<Mark>,
    /// Whose they are, and the second since 1970 by which they are to be renewed.
    due: Vec<(String, u64)>,
}

impl RevocationLists {
    /// Takes PEM with any number of lists, or DER of one, and answers how many.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<usize, TrustError> {
        let mut found = Self::default();
        for (number, der) in (1..).zip(encoding::sections(bytes, &[SectionKind::Crl])) {
            found.read(&der).ok_or(TrustError::Malformed(number))?;
        }
        if found.lists.is_empty() {
            return Err(TrustError::Empty);
        }
        let added = found.lists.len();
        self.lists.extend(found.lists);
        self.revoked.extend(found.revoked);
        self.due.extend(found.due);
        Ok(added)
    }

    fn read(&mut self, der: &[u8]) -> Option<()> {
        let list = BorrowedCertRevocationList::from_der(der).ok()?;
        let owned = CertRevocationList::from(list.to_owned().ok()?);
        for revoked in &list {
            self.revoked.insert(Mark::of_number(owned.issuer(), revoked.ok()?.serial_number));
        }
        let (issuer, next_update) = due(der)?;
        self.due.push((issuer, next_update));
        self.lists.push(owned);
        Some(())
    }

    pub(super) fn all(&self) -> &[CertRevocationList<'static>] {
        &self.lists
    }

    pub(super) fn contains(&self, mark: Mark) -> bool {
        self.revoked.contains(&mark)
    }

    /// The lists that are to be renewed within a day, or should have been, in words.
    pub(super) fn due(&self, now: u64) -> impl Iterator<Item = String> {
        self.due.iter().filter(move |(_, at)| at.saturating_sub(WARN_BEFORE) <= now).map(|(issuer, at)| {
            let at = date::utc(*at);
            format!(
                "the revocation list of {issuer} is to be renewed by {at}: then no certificate of it is trusted until it is"
            )
        })
    }
}

/// Whose a list is, and by when it is to be renewed.
fn due(der: &[u8]) -> Option<(String, u64)> {
    let mut list = Reader::new(der::only(der, SEQUENCE)?);
    let mut fields = Reader::new(list.expect(SEQUENCE)?.content);
    fields.optional(INTEGER);
    fields.expect(SEQUENCE)?;
    let issuer = distinguished_name(fields.expect(SEQUENCE)?.content);
    time(&mut fields)?;
    Some((issuer, time(&mut fields)?))
}
