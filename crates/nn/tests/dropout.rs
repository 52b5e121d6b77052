//! Attention dropout: the right probabilities fall out, the mean stays, and nothing but keys and places decides.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use common::cases::dropout;
use common::{Case, Random, bits, value_and_gradients};
use raygen_nn::{Dropout, attention, attention_with_dropout};

const SCALE: f64 = 0.3;

/// Queries, keys and values of three items, more queries than a tile has.
fn inputs(keys: usize) -> Result<Vec<Tensor>> {
    let mut random = Random::new(17);
    Ok(vec![
        random.tensor(&[3, 2, 150, 16])?.to_dtype(DType::F32)?,
        random.tensor(&[3, 2, keys, 16])?.to_dtype(DType::F32)?,
        random.tensor(&[3, 2, keys, 16])?.to_dtype(DType::F32)?,
    ])
}

fn attend(i: &[Tensor], dropout: &Dropout) -> Result<Tensor> {
    attention_with_dropout(&i[0], &i[1], &i[2], None, SCALE, dropout)
}

#[test]
fn what_falls_out_is_what_the_factors_say() -> Result<()> {
    // One value of 1 to each key and zeros elsewhere: the result is the row of probabilities itself.
    let mut random = Random::new(3);
    let (q, k) = (random.tensor(&[2, 1, 20, 8])?.to_dtype(DType::F32)?, random.tensor(&[2, 1, 8, 8])?);
    let k = k.to_dtype(DType::F32)?;
    let v = Tensor::eye(8, DType::F32, &Device::Cpu)?.broadcast_as((2, 1, 8, 8))?.contiguous()?;
    let dropout = dropout(0.4, &[8, 9])?;
    let plain = attention(&q, &k, &v, None, SCALE)?;
    let expected = (plain * dropout.factors(1, 20, 8)?)?;
    assert_eq!(bits(&attention_with_dropout(&q, &k, &v, None, SCALE, &dropout)?)?, bits(&expected)?);
    Ok(())
}

#[test]
fn the_mean_over_many_masks_is_attention_without_dropout() -> Result<()> {
    let i = inputs(40)?;
    let plain = attention(&i[0], &i[1], &i[2], None, SCALE)?;
    const MASKS: u64 = 400;
    let mut sum = plain.zeros_like()?;
    for mask in 0..MASKS {
        sum = (sum + attend(&i, &dropout(0.1, &[3 * mask, 3 * mask + 1, 3 * mask + 2])?)?)?;
    }
    let off = ((sum / MASKS as f64)? - &plain)?.abs()?.max_all()?.to_scalar::<f32>()?;
    let one = (attend(&i, &dropout(0.1, &[0, 1, 2])?)? - &plain)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(off < one / 10.0, "off by {off}, a single mask by {one}");
    Ok(())
}

#[test]
fn a_rate_of_zero_changes_no_bit() -> Result<()> {
    let case = |run: fn(&[Tensor]) -> Result<Tensor>| Ok::<_, candle_core::Error>(Case::new("", inputs(40)?, 3, run));
    let plain = value_and_gradients(&case(|i| attention(&i[0], &i[1], &i[2], None, SCALE))?, DType::F32)?;
    let none = value_and_gradients(&case(|i| attend(i, &dropout(0.0, &[1, 2, 3])?))?, DType::F32)?;
    assert_eq!(bits(&plain.0)?, bits(&none.0)?);
    for (plain, none) in plain.1.iter().zip(&none.1) {
        assert_eq!(bits(plain)?, bits(none)?);
    }
    Ok(())
}

#[test]
fn an_item_has_the_same_mask_at_any_place_of_any_batch() -> Result<()> {
    let i = inputs(40)?;
    let whole = attend(&i, &dropout(0.2, &[5, 6, 7])?)?;
    for item in 0..3 {
        let part = i.iter().map(|input| input.narrow(0, item, 1)).collect::<Result<Vec<_>>>()?;
        let alone = attend(&part, &dropout(0.2, &[5 + item as u64])?)?;
        assert_eq!(bits(&alone)?, bits(&whole.narrow(0, item, 1)?)?, "item {item}");
    }
    Ok(())
}

#[test]
fn values_and_gradients_have_the_same_bits_on_one_thread_and_on_many() -> Result<()> {
    let run = |threads: usize| -> Result<Vec<Vec<u32>>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(candle_core::Error::wrap)?;
        pool.install(|| {
            let case = Case::new("dropout", inputs(300)?, 3, |i| attend(i, &dropout(0.1, &[5, 6, 7])?));
            let (value, gradients) = value_and_gradients(&case, DType::F32)?;
            std::iter::once(&value).chain(&gradients).map(bits).collect()
        })
    };
    let one = run(1)?;
    assert_eq!(one, run(4)?);
    assert_eq!(one, run(3)?);
    Ok(())
}

#[test]
fn keys_for_another_number_of_items_are_refused() -> Result<()> {
    let i = inputs(4)?;
    let error = attend(&i, &dropout(0.1, &[1, 2])?).map(drop);
    assert!(error.is_err_and(|error| error.to_string().contains("2 items")));
    Ok(())
}
