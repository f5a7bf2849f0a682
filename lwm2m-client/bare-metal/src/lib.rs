//! A device on bare metal: the board, the storage, the application.
#![no_std]

pub mod application;
#[cfg(target_os = "none")]
pub mod board;
pub mod storage;
