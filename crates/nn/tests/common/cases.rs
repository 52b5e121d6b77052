//! Every operation on random shapes, and on shapes that cross the sizes of its tiles.

use candle_core::{DType, Device, Result, Tensor};
use raygen_nn::{ConvGeometry, Dropout, DropoutKey, Padding};

use super::{Case, Random};

/// All cases of one seed; the batch, where there is one, has at least three items.
pub(crate) fn all(seed: u64) -> Result<Vec<Case>> {
    let mut random = Random::new(seed);
    let r = &mut random;
    let mut cases = Vec::new();
    linear(r, &mut cases)?;
    convolution(r, &mut cases)?;
    normalisation(r, &mut cases)?;
    pointwise(r, &mut cases)?;
    classifier(r, &mut cases)?;
    attention(r, &mut cases)?;
    tables(r, &mut cases)?;
    Ok(cases)
}

fn linear(r: &mut Random, cases: &mut Vec<Case>) -> Result<()> {
    let shapes = [
        vec![r.between(3, 5), r.between(1, 40)],
        vec![r.between(33, 80), r.between(1, 20)],
        vec![r.between(3, 5), r.between(1, 70), r.between(1, 70)],
        vec![3, r.between(1, 4), r.between(1, 5), r.between(1, 20)],
        vec![3, 200, 130],
    ];
    for dims in shapes {
        let (width, out) = (dims[dims.len() - 1], r.between(1, 50));
        let (x, weight) = (r.tensor(&dims)?, r.tensor(&[out, width])?);
        let bias = r.tensor(&[out])?;
        let name = format!("linear {dims:?} to {out}");
        cases.push(Case::new(format!("{name} with bias"), vec![x.clone(), weight.clone(), bias], 1, |i| {
            raygen_nn::linear(&i[0], &i[1], Some(&i[2]))
        }));
        cases.push(Case::new(name, vec![x, weight], 1, |i| raygen_nn::linear(&i[0], &i[1], None)));
    }
    Ok(())
}

fn convolution(r: &mut Random, cases: &mut Vec<Case>) -> Result<()> {
    let down = Padding { top: 0, bottom: 1, left: 0, right: 1 };
    let uneven = Padding { top: 2, bottom: 0, left: 1, right: 3 };
    let geometries = [
        (3, 1, Padding::all(1)),
        (1, 1, Padding::all(0)),
        (3, 2, down),
        (2, 2, Padding::all(0)),
        (3, 1, Padding::all(0)),
        (5, 3, uneven),
        (2, 1, uneven),
        (1, 2, Padding::all(1)),
    ];
    for (kernel, stride, padding) in geometries {
        let (height, width) = (2 * r.between(2, 6), 2 * r.between(2, 6));
        let (channels, out) = (r.between(1, 5), r.between(1, 6));
        conv_case(r, cases, [3, channels, height, width], out, kernel, ConvGeometry { stride, padding })?;
    }
    // Several tiles of output rows to an item.
    conv_case(r, cases, [3, 16, 49, 42], 3, 3, ConvGeometry::same(3))?;
    conv_case(r, cases, [3, 64, 71, 73], 3, 1, ConvGeometry::same(1))?;
    let geometry = ConvGeometry { stride: 2, padding: down };
    conv_case(r, cases, [3, 32, 98, 60], 2, 3, geometry)
}

fn conv_case(
    r: &mut Random,
    cases: &mut Vec<Case>,
    dims: [usize; 4],
    out: usize,
    kernel: usize,
    geometry: ConvGeometry,
) -> Result<()> {
    let x = r.tensor(&dims)?;
    let weight = r.tensor(&[out, dims[1], kernel, kernel])?;
    let bias = r.tensor(&[out])?;
    let name = format!("conv2d {dims:?} to {out}, kernel {kernel}, {geometry:?}");
    cases.push(Case::new(format!("{name} with bias"), vec![x.clone(), weight.clone(), bias], 1, move |i| {
        raygen_nn::conv2d(&i[0], &i[1], Some(&i[2]), &geometry)
    }));
    cases.push(Case::new(name, vec![x, weight], 1, move |i| raygen_nn::conv2d(&i[0], &i[1], None, &geometry)));
    Ok(())
}

