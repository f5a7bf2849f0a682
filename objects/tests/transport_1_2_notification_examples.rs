//! The worked examples for thresholds in LwM2M Transport 1.2: battery level `/3/0/9` with `gt`, `lt` and `st`.

use lwm2m_objects::{Attributes, Samples};

#[test]
fn thresholds_notify_as_printed() {
    let none = Attributes::default();
    let above = Attributes { gt: Some(45.0), st: Some(10.0), ..none };
    let both = Attributes { lt: Some(20.0), gt: Some(85.0), st: Some(10.0), ..none };
    for (attributes, old, new, notify) in [
        (above, 45.0, 50.0, true),
        (above, 38.0, 49.0, true),
        (above, 48.0, 42.0, false),
        (both, 75.0, 90.0, true),
        (both, 50.0, 10.0, true),
        (both, 87.0, 99.0, true),
        (both, 17.0, 24.0, false),
    ] {
        assert_eq!(attributes.check(), Ok(()));
        let samples = Samples { notified: old, sides: attributes.sides(old), current: new };
        assert_eq!(attributes.is_met(samples), notify, "{old} to {new}");
    }
}
