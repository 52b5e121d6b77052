//! Finds the real programs in the target directory, and builds them there if they are missing or older than their sources.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::SystemTime,
};

use crate::{Failure, TestResult, repository};

/// Where the programs are; built once for all tests.
static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// Packages and the programs that come of them.
const PROGRAMS: [(&str, &str); 2] = [("raygen-server", "raygen-server"), ("raygen-client", "raygen")];

/// What a run of `raygen` left behind.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs the real `raygen` in a folder and waits for it.
///
/// # Errors
/// It cannot be built or started.
pub fn raygen<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> TestResult<Ran> {
    let output = command("raygen")?.current_dir(folder).args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) })
}

/// A program with none of our settings in its environment.
pub(crate) fn command(program: &str) -> TestResult<Command> {
    let folder = FOLDER.get_or_init(|| find().map_err(|error| error.to_string()));
    let folder = folder.as_ref().map_err(|problem| Failure::from(problem.as_str()))?;
    let mut command = Command::new(path(folder, program));
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("RAYGEN_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// The folder that this test program's profile builds into.
fn find() -> TestResult<PathBuf> {
    let test = env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).ok_or("a test program outside a target directory")?;
    let stale: Vec<&str> =
        PROGRAMS.iter().filter(|(_, program)| is_stale(folder, program)).map(|(package, _)| *package).collect();
    if !stale.is_empty() {
        build(folder, &stale)?;
    }
    Ok(folder.to_owned())
}

/// `cargo test --workspace` builds the programs first; a test run on its own finds them missing, or old.
fn build(folder: &Path, packages: &[&str]) -> TestResult {
    let profile = folder.file_name().and_then(OsStr::to_str).unwrap_or("debug");
    let profile = if profile == "debug" { "dev" } else { profile };
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--profile", profile]).current_dir(repository("")).stdin(Stdio::null());
    command.env("CARGO_TARGET_DIR", folder.parent().unwrap_or(folder));
    packages.iter().for_each(|package| {
        command.args(["-p", package]);
    });
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed: {status}").into()) }
}

/// Whether a program is missing, or older than a file that Cargo's dependency file says it is made of.
fn is_stale(folder: &Path, program: &str) -> bool {
    let path = path(folder, program);
    let (Ok(built), Ok(listed)) = (modified(&path), fs::read_to_string(path.with_extension("d"))) else { return true };
    let Some((_, sources)) = listed.split_once(": ") else { return true };
    // A space within a path is written "\ ".
    let sources = sources.trim().replace("\\ ", "\0");
    sources
        .split(' ')
        .any(|source| modified(Path::new(&source.replace('\0', " "))).is_ok_and(|changed| changed > built))
}

fn modified(path: &Path) -> std::io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

fn path(folder: &Path, program: &str) -> PathBuf {
    folder.join(format!("{program}{}", env::consts::EXE_SUFFIX))
}