fn normalisation(r: &mut Random, cases: &mut Vec<Case>) -> Result<()> {
    for dims in [vec![r.between(3, 9), r.between(2, 70)], vec![3, 70, r.between(2, 40)]] {
        let width = dims[dims.len() - 1];
        let (x, gamma, beta) = (r.tensor(&dims)?, r.tensor(&[width])?, r.tensor(&[width])?);
        cases.push(Case::new(format!("layer_norm {dims:?}"), vec![x.clone(), gamma.clone(), beta], 1, |i| {
            raygen_nn::layer_norm(&i[0], &i[1], &i[2], 1e-5)
        }));
        cases.push(Case::new(format!("rms_norm {dims:?}"), vec![x, gamma], 1, |i| {
            raygen_nn::rms_norm(&i[0], &i[1], 1e-6)
        }));
    }
    let groups = r.between(1, 4);
    let channels = groups * r.between(1, 5);
    let (height, width) = (r.between(2, 9), r.between(2, 9));
    for dims in [vec![3, channels, height, width], vec![3, 2 * groups, 65, 67]] {
        let channels = dims[1];
        let x = r.tensor(&dims)?;
        let (gamma, beta) = (r.tensor(&[channels])?, r.tensor(&[channels])?);
        let inputs = vec![x, gamma, beta];
        cases.push(Case::new(format!("group_norm {dims:?} in {groups}"), inputs.clone(), 1, move |i| {
            raygen_nn::group_norm(&i[0], &i[1], &i[2], groups, 1e-6)
        }));
        cases.push(Case::new(format!("group_norm_silu {dims:?} in {groups}"), inputs, 1, move |i| {
            raygen_nn::group_norm_silu(&i[0], &i[1], &i[2], groups, 1e-6)
        }));
    }
    Ok(())
}

fn pointwise(r: &mut Random, cases: &mut Vec<Case>) -> Result<()> {
    let dims = [r.between(3, 5), r.between(1, 9), 2 * r.between(1, 30)];
    // Wide enough to reach the tails.
    let x = (r.tensor(&dims)? * 6.0)?;
    type Op = fn(&Tensor) -> Result<Tensor>;
    let ops: [(&str, Op); 5] = [
        ("gelu", raygen_nn::gelu),
        ("silu", raygen_nn::silu),
        ("relu", raygen_nn::relu),
        ("geglu", raygen_nn::geglu),
        ("softmax", raygen_nn::softmax),
    ];
    for (name, op) in ops {
        let name = format!("{name} {dims:?}");
        cases.push(Case::new(name, vec![x.clone()], 1, move |i| op(&i[0])));
    }
    let dims = [3, r.between(1, 4), r.between(1, 7), r.between(1, 7)];
    let name = format!("upsample {dims:?}");
    cases.push(Case::new(name, vec![r.tensor(&dims)?], 1, |i| raygen_nn::upsample_nearest_2x(&i[0])));
    Ok(())
}

/// What a DenseNet is trained with, beside convolutions.
fn classifier(r: &mut Random, cases: &mut Vec<Case>) -> Result<()> {
    let channels = r.between(1, 5);
    for dims in [vec![3, channels, r.between(1, 9), r.between(1, 9)], vec![3, 2, 65, 67], vec![r.between(3, 9), 7]] {
        let x = r.tensor(&dims)?;
        let inputs = vec![x, r.tensor(&[dims[1]])?, r.tensor(&[dims[1]])?];
        cases.push(Case::new(format!("batch_norm {dims:?}"), inputs.clone(), 0, |i| {
            Ok(raygen_nn::batch_norm(&i[0], &i[1], &i[2], 1e-5)?.0)
        }));
        // Of many values one always lies where a finite difference crosses 0.
        if inputs[0].elem_count() < 2000 {
            cases.push(Case::new(format!("batch_norm_relu {dims:?}"), inputs, 0, |i| {
                Ok(raygen_nn::batch_norm_relu(&i[0], &i[1], &i[2], 1e-5)?.0)
            }));
        }
    }
    // Sides that are even, odd and as small as can be.
    for (height, width) in [(2 * r.between(1, 5), 2 * r.between(1, 5) + 1), (2 * r.between(1, 5) + 1, 4), (2, 2)] {
        let x = r.tensor(&[3, channels, height, width])?;
        let name = format!("avg_pool_2x2 {:?}", x.dims());
        cases.push(Case::new(name, vec![x.clone()], 1, |i| raygen_nn::avg_pool_2x2(&i[0])));
        let name = format!("max_pool_3x3 {:?}", x.dims());
        cases.push(Case::new(name, vec![x], 1, |i| raygen_nn::max_pool_3x3(&i[0])));
    }
    let x = r.tensor(&[3, channels, 1, 1])?;
    cases.push(Case::new("max_pool_3x3 of single pixels", vec![x], 1, |i| raygen_nn::max_pool_3x3(&i[0])));

    let dims = [r.between(3, 9), r.between(1, 12)];
    // Wide enough for probabilities that an f32 rounds to 0 and 1.
    let logits = (r.tensor(&dims)? * 40.0)?;
    let targets = ((r.tensor(&dims)? + 1.0)? * 0.5)?;
    // Half of the answers are masked.
    let weights = r.tensor(&dims)?.relu()?;
    cases.push(Case::new(format!("binary_cross_entropy {dims:?}"), vec![logits], 0, move |i| {
        raygen_nn::binary_cross_entropy(&i[0], &targets, &weights)
    }));
    Ok(())
}

