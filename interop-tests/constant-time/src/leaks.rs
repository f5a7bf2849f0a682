//! Leaks made on purpose: if these are not found, nothing was watched.

use std::hint::black_box;

use crate::parties::key;
use crate::{Expected, Findings};

pub(crate) fn run(findings: &mut Findings) {
    let key = key(1);
    let mut given = [0x5a; 16];
    given[0] = 1;
    findings.watch("a comparison that stops at the first difference is found", Expected::MoreThan(1), || {
        black_box(key.iter().zip(black_box(&given)).all(|(a, b)| black_box(a) == black_box(b)))
    });
    let table: [u8; 256] = std::array::from_fn(|index| index as u8);
    findings.watch("a table indexed by a secret is found", Expected::MoreThan(0), || {
        black_box(black_box(&table).get(usize::from(black_box(key[1]))).copied())
    });
}
