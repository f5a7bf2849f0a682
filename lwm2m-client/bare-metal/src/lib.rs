//! A device on bare metal: the board, the storage, the application.
#![no_std]

pub mod application;
#[cfg(target_os = "none")]
pub mod board;
#[cfg(target_os = "none")]
pub mod line;
#[cfg(all(feature = "oscore", feature = "peer"))]
pub mod protected;
#[cfg(feature = "peer")]
pub mod scenario;
pub mod storage;