fn attention(r: &mut Random, cases: &mut Vec<Case>) -> Result<()> {
    let shapes =
        [(r.between(1, 3), r.between(1, 20), r.between(1, 20), r.between(1, 20)), (2, 300, 33, 16), (1, 17, 150, 64)];
    for (heads, queries, keys, width) in shapes {
        let q = r.tensor(&[3, heads, queries, width])?;
        let k = r.tensor(&[3, heads, keys, width])?;
        let v = r.tensor(&[3, heads, keys, width])?;
        let name = format!("attention [3, {heads}, {queries} to {keys}, {width}]");
        let inputs = vec![q, k, v];
        cases
            .push(Case::new(name.clone(), inputs.clone(), 3, |i| raygen_nn::attention(&i[0], &i[1], &i[2], None, 0.7)));
        let mask = padding_mask(keys)?;
        let padding = mask.clone();
        cases.push(Case::new(format!("{name} masked"), inputs.clone(), 0, move |i| {
            let mask = mask.to_dtype(i[0].dtype())?;
            raygen_nn::attention(&i[0], &i[1], &i[2], Some(&mask), 0.7)
        }));
        let dropout = dropout(0.3, &[4, 5, 6])?;
        cases.push(Case::new(format!("{name} masked, with dropout"), inputs, 0, move |i| {
            let mask = padding.to_dtype(i[0].dtype())?;
            raygen_nn::attention_with_dropout(&i[0], &i[1], &i[2], Some(&mask), 0.7, &dropout)
        }));
    }
    Ok(())
}

/// Dropout with a key for each item, which differ in their streams.
pub(crate) fn dropout(rate: f64, streams: &[u64]) -> Result<Dropout> {
    Dropout::new(rate, streams.iter().map(|stream| DropoutKey { key: [3; 32], stream: *stream }).collect())
}

/// [3, keys]: nothing padded, the last half padded, everything padded.
fn padding_mask(keys: usize) -> Result<Tensor> {
    let mut values = vec![0f64; 3 * keys];
    for key in 0..keys {
        values[keys + key] = if key * 2 > keys { -1e9 } else { 0.0 };
    }
    Tensor::from_vec(values, (3, keys), &Device::Cpu)
}

fn tables(r: &mut Random, cases: &mut Vec<Case>) -> Result<()> {
    let (count, width) = (r.between(1, 20), r.between(1, 20));
    let length = r.between(1, 30);
    let ids = r.ids(&[3, length], count)?;
    let name = format!("embedding [{count}, {width}]");
    cases.push(Case::new(name, vec![r.tensor(&[count, width])?], 0, move |i| raygen_nn::embedding(&i[0], &ids)));

    for smoothing in [0.0, 0.1] {
        let (rows, classes) = (r.between(2, 40), r.between(2, 50));
        let logits = (r.tensor(&[rows, classes])? * 4.0)?;
        let targets = r.ids(&[rows], classes)?;
        let weights = (r.tensor(&[rows])? + 1.0)?.to_dtype(DType::F32)?;
        // Some rows do not count.
        let counted = Tensor::arange(0u32, rows as u32, &Device::Cpu)?.ne(1u32)?;
        let weights = (weights * counted.to_dtype(DType::F32)?)?;
        let name = format!("cross_entropy [{rows}, {classes}], smoothing {smoothing}");
        cases.push(Case::new(name, vec![logits], 0, move |i| {
            raygen_nn::cross_entropy(&i[0], &targets, &weights, smoothing)
        }));
    }

    let (rows, classes) = (r.between(2, 40), r.between(2, 50));
    let logits = (r.tensor(&[rows, classes])? * 4.0)?;
    let targets = r.ids(&[rows], classes)?;
    let weights = (r.tensor(&[rows])? + 1.0)?.to_dtype(DType::F32)?;
    let likeness = candle_nn::ops::softmax(&(r.tensor(&[classes, classes])? * 3.0)?.to_dtype(DType::F32)?, 1)?;
    let name = format!("cross_entropy_of_likeness [{rows}, {classes}]");
    cases.push(Case::new(name, vec![logits], 0, move |i| {
        raygen_nn::cross_entropy_of_likeness(&i[0], &targets, &weights, &likeness)
    }));
    Ok(())
}
