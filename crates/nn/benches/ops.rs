//! The operations that decide the speed, ours against candle's own: `cargo bench -p raygen-nn`.
//!
//! Shapes are those of a decoder at 256 pixels and of a transformer over 1024 tokens; the `train` ones are smaller.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{GroupNorm, LayerNorm, Module};
use divan::Bencher;
use raygen_nn::ConvGeometry;

/// The allocator of our programs. glibc's maps every large tensor afresh, which costs more than many operations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Values between -1 and 1 that are neither constant nor random.
fn tensor(dims: &[usize]) -> Result<Tensor> {
    let count: usize = dims.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i * 7919 + 13) % 2003) as f32 / 1001.0 - 1.0).collect();
    Tensor::from_vec(values, dims, &Device::Cpu)
}

/// Times `run` on tensors of the given shapes.
fn forward(bencher: Bencher<'_, '_>, dims: &[&[usize]], run: impl Fn(&[Tensor]) -> Result<Tensor> + Sync) {
    match dims.iter().map(|dims| tensor(dims)).collect::<Result<Vec<_>>>() {
        Ok(inputs) => bencher.bench(|| run(&inputs).map(|out| out.elem_count()).ok()),
        Err(error) => panic!("the inputs of a benchmark cannot be made: {error}"),
    }
}

/// Times `run` and the backward pass to all of its inputs.
fn train(bencher: Bencher<'_, '_>, dims: &[&[usize]], run: impl Fn(&[Tensor]) -> Result<Tensor> + Sync) {
    forward(bencher, dims, |inputs| {
        let variables = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
        let inputs: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
        let gradients = run(&inputs)?.sum_all()?.backward()?;
        match gradients.get(&inputs[0]) {
            Some(gradient) => Ok(gradient.clone()),
            None => candle_core::bail!("the first input has no gradient"),
        }
    });
}

#[divan::bench_group]
mod conv_3x3_128_to_128_at_256 {
    use super::*;

    const DIMS: [&[usize]; 2] = [&[1, 128, 256, 256], &[128, 128, 3, 3]];

    #[divan::bench(sample_count = 5)]
    fn ours(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| raygen_nn::conv2d(&i[0], &i[1], None, &ConvGeometry::same(3)));
    }

    #[divan::bench(sample_count = 5)]
    fn candle(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| i[0].conv2d(&i[1], 1, 1, 1, 1));
    }
}

#[divan::bench_group]
mod conv_3x3_512_to_512_at_16 {
    use super::*;

    const DIMS: [&[usize]; 2] = [&[1, 512, 16, 16], &[512, 512, 3, 3]];

    #[divan::bench(sample_count = 5)]
    fn ours(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| raygen_nn::conv2d(&i[0], &i[1], None, &ConvGeometry::same(3)));
    }

    #[divan::bench(sample_count = 5)]
    fn candle(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| i[0].conv2d(&i[1], 1, 1, 1, 1));
    }
}

#[divan::bench_group]
mod conv_3x3_128_to_3_at_256 {
    use super::*;

    const DIMS: [&[usize]; 2] = [&[1, 128, 256, 256], &[3, 128, 3, 3]];

    #[divan::bench(sample_count = 5)]
    fn ours(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| raygen_nn::conv2d(&i[0], &i[1], None, &ConvGeometry::same(3)));
    }

    #[divan::bench(sample_count = 5)]
    fn candle(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| i[0].conv2d(&i[1], 1, 1, 1, 1));
    }
}

#[divan::bench_group]
mod train_conv_3x3_64_to_64_at_64_batch_8 {
    use super::*;

    const DIMS: [&[usize]; 2] = [&[8, 64, 64, 64], &[64, 64, 3, 3]];

    #[divan::bench(sample_count = 5)]
    fn ours(bencher: Bencher<'_, '_>) {
        train(bencher, &DIMS, |i| raygen_nn::conv2d(&i[0], &i[1], None, &ConvGeometry::same(3)));
    }

    #[divan::bench(sample_count = 5)]
    fn candle(bencher: Bencher<'_, '_>) {
        train(bencher, &DIMS, |i| i[0].conv2d(&i[1], 1, 1, 1, 1));
    }
}

#[divan::bench_group]
mod group_norm_silu_128_at_256 {
    use super::*;

    const DIMS: [&[usize]; 3] = [&[1, 128, 256, 256], &[128], &[128]];

    #[divan::bench(sample_count = 10)]
    fn ours(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| raygen_nn::group_norm_silu(&i[0], &i[1], &i[2], 32, 1e-6));
    }

    #[divan::bench(sample_count = 10)]
    fn candle(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| GroupNorm::new(i[1].clone(), i[2].clone(), 128, 32, 1e-6)?.forward(&i[0])?.silu());
    }
}

#[divan::bench_group]
mod layer_norm_4096_by_1024 {
    use super::*;

    const DIMS: [&[usize]; 3] = [&[4096, 1024], &[1024], &[1024]];

