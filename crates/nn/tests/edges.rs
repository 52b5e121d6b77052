//! Broken weights show, masks mask, and wrong arguments are refused with the reason.

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use common::{Random, cases};
use raygen_nn::{ConvGeometry, Padding};

/// A NaN in the first value of any input shows in the result.
#[test]
fn nan_in_any_input_gives_nan_in_the_result() -> Result<()> {
    for case in cases::all(41)? {
        for index in 0..case.inputs.len() {
            let mut inputs = case.inputs.iter().map(|input| input.to_dtype(DType::F32)).collect::<Result<Vec<_>>>()?;
            let shape = inputs[index].shape().clone();
            let count = shape.elem_count();
            inputs[index] = Tensor::from_vec(vec![f32::NAN; count], &shape, &Device::Cpu)?;
            let out = (case.run)(&inputs)?.flatten_all()?.to_vec1::<f32>()?;
            // Of a convolution's input, padding may be all that a pixel sees.
            assert!(
                out.iter().any(|value| value.is_nan()),
                "{}: input {index} is NaN and the result is not",
                case.name
            );
            if index == case.inputs.len() - 1 && !case.name.starts_with("conv2d") {
                assert!(
                    out.iter().all(|value| value.is_nan()),
                    "{}: input {index} is NaN and a part of the result is not",
                    case.name
                );
            }
        }
    }
    Ok(())
}

#[test]
fn masked_keys_count_for_nothing_and_a_fully_masked_row_is_the_mean() -> Result<()> {
    let mut random = Random::new(42);
    let tensor = |random: &mut Random| random.tensor(&[2, 1, 3, 4])?.to_dtype(DType::F32);
    let (q, k, v) = (tensor(&mut random)?, tensor(&mut random)?, tensor(&mut random)?);
    let mask = Tensor::new(&[[0f32, 0.0, -1e9], [-1e9, -1e9, -1e9]], &Device::Cpu)?;
    let out = raygen_nn::attention(&q, &k, &v, Some(&mask), 0.5)?;

    let two_keys = raygen_nn::attention(
        &q.narrow(0, 0, 1)?,
        &k.narrow(0, 0, 1)?.narrow(2, 0, 2)?,
        &v.narrow(0, 0, 1)?.narrow(2, 0, 2)?,
        None,
        0.5,
    )?;
    let difference = (out.narrow(0, 0, 1)? - two_keys)?.abs()?.max_all()?;
    assert!(difference.to_scalar::<f32>()? < 1e-6);

    let mean = v.narrow(0, 1, 1)?.mean_keepdim(2)?;
    let difference = out.narrow(0, 1, 1)?.broadcast_sub(&mean)?.abs()?.max_all()?;
    assert!(difference.to_scalar::<f32>()? < 1e-6);
    Ok(())
}

#[test]
fn a_mask_made_from_a_variable_does_not_break_the_backward_pass() -> Result<()> {
    let mut random = Random::new(43);
    let q = Var::from_tensor(&random.tensor(&[1, 1, 3, 4])?.to_dtype(DType::F32)?)?;
    let mask = Var::zeros((1, 3), DType::F32, &Device::Cpu)?;
    let out = raygen_nn::attention(&q, &q, &q, Some(&(mask.as_tensor() * 2.0)?), 0.5)?;
    let gradients = out.sum_all()?.backward()?;
    assert!(gradients.get(q.as_tensor()).is_some());
    assert!(gradients.get(mask.as_tensor()).is_none());
    Ok(())
}

#[test]
fn cross_entropy_without_any_weight_is_zero_with_zero_gradient() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let logits = Var::from_tensor(&Random::new(44).tensor(&[3, 5])?.to_dtype(dtype)?)?;
        let targets = Tensor::new(&[0u32, 1, 2], &Device::Cpu)?;
        let weights = Tensor::zeros(3, DType::F32, &Device::Cpu)?;
        let loss = raygen_nn::cross_entropy(&logits, &targets, &weights, 0.1)?;
        assert_eq!(loss.to_dtype(DType::F64)?.to_scalar::<f64>()?, 0.0);
        let gradients = loss.backward()?;
        let gradient = gradients.get(logits.as_tensor()).ok_or(candle_core::Error::Msg("none".into()))?;
        let largest = gradient.abs()?.max_all()?.to_dtype(DType::F64)?;
        assert_eq!(largest.to_scalar::<f64>()?, 0.0);
    }
    Ok(())
}

#[test]
fn inputs_that_need_no_gradient_get_none() -> Result<()> {
    let mut random = Random::new(45);
    let x = random.tensor(&[1, 2, 4, 4])?.to_dtype(DType::F32)?;
    let weight = Var::from_tensor(&random.tensor(&[3, 2, 3, 3])?.to_dtype(DType::F32)?)?;
    let out = raygen_nn::conv2d(&x, &weight, None, &ConvGeometry::same(3))?;
    let gradients = out.sum_all()?.backward()?;
    assert!(gradients.get(weight.as_tensor()).is_some());
    assert!(gradients.get(&x).is_none());
    Ok(())
}

#[test]
fn wrong_arguments_are_refused_with_the_reason() -> Result<()> {
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
    let ids = |values: &[u32]| Tensor::new(values, &Device::Cpu);
    let refusals: Vec<(Result<Tensor>, &str)> = vec![
        (raygen_nn::linear(&zeros(&[2, 3])?, &zeros(&[4, 5])?, None), "the last dimensions must be equal"),
        (raygen_nn::linear(&zeros(&[2, 3])?, &zeros(&[4, 3])?, Some(&zeros(&[3])?)), "[4] was expected"),
        (
            raygen_nn::conv2d(
                &zeros(&[1, 1, 2, 2])?,
                &zeros(&[1, 1, 3, 3])?,
                None,
                &ConvGeometry { stride: 1, padding: Padding::default() },
            ),
            "does not fit a padded picture of 2 x 2",
        ),
        (
            raygen_nn::group_norm(&zeros(&[1, 6, 2])?, &zeros(&[6])?, &zeros(&[6])?, 4, 1e-6),
            "6 channels cannot be cut into 4 groups",
        ),
        (raygen_nn::geglu(&zeros(&[2, 3])?), "must be even"),
        (raygen_nn::embedding(&zeros(&[4, 2])?, &ids(&[1, 4])?), "id 4 is outside the table, which has 4 rows"),
        (
            raygen_nn::cross_entropy(&zeros(&[2, 3])?, &ids(&[0, 3])?, &zeros(&[2])?, 0.0),
            "the target of row 1 is 3; there are 3 classes",
        ),
        (
            raygen_nn::attention(&zeros(&[1, 2, 3, 4])?, &zeros(&[1, 2, 5, 4])?, &zeros(&[1, 2, 6, 4])?, None, 1.0),
            "the values have shape",
        ),
    ];
    for (result, reason) in refusals {
        match result {
            Ok(_) => panic!("accepted, though {reason}"),
            Err(error) => assert!(error.to_string().contains(reason), "{error}"),
        }
    }
    Ok(())
}
