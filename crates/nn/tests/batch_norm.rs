//! Batch statistics: what a batch is normalised by, and what running statistics make of it.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use common::Random;

#[test]
fn running_statistics_follow_the_mean_and_the_unbiased_variance() -> Result<()> {
    // Two items of one channel: 1, 3, 5 and 7, with mean 4, squared deviations 20: biased 5, unbiased 20 / 3.
    for dtype in [DType::F32, DType::F64] {
        let x = Tensor::new(&[[[1f32, 3.0]], [[5.0, 7.0]]], &Device::Cpu)?.to_dtype(dtype)?;
        let (one, zero) = (Tensor::ones(1, dtype, &Device::Cpu)?, Tensor::zeros(1, dtype, &Device::Cpu)?);
        let (y, statistics) = raygen_nn::batch_norm(&x, &one, &zero, 0.0)?;
        let values = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        let root = 5f64.sqrt();
        for (got, expected) in values(&y)?.into_iter().zip([-3.0 / root, -1.0 / root, 1.0 / root, 3.0 / root]) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
        assert_eq!((values(&statistics.mean)?, values(&statistics.variance)?), (vec![4.0], vec![5.0]));
        let (mean, variance) = statistics.blended(&zero, &one, 0.1)?;
        assert!((values(&mean)?[0] - 0.4).abs() < 1e-6, "{mean}");
        assert!((values(&variance)?[0] - (0.9 + 0.1 * 20.0 / 3.0)).abs() < 1e-6, "{variance}");
    }
    Ok(())
}

#[test]
fn every_channel_of_a_normalised_batch_has_mean_0_and_variance_1() -> Result<()> {
    let mut random = Random::new(3);
    // Far from 0, where sums of squares would cancel.
    let x = ((random.tensor(&[5, 3, 9, 7])? * 0.01)? + 100.0)?.to_dtype(DType::F32)?;
    let (one, zero) = (Tensor::ones(3, DType::F32, &Device::Cpu)?, Tensor::zeros(3, DType::F32, &Device::Cpu)?);
    let (y, _) = raygen_nn::batch_norm(&x, &one, &zero, 0.0)?;
    let mean = y.mean((0, 2, 3))?.to_vec1::<f32>()?;
    let square = y.sqr()?.mean((0, 2, 3))?.to_vec1::<f32>()?;
    assert!(mean.iter().all(|mean| mean.abs() < 1e-3), "{mean:?}");
    assert!(square.iter().all(|square| (square - 1.0).abs() < 1e-3), "{square:?}");
    Ok(())
}

#[test]
fn a_batch_without_a_variance_is_refused() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let parameter = Tensor::ones(4, dtype, &Device::Cpu)?;
        for (dims, reason) in [(vec![1, 4, 1, 1], "1 values a channel"), (vec![4], "[batch, channels, ..]")] {
            let x = Tensor::zeros(dims, dtype, &Device::Cpu)?;
            let message = raygen_nn::batch_norm_relu(&x, &parameter, &parameter, 1e-5).err().map(|e| e.to_string());
            assert!(message.as_deref().is_some_and(|message| message.contains(reason)), "{message:?}");
        }
    }
    Ok(())
}
