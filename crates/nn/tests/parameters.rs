//! Parameters are the same for the same seed and name, and say what is missing.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::Init;
use raygen_nn::Parameters;
use raygen_nn::layers::{Embedding, LayerNorm, Linear};

const NORMAL: Init = Init::Randn { mean: 1.0, stdev: 2.0 };

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

#[test]
fn values_depend_on_seed_and_name_and_not_on_the_order() -> Result<()> {
    let draw = |seed: u64, names: [&str; 2]| -> Result<Vec<(String, Vec<f32>)>> {
        let parameters = Parameters::initialised(seed, &Device::Cpu);
        let vb = parameters.builder(DType::F32);
        for name in names {
            vb.get_with_hints((5, 7), name, NORMAL)?;
        }
        let named = parameters.named();
        named.iter().map(|(name, var)| Ok((name.clone(), values(var)?))).collect()
    };
    let first = draw(3, ["a", "b"])?;
    assert_eq!(first, draw(3, ["b", "a"])?);
    assert_ne!(first, draw(4, ["a", "b"])?);
    assert_ne!(first[0].1, first[1].1);
    Ok(())
}

#[test]
fn values_follow_the_hint() -> Result<()> {
    let parameters = Parameters::initialised(1, &Device::Cpu);
    let vb = parameters.builder(DType::F32);
    let normal = values(&vb.get_with_hints((100, 1001), "normal", NORMAL)?)?;
    let count = normal.len() as f64;
    let mean = normal.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let variance = normal.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
    assert!((mean - 1.0).abs() < 0.03, "mean {mean}");
    assert!((variance - 4.0).abs() < 0.1, "variance {variance}");

    let uniform = values(&vb.get_with_hints(10_000, "uniform", Init::Uniform { lo: -2.0, up: 1.0 })?)?;
    assert!(uniform.iter().all(|x| (-2.0..=1.0).contains(x)));
    assert!(uniform.iter().any(|x| *x < -1.99) && uniform.iter().any(|x| *x > 0.99));

    assert_eq!(values(&vb.get_with_hints(2, "constant", Init::Const(0.5))?)?, [0.5, 0.5]);
    Ok(())
}

/// Guards every trained seed: if this changes, an old seed no longer gives the old network.
#[test]
fn the_first_values_of_a_seed_never_change() -> Result<()> {
    let vb = Parameters::initialised(42, &Device::Cpu).builder(DType::F32);
    let drawn = values(&vb.pp("layer").get_with_hints(3, "weight", Init::Uniform { lo: 0.0, up: 1.0 })?)?;
    assert_eq!(drawn, [0.607_029_6, 0.126_749_58, 0.513_191_16]);
    Ok(())
}

#[test]
fn a_second_request_gives_the_same_variable_and_training_reaches_it() -> Result<()> {
    let parameters = Parameters::initialised(1, &Device::Cpu);
    let layer = Linear::new(3, 2, true, parameters.builder(DType::F32).pp("head"))?;
    let again = Linear::new(3, 2, true, parameters.builder(DType::F32).pp("head"))?;
    assert_eq!(layer.weight().id(), again.weight().id());

    let named = parameters.named();
    let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["head.bias", "head.weight"]);

    let x = Tensor::ones((1, 3), DType::F32, &Device::Cpu)?;
    let gradients = layer.forward(&x)?.sum_all()?.backward()?;
    assert!(named.iter().all(|(_, variable)| gradients.get(variable.as_tensor()).is_some()));
    named[0].1.set(&Tensor::new(&[10f32, 20.0], &Device::Cpu)?)?;
    named[1].1.set(&Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?)?;
    assert_eq!(values(&layer.forward(&x)?)?, [10.0, 20.0]);
    Ok(())
}

#[test]
fn given_tensors_come_back_and_gaps_are_named() -> Result<()> {
    let given = BTreeMap::from([
        ("norm.weight".to_owned(), Tensor::ones(4, DType::F32, &Device::Cpu)?),
        ("norm.bias".to_owned(), Tensor::zeros(5, DType::F32, &Device::Cpu)?),
    ]);
    let vb = Parameters::from_tensors(given)?.builder(DType::F32);
    let wrong = LayerNorm::new(4, 1e-5, vb.pp("norm"));
    let message = wrong.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(message.contains("tensor norm.bias has shape [5]; the network expects [4]"), "{message}");
    let missing = Embedding::new(2, 3, vb.pp("table"));
    let message = missing.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(message.contains("tensor table.weight is missing; the network expects it with shape [2, 3]"), "{message}");
    Ok(())
}

#[test]
fn a_builder_of_another_precision_trains_the_stored_variable() -> Result<()> {
    let parameters = Parameters::initialised(1, &Device::Cpu);
    parameters.builder(DType::F32).get_with_hints((2, 2), "w", NORMAL)?;
    let wide = parameters.builder(DType::F64).get_with_hints((2, 2), "w", NORMAL)?;
    assert_eq!(wide.dtype(), DType::F64);
    let gradients = wide.sum_all()?.backward()?;
    let (_, variable) = &parameters.named()[0];
    assert!(gradients.get(variable.as_tensor()).is_some());
    Ok(())
}
