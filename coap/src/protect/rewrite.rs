//! Options taken out of a list that lies in a buffer, for a hook that tells inner from outer ones (RFC 8613 §4.1).
//!
//! Invariant: what is written never overtakes what is still to be read: the header of an option that is taken out is at
//! least as long as what the next header grows by.

use crate::option::{OptionNumber, take};
use crate::writer::OptionHead;

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It stays.
    Whole,
    /// It stays without its value.
    Empty,
    /// It is taken out.
    Nothing,
}

/// Rewrites the options that fill `bytes` and returns how many bytes at its start they take then; `None` when they are no
/// options.
#[must_use]
pub fn rewrite(bytes: &mut [u8], keep: &dyn Fn(OptionNumber) -> Keep) -> Option<usize> {
    let (mut read, mut written) = (0_usize, 0_usize);
    let (mut number, mut last) = (0_u16, 0_u16);
    while read < bytes.len() {
        let rest = bytes.get(read..)?;
        let (next, value, behind) = take(rest, number)?;
        number = next;
        let end = bytes.len().checked_sub(behind.len())?;
        let length = value.len();
        let kept = match keep(OptionNumber(number)) {
            Keep::Whole => length,
            Keep::Empty => 0,
            Keep::Nothing => {
                read = end;
                continue;
            }
        };
        let head = OptionHead::new(number.checked_sub(last)?, u16::try_from(kept).ok()?);
        last = number;
        let place = written..written.checked_add(head.bytes().len())?;
        written = place.end;
        bytes.get_mut(place)?.copy_from_slice(head.bytes());
        let value = end.checked_sub(length)?;
        if written > value {
            return None;
        }
        bytes.copy_within(value..value.checked_add(kept)?, written);
        written = written.checked_add(kept)?;
        read = end;
    }
    Some(written)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Code, Options, Room, Writer};

    fn written(options: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut buffer = [0; 4096];
        let mut writer = Writer::new(&mut buffer, Room::NONE, Code::GET);
        for (number, value) in options {
            writer.option(OptionNumber(*number), value).unwrap();
        }
        writer.finish().unwrap().bytes().to_vec()
    }

    proptest! {
        #[test]
        fn what_stays_is_as_if_it_had_been_written_alone(
            mut options in prop::collection::vec(
                (prop_oneof![0_u16..50, 0_u16..=u16::MAX], prop::collection::vec(any::<u8>(), 0..300), 0_u8..3),
                0..8,
            ),
        ) {
            options.sort_by_key(|(number, ..)| *number);
            options.dedup_by_key(|(number, ..)| *number);
            let what = |number: OptionNumber| {
                match options.iter().find(|(other, ..)| *other == number.0).map(|(.., what)| *what) {
                    Some(0) => Keep::Nothing,
                    Some(1) => Keep::Empty,
                    _ => Keep::Whole,
                }
            };
            let all: Vec<_> = options.iter().map(|(number, value, _)| (*number, value.clone())).collect();
            let stay: Vec<_> = options
                .iter()
                .filter(|(.., what)| *what != 0)
                .map(|(number, value, what)| (*number, if *what == 1 { Vec::new() } else { value.clone() }))
                .collect();
            let mut bytes = written(&all);
            let length = rewrite(&mut bytes, &what).unwrap();
            prop_assert_eq!(&bytes[..length], &written(&stay)[..]);
        }

        #[test]
        fn any_bytes_are_options_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let is_options = Options::parse(&bytes).is_ok_and(|(_, payload)| payload.is_empty()) && !bytes.contains(&0xff);
            let rewritten = rewrite(&mut bytes, &|number| if number.0 % 3 == 0 { Keep::Nothing } else { Keep::Whole });
            prop_assert!(!is_options || rewritten.is_some());
        }
    }
}
