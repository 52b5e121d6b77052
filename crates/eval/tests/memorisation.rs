//! Copies of training films are caught as memorised; fresh real films are not. On the NIH films of this repository.

use std::collections::HashSet;
use std::path::PathBuf;

use raygen_eval::GrayImage;
use raygen_eval::memorisation::{Criteria, Memorisation, Nearest, Suspect, Thumbnails, Verdict, judge, nearest_pixels};

type TestResult = Result<(), Box<dyn std::error::Error>>;

const SIDE: usize = 256;

struct Film {
    patient: String,
    pixels: Vec<f32>,
}

/// The films of a split, at most `count` of them.
fn films(split: &str, count: usize) -> Result<Vec<Film>, Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/nih-256");
    let mut table = csv::Reader::from_path(folder.join("manifest.csv"))?;
    let headers = table.headers()?.clone();
    let column =
        |name: &str| headers.iter().position(|header| header == name).ok_or_else(|| format!("no column {name}"));
    let (path, of_split, patient) = (column("path")?, column("split")?, column("patient")?);
    let mut films = Vec::new();
    for row in table.records() {
        let row = row?;
        if &row[of_split] == split && films.len() < count {
            let picture = image::open(folder.join(&row[path]))?.into_luma8();
            assert_eq!((picture.width() as usize, picture.height() as usize), (SIDE, SIDE));
            let pixels = picture.into_raw().into_iter().map(|gray| f32::from(gray) / 255.0).collect();
            films.push(Film { patient: row[patient].to_owned(), pixels });
        }
    }
    Ok(films)
}

fn thumbnails<'a>(films: impl IntoIterator<Item = &'a [f32]>) -> Result<Thumbnails, Box<dyn std::error::Error>> {
    let mut thumbnails = Thumbnails::default();
    for pixels in films {
        thumbnails.push(&GrayImage::new(SIDE, SIDE, pixels)?);
    }
    Ok(thumbnails)
}

/// A copy with noise of about 0.03, darker and moved by (2, 1) pixels.
fn spoiled(film: &[f32], seed: usize) -> Vec<f32> {
    let pixel = |place: usize| {
        let (x, y) = ((place % SIDE + 2).min(SIDE - 1), (place / SIDE + 1).min(SIDE - 1));
        let noise = ((place + seed) * 7919 % 1009) as f32 / 1009.0 - 0.5;
        (0.8 * film[y * SIDE + x] + 0.1 * noise).clamp(0.0, 1.0)
    };
    (0..SIDE * SIDE).map(pixel).collect()
}

/// Makes a copy of a film; the number varies the noise.
type Copier = fn(&[f32], usize) -> Vec<f32>;

struct Setting {
    training: Vec<Film>,
    small: Thumbnails,
    held_out: Vec<Nearest>,
    fresh: Vec<Film>,
}

fn setting() -> Result<Setting, Box<dyn std::error::Error>> {
    let (training, val) = (films("train", usize::MAX)?, films("val", usize::MAX)?);
    let small = thumbnails(training.iter().map(|film| &film.pixels[..]))?;
    // Films of every other patient judge, those of the rest are fresh.
    let mut patients: Vec<&String> = val.iter().map(|film| &film.patient).collect();
    patients.dedup();
    let judges: HashSet<String> = patients.into_iter().step_by(2).cloned().collect();
    let (judging, fresh): (Vec<Film>, Vec<Film>) = val.into_iter().partition(|film| judges.contains(&film.patient));
    let queries = thumbnails(judging.iter().map(|film| &film.pixels[..]))?;
    let other_patient = |film: usize, other: usize| judging[film].patient != training[other].patient;
    let held_out = nearest_pixels(&queries, &small, other_patient)?;
    Ok(Setting { training, small, held_out, fresh })
}

fn judged(setting: &Setting, generated: &[Vec<f32>]) -> Result<Memorisation, Box<dyn std::error::Error>> {
    let queries = thumbnails(generated.iter().map(|pixels| &pixels[..]))?;
    let nearest = nearest_pixels(&queries, &setting.small, |_, _| true)?;
    Ok(judge(&nearest, &setting.held_out, &Criteria::default())?)
}

#[test]
fn copies_of_training_films_are_caught_and_fresh_real_films_are_not() -> TestResult {
    let setting = setting()?;
    assert!(setting.held_out.len() > 30 && setting.fresh.len() > 30);
    let fresh: Vec<Vec<f32>> = setting.fresh.iter().map(|film| film.pixels.clone()).collect();
    let found = judged(&setting, &fresh)?;
    assert_eq!((found.verdict, found.copies), (Verdict::NotFound, 0));

    // Exact copies, and copies with noise, darker and moved.
    let copied = [3, 200, 555];
    let copies: [Copier; 2] = [|film, _| film.to_vec(), spoiled];
    for copy in copies {
        let mut mixed = fresh.clone();
        for (place, training) in copied.into_iter().enumerate() {
            mixed[5 * place] = copy(&setting.training[training].pixels, training);
        }
        let found = judged(&setting, &mixed)?;
        assert_eq!((found.verdict, found.copies), (Verdict::Copies, 3));
        let mut caught: Vec<(usize, usize)> = found
            .suspects
            .iter()
            .filter(|suspect| suspect.copy)
            .map(|suspect| (suspect.generated, suspect.training))
            .collect();
        caught.sort_unstable();
        assert_eq!(caught, [(0, 3), (5, 200), (10, 555)]);
    }
    Ok(())
}

#[test]
fn hardly_any_spoiled_copy_escapes() -> TestResult {
    let setting = setting()?;
    let places: Vec<usize> = (0..setting.training.len()).step_by(16).collect();
    let copies: Vec<Vec<f32>> = places.iter().map(|place| spoiled(&setting.training[*place].pixels, *place)).collect();
    let found = judged(&setting, &copies)?;
    // Some patients' films are stored twice.
    let patient = |film: usize| &setting.training[film].patient;
    let right = |suspect: &&Suspect| suspect.copy && patient(suspect.training) == patient(places[suspect.generated]);
    let right = found.suspects.iter().filter(right).count();
    assert!(right * 100 >= copies.len() * 95, "{right} of {}: {:?}", copies.len(), found.suspects.last());
    assert!(found.p_value < 1e-6, "{}", found.p_value);
    Ok(())
}
