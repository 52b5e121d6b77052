//! Ranks on GPUs of one machine: gradients are added up by NCCL, everything else by the host.
//!
//! NCCL has no way out for a rank that waits in a sum for one that does not come. So the threads meet on the host before each
//! sum, where one that is gone releases the others, and once more after it was put to the stream. A rank that was refused by
//! then is named, and the others drop their communicators, which ends what they have on the stream. What this cannot release is
//! a GPU that dies in the middle of a sum.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, ReduceOp, result::NcclError};
use candle_core::{CpuStorage, CudaStorage, DType, Device, InplaceOp1, Layout, Result as Done, Tensor};

use super::Gradients;
use super::reduce::{RankError, Reduce, Word};
use super::threads::Threads;

/// Values that are summed at once, 32 MiB: large enough for the link between GPUs, and small beside the gradients.
const BUCKET: usize = 8 << 20;

/// The rank of one GPU.
pub struct Nccl {
    threads: Threads,
    /// Gone after a failed sum.
    comm: RefCell<Option<Comm>>,
}

// === impl Nccl ===

impl Nccl {
    /// Joins the other ranks with the GPU of `device`, on the thread that will compute. Returns when all have joined.
    ///
    /// # Errors
    /// Where `device` is no GPU, NCCL refuses, or another rank is gone.
    pub fn join(threads: Threads, device: &Device) -> Result<Self, RankError> {
        let rank = threads.rank();
        let Device::Cuda(cuda) = device else {
            let error = candle_core::Error::Msg("NCCL is for GPUs, and this rank has none".to_owned());
            return Err(RankError::Tensor { rank, error });
        };
        let stream = cuda.cuda_stream();
        let device = stream.context().ordinal();
        let refused = |doing| move |reason: String| RankError::Nccl { rank, device, doing, reason };
        stream
            .context()
            .bind_to_thread()
            .map_err(|error| refused("taking the GPU to its thread")(format!("{error:?}")))?;
        let host: &dyn Reduce = &threads;
        let id = host.once(|| Id::new().map_err(|error| refused("making an id for all ranks")(reason(&error))))?;
        let comm = Comm::from_rank(stream, rank, threads.ranks(), id)
            .map_err(|error| refused("joining the other ranks")(reason(&error)))?;
        // Only when all are in: one that was refused is named by this.
        host.gather(vec![()])?;
        Ok(Self { threads, comm: RefCell::new(Some(comm)) })
    }

    fn tensor(&self, error: candle_core::Error) -> RankError {
        RankError::Tensor { rank: self.threads.rank(), error }
    }

    /// The sum over ranks of tensors that lie one after another in one of f32.
    fn sum(&self, names: &[(String, Tensor)]) -> Done<Vec<(String, Tensor)>> {
        let flat: Vec<Tensor> =
            names.iter().map(|(_, tensor)| tensor.to_dtype(DType::F32)?.flatten_all()).collect::<Done<_>>()?;
        // A copy also where there is one alone: it is overwritten.
        let whole = Tensor::cat(&flat, 0)?.copy()?;
        drop(flat);
        match self.comm.borrow().as_ref() {
            Some(comm) => whole.inplace_op1(&AllReduce(comm))?,
            None => candle_core::bail!("NCCL was given up after an earlier failure"),
        }
        let mut first = 0;
        let mut sums = Vec::with_capacity(names.len());
        for (name, tensor) in names {
            let count = tensor.elem_count();
            sums.push((name.clone(), whole.narrow(0, first, count)?.reshape(tensor.shape())?));
            first += count;
        }
        Ok(sums)
    }
}

impl Reduce for Nccl {
    fn rank(&self) -> usize {
        self.threads.rank()
    }

    fn ranks(&self) -> usize {
        self.threads.ranks()
    }

    fn exchange(&self, own: Word) -> Result<Vec<Word>, RankError> {
        self.threads.exchange(own)
    }

    fn sum_gradients(&self, gradients: Gradients) -> Result<Gradients, RankError> {
        self.threads.agree_on(&gradients)?;
        let mut sums = Vec::new();
        let mut failed = None;
        for bucket in buckets(gradients) {
            match self.sum(&bucket) {
                Ok(bucket) => sums.extend(bucket),
                Err(error) => {
                    failed = Some(self.tensor(error));
                    break;
                }
            }
        }
        let said = failed.as_ref().map(ToString::to_string);
        let all = self.threads.exchange(Arc::new(said));
        let refused = all.map(|words| {
            let of = |word: &Word| word.downcast_ref::<Option<String>>().cloned().flatten();
            words.iter().enumerate().find_map(|(rank, word)| of(word).map(|why| RankError::Ended { rank, why }))
        });
        match (failed, refused) {
            (None, Ok(None)) => Ok(sums.into_iter().collect()),
            (own, other) => {
                // Aborts what waits on the stream for a rank that will not come.
                drop(self.comm.take());
                let other = match other {
                    Ok(other) => other,
                    Err(gone) => Some(gone),
                };
                let never = || RankError::OutOfStep { rank: self.rank(), with: self.rank() };
                Err(own.or(other).unwrap_or_else(never))
            }
        }
    }
}

/// Gradients in the order of their names, about [`BUCKET`] values at a time.
fn buckets(gradients: Gradients) -> Vec<Vec<(String, Tensor)>> {
    let mut buckets: Vec<Vec<(String, Tensor)>> = Vec::new();
    let mut room = 0;
    for (name, tensor) in gradients {
        let count = tensor.elem_count();
        if count > room || buckets.is_empty() {
            buckets.push(Vec::new());
            room = BUCKET.max(count);
        }
        room -= count;
        if let Some(bucket) = buckets.last_mut() {
            bucket.push((name, tensor));
        }
    }
    buckets
}

/// Puts the sum over all ranks in the place of a tensor's own values.
struct AllReduce<'a>(&'a Comm);

impl InplaceOp1 for AllReduce<'_> {
    fn name(&self) -> &'static str {
        "all-reduce"
    }

    fn cpu_fwd(&self, _storage: &mut CpuStorage, _layout: &Layout) -> Done<()> {
        candle_core::bail!("NCCL sums tensors on GPUs only")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Done<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("NCCL sums contiguous tensors only")
        };
        let values = storage.as_cuda_slice_mut::<f32>()?;
        let mut values = values.slice_mut(start..end);
        match self.0.all_reduce_in_place(&mut values, &ReduceOp::Sum) {
            Ok(_) => Ok(()),
            Err(error) => candle_core::bail!("NCCL's all-reduce: {}", reason(&error)),
        }
    }
}

/// What NCCL says: its own `Debug` leaves that out.
fn reason(error: &NcclError) -> String {
    format!("{:?}", error.0)
}
