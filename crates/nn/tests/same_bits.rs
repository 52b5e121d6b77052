//! An item has the same bits alone and in any batch; a computation has the same bits on every run and any threads.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use common::{Case, Random, bits, cases, value_and_gradients};

#[test]
fn an_item_alone_equals_the_item_in_a_batch() -> Result<()> {
    for seed in [21, 22] {
        for case in cases::all(seed)? {
            if case.batched > 0 {
                assert_batch_independent(&case)?;
            }
        }
    }
    Ok(())
}

#[test]
fn rows_of_a_large_network_layer_do_not_depend_on_the_batch() -> Result<()> {
    let mut random = Random::new(5);
    let large = [
        Case::new(
            "linear 256 x 384 to 512",
            vec![random.tensor(&[5, 256, 384])?, random.tensor(&[512, 384])?],
            1,
            |i| raygen_nn::linear(&i[0], &i[1], None),
        ),
        Case::new("linear of single rows", vec![random.tensor(&[70, 768])?, random.tensor(&[300, 768])?], 1, |i| {
            raygen_nn::linear(&i[0], &i[1], None)
        }),
        Case::new(
            "linear of one row to an item",
            vec![random.tensor(&[9, 1, 768])?, random.tensor(&[300, 768])?],
            1,
            |i| raygen_nn::linear(&i[0], &i[1], None),
        ),
        Case::new(
            "attention 8 heads",
            vec![random.tensor(&[4, 8, 256, 64])?, random.tensor(&[4, 8, 77, 64])?, random.tensor(&[4, 8, 77, 64])?],
            3,
            |i| raygen_nn::attention(&i[0], &i[1], &i[2], None, 0.125),
        ),
    ];
    large.iter().try_for_each(assert_batch_independent)
}

#[test]
fn a_padded_item_does_not_depend_on_its_neighbours() -> Result<()> {
    let mut random = Random::new(8);
    let mask = Tensor::new(&[[0f32, 0.0, 0.0], [0.0, 0.0, -1e9], [0.0, -1e9, -1e9]], &Device::Cpu)?;
    let inputs = vec![random.tensor(&[3, 2, 9, 8])?, random.tensor(&[3, 2, 3, 8])?, mask];
    assert_batch_independent(&Case::new("attention with a mask to each item", inputs, 3, |i| {
        raygen_nn::attention(&i[0], &i[1], &i[1], Some(&i[2]), 0.3)
    }))
}

fn assert_batch_independent(case: &Case) -> Result<()> {
    let inputs = case.inputs.iter().map(|input| input.to_dtype(DType::F32)).collect::<Result<Vec<_>>>()?;
    let whole = (case.run)(&inputs)?;
    let items = inputs[0].dim(0)?;
    for first in 0..items {
        for length in [1, 2] {
            if first + length > items {
                continue;
            }
            let part = inputs
                .iter()
                .enumerate()
                .map(|(index, input)| match index < case.batched {
                    true => input.narrow(0, first, length),
                    false => Ok(input.clone()),
                })
                .collect::<Result<Vec<Tensor>>>()?;
            let alone = bits(&(case.run)(&part)?)?;
            let in_batch = bits(&whole.narrow(0, first, length)?)?;
            assert!(
                alone == in_batch,
                "{}: {length} items from {first} differ from the same items in a batch of {items}",
                case.name
            );
        }
    }
    Ok(())
}

#[test]
fn threads_change_no_bit_of_values_and_gradients() -> Result<()> {
    let mut cases = cases::all(31)?;
    let mut random = Random::new(6);
    let x = random.tensor(&[6, 128, 96])?;
    let weight = random.tensor(&[160, 96])?;
    cases.push(Case::new("linear, several parts", vec![x, weight], 1, |i| raygen_nn::linear(&i[0], &i[1], None)));
    let mut results: Vec<Vec<Vec<u32>>> = Vec::new();
    for threads in [1, 2, 3, 8, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(candle_core::Error::wrap)?;
        let run = || -> Result<Vec<Vec<u32>>> {
            let mut all = Vec::new();
            for case in &cases {
                let (value, gradients) = value_and_gradients(case, DType::F32)?;
                all.push(bits(&value)?);
                for gradient in gradients {
                    all.push(bits(&gradient)?);
                }
            }
            Ok(all)
        };
        results.push(pool.install(run)?);
    }
    for result in &results[1..] {
        for (index, (result, first)) in result.iter().zip(&results[0]).enumerate() {
            assert!(result == first, "result {index} depends on the threads");
        }
    }
    Ok(())
}
