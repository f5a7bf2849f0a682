//! Where the foreign programs are, and what a test does when one is missing.
//!
//! `.ci/peers` installs them. A missing peer is said loudly and its test passes, unless the environment says
//! `LWM2M_PEERS=required`: then the test fails.

use std::env;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
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

/// The Python that has openapi-spec-validator and schemathesis.
pub fn openapi() -> Option<Program> {
    let python = cache().join("openapi/bin/python");
    let versions = "from importlib.metadata import version as of; \
         print('openapi-spec-validator', of('openapi-spec-validator'), 'schemathesis', of('schemathesis'))";
    let version = output(Command::new(&python).args(["-c", versions]));
    present("openapi", version.map(|version| (version.trim().to_owned(), vec![python])))
}

/// Java with Leshan's server and client and the programs of `peers/leshan`; takes the name of one next.
pub fn leshan() -> Option<Program> {
    java("leshan", ("leshan", "leshan-lwm2m-server-"), "leshan")
}

/// Java with Leshan's bootstrap server and the program of `peers/leshan-bootstrap`; takes its name next.
pub fn leshan_bootstrap() -> Option<Program> {
    java("leshan-bootstrap", ("leshan-bootstrap", "leshan-server-cf-"), "leshan-bootstrap")
}

/// Java with Scandium, the DTLS of Californium, and the programs of `peers/scandium`; takes the name of one next.
pub fn scandium() -> Option<Program> {
    // Leshan brings it along.
    java("scandium", ("leshan", "scandium-"), "scandium")
}

/// Java with Californium's OSCORE and the program of `peers/oscore`; takes its name next.
pub fn californium_oscore() -> Option<Program> {
    java("californium-oscore", ("oscore", "cf-oscore-"), "oscore")
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

/// Java with the libraries of a folder of the cache, among which an artifact tells the version, and the programs of a folder of
/// `peers`.
fn java(family: &'static str, (folder, artifact): (&str, &str), programs: &str) -> Option<Program> {
    let folder = cache().join(folder);
    let version = std::fs::read_dir(&folder).ok().and_then(|entries| {
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).find_map(|name| {
            let version = name.strip_prefix(artifact)?.strip_suffix(".jar")?;
            Some(format!("{family} {version}"))
        })
    });
    let libraries = folder.join("*");
    let compiled = version.and_then(|version| Some((compile(programs, &version, &libraries)?, version)));
    present(
        family,
        compiled.map(|(classes, version)| {
            let classes = format!("{}:{}", libraries.display(), classes.display());
            // One worker each for compiling and collecting: many of these run beside each other on few cores.
            let parts = [
                "java",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-cp",
                &classes,
            ];
            (version, parts.map(PathBuf::from).into())
        }),
    )
}

/// The folder of the compiled programs of a folder of `peers`, which are kept in the cache; `None` where there is no compiler.
///
/// # Panics
/// When they do not compile.
fn compile(programs: &str, version: &str, libraries: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(source(programs)).expect("the programs are there");
    let mut sources: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "java"));
    sources.sort();
    let mut hasher = DefaultHasher::new();
    version.hash(&mut hasher);
    for source in &sources {
        std::fs::read(source).expect("a program can be read").hash(&mut hasher);
    }
    let classes = cache().join("classes");
    let kept = classes.join(format!("{programs}-{:016x}", hasher.finish()));
    if kept.exists() {
        return Some(kept);
    }
    std::fs::create_dir_all(&classes).expect("the cache can be written to");
    // Others may compile them at the same time: whoever is first has made them for all.
    let folder = tempfile::tempdir_in(&classes).expect("the cache can be written to");
    let mut command = Command::new("javac");
    command.args(["-nowarn", "-cp"]).arg(libraries).arg("-d").arg(folder.path()).args(sources);
    let compiled = command.status().ok()?;
    assert!(compiled.success(), "the programs of peers/{programs} do not compile");
    let renamed = std::fs::rename(folder.path(), &kept);
    assert!(renamed.is_ok() || kept.exists(), "{renamed:?}");
    Some(kept)
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
