//! In bf16, gradients that are sums over a whole batch are as good as bf16 can hold: they are not added up in it.

use candle_core::{DType, Device, Result, Tensor, Var};
use raygen_nn::{ConvGeometry, Padding};

const ROWS: usize = 6000;

/// The gradient of f32 `weights` whose copies in `dtype` go through `run`, for a loss that weighs all outputs alike: then every
/// term has the same sign, and a sum in bf16 would stand still long before its end.
fn gradient(weights: &Tensor, dtype: DType, run: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Vec<f32>> {
    let var = Var::from_tensor(weights)?;
    let loss = run(&var.to_dtype(dtype)?)?.to_dtype(DType::F32)?.sum_all()?;
    let gradients = loss.backward()?;
    let gradient = gradients.get(&var).map(Tensor::flatten_all).transpose()?;
    gradient.map_or(Ok(Vec::new()), |gradient| gradient.to_vec1())
}

fn assert_close(name: &str, weights: &Tensor, run: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
    let (half, full) = (gradient(weights, DType::BF16, &run)?, gradient(weights, DType::F32, &run)?);
    assert_eq!(half.len(), weights.elem_count(), "{name}: no gradient");
    for (half, full) in half.iter().zip(&full) {
        // Two roundings to 8 bits, of a term or two and of the sum.
        assert!((half - full).abs() <= 0.02 * full.abs(), "{name}: {half} in bf16, {full} in f32");
    }
    Ok(())
}

#[test]
fn a_bias_a_row_of_a_table_and_a_convolution_get_the_sum_of_their_gradients() -> Result<()> {
    let device = Device::Cpu;
    let x = Tensor::rand(0.5f32, 1.5, (ROWS, 4), &device)?;
    let weight = Tensor::rand(0.5f32, 1.5, (3, 4), &device)?;
    assert_close("bias", &Tensor::zeros(3, DType::F32, &device)?, |bias| {
        raygen_nn::linear(&x.to_dtype(bias.dtype())?, &weight.to_dtype(bias.dtype())?, Some(bias))
    })?;
    let ids = Tensor::from_vec(vec![1u32; ROWS], ROWS, &device)?;
    let used = Tensor::rand(0.5f32, 1.5, (2, 3), &device)?;
    assert_close("row", &used, |table| raygen_nn::embedding(table, &ids))?;
    let picture = Tensor::rand(0.5f32, 1.5, (2, 1, 48, 48), &device)?;
    let geometry = ConvGeometry { stride: 1, padding: Padding::all(1) };
    let kernel = Tensor::rand(0.5f32, 1.5, (2, 1, 3, 3), &device)?;
    assert_close("kernel", &kernel, |kernel| {
        raygen_nn::conv2d(&picture.to_dtype(kernel.dtype())?, kernel, None, &geometry)
    })?;
    let learning = Var::from_tensor(&kernel)?;
    assert_close("bias of a convolution", &Tensor::zeros(2, DType::F32, &device)?, |bias| {
        let kernel = learning.to_dtype(bias.dtype())?;
        raygen_nn::conv2d(&picture.to_dtype(bias.dtype())?, &kernel, Some(bias), &geometry)
    })
}

#[test]
fn a_bias_that_learns_gives_the_bits_of_one_that_does_not() -> Result<()> {
    let device = Device::Cpu;
    for rows in [1, 7, 30, 64, 257] {
        let x = Tensor::randn(0f32, 1.0, (rows, 5), &device)?.to_dtype(DType::BF16)?;
        let weight = Tensor::randn(0f32, 1.0, (3, 5), &device)?.to_dtype(DType::BF16)?;
        let bias = Var::from_tensor(&Tensor::randn(0f32, 1.0, 3, &device)?)?.to_dtype(DType::BF16)?;
        let bits = |bias: &Tensor| -> Result<Vec<f32>> {
            raygen_nn::linear(&x, &weight, Some(bias))?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
        };
        assert_eq!(bits(&bias)?, bits(&bias.detach())?, "{rows} rows");
    }
    Ok(())
}
