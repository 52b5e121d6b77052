//! However the films of a step are cut, over batches or over ranks, the update is the same; in bf16 it is nearly the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::batch::Batches;
use super::{Shapes, Starts, Training, text};
use crate::config::RunConfig;
use crate::data::FilmSet;
use crate::optim::{Alone, Meeting, Reduce, Threads};
use crate::run::{RunDirectory, StopSignal};
use crate::stages::roll_back_tests::film as striped_film;
use crate::stages::tokenizer::trial::untrained;
use crate::stages::{Stage, encode};

const CONFIG: &str = r#"
name = "tiny"
seed = 3
[data]
manifest = "manifest.csv"
image_size = 16
[tokenizer]
steps = 1
batch = 2
optimiser = { learning_rate = 1e-3 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 16, norm_groups = 4 }
[encode]
views = 2
shift = 1
[transformer]
steps = 10
batch = 16
# here
optimiser = { learning_rate = 2e-3, warm_up_steps = 0, final_ratio = 1.0, ema_decay = 0.9 }
model = { width = 16, layers = 2, heads = 2, feed_forward = 16, token_merge = 2, local_blocks = 1 }
text = { width = 8, layers = 1, heads = 2, max_tokens = 8 }
"#;

/// What came of some steps.
#[derive(Debug)]
struct Outcome {
    losses: Vec<f64>,
    /// The first moments: with no step before, the gradient times a constant.
    moments: BTreeMap<String, Vec<f32>>,
    weights: BTreeMap<String, Vec<f32>>,
    /// Films and epochs of the last step.
    places: Vec<(u64, u64)>,
}

/// `steps` steps of a run whose configuration says `keys` besides.
fn run(folder: &Path, keys: &str, steps: u64, reduce: &dyn Reduce) -> Outcome {
    let path = folder.join(format!("run-{}.toml", reduce.rank()));
    fs::write(&path, CONFIG.replace("batch = 16\n# here", keys)).unwrap();
    let config = RunConfig::read(&path).unwrap();
    let directory = RunDirectory::open(&folder.join(format!("out-{}", reduce.rank()))).unwrap();
    let (stop, device) = (StopSignal::default(), Device::Cpu);
    let source = config.film_source(&directory.stage("films")).unwrap();
    let films = FilmSet::open(&source, &stop).unwrap().unwrap();
    let stage = Stage {
        config: &config,
        films: &films,
        directory: &directory,
        device: &device,
        stop: &stop,
        reduce,
        fault: None,
    };
    let tokenizer = untrained(&config, &device).unwrap();
    let tokens = encode::tokens(&stage, &tokenizer).unwrap().unwrap();
    let words = ["no", "finding", "stripes"].map(str::to_owned);
    let (_, text) = text::reading(&config, &words, None, false).unwrap();
    let shapes = Shapes::new(&config, &tokenizer.config, text.vocabulary_size());
    let mut batches = Batches::new(&stage, &tokens, &text, &shapes).unwrap();
    let mut training = Training::new(&config, &shapes, &tokenizer, &Starts::default(), &device).unwrap();
    let mut outcome =
        Outcome { losses: Vec::new(), moments: BTreeMap::new(), weights: BTreeMap::new(), places: Vec::new() };
    for step in 0..steps {
        let films = batches.train(step).unwrap();
        outcome.places = films.iter().flat_map(|batch| batch.places.clone()).collect();
        outcome.losses.push(training.step(&config, &films, reduce, step, 2e-3).unwrap().0);
    }
    let values = |tensor: &Tensor| {
        assert_eq!(tensor.dtype(), DType::F32, "weights and moments are f32 whatever is computed in");
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    outcome.moments = training.optimiser.state().1.iter().map(|(name, of)| (name.clone(), values(of))).collect();
    let variables = training.networks.variables().into_iter();
    outcome.weights = variables.map(|(name, var)| (name, values(var.as_tensor()))).collect();
    outcome
}

/// Twenty films to learn from, more than a step has, and two to validate on.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = "path,split,patient,impression\n".to_owned();
    for film in 0..22u32 {
        let name = striped_film(folder.path(), film);
        let (split, impression) =
            (if film < 20 { "train" } else { "val" }, ["Stripes.", "No finding."][film as usize % 2]);
        manifest.push_str(&format!("{name},{split},p{film},{impression}\n"));
    }
    fs::write(folder.path().join("manifest.csv"), manifest).unwrap();
    folder
}

