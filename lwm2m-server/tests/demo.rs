//! `lwm2m-server demo --once` tells its story: bootstrap, register, read, observe, rotate, roll back, revoke.

#![cfg(feature = "demo")]
#![expect(clippy::unwrap_used, reason = "test")]

use std::process::Command;

#[test]
fn the_demo_succeeds_and_shows_every_step() {
    let output = Command::new(env!("CARGO_BIN_EXE_lwm2m-server"))
        .args(["demo", "--once", "--devices", "5"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let names = ["ENROL", "BOOTSTRAP", "READ", "OBSERVE", "ROTATE", "ROLL BACK", "REVOKE"];
    for name in names {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert_eq!(text.matches("\n  ok ").count(), names.len(), "{text}");
}
