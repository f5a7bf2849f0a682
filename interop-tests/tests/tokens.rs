//! Private keys that never are in memory: server and device with keys in SoftHSM, which runs in processes of its own.

#![expect(clippy::unwrap_used, reason = "test")]

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use interop_tests::ours::{Client, Server};
use interop_tests::owner::{Owner, key_file};
use interop_tests::peers::{self, Program};
use interop_tests::process::Process;
use serde_json::json;
use tempfile::TempDir;

const PIN: &str = "1234";

/// A token with one key, served to other processes.
struct Token {
    label: &'static str,
    socket: String,
    _process: Process,
    _folder: TempDir,
}

impl Token {
    /// Takes the key `label` of `peers/keys` in.
    fn of(softhsm: &Program, p11: &Program, label: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (configuration, tokens) = (folder.path().join("softhsm2.conf"), folder.path().join("tokens"));
        std::fs::create_dir(&tokens).unwrap();
        std::fs::write(&configuration, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
        let utility = |arguments: &[&str]| {
            let mut command = softhsm.command();
            command.env("SOFTHSM2_CONF", &configuration).args(arguments);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        utility(&["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", PIN]);
        let key = pkcs8(folder.path(), label);
        utility(&[
            "--import",
            key.to_str().unwrap(),
            "--token",
            label,
            "--label",
            label,
            "--id",
            "01",
            "--pin",
            PIN,
        ]);
        std::fs::remove_file(key).unwrap();
        let socket = folder.path().join("socket");
        let mut command = p11.command();
        command.env("SOFTHSM2_CONF", &configuration).args(["server", "--sh", "--foreground", "--provider"]);
        command.arg(peers::library("softhsm/libsofthsm2.so").unwrap()).arg("--name").arg(&socket);
        command.arg(format!("pkcs11:token={label}"));
        let mut process = Process::spawn("p11-kit server", command);
        let socket = process.wait_for("the address", |line| {
            let (_, address) = line.split_once("P11_KIT_SERVER_ADDRESS=")?;
            Some(address.split(';').next().unwrap_or_default().trim().to_owned())
        });
        Self { label, socket, _process: process, _folder: folder }
    }

    fn uri(&self) -> String {
        let module = peers::library("pkcs11/p11-kit-client.so").unwrap();
        let label = self.label;
        format!("pkcs11:token={label};object={label}?module-path={}&pin-value={PIN}", module.display())
    }
}

/// The key in a form that the token takes.
fn pkcs8(folder: &Path, label: &str) -> PathBuf {
    let file = folder.join("key.pem");
    let mut command = Command::new("openssl");
    command.args(["pkcs8", "-topk8", "-nocrypt", "-in"]).arg(key_file(&format!("{label}.key.pem")));
    assert!(command.arg("-out").arg(&file).status().unwrap().success());
    file
}

/// Whether these bytes are anywhere in what a process can write to.
fn has_in_memory(process: &Process, wanted: &[u8]) -> bool {
    let id = process.id();
    let maps = std::fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
    let mut memory = std::fs::File::open(format!("/proc/{id}/mem")).unwrap();
    let mut is_there = false;
    for line in maps.lines().filter(|line| line.contains(" rw") && !line.contains("[v")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to.checked_sub(from).unwrap()).unwrap()];
        if memory.seek(SeekFrom::Start(from)).is_ok() && memory.read_exact(&mut bytes).is_ok() {
            is_there |= bytes.windows(wanted.len()).any(|window| window == wanted);
        }
    }
    is_there
}

fn server(private_key: &str, token: Option<&Token>) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("server.toml");
    let certificate = key_file("server.crt.pem");
    let text = format!("[[server_keys]]\nprivate_key = \"{private_key}\"\ncertificate = {certificate:?}\n");
    std::fs::write(&configuration, text).unwrap();
    let environment = token.map(|token| ("P11_KIT_SERVER_ADDRESS", token.socket.as_str()));
    Server::start_with(&["--config", configuration.to_str().unwrap()], environment.as_slice())
}

#[test]
fn server_and_device_sign_with_keys_that_are_never_in_their_memory() {
    let (Some(softhsm), Some(p11)) = (peers::softhsm(), peers::p11_kit()) else { return };
    let tokens = ["server", "device"].map(|label| Token::of(&softhsm, &p11, label));
    let [of_server, of_device] = &tokens;
    let (server_key, device_key) = (key_file("server.key.pem"), key_file("device.key.pem"));
    for (own, other) in [(None, None), (Some(of_server), Some(of_device))] {
        let path = own.map_or_else(|| server_key.display().to_string(), Token::uri);
        let mut server = server(&path, own);
        let private_key = other.map_or_else(|| device_key.display().to_string(), Token::uri);
        let environment = other.map(|token| ("P11_KIT_SERVER_ADDRESS", token.socket.as_str()));
        let [public, certificate, of_server, known] =
            ["device.pub.pem", "device.crt.pem", "server.pub.pem", "server.crt.pem"]
                .map(|name| key_file(name).display().to_string());
        let text = |file: &str| std::fs::read_to_string(file).unwrap();
        for (mode, account, arguments) in [
            (
                "rpk",
                json!({ "mode": "rpk", "public_key": text(&public) }),
                vec!["--rpk-private-key", &private_key, "--server-public-key", &of_server],
            ),
            (
                "x509",
                json!({ "mode": "x509", "certificate": text(&certificate) }),
                vec!["--certificate", &certificate, "--private-key", &private_key, "--trust", &known],
            ),
        ] {
            let name = format!("tokens-{mode}");
            let route = format!("/devices/{name}/credentials");
            server.must("PUT", &route, &json!({ "management": account }));
            let client = Client::run_with(&name, &server.secure_uri(), &arguments, environment.as_slice());
            server.wait_for(&["registered", &name]);
            // Without tokens both are found: the search itself works.
            for (process, key) in [(&server.process, Owner::server()), (&client.process, Owner::device())] {
                let is_outside = own.is_some();
                assert_eq!(has_in_memory(process, &key.secret), !is_outside, "{mode}: {process:?}");
            }
        }
    }
}
