//! Where encoders write to: a buffer, a window of a block-wise transfer, or a count.

/// Takes bytes in order.
pub trait Sink {
    /// Takes all of `bytes`.
    ///
    /// # Errors
    /// There is no room.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full>;
}

/// There is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;