    #[divan::bench(sample_count = 10)]
    fn ours(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| raygen_nn::layer_norm(&i[0], &i[1], &i[2], 1e-5));
    }

    /// The fused one of candle, which has no gradient.
    #[divan::bench(sample_count = 10)]
    fn candle(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| LayerNorm::new(i[1].clone(), i[2].clone(), 1e-5).forward(&i[0]));
    }
}

#[divan::bench_group]
mod gelu_of_4_million {
    use super::*;

    const DIMS: [&[usize]; 1] = [&[1024, 4096]];

    #[divan::bench(sample_count = 10)]
    fn ours(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| raygen_nn::gelu(&i[0]));
    }

    #[divan::bench(sample_count = 10)]
    fn candle(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| i[0].gelu_erf());
    }
}

#[divan::bench_group]
mod softmax_of_8_by_1024_by_1024 {
    use super::*;

    const DIMS: [&[usize]; 1] = [&[8, 1024, 1024]];

    #[divan::bench(sample_count = 10)]
    fn ours(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| raygen_nn::softmax(&i[0]));
    }

    /// The fused one of candle, which has no gradient.
    #[divan::bench(sample_count = 10)]
    fn candle(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| candle_nn::ops::softmax_last_dim(&i[0]));
    }
}

#[divan::bench_group]
mod attention_8_heads_1024_by_128 {
    use super::*;

    const DIMS: [&[usize]; 3] = [&[1, 8, 1024, 128], &[1, 8, 1024, 128], &[1, 8, 1024, 128]];

    #[divan::bench(sample_count = 10)]
    fn ours(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| raygen_nn::attention(&i[0], &i[1], &i[2], None, 0.088));
    }

    #[divan::bench(sample_count = 10)]
    fn candle(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, composed_attention);
    }
}

#[divan::bench_group]
mod train_attention_8_heads_256_by_64_batch_8 {
    use super::*;

    const DIMS: [&[usize]; 3] = [&[8, 8, 256, 64], &[8, 8, 256, 64], &[8, 8, 256, 64]];

    #[divan::bench(sample_count = 5)]
    fn ours(bencher: Bencher<'_, '_>) {
        train(bencher, &DIMS, |i| raygen_nn::attention(&i[0], &i[1], &i[2], None, 0.125));
    }

    #[divan::bench(sample_count = 5)]
    fn candle(bencher: Bencher<'_, '_>) {
        train(bencher, &DIMS, composed_attention);
    }
}

fn composed_attention(i: &[Tensor]) -> Result<Tensor> {
    let scores = (i[0].matmul(&i[1].t()?)? * 0.1)?;
    candle_nn::ops::softmax(&scores, candle_core::D::Minus1)?.matmul(&i[2])
}

#[divan::bench_group]
mod linear_1024_tokens_1024_to_4096 {
    use super::*;

    const DIMS: [&[usize]; 3] = [&[1, 1024, 1024], &[4096, 1024], &[4096]];

    #[divan::bench(sample_count = 5)]
    fn ours(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| raygen_nn::linear(&i[0], &i[1], Some(&i[2])));
    }

    #[divan::bench(sample_count = 5)]
    fn candle(bencher: Bencher<'_, '_>) {
        forward(bencher, &DIMS, |i| candle_nn::Linear::new(i[1].clone(), Some(i[2].clone())).forward(&i[0]));
    }
}

#[divan::bench_group]
mod train_linear_32_by_64_tokens_256_to_1024 {
    use super::*;

    const DIMS: [&[usize]; 3] = [&[32, 64, 256], &[1024, 256], &[1024]];

    #[divan::bench(sample_count = 10)]
    fn ours(bencher: Bencher<'_, '_>) {
        train(bencher, &DIMS, |i| raygen_nn::linear(&i[0], &i[1], Some(&i[2])));
    }

    #[divan::bench(sample_count = 10)]
    fn candle(bencher: Bencher<'_, '_>) {
        train(bencher, &DIMS, |i| candle_nn::Linear::new(i[1].clone(), Some(i[2].clone())).forward(&i[0]));
    }
}

#[divan::bench_group]
mod train_cross_entropy_4096_by_1024 {
    use super::*;

    const DIMS: [&[usize]; 1] = [&[4096, 1024]];

    fn targets() -> Result<Tensor> {
        Tensor::arange(0u32, 4096, &Device::Cpu)?.broadcast_div(&Tensor::new(4u32, &Device::Cpu)?)
    }

    #[divan::bench(sample_count = 10)]
    fn ours(bencher: Bencher<'_, '_>) {
        train(bencher, &DIMS, |i| {
            let weights = Tensor::ones(4096, DType::F32, &Device::Cpu)?;
            raygen_nn::cross_entropy(&i[0], &targets()?, &weights, 0.0)
        });
    }

    #[divan::bench(sample_count = 10)]
    fn candle(bencher: Bencher<'_, '_>) {
        train(bencher, &DIMS, |i| candle_nn::loss::cross_entropy(&i[0], &targets()?));
    }
}
