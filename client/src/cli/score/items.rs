//! The films to score: chosen from a manifest, read one after the other while the server works.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use raygen_client::wire::{self, Image, ScoreItem, score_item};
use raygen_manifest::{Film, Manifest, Split, View};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};

use super::SplitName;
use crate::cli::{failure::Failure, output::Output};

/// Films read ahead of the server.
const READ_AHEAD: usize = 4;

/// Films that have an impression and lie where the manifest says.
pub(super) struct Films {
    films: Vec<Film>,
}

/// Tells whether every film could be read.
pub(super) struct Reader {
    failure: Arc<Mutex<Option<String>>>,
}

impl Films {
    /// Chooses the films of a split, and checks that they are there.
    pub(super) fn select(data: &Path, split: SplitName, output: Output) -> Result<Self, Failure> {
        let usage = |error: raygen_manifest::ManifestError| Failure::Usage(error.to_string());
        let mut manifest = Manifest::read(data).map_err(usage)?;
        for notice in &manifest.notices {
            output.note(&format!("{}: {notice}", data.display()));
        }
        let wanted = match split {
            SplitName::Train => Some(Split::Train),
            SplitName::Val => Some(Split::Val),
            SplitName::Test => Some(Split::Test),
            SplitName::All => None,
        };
        if let Some(split) = wanted {
            manifest.films = manifest.split(split).cloned().collect();
        }
        let before = manifest.films.len();
        manifest.films.retain(|film| film.impression.is_some());
        let without = before - manifest.films.len();
        if without > 0 {
            output.note(&format!("{}: {without} films without an impression are left out", data.display()));
        }
        if manifest.films.is_empty() {
            let which = wanted.map_or_else(|| "film".to_owned(), |split| format!("film of the split \"{split}\""));
            let problem = format!(
                "{}: there is no {which} with an impression; choose another with --split, or --split all",
                data.display()
            );
            return Err(Failure::Usage(problem));
        }
        manifest.check_files().map_err(usage)?;
        Ok(Self { films: manifest.films })
    }

    pub(super) fn count(&self) -> usize {
        self.films.len()
    }

    /// Reads them in the background, a few ahead of whoever takes them.
    pub(super) fn read(self) -> (impl Stream<Item = ScoreItem> + Send + 'static, Reader) {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let failure = Arc::new(Mutex::new(None));
        let told = Arc::clone(&failure);
        tokio::task::spawn_blocking(move || {
            for film in self.films {
                match item(film) {
                    Ok(item) => {
                        if sender.blocking_send(item).is_err() {
                            return;
                        }
                    }
                    Err(problem) => {
                        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
                        return;
                    }
                }
            }
        });
        (ReceiverStream::new(receiver), Reader { failure })
    }
}

impl Reader {
    /// What kept a film from being read, if anything did.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn item(film: Film) -> Result<ScoreItem, String> {
    let data = fs::read(&film.path).map_err(|error| format!("{}: cannot be read: {error}", film.path.display()))?;
    Ok(ScoreItem {
        labels: film.labels.names(),
        view: view(film.view).into(),
        id: film.id,
        impression: film.impression.unwrap_or_default(),
        target: Some(score_item::Target::Image(Image { data, ..Image::default() })),
    })
}

fn view(view: Option<View>) -> wire::View {
    match view {
        None => wire::View::Unspecified,
        Some(View::AP) => wire::View::Ap,
        Some(View::PA) => wire::View::Pa,
        Some(View::Lateral) => wire::View::Lateral,
        Some(View::Frontal) => wire::View::Frontal,
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn folder(manifest: &str, films: &[&str]) -> std::io::Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("films.csv"), manifest)?;
        for film in films {
            fs::write(folder.path().join(film), film)?;
        }
        Ok(folder)
    }

    #[tokio::test]
    async fn the_films_of_a_split_with_an_impression_are_sent_in_order() -> TestResult {
        let manifest = "path,split,view,impression,labels\na,val,PA,Edema.,Edema\nb,train,,X.,\nc,val,,,\nd,val,,Clear.,No Finding\n";
        // Films that are not sent need not be there.
        let folder = folder(manifest, &["a", "d"])?;
        let films = Films::select(&folder.path().join("films.csv"), SplitName::Val, Output::new(true));
        let Ok(films) = films else { return Err("refused".into()) };
        assert_eq!(films.count(), 2);
        let (stream, reader) = films.read();
        let items: Vec<ScoreItem> = stream.collect().await;
        let sent: Vec<_> =
            items.iter().map(|item| (item.id.as_str(), item.impression.as_str(), item.labels.join(";"))).collect();
        assert_eq!(sent, [("a", "Edema.", "Edema".to_owned()), ("d", "Clear.", "No Finding".to_owned())]);
        assert_eq!((items[0].view(), items[1].view()), (wire::View::Pa, wire::View::Unspecified));
        assert_eq!(reader.failure(), None);
        Ok(())
    }

    #[test]
    fn nothing_to_score_is_a_usage_error_that_names_the_split() -> TestResult {
        let folder = folder("path,split,impression\na,train,Edema.\n", &["a"])?;
        let failure = Films::select(&folder.path().join("films.csv"), SplitName::Test, Output::new(true))
            .err()
            .ok_or("accepted")?;
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.message().contains("the split \"test\""), "{}", failure.message());
        Ok(())
    }

    #[test]
    fn a_manifest_without_splits_is_split_as_the_trainer_splits_it() -> TestResult {
        let names: Vec<String> = (0..40).map(|film| format!("{film}.png")).collect();
        let rows: String = names.iter().map(|name| format!("{name},Edema.\n")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let folder = folder(&format!("path,impression\n{rows}"), &names)?;
        let data = folder.path().join("films.csv");
        let select = |split| Films::select(&data, split, Output::new(true)).ok().map(|films| films.films);
        let (train, val) = (select(SplitName::Train).ok_or("no train")?, select(SplitName::Val).ok_or("no val")?);
        assert!((1..=10).contains(&val.len()) && train.len() + val.len() == 40, "{} and {}", train.len(), val.len());
        let manifest = Manifest::read(&data)?;
        assert!(val.iter().all(|film| manifest.split_of(film) == Split::Val));
        assert_eq!(select(SplitName::All).map(|films| films.len()), Some(40));
        Ok(())
    }
}
