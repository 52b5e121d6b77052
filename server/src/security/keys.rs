//! API keys from a file: names, hashes, scopes and limits. The keys themselves are nowhere on the server.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::quota::{Limits, Quota};
use super::reread::Reread;

/// Shortest key that is hashed for a file. A hash without salt or stretching is safe for random keys only.
const SHORTEST_KEY: usize = 24;

/// What a key may do. No scope holds another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Generate, Encode and Decode.
    Generate,
    /// Score.
    Score,
    /// LoadModel and UnloadModel.
    Admin,
}

/// A file of keys that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("keys.file: {path}: {problem}")]
pub struct KeyFileError {
    path: PathBuf,
    problem: String,
}

/// The keys in force.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    current: RwLock<Arc<Vec<Arc<Key>>>>,
    /// Digest of the file as it was last read, good or bad.
    seen: Mutex<[u8; 32]>,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    hash: [u8; 32],
    scopes: Vec<Scope>,
    pub(super) quota: Quota,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    scopes: Vec<Scope>,
    #[serde(default)]
    limits: Limits,
}

/// The line for a key file of a key, as `raygen-server --hash-key` prints it.
///
/// # Errors
/// The key is too short to be random, or holds what a header cannot.
pub fn hash_key(key: &str) -> Result<String, String> {
    if key.len() < SHORTEST_KEY {
        return Err(format!("the key has {} bytes; make a random one of at least {SHORTEST_KEY}", key.len()));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the key must be of printable ASCII without spaces".to_owned());
    }
    Ok(format!("sha256 = \"{}\"", hex(&Sha256::digest(key.as_bytes()))))
}

// === impl Scope ===

impl Scope {
    /// As the file spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Score => "score",
            Self::Admin => "admin",
        }
    }
}

// === impl Key ===

impl Key {
    pub(super) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

// === impl Keys ===

impl Keys {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or holds what is no key.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, KeyFileError> {
        let path = path.into();
        let failed = |problem: String| KeyFileError { path: path.clone(), problem };
        let text = read(&path).map_err(failed)?;
        let keys = parse(&text, &[]).map_err(failed)?;
        let seen = Mutex::new(Sha256::digest(text.as_bytes()).into());
        Ok(Self { path, current: RwLock::new(Arc::new(keys)), seen })
    }

    fn current(&self) -> Arc<Vec<Arc<Key>>> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whose key it is. Every hash is compared to its end, so that time tells nothing of which key, or how much of one,
    /// was right.
    pub(super) fn find(&self, secret: &[u8]) -> Option<Arc<Key>> {
        let hash: [u8; 32] = Sha256::digest(secret).into();
        let keys = self.current();
        let mut found = u32::MAX;
        for (place, key) in (0u32..).zip(keys.iter()) {
            found.conditional_assign(&place, key.hash.ct_eq(&hash));
        }
        keys.get(usize::try_from(found).unwrap_or(usize::MAX)).cloned()
    }
}

impl Reread for Keys {
    fn what(&self) -> &'static str {
        "API keys"
    }

