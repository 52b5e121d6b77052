//! Every kernel agrees with its reference in f64, value and gradients, and the reference with finite differences.

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use common::{Case, Random, cases, factors, value_and_gradients};

const SEEDS: [u64; 3] = [1, 2, 3];

#[test]
fn kernels_agree_with_the_f64_reference() -> Result<()> {
    for seed in SEEDS {
        for case in cases::all(seed)? {
            let (value, gradients) = value_and_gradients(&case, DType::F32)?;
            let (expected, expected_gradients) = value_and_gradients(&case, DType::F64)?;
            assert_close(&case.name, "value", &value, &expected)?;
            for (index, (got, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
                assert_close(&case.name, &format!("gradient of input {index}"), got, expected)?;
            }
        }
    }
    Ok(())
}

#[test]
fn the_reference_agrees_with_finite_differences() -> Result<()> {
    for seed in SEEDS {
        let mut random = Random::new(seed);
        for case in cases::all(seed)? {
            let (_, gradients) = value_and_gradients(&case, DType::F64)?;
            for (index, gradient) in gradients.iter().enumerate() {
                let gradient = gradient.flatten_all()?.to_vec1::<f64>()?;
                for _ in 0..3 {
                    let element = random.between(0, gradient.len() - 1);
                    let expected = finite_difference(&case, index, element)?;
                    let error = (gradient[element] - expected).abs();
                    assert!(
                        error <= 1e-6 * expected.abs().max(1.0),
                        "{}: gradient of input {index} at {element} is {}, by differences {expected}",
                        case.name,
                        gradient[element]
                    );
                }
            }
        }
    }
    Ok(())
}

/// Central difference of `sum(out * factors)` by one element of one input.
fn finite_difference(case: &Case, input: usize, element: usize) -> Result<f64> {
    let step = 1e-5;
    let loss = |delta: f64| -> Result<f64> {
        let mut inputs = case.inputs.clone();
        let shape = inputs[input].shape().clone();
        let mut values = inputs[input].flatten_all()?.to_vec1::<f64>()?;
        values[element] += delta;
        inputs[input] = Tensor::from_vec(values, &shape, &Device::Cpu)?;
        let out = (case.run)(&inputs)?;
        (&out * factors(&out)?)?.sum_all()?.to_scalar::<f64>()
    };
    Ok((loss(step)? - loss(-step)?) / (2.0 * step))
}

/// Within 2e-5 of the largest value.
fn assert_close(name: &str, what: &str, got: &Tensor, expected: &Tensor) -> Result<()> {
    assert_eq!(got.dims(), expected.dims(), "{name}: shape of the {what}");
    let got = got.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let expected = expected.flatten_all()?.to_vec1::<f64>()?;
    let largest = expected.iter().fold(1e-3f64, |largest, x| largest.max(x.abs()));
    for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let error = (got - expected).abs() / largest;
        assert!(
            error < 2e-5,
            "{name}: {what} at {index} is {got}, expected {expected} (error {error:e} of the largest)"
        );
    }
    Ok(())
}

#[test]
fn straight_through_takes_the_value_of_one_and_hands_its_gradient_to_the_other() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let mut random = Random::new(7);
        let latent = Var::from_tensor(&random.tensor(&[2, 3, 4])?.to_dtype(dtype)?)?;
        let quantised = Var::from_tensor(&random.tensor(&[2, 3, 4])?.to_dtype(dtype)?)?;
        let out = raygen_nn::straight_through(&latent, &(quantised.as_tensor() * 1.0)?)?;
        let difference = (&out - quantised.as_tensor())?.abs()?.max_all()?;
        let allowed = if dtype == DType::F32 { 0.0 } else { 1e-15 };
        assert!(difference.to_dtype(DType::F64)?.to_scalar::<f64>()? <= allowed);

        let factors = factors(&out)?;
        let gradients = (&out * &factors)?.sum_all()?.backward()?;
        let gradient = gradients.get(latent.as_tensor()).ok_or(candle_core::Error::Msg("none".into()))?;
        let error = (gradient - &factors)?.abs()?.max_all()?.to_dtype(DType::F64)?;
        assert_eq!(error.to_scalar::<f64>()?, 0.0);
        assert!(gradients.get(quantised.as_tensor()).is_none());
    }
    Ok(())
}

#[test]
fn an_input_used_twice_gets_both_gradients() -> Result<()> {
    let mut random = Random::new(9);
    let x = Var::from_tensor(&random.tensor(&[1, 2, 3, 3])?.to_dtype(DType::F32)?)?;
    let up = raygen_nn::upsample_nearest_2x(&x)?;
    let loss = (up.sum_all()? + (x.as_tensor() * 10.0)?.sum_all()?)?;
    let gradients = loss.backward()?;
    let gradient = gradients.get(x.as_tensor()).ok_or(candle_core::Error::Msg("none".into()))?;
    assert!(gradient.flatten_all()?.to_vec1::<f32>()?.iter().all(|g| *g == 14.0));
    Ok(())
}

