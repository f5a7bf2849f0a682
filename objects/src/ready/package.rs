//! Packages of firmware and software: where their bytes go, and what can be wrong with them.
//!
//! Invariant: a package comes in order and is verified before anything is done with it.

/// Where the bytes of a package go, such as the second bank of a flash.
pub trait Package {
    /// Takes the bytes at an offset. They come in order; offset 0 begins anew, whatever came before.
    ///
    /// # Errors
    /// The package is given up.
    fn write(&mut self, offset: u32, chunk: &[u8]) -> Result<(), PackageFailure>;

    /// Checks the package, of which all bytes are there.
    ///
    /// # Errors
    /// It is not one to install.
    fn verify(&mut self) -> Result<(), PackageFailure>;

    /// Drops what is there.
    fn discard(&mut self);

    /// Returns the name of the package that is there; empty for none.
    fn name(&self) -> &str {
        ""
    }

    /// Returns its version; empty for none.
    fn version(&self) -> &str {
        ""
    }
}

/// Why a package is not installed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackageFailure {
    /// There is no room for it in the flash.
    NotEnoughFlash,
    /// There is not enough memory for it.
    OutOfMemory,
    /// Its source fell silent.
    ConnectionLost,
    /// Bytes of it are missing or were changed.
    Integrity,
    /// It is of another kind.
    Unsupported,
    /// Its address is none, or nothing is there.
    InvalidUri,
    /// It could not be installed.
    Installation,
    /// Its address is of a protocol that the device does not speak.
    UnsupportedProtocol,
}

impl PackageFailure {
    /// The number of `/5/x/5`.
    pub(super) const fn firmware_result(self) -> u8 {
        match self {
            Self::NotEnoughFlash => 2,
            Self::OutOfMemory => 3,
            Self::ConnectionLost => 4,
            Self::Integrity => 5,
            Self::Unsupported => 6,
            Self::InvalidUri => 7,
            Self::Installation => 8,
            Self::UnsupportedProtocol => 9,
        }
    }

    /// The number of `/9/x/9`, which has none for protocols.
    pub(super) const fn software_result(self) -> u8 {
        match self {
            Self::NotEnoughFlash => 50,
            Self::OutOfMemory => 51,
            Self::ConnectionLost => 52,
            Self::Integrity => 53,
            Self::Unsupported => 54,
            Self::InvalidUri | Self::UnsupportedProtocol => 56,
            Self::Installation => 58,
        }
    }
}
