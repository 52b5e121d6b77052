//! The models that the server has, by name: those that serve, and those that could not be loaded and why.

mod device;
mod load;
mod real;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use device::{DeviceChoice, DtypeChoice, Placement};
pub use load::{LoadError, load};

use crate::api::ApiError;
use crate::engine::LoadedModel;

/// The models of a server.
#[derive(Debug, Default)]
pub struct Repository {
    listings: BTreeMap<String, Listing>,
    default_model: Option<String>,
}

/// A model version, ready or not.
#[derive(Debug)]
pub struct Listing {
    /// `models/{model}/versions/{version}`.
    pub name: String,
    /// How it is.
    pub standing: Standing,
}

/// How a model is.
#[derive(Debug)]
pub enum Standing {
    /// It serves.
    Ready(Arc<LoadedModel>),
    /// It could not be loaded; the reason names the file and the tensor.
    Failed(String),
}

// === impl Repository ===

impl Repository {
    /// A repository of loaded models.
    pub fn of(models: impl IntoIterator<Item = LoadedModel>) -> Self {
        let mut repository = Self::default();
        for model in models {
            repository.insert(model.name.clone(), Standing::Ready(Arc::new(model)));
        }
        repository
    }

    /// The same, and a model that could not be loaded.
    #[must_use]
    pub fn with_failed(mut self, name: impl Into<String>, reason: impl Into<String>) -> Self {
        self.insert(name.into(), Standing::Failed(reason.into()));
        self
    }

    /// The same, with this default (`{model}` or `{model}/{version}` or a whole name).
    ///
    /// # Errors
    /// There is no such model, or it is not ready.
    pub fn with_default(mut self, name: &str) -> Result<Self, ApiError> {
        let name = if name.starts_with("models/") { name.to_owned() } else { full_name(name) };
        self.default_model = Some(self.resolve(&name)?.name.clone());
        Ok(self)
    }

    fn insert(&mut self, name: String, standing: Standing) {
        self.listings.insert(name.clone(), Listing { name, standing });
    }

    /// All models in the order of their names.
    pub fn listings(&self) -> impl Iterator<Item = &Listing> {
        self.listings.values()
    }

    /// A model version by its whole name.
    pub fn listing(&self, name: &str) -> Option<&Listing> {
        self.listings.get(name)
    }

    /// Models that serve.
    pub fn ready(&self) -> impl Iterator<Item = &Arc<LoadedModel>> {
        self.listings.values().filter_map(|listing| match &listing.standing {
            Standing::Ready(model) => Some(model),
            Standing::Failed(_) => None,
        })
    }

    /// The model that a request means: a version, the newest ready version of a model, or, for "", the default.
    ///
    /// # Errors
    /// There is none, or it is not ready.
    pub fn resolve(&self, name: &str) -> Result<Arc<LoadedModel>, ApiError> {
        if name.is_empty() {
            return self.default_ready();
        }
        if let Some(listing) = self.listings.get(name) {
            return listing.ready();
        }
        let prefix = format!("{name}/versions/");
        let versions = || self.listings.values().filter(|listing| listing.name.starts_with(&prefix));
        let newest = |a: &&Listing, b: &&Listing| by_version(&a.name[prefix.len()..], &b.name[prefix.len()..]);
        let is_ready = |listing: &&Listing| matches!(listing.standing, Standing::Ready(_));
        match versions().filter(is_ready).max_by(newest).or_else(|| versions().max_by(newest)) {
            Some(listing) => listing.ready(),
            None => Err(ApiError::ModelNotFound {
                name: name.chars().take(100).collect(),
                available: self.ready().map(|model| model.name.clone()).collect(),
            }),
        }
    }

    /// The configured default; else the model named `default`; else the first.
    fn default_ready(&self) -> Result<Arc<LoadedModel>, ApiError> {
        if let Some(listing) = self.default_model.as_ref().and_then(|name| self.listings.get(name)) {
            return listing.ready();
        }
        if let Ok(model) = self.resolve("models/default") {
            return Ok(model);
        }
        let first = self.ready().next().and_then(|model| model.name.split("/versions/").next());
        match first {
            Some(model) => self.resolve(model),
            None => Err(ApiError::ModelNotFound { name: String::new(), available: Vec::new() }),
        }
    }
}

// === impl Listing ===

impl Listing {
    fn ready(&self) -> Result<Arc<LoadedModel>, ApiError> {
        match &self.standing {
            Standing::Ready(model) => Ok(Arc::clone(model)),
            Standing::Failed(reason) => {
                Err(ApiError::ModelNotReady { name: self.name.clone(), detail: reason.clone(), soon: false })
            }
        }
    }
}

/// `{model}` or `{model}/{version}` as a resource name.
fn full_name(short: &str) -> String {
    match short.split_once('/') {
        Some((model, version)) => format!("models/{model}/versions/{version}"),
        None => format!("models/{short}"),
    }
}

/// Numbers by their value ("10" after "9"), everything else after them, as text.
fn by_version(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::FakeModel;

    fn of(names: &[&str]) -> Repository {
        Repository::of(names.iter().map(|name| LoadedModel::new(*name, FakeModel::new())))
    }

    fn name(repository: &Repository, asked: &str) -> String {
        repository.resolve(asked).expect("resolved").name.clone()
    }

    #[test]
    fn a_model_without_a_version_is_its_newest_ready_one() {
        let repository =
            of(&["models/a/versions/9", "models/a/versions/10"]).with_failed("models/a/versions/11", "bad");
        assert_eq!(name(&repository, "models/a"), "models/a/versions/10");
        assert_eq!(name(&repository, "models/a/versions/9"), "models/a/versions/9");
        assert!(matches!(repository.resolve("models/a/versions/11"), Err(ApiError::ModelNotReady { .. })));
    }

    #[test]
    fn the_default_is_the_configured_one_then_the_one_named_so_then_the_first() {
        let names = ["models/b/versions/1", "models/default/versions/1", "models/z/versions/2"];
        assert_eq!(name(&of(&names), ""), "models/default/versions/1");
        assert_eq!(name(&of(&names[..1]), ""), "models/b/versions/1");
        let configured = of(&names).with_default("z").expect("known");
        assert_eq!(name(&configured, ""), "models/z/versions/2");
        assert!(of(&names).with_default("nope").is_err());
    }

    #[test]
    fn names_of_nobody_are_not_found() {
        let repository = of(&["models/a/versions/1"]);
        for asked in
            ["models/", "models/b", "../", "a", "models/a/versions/2", "models/\u{1f600}", "models/a/versions/"]
        {
            assert!(matches!(repository.resolve(asked), Err(ApiError::ModelNotFound { .. })), "{asked}");
        }
    }
}
