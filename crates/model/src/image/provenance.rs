//! What every picture that we make says of itself.

use sha2::{Digest, Sha256};

/// What a picture says to people.
pub const NOTICE: &str = "Synthetic chest X-ray, not for diagnosis";

/// Where a picture came from. The impression may be a patient's: only its digest is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Resolved model name, with version.
    pub model: String,
    /// First 16 hexadecimal digits of the impression's SHA-256.
    pub impression_digest: Option<String>,
    /// Seed of the request.
    pub seed: Option<u64>,
    /// The sample's place in its request.
    pub sample: Option<u32>,
}

impl Provenance {
    /// Of a picture generated from an impression.
    pub fn generated(model: &str, impression: &str, seed: u64, sample: u32) -> Self {
        Self {
            model: model.to_owned(),
            impression_digest: Some(impression_digest(impression)),
            seed: Some(seed),
            sample: Some(sample),
        }
    }

    /// Of a picture decoded from a grid that the caller gave: a reconstruction.
    pub fn decoded(model: &str) -> Self {
        Self { model: model.to_owned(), ..Self::default() }
    }

    /// Name and value of everything known, in a fixed order.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("Model", self.model.clone())];
        fields.extend(self.impression_digest.clone().map(|digest| ("ImpressionDigest", digest)));
        fields.extend(self.seed.map(|seed| ("Seed", seed.to_string())));
        fields.extend(self.sample.map(|sample| ("Sample", sample.to_string())));
        fields
    }

    /// All of it in one line.
    pub(super) fn line(&self) -> String {
        let fields: Vec<String> = self.fields().iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{NOTICE}; RayGen; {}", fields.join("; "))
    }
}

/// First 16 hexadecimal digits of a text's SHA-256.
pub fn impression_digest(impression: &str) -> String {
    Sha256::digest(impression.as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_start_of_the_texts_sha_256() {
        assert_eq!(impression_digest("abc"), "ba7816bf8f01cfea");
    }

    #[test]
    fn the_impression_itself_is_nowhere() {
        let line = Provenance::generated("models/a/versions/1", "John Smith has pneumonia", 7, 2).line();
        assert!(!line.contains("Smith") && line.contains("Seed=7") && line.contains(NOTICE), "{line}");
    }
}