/// Largest difference of two sets of tensors, as a share of the largest value.
fn apart(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f32 {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let pairs = || a.values().flatten().zip(b.values().flatten());
    pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / pairs().map(|(a, _)| a.abs()).fold(0.0, f32::max)
}

#[test]
fn two_batches_of_8_do_what_one_of_16_does() {
    let folder = folder();
    let whole = run(folder.path(), "batch = 16", 1, &Alone);
    for keys in ["batch = 8\naccumulate = 2", "batch = 5\naccumulate = 2", "batch = 2\naccumulate = 8"] {
        let cut = run(folder.path(), keys, 1, &Alone);
        if keys.contains("batch = 5") {
            assert!(apart(&whole.moments, &cut.moments) > 0.01, "other films make another step: the test can tell");
            continue;
        }
        assert_eq!(whole.places, cut.places);
        assert!((whole.losses[0] - cut.losses[0]).abs() < 1e-6, "{:?} {:?}", whole.losses, cut.losses);
        assert!(apart(&whole.moments, &cut.moments) < 1e-5, "{keys}: {}", apart(&whole.moments, &cut.moments));
    }
}

#[test]
fn two_ranks_of_8_films_do_what_one_of_16_does_and_end_with_the_same_bits() {
    let folder = folder();
    let meeting = Arc::new(Meeting::new(2));
    let ranks: Vec<Outcome> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|rank| {
                let (folder, ranks) = (folder.path(), Threads::new(rank, Arc::clone(&meeting)));
                scope.spawn(move || run(folder, "batch = 8", 3, &ranks))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ranks[0].weights, ranks[1].weights);
    assert_eq!((&ranks[0].moments, &ranks[0].losses), (&ranks[1].moments, &ranks[1].losses));
    // The same films in the same batches: accumulated on one rank they give the same bits, and taken at once nearly so.
    let accumulated = run(folder.path(), "batch = 8\naccumulate = 2", 3, &Alone);
    assert_eq!([&ranks[0].places[..], &ranks[1].places[..]].concat(), accumulated.places);
    assert_eq!((&ranks[0].weights, &ranks[0].losses), (&accumulated.weights, &accumulated.losses));
    let whole = run(folder.path(), "batch = 16", 3, &Alone);
    assert!(apart(&whole.weights, &ranks[0].weights) < 1e-3, "{}", apart(&whole.weights, &ranks[0].weights));
}

#[test]
fn in_bf16_the_gradient_is_that_of_f32_up_to_its_rounding() {
    let folder = folder();
    let full = run(folder.path(), "batch = 16", 1, &Alone);
    let half = run(folder.path(), "batch = 16\ndtype = \"bf16\"", 1, &Alone);
    assert!((full.losses[0] - half.losses[0]).abs() < 0.01 * full.losses[0], "{:?} {:?}", full.losses, half.losses);
    let (mut dot, mut squares) = (0.0, (0.0, 0.0));
    for (a, b) in full.moments.values().flatten().zip(half.moments.values().flatten()) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        dot += a * b;
        squares = (squares.0 + a * a, squares.1 + b * b);
    }
    let (cosine, length) = (dot / (squares.0 * squares.1).sqrt(), (squares.1 / squares.0).sqrt());
    assert!(cosine > 0.999 && (length - 1.0).abs() < 0.01, "cosine {cosine}, length {length}");
    assert!(apart(&full.moments, &half.moments) > 1e-6, "it was not computed in bf16 at all");
}

#[test]
fn in_bf16_the_weights_move_every_step_and_the_loss_falls_as_in_f32() {
    let folder = folder();
    let full = run(folder.path(), "batch = 16", 12, &Alone);
    let half = run(folder.path(), "batch = 16\ndtype = \"bf16\"", 12, &Alone);
    let last = |outcome: &Outcome| outcome.losses[11];
    assert!(last(&full) < 0.99 * full.losses[0], "{:?}", full.losses);
    // Were the copies not made anew, the loss would stay where it was.
    assert!((last(&full) - last(&half)).abs() < 0.01 * last(&full), "{:?} {:?}", full.losses, half.losses);
}
