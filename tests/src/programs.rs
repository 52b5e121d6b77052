//! Finds the real programs in the target directory, and builds them there if they are missing or older than their sources.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use crate::{Failure, TestResult, repository};

/// Where each program is, or why there is none; looked for, and built if need be, when a test first wants it.
static FOUND: Mutex<BTreeMap<String, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());

/// What a run of a program left behind.
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
    ran(command("raygen")?.current_dir(folder).args(arguments))
}

/// As [`raygen`], with variables in its environment.
///
/// # Errors
/// It cannot be built or started.
pub fn raygen_with<S: AsRef<OsStr>>(
    variables: &[(&str, &str)],
    folder: &Path,
    arguments: impl IntoIterator<Item = S>,
) -> TestResult<Ran> {
    ran(command("raygen")?.envs(variables.iter().copied()).current_dir(folder).args(arguments))
}

/// Runs the real `raygen-trainer` in a folder and waits for it.
///
/// # Errors
/// It cannot be built or started.
pub fn trainer<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> TestResult<Ran> {
    ran(command("raygen-trainer")?.current_dir(folder).args(arguments))
}

fn ran(command: &mut Command) -> TestResult<Ran> {
    let output = command.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) })
}

/// Where a program is. Whoever asks for the same one meanwhile waits until it is built.
pub(crate) fn program(name: &str) -> TestResult<PathBuf> {
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let path = found.entry(name.to_owned()).or_insert_with(|| find(name).map_err(|error| error.to_string()));
    path.clone().map_err(Failure::from)
}

/// A program with none of our settings in its environment.
pub(crate) fn command(name: &str) -> TestResult<Command> {
    Ok(without_settings(Command::new(program(name)?)))
}

/// A command with none of our settings in its environment.
pub(crate) fn without_settings(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("RAYGEN_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A program in the folder that this test program's profile builds into.
fn find(name: &str) -> TestResult<PathBuf> {
    let test = env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).ok_or("a test program outside a target directory")?;
    if is_stale(folder, name) {
        build(folder, name)?;
    }
    Ok(path(folder, name))
}

/// `cargo test --workspace` builds the programs first; a test run on its own finds them missing, or old. Of the whole
/// workspace's features, so that nothing else is built a second time.
fn build(folder: &Path, name: &str) -> TestResult {
    let profile = folder.file_name().and_then(OsStr::to_str).unwrap_or("debug");
    let profile = if profile == "debug" { "dev" } else { profile };
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--workspace", "--bin", name, "--profile", profile]);
    command.current_dir(repository("")).stdin(Stdio::null());
    command.env("CARGO_TARGET_DIR", folder.parent().unwrap_or(folder));
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed: {status}").into()) }
}

/// Whether a program is missing, or older than a file that Cargo's dependency file says it is made of.
fn is_stale(folder: &Path, name: &str) -> bool {
    let path = path(folder, name);
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

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{}", env::consts::EXE_SUFFIX))
}