#[test]
fn operations_accept_transposed_and_narrowed_inputs() -> Result<()> {
    let mut random = Random::new(11);
    let x = random.tensor(&[6, 5])?;
    let weight = random.tensor(&[4, 9])?;
    let case = Case::new("linear of views", vec![x, weight], 0, |i| {
        raygen_nn::linear(&i[0].t()?, &i[1].narrow(1, 2, 6)?, None)
    });
    let (value, gradients) = value_and_gradients(&case, DType::F32)?;
    let (expected, expected_gradients) = value_and_gradients(&case, DType::F64)?;
    assert_close(&case.name, "value", &value, &expected)?;
    for (got, expected) in gradients.iter().zip(&expected_gradients) {
        assert_close(&case.name, "gradient", got, expected)?;
    }
    Ok(())
}

#[test]
fn concatenated_channels_get_their_own_gradients_also_where_one_is_used_again() -> Result<()> {
    let mut random = Random::new(12);
    let inputs = vec![random.tensor(&[3, 2, 4, 5])?, random.tensor(&[3, 3, 4, 5])?];
    // As in a dense block: what was concatenated is read, and concatenated again.
    let case = Case::new("concatenation", inputs, 0, |i| {
        let both = Tensor::cat(&[&i[0], &i[1]], 1)?;
        Tensor::cat(&[&both, &raygen_nn::silu(&both)?, &i[0]], 1)
    });
    let (_, exact) = value_and_gradients(&case, DType::F64)?;
    let (_, single) = value_and_gradients(&case, DType::F32)?;
    for (index, (exact, single)) in exact.iter().zip(&single).enumerate() {
        assert_close(&case.name, &format!("gradient of input {index}"), single, exact)?;
        let exact = exact.flatten_all()?.to_vec1::<f64>()?;
        for (element, exact) in exact.iter().enumerate() {
            let expected = finite_difference(&case, index, element)?;
            assert!((exact - expected).abs() < 1e-6, "input {index} at {element}: {exact}, by differences {expected}");
        }
    }
    Ok(())
}

#[test]
fn where_several_values_are_largest_the_first_gets_the_whole_gradient() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let x = Var::from_tensor(&Tensor::ones((1, 1, 3, 3), dtype, &Device::Cpu)?)?;
        let gradients = raygen_nn::max_pool_3x3(&x)?.sum_all()?.backward()?;
        let gradient = gradients.get(x.as_tensor()).ok_or(candle_core::Error::Msg("none".into()))?;
        // Four windows, which begin at the first place and at the middle of each side.
        let gradient = gradient.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(gradient, [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0], "{dtype:?}");
    }
    Ok(())
}

#[test]
fn rectified_zeros_have_no_gradient_and_a_large_wrong_answer_has_a_whole_one() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let x = Var::from_tensor(&Tensor::new(&[[-1f32, 0.0, 2.0]], &Device::Cpu)?.to_dtype(dtype)?)?;
        let gradients = raygen_nn::relu(&x)?.sum_all()?.backward()?;
        let gradient = gradients.get(x.as_tensor()).ok_or(candle_core::Error::Msg("none".into()))?;
        assert_eq!(gradient.to_dtype(DType::F32)?.to_vec2::<f32>()?, [[0.0, 0.0, 1.0]]);

        let logits = Var::from_tensor(&Tensor::new(&[[-300f32, 0.0, 300.0]], &Device::Cpu)?.to_dtype(dtype)?)?;
        let targets = Tensor::new(&[[1f32, 0.0, 1.0]], &Device::Cpu)?;
        let loss = raygen_nn::binary_cross_entropy(&logits, &targets, &targets.ones_like()?)?;
        let expected = (300.0 + std::f64::consts::LN_2) / 3.0;
        assert!((loss.to_dtype(DType::F64)?.to_scalar::<f64>()? - expected).abs() < 1e-4);
        let gradients = loss.backward()?;
        let gradient = gradients.get(logits.as_tensor()).ok_or(candle_core::Error::Msg("none".into()))?;
        let gradient = gradient.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        assert!((gradient[0][0] + 1.0 / 3.0).abs() < 1e-6 && (gradient[0][1] - 0.5 / 3.0).abs() < 1e-6);
        assert_eq!(gradient[0][2], 0.0);
    }
    Ok(())
}
