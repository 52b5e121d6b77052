//! The metrics at the sizes that people run them at: `cargo bench -p raygen-eval`.

#![expect(clippy::expect_used, reason = "the inputs are made here")]

use divan::Bencher;
use raygen_eval::distribution::{frechet_distance, kernel_distance, neighbour_shares};
use raygen_eval::memorisation::{Thumbnails, nearest_pixels, nearest_tokens};
use raygen_eval::set_similarity::MsSsimProtocol;
use raygen_eval::{Extractor, Features, GrayImage};
use rayon::prelude::*;

/// Features of a DenseNet-121 for as many films as the paper's.
const SAMPLES: usize = 2500;
const DIMENSIONS: usize = 1024;
/// A batch of pairs of the paper's size.
const PAIRS: usize = 20;
const SIDE: usize = 512;

fn main() {
    divan::main();
}

/// Numbers that look random, in 0..1.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| next()).collect()
}

fn features(seed: u64) -> Features {
    let extractor = Extractor { name: "bench".to_owned(), preprocessing: "none".to_owned() };
    Features::new(extractor, DIMENSIONS, noise(seed, SAMPLES * DIMENSIONS)).expect("a matrix")
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn frechet_2500_x_1024(bencher: Bencher<'_, '_>) {
    let (first, second) = (features(1), features(2));
    bencher.bench_local(|| frechet_distance(&first, &second));
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn kernel_2500_x_1024(bencher: Bencher<'_, '_>) {
    let (first, second) = (features(1), features(2));
    bencher.bench_local(|| kernel_distance(&first, &second));
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn neighbours_2500_x_1024(bencher: Bencher<'_, '_>) {
    let (first, second) = (features(1), features(2));
    bencher.bench_local(|| neighbour_shares(&first, &second, 5));
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn ms_ssim_20_pairs_512(bencher: Bencher<'_, '_>) {
    let pictures: Vec<Vec<f32>> = (0..2 * PAIRS as u64).map(|seed| noise(seed, SIDE * SIDE)).collect();
    bencher.bench_local(|| {
        let of_pair = |pair: &[Vec<f32>]| {
            let pair = [GrayImage::new(SIDE, SIDE, &pair[0])?, GrayImage::new(SIDE, SIDE, &pair[1])?];
            MsSsimProtocol::Published.of_prompt(&pair)
        };
        pictures.par_chunks(2).map(of_pair).collect::<Result<Vec<f64>, _>>()
    });
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn nearest_pixels_100_in_5000(bencher: Bencher<'_, '_>) {
    let of = |seed: u64, count: u64| {
        let mut thumbnails = Thumbnails::default();
        for film in 0..count {
            let pixels = noise(seed + film, 64 * 64);
            thumbnails.push(&GrayImage::new(64, 64, &pixels).expect("a picture"));
        }
        thumbnails
    };
    let (films, training) = (of(1, 100), of(1000, 5000));
    bencher.bench_local(|| nearest_pixels(&films, &training, |_, _| true));
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn nearest_tokens_100_in_5000(bencher: Bencher<'_, '_>) {
    let of = |seed: u64, count: usize| -> Vec<u32> {
        noise(seed, count * 1024).into_iter().map(|number| (number * 1024.0) as u32).collect()
    };
    let (grids, training) = (of(1, 100), of(2, 5000));
    bencher.bench_local(|| nearest_tokens(&grids, &training, 1024, |_, _| true));
}