    fn reread(&self) -> Result<bool, String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match read(&self.path) {
            Ok(text) => text,
            Err(problem) => {
                return if std::mem::take(&mut *seen) == [0; 32] { Ok(false) } else { Err(problem) };
            }
        };
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        if std::mem::replace(&mut *seen, digest) == digest {
            return Ok(false);
        }
        let keys = parse(&text, &self.current())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(true)
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The keys of a file; those that were there before keep their accounts.
fn parse(text: &str, before: &[Arc<Key>]) -> Result<Vec<Arc<Key>>, String> {
    // An error of the parser quotes the line it met, and a key may have been put there by mistake.
    let file: File = toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => {
            let line = text.get(..span.start).map_or(0, |before| before.matches('\n').count()) + 1;
            format!("line {line}: {}", error.message())
        }
        None => error.message().to_owned(),
    })?;
    let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
    let mut keys = Vec::with_capacity(file.key.len());
    for (place, entry) in (1..).zip(file.key) {
        let wrong = |problem: &str| format!("key {place} ({:?}): {problem}", entry.name);
        if entry.name.is_empty() || entry.name.len() > 64 || entry.name.chars().any(char::is_control) {
            return Err(format!("key {place}: its name must have 1 to 64 bytes and no control characters"));
        }
        let hash = unhex(&entry.sha256)
            .ok_or_else(|| wrong("sha256 must be 64 hexadecimal digits; raygen-server --hash-key prints them"))?;
        if entry.scopes.is_empty() {
            return Err(wrong("scopes must not be empty; there are generate, score and admin"));
        }
        entry.limits.check().map_err(|problem| wrong(&problem))?;
        if !names.insert(entry.name.clone()) || !hashes.insert(hash) {
            return Err(wrong("there is another one of this name or hash"));
        }
        let quota = match before.iter().find(|known| known.name == entry.name) {
            Some(known) => known.quota.renewed(entry.limits),
            None => Quota::new(entry.limits),
        };
        keys.push(Arc::new(Key { name: entry.name, hash, scopes: entry.scopes, quota }));
    }
    Ok(keys)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn entry(name: &str, key: &str, more: &str) -> String {
        let hash = hash_key(key).expect("hashed");
        format!("[[key]]\nname = \"{name}\"\n{hash}\nscopes = [\"generate\"]\n{more}\n")
    }

    fn written(text: &str) -> (tempfile::NamedTempFile, Keys) {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), text).expect("written");
        let keys = Keys::open(file.path()).expect("keys");
        (file, keys)
    }

    #[test]
    fn a_key_is_found_by_its_hash_and_by_nothing_else() {
        let other = "another-key-that-is-random-enough";
        let (_file, keys) = written(&(entry("a", KEY, "") + &entry("b", other, "")));
        assert_eq!(keys.find(KEY.as_bytes()).expect("known").name, "a");
        assert_eq!(keys.find(other.as_bytes()).expect("known").name, "b");
        for wrong in ["", &KEY[..31], "0123456789abcdef0123456789abcdeF"] {
            assert!(keys.find(wrong.as_bytes()).is_none(), "{wrong}");
        }
        let key = keys.find(KEY.as_bytes()).expect("known");
        assert!(key.may(Scope::Generate) && !key.may(Scope::Admin) && !key.may(Scope::Score));
    }

    #[test]
    fn a_new_file_is_in_force_and_a_bad_one_leaves_the_old_keys_and_is_said_once() {
        let (file, keys) = written(&entry("a", KEY, ""));
        assert_eq!(keys.reread(), Ok(false));
        std::fs::write(file.path(), "[[key]]\nname = 3\n").expect("written");
        let problem = keys.reread().expect_err("bad");
        assert!(problem.starts_with("line 2: "), "{problem}");
        assert_eq!(keys.reread(), Ok(false));
        assert!(keys.find(KEY.as_bytes()).is_some());
        std::fs::write(file.path(), entry("a", "a-new-key-instead-of-the-old-one", "")).expect("written");
        assert_eq!(keys.reread(), Ok(true));
        assert!(keys.find(KEY.as_bytes()).is_none());
    }

    #[test]
    fn files_that_cannot_be_are_refused_with_the_key_and_without_its_secrets() {
        let hash = "0".repeat(64);
        for (text, said) in [
            ("keys = 1", "unknown field"),
            (&*format!("[[key]]\nname = \"\"\nsha256 = \"{hash}\"\nscopes = [\"score\"]"), "key 1: its name"),
            ("[[key]]\nname = \"a\"\nsha256 = \"plain-secret\"\nscopes = [\"score\"]", "64 hexadecimal digits"),
            (&*format!("[[key]]\nname = \"a\"\nsha256 = \"{hash}\"\nscopes = []"), "must not be empty"),
            (&*format!("[[key]]\nname = \"a\"\nsha256 = \"{hash}\"\nscopes = [\"root\"]"), "unknown variant"),
            (&*(entry("a", KEY, "") + &entry("b", KEY, "")), "another one"),
            (&*entry("a", KEY, "limits = { requests_per_second = 0.0 }"), "requests_per_second must be"),
            (&*entry("a", KEY, "limits = { per_day = 1 }"), "unknown field"),
        ] {
            let problem = parse(text, &[]).expect_err(said);
            assert!(problem.contains(said), "{problem}");
            assert!(!problem.contains("plain-secret"), "{problem}");
        }
        assert!(hash_key("password").is_err());
    }
}
