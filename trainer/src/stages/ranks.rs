//! The ranks of a run: a thread for each device, in one process. So no process has to be started and watched, the lock of the run
//! directory stays with one process, films and tokens lie in memory once, and a rank that fails tells the others why.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use candle_core::{Device, DeviceLocation};

use crate::optim::{Alone, Meeting, Reduce, Threads};

/// Bytes of a rank's stack: as much as a main thread has. A backward pass goes through its graph by recursion.
const STACK: usize = 8 << 20;

/// What rank 0 makes of `work`, which every rank does on its device; with one device it is done here and now.
///
/// # Errors
/// Where the devices cannot work together; what ended the first rank that failed, which is named.
pub(super) fn on_each<T: Send>(
    devices: &[Device],
    work: impl Fn(&Device, &dyn Reduce) -> Result<T> + Sync,
) -> Result<T> {
    if let [device] = devices {
        return work(device, &Alone);
    }
    check(devices)?;
    let ranks = devices.len();
    let meeting = Arc::new(Meeting::new(ranks));
    let run = |rank: usize| -> Result<T> {
        let one = || {
            let threads = Threads::new(rank, Arc::clone(&meeting));
            work_with(&threads, &devices[rank], &work)
        };
        let result = panic::catch_unwind(AssertUnwindSafe(one))
            .unwrap_or_else(|panic| Err(anyhow!("it panicked: {}", message(panic.as_ref()))));
        match &result {
            Ok(_) => meeting.leave(rank, "it is done, and the others are not"),
            Err(error) => meeting.leave(rank, &format!("{error:#}")),
        }
        result
    };
    let mut results: Vec<Result<T>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks)
            .map(|rank| {
                let run = &run;
                let builder = thread::Builder::new().name(format!("rank {rank}")).stack_size(STACK);
                builder.spawn_scoped(scope, move || run(rank)).inspect_err(|error| {
                    meeting.leave(rank, &format!("the system gives no thread: {error}"));
                })
            })
            .collect();
        let ended = |thread: std::io::Result<thread::ScopedJoinHandle<'_, Result<T>>>| {
            thread?.join().map_err(|_| anyhow!("its thread panicked"))?
        };
        threads.into_iter().map(ended).collect()
    });
    if results.iter().any(Result::is_err) {
        // The others fail because of the first.
        let first = meeting.first_gone().filter(|rank| results[*rank].is_err());
        let first = first.or_else(|| results.iter().position(Result::is_err)).unwrap_or(0);
        return results.swap_remove(first).with_context(|| format!("rank {first} of {ranks}"));
    }
    results.swap_remove(0)
}

/// `work` on one of several ranks.
fn work_with<T>(threads: &Threads, device: &Device, work: &impl Fn(&Device, &dyn Reduce) -> Result<T>) -> Result<T> {
    #[cfg(feature = "nccl")]
    if device.is_cuda() {
        return work(device, &crate::optim::Nccl::join(threads.clone(), device)?);
    }
    work(device, threads)
}

/// Several devices must be of one kind, and each GPU is one rank.
fn check(devices: &[Device]) -> Result<()> {
    let kinds: BTreeSet<&str> = devices.iter().map(|device| if device.is_cpu() { "cpu" } else { "cuda" }).collect();
    if kinds.len() != 1 {
        bail!(
            "--devices: give GPUs or CPUs, and not both: the ranks of a run are of one kind; {} are given",
            devices.len()
        );
    }
    let mut seen = BTreeSet::new();
    for device in devices {
        match device.location() {
            DeviceLocation::Cpu => {}
            DeviceLocation::Cuda { gpu_id } if cfg!(feature = "nccl") => {
                if !seen.insert(gpu_id) {
                    bail!("--devices: cuda:{gpu_id} is given twice; a GPU is one rank");
                }
            }
            _ => bail!("--devices: several GPUs need a build with the feature `nccl`"),
        }
    }
    Ok(())
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    /// Three ranks that meet again and again; `fails` is asked before each meeting.
    fn meet(fails: impl Fn(usize, u64) -> Result<()> + Sync) -> Result<f64> {
        on_each(&[Device::Cpu, Device::Cpu, Device::Cpu], |_, ranks| {
            let mut sum = 0.0;
            for turn in 0..50u64 {
                fails(ranks.rank(), turn)?;
                sum += ranks.sum_numbers(vec![1.0])?.first().copied().unwrap_or(0.0);
            }
            Ok(sum)
        })
    }

    #[test]
    fn ranks_work_together_and_one_alone_needs_no_thread() {
        assert_eq!(meet(|_, _| Ok(())).unwrap(), 150.0);
        let here = thread::current().id();
        on_each(&[Device::Cpu], |_, ranks| {
            assert_eq!((ranks.ranks(), thread::current().id()), (1, here));
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_rank_that_fails_or_panics_ends_all_and_is_named_with_its_reason() {
        for rank in 0..3 {
            let failed = meet(|of, turn| if (of, turn) == (rank, 17) { bail!("no disk") } else { Ok(()) });
            assert_eq!(format!("{:#}", failed.unwrap_err()), format!("rank {rank} of 3: no disk"));
            let panicked = meet(|of, turn| if (of, turn) == (rank, 3) { panic!("a fault of a test") } else { Ok(()) });
            let error = format!("{:#}", panicked.unwrap_err());
            assert_eq!(error, format!("rank {rank} of 3: it panicked: a fault of a test"));
        }
    }

    #[test]
    fn a_rank_that_ends_early_does_not_leave_the_others_waiting() {
        let result = on_each(&[Device::Cpu, Device::Cpu], |_, ranks| match ranks.rank() {
            0 => Ok(vec![]),
            _ => Ok(ranks.sum_numbers(vec![1.0])?),
        });
        assert!(format!("{:#}", result.unwrap_err()).contains("rank 0 ended: it is done"));
    }
}
