//! Sums over ranks, one on each device: by NCCL on GPUs, by the host on CPUs. Each is held to the sum in f64.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use candle_core::{Device, Tensor};
use raygen_trainer::optim::{Gradients, Meeting, Reduce, Threads};
use serde_json::json;

/// Sizes of the tensors: single numbers, odd ones, and one beyond what is summed at once.
const SIZES: [usize; 6] = [1, 3, 1000, 65_537, 1 << 20, 9 << 20];
const TURNS: usize = 5;

/// Sums over the ranks on `devices`; how many figures are not as promised.
pub(super) fn prove(devices: &[Device]) -> Result<usize> {
    let meeting = Arc::new(Meeting::new(devices.len()));
    let ranks: Vec<Result<(f64, f64, Vec<u32>)>> = thread::scope(|scope| {
        let threads: Vec<_> = devices
            .iter()
            .enumerate()
            .map(|(rank, device)| {
                let threads = Threads::new(rank, Arc::clone(&meeting));
                let meeting = Arc::clone(&meeting);
                scope.spawn(move || {
                    let result = on_rank(&threads, device);
                    let why = result.as_ref().err().map_or("it is done".to_owned(), |error| format!("{error:#}"));
                    meeting.leave(rank, &why);
                    result
                })
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<_>>| thread.join().map_err(|_| anyhow!("a panic"))?;
        threads.into_iter().map(join).collect()
    });
    let ranks = ranks.into_iter().collect::<Result<Vec<_>>>()?;
    let worst = ranks.iter().map(|(worst, ..)| *worst).fold(0.0, f64::max);
    let seconds = ranks.iter().map(|(_, seconds, _)| *seconds).fold(0.0, f64::max);
    let same = ranks.iter().all(|(.., bits)| *bits == ranks[0].2);
    let passed = [worst < 1e-6, same];
    let bytes = SIZES.iter().sum::<usize>() * 4;
    println!(
        "{}",
        json!({ "figure": "sum_against_f64", "ranks": ranks.len(), "difference": worst, "passed": passed[0] })
    );
    println!("{}", json!({ "figure": "same_bits_on_all_ranks", "ranks": ranks.len(), "passed": passed[1] }));
    println!("{}", json!({ "figure": "seconds_a_sum", "bytes": bytes, "seconds": seconds, "passed": null }));
    Ok(passed.iter().filter(|passed| !**passed).count())
}

/// The largest error as a share of the largest value, seconds a sum, and the bits of some values of every tensor.
fn on_rank(threads: &Threads, device: &Device) -> Result<(f64, f64, Vec<u32>)> {
    #[cfg(feature = "nccl")]
    if device.is_cuda() {
        return sums(&raygen_trainer::optim::Nccl::join(threads.clone(), device)?, device);
    }
    anyhow::ensure!(device.is_cpu(), "GPUs need a build with the feature `nccl`");
    sums(threads, device)
}

fn sums(ranks: &dyn Reduce, device: &Device) -> Result<(f64, f64, Vec<u32>)> {
    let value = |rank: usize, size: usize, place: usize| ((place * 7 + size * 3 + rank * 11) as f32 * 0.37).sin();
    let own = || -> Result<Gradients> {
        let tensor = |size: usize| -> Result<(String, Tensor)> {
            let values: Vec<f32> = (0..size).map(|place| value(ranks.rank(), size, place)).collect();
            Ok((format!("tensor-{size:09}"), Tensor::from_vec(values, size, device)?))
        };
        SIZES.into_iter().map(tensor).collect()
    };
    let (mut seconds, mut worst, mut bits) = (f64::MAX, 0.0f64, Vec::new());
    for _ in 0..TURNS {
        let own = own()?;
        device.synchronize()?;
        // All at once, so that none is timed that waits for one that is late.
        ranks.gather(vec![()])?;
        let begun = Instant::now();
        let sum = ranks.sum_gradients(own)?;
        device.synchronize()?;
        seconds = seconds.min(begun.elapsed().as_secs_f64());
        bits.clear();
        for size in SIZES {
            let found = sum.get(&format!("tensor-{size:09}")).context("a sum")?.to_vec1::<f32>()?;
            for (place, found) in found.iter().enumerate().step_by(size.div_ceil(997)) {
                let expected: f64 = (0..ranks.ranks()).map(|rank| f64::from(value(rank, size, place))).sum();
                worst = worst.max((f64::from(*found) - expected).abs() / ranks.ranks() as f64);
                bits.push(found.to_bits());
            }
        }
    }
    Ok((worst, seconds, bits))
}
