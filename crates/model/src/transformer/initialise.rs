//! A start for a fresh `raygen` transformer that knows which codes look alike.

use candle_core::{DType, Device, Result, Tensor};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use raygen_nn::Parameters;

use super::raygen::EMBEDDING_STD;

/// Share of the standard deviation of a fresh embedding that is noise of its own, so that equal codes can part.
const NOISE: f64 = 0.1;

/// Sets the code rows of `image_embedding.weight` and all of `final_dense.weight` to random projections of the
/// standardised codebook [codes, embed_dim], with the standard deviation of a default start and a little noise: codes
/// that decode to nearly the same patch then start with nearly the same vectors. The mask's row is left alone.
///
/// # Errors
/// A codebook of another size than the transformer's, or parameters that lack the two tensors.
pub fn initialise_from_codebook(codebook: &Tensor, parameters: &Parameters, seed: u64) -> Result<()> {
    let codes = standardised(codebook)?;
    let named = parameters.named();
    for (stream, name) in ["image_embedding.weight", "final_dense.weight"].into_iter().enumerate() {
        let Some((_, var)) = named.iter().find(|(other, _)| other == name) else {
            candle_core::bail!("the parameters have no `{name}`; the codebook start is for a transformer");
        };
        let (rows, width) = var.dims2()?;
        let code_count = codes.dim(0)?;
        if rows != code_count && rows != code_count + 1 {
            candle_core::bail!("`{name}` has {rows} rows, the codebook {code_count} codes");
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream as u64);
        let projected = project(&codes, width, &mut random)?.to_device(var.device())?.to_dtype(var.dtype())?;
        if rows == code_count {
            var.set(&projected)?;
        } else {
            let mask_row = var.as_tensor().detach().narrow(0, code_count, 1)?;
            var.set(&Tensor::cat(&[&projected, &mask_row], 0)?)?;
        }
    }
    Ok(())
}

/// Columns with mean 0 and variance 1; a column that is the same for all codes becomes 0.
fn standardised(codebook: &Tensor) -> Result<Tensor> {
    let codes = codebook.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let centred = codes.broadcast_sub(&codes.mean_keepdim(0)?)?;
    let deviation = centred.sqr()?.mean_keepdim(0)?.sqrt()?;
    centred.broadcast_div(&deviation.maximum(1e-12)?)
}

/// [codes, embed_dim] to [codes, width] with standard deviation [`EMBEDDING_STD`].
fn project(codes: &Tensor, width: usize, random: &mut ChaCha8Rng) -> Result<Tensor> {
    let (count, embed_dim) = codes.dims2()?;
    let signal = EMBEDDING_STD * (1.0 - NOISE * NOISE).sqrt() / (embed_dim as f64).sqrt();
    let projection = normals(embed_dim * width, signal, random);
    let noise = normals(count * width, EMBEDDING_STD * NOISE, random);
    let projection = Tensor::from_vec(projection, (embed_dim, width), &Device::Cpu)?;
    codes.matmul(&projection)? + Tensor::from_vec(noise, (count, width), &Device::Cpu)?
}

/// Normal numbers by the Box-Muller transform.
fn normals(count: usize, deviation: f64, random: &mut ChaCha8Rng) -> Vec<f64> {
    // In (0, 1): the logarithm below must stay finite.
    let mut uniform = || ((random.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    (0..count).map(|_| deviation * (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()).collect()
}
