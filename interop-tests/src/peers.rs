//! Where the foreign programs are, and what a test does when one is missing.
//!
//! `.ci/peers` installs them. A missing peer is said loudly and its test passes, unless the environment says
//! `LWM2M_PEERS=required`: then the test fails.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that is there.
#[derive(Debug, Clone)]
pub struct Program {
    /// What it is called in messages.
    pub name: &'static str,
    /// What it says its version is.
    pub version: String,
    command: Vec<PathBuf>,
}

impl Program {
    /// Returns a command line that starts with the program.
    pub fn command(&self) -> Command {
        let mut parts = self.command.iter();
        let mut command = Command::new(parts.next().map_or(Path::new(""), PathBuf::as_path));
        command.args(parts);
        command
    }
}

/// OpenSSL's command line.
pub fn openssl() -> Option<Program> {
    on_path("openssl", "openssl", &["version"], |text| text.lines().next().map(str::to_owned))
}

/// SoftHSM's `softhsm2-util`.
pub fn softhsm() -> Option<Program> {
    on_path("softhsm2", "softhsm2-util", &["--version"], |text| {
        text.lines().next().map(|line| format!("SoftHSM {line}"))
    })
}

/// `p11-kit`, which serves a PKCS#11 module to other processes. It does not say its version.
pub fn p11_kit() -> Option<Program> {
    on_path("p11-kit", "p11-kit", &["--help"], |text| text.contains("server").then(|| "p11-kit".to_owned()))
}

/// A library of Debian's folders, as in `softhsm/libsofthsm2.so`.
pub fn library(name: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let folders = folders.filter(|folder| folder.to_string_lossy().ends_with("-linux-gnu"));
    folders.chain([PathBuf::from("/usr/lib")]).map(|folder| folder.join(name)).find(|file| file.exists())
}

/// GnuTLS's `gnutls-cli` or `gnutls-serv`.
pub fn gnutls(program: &'static str) -> Option<Program> {
    on_path(program, program, &["--version"], |text| text.lines().next().map(str::to_owned))
}

/// A client or server of libcoap: `coap-client-notls`, `coap-server-openssl` and so on.
pub fn libcoap(program: &'static str) -> Option<Program> {
    // The programs print their version with their usage.
    on_path(program, program, &["-h"], |text| {
        text.lines().find(|line| line.contains(" v4") || line.contains("v4.")).map(str::to_owned)
    })
}

/// The Python that has aiocoap.
pub fn aiocoap() -> Option<Program> {
    let python = cache().join("aiocoap/bin/python");
    let version =
        output(Command::new(&python).args(["-c", "import aiocoap.meta; print(aiocoap.meta.version)"]));
    present("aiocoap", version.map(|version| (format!("aiocoap {}", version.trim()), vec![python])))
}

/// Java with the libraries of Leshan's server and client on its class path; takes a source file next.
pub fn leshan() -> Option<Program> {
    java("leshan", &cache().join("leshan"), "leshan-lwm2m-server-")
}

/// Java with the libraries of Leshan's bootstrap server on its class path; takes a source file next.
pub fn leshan_bootstrap() -> Option<Program> {
    java("leshan-bootstrap", &cache().join("leshan-bootstrap"), "leshan-server-cf-")
}

/// Java with Scandium, the DTLS of Californium, on its class path; takes a source file next.
pub fn scandium() -> Option<Program> {
    // Leshan brings it along.
    let folder = cache().join("leshan");
    java("scandium", &folder, "scandium-")
}

/// Java with Californium's OSCORE on its class path; takes a source file next.
pub fn californium_oscore() -> Option<Program> {
    java("californium-oscore", &cache().join("oscore"), "cf-oscore-")
}

/// Wakaama's client: `client` without security, `client-dtls` with tinydtls.
pub fn wakaama(program: &'static str) -> Option<Program> {
    let folder = cache().join("wakaama");
    let version = std::fs::read_to_string(folder.join("version")).ok();
    present("wakaama", version.map(|version| (version.trim().to_owned(), vec![folder.join(program)])))
}

/// The client and server on pion's DTLS.
pub fn pion() -> Option<Program> {
    let program = cache().join("pion/pion");
    let version = output(Command::new(&program).arg("version"));
    present("pion", version.map(|version| (version.trim().to_owned(), vec![program])))
}

/// Returns a file of `interop-tests/peers`.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(path)
}

fn java(family: &'static str, folder: &Path, artifact: &str) -> Option<Program> {
    let version = std::fs::read_dir(folder).ok().and_then(|entries| {
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).find_map(|name| {
            let version = name.strip_prefix(artifact)?.strip_suffix(".jar")?;
            Some(format!("{family} {version}"))
        })
    });
    let works = output(Command::new("javac").arg("-version")).is_some();
    present(
        family,
        version.filter(|_| works).map(|version| {
            let classes = folder.join("*");
            // One worker each for compiling and collecting: many of these run beside each other on few cores.
            let parts = [
                "java",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-cp",
            ]
            .map(PathBuf::from)
            .into_iter()
            .chain([classes]);
            (version, parts.collect())
        }),
    )
}

fn on_path(
    name: &'static str,
    program: &str,
    arguments: &[&str],
    version: impl Fn(&str) -> Option<String>,
) -> Option<Program> {
    let text = output(Command::new(program).args(arguments));
    present(
        name,
        text.map(|text| {
            let version = version(&text).unwrap_or_else(|| "version unknown".to_owned());
            (version, vec![PathBuf::from(program)])
        }),
    )
}

fn present(name: &'static str, found: Option<(String, Vec<PathBuf>)>) -> Option<Program> {
    let Some((version, command)) = found else {
        assert!(
            env::var("LWM2M_PEERS").as_deref() != Ok("required"),
            "{name} is required and missing: run .ci/peers"
        );
        say(&format!("left out: {}, which needs {name} (.ci/peers installs it)", test()));
        return None;
    };
    say(&format!("peer of {}: {version}", test()));
    Some(Program { name, version, command })
}

/// The name of the test that runs, as the thread has it.
fn test() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// Says a line where nothing captures it: what `eprintln` says in a test that passes is not shown.
fn say(line: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn cache() -> PathBuf {
    let from_home = || env::home_dir().map(|home| home.join(".cache"));
    env::var_os("LWM2M_PEERS_DIR")
        .map(PathBuf::from)
        .or_else(|| {
            env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(from_home)
                .map(|cache| cache.join("lwm2m-peers"))
        })
        .unwrap_or_default()
}

/// Returns what a program prints, whatever its exit code; `None` when there is no such program.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Some(text)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_left_out_is_named_although_it_passes() {
        if env::var_os("LEFT_OUT").is_some() {
            assert!(leshan().is_none());
            return;
        }
        let name = "peers::tests::a_test_that_is_left_out_is_named_although_it_passes";
        let mut again = Command::new(env::current_exe().unwrap());
        again.args(["--exact", name]).env("LEFT_OUT", "1").env("LWM2M_PEERS_DIR", "/nonexistent");
        let text = output(again.env_remove("LWM2M_PEERS")).unwrap();
        assert!(text.contains("1 passed"), "{text}");
        assert!(text.contains(&format!("left out: {name}, which needs leshan")), "{text}");
    }
}
