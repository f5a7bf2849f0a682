//! Notification attributes (LwM2M Core 1.2.1 §5.1.2).

/// Notification attributes as attached to one level of a path, or merged over all of them.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Attributes {
    /// Minimum period in seconds: no notification sooner after the last.
    pub pmin: Option<u32>,
    /// Maximum period in seconds: a notification at the latest then; 0 switches it off.
    pub pmax: Option<u32>,
    /// Notify when the value rises above this.
    pub gt: Option<f64>,
    /// Notify when the value falls below this.
    pub lt: Option<f64>,
    /// Notify when the value differs by at least this from the last notified.
    pub st: Option<f64>,
    /// Minimum evaluation period in seconds (1.1).
    pub epmin: Option<u32>,
    /// Maximum evaluation period in seconds (1.1).
    pub epmax: Option<u32>,
}

/// What a Write-Attributes does: attributes that are set and attributes that are unset; the others stay.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct AttributesChange {
    /// Attributes that take a new value.
    pub set: Attributes,
    /// Attributes that go: bits in the order of the fields of [`Attributes`].
    pub(crate) unset: u8,
}
