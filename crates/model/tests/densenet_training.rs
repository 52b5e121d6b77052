//! A DenseNet that was trained: what it learned stands in the tensors that the predicting network reads, and there a
//! film's findings are its own.

use std::collections::BTreeMap;
use std::error::Error;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use raygen_model::densenet::{DENSENET_121, DenseNet, DenseNetConfig, TrainingDenseNet, is_running};
use raygen_nn::{Parameters, binary_cross_entropy};

type TestResult = Result<(), Box<dyn Error>>;

fn tiny() -> DenseNetConfig {
    DenseNetConfig {
        growth_rate: 4,
        block_layers: vec![2, 1],
        initial_features: 8,
        bottleneck: 2,
        in_channels: 1,
        image_size: 16,
        ..DenseNetConfig::published(DENSENET_121, vec!["Bright".to_owned(), "Striped".to_owned()])
    }
}

/// Films [4, 1, 16, 16]: dark and bright ones, with and without stripes; noise on all.
fn films(phase: f32) -> candle_core::Result<Tensor> {
    let pixel = |film: usize, place: usize| {
        let bright = if film % 2 == 1 { 0.7 } else { 0.0 };
        let stripe = if film >= 2 && (place % 16 / 2).is_multiple_of(2) { 0.6 } else { 0.0 };
        bright + stripe + 0.2 * (place as f32 * 0.73 + film as f32 + phase).sin()
    };
    let values: Vec<f32> = (0..4 * 256).map(|index| pixel(index / 256, index % 256)).collect();
    Tensor::from_vec(values, (4, 1, 16, 16), &Device::Cpu)
}

fn network(variables: &[(String, Var)]) -> candle_core::Result<DenseNet> {
    let tensors = variables.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
    DenseNet::new(&tiny(), VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))
}

/// Variables after so many steps of gradient descent.
fn trained(steps: u32) -> Result<Vec<(String, Var)>, Box<dyn Error>> {
    let parameters = Parameters::initialised(5, &Device::Cpu);
    let network = TrainingDenseNet::new(&tiny(), parameters.builder(DType::F32))?;
    let variables = parameters.named();
    let targets = Tensor::new(&[[0f32, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], &Device::Cpu)?;
    for step in 0..steps {
        let (logits, statistics) = network.logits(&films(step as f32)?)?;
        let gradients = binary_cross_entropy(&logits, &targets, &targets.ones_like()?)?.backward()?;
        for (_, var) in variables.iter().filter(|(name, _)| !is_running(name)) {
            let gradient = gradients.get(var.as_tensor()).ok_or("no gradient")?;
            var.set(&(var.as_detached_tensor() - (gradient * 0.5)?)?)?;
        }
        statistics.follow(&variables, 0.1)?;
    }
    Ok(variables)
}

#[test]
fn a_trained_network_predicts_by_its_running_statistics_whoever_shares_the_batch() -> TestResult {
    let variables = trained(60)?;
    let net = network(&variables)?;
    // Films of noise that it has not seen.
    let films = films(0.5)?;
    let together = net.logits(&films)?.to_vec2::<f32>()?;
    for film in 0..4 {
        let alone = net.logits(&films.narrow(0, film, 1)?)?.to_vec2::<f32>()?;
        assert_eq!(alone[0], together[film], "film {film}");
        let truth = [film % 2 == 1, film >= 2];
        for (logit, truth) in alone[0].iter().zip(truth) {
            assert_eq!(*logit > 0.0, truth, "film {film}: {together:?}");
        }
    }
    // In training they are not its own: the same film among others.
    let parameters = Parameters::from_tensors(
        variables.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect(),
    )?;
    let training = TrainingDenseNet::new(&tiny(), parameters.builder(DType::F32))?;
    let pair = training.logits(&films.narrow(0, 0, 2)?)?.0.to_vec2::<f32>()?;
    let all = training.logits(&films)?.0.to_vec2::<f32>()?;
    assert!((pair[0][0] - all[0][0]).abs() > 0.1, "{pair:?} {all:?}");
    Ok(())
}

#[test]
fn running_statistics_end_at_those_of_films_that_are_always_the_same() -> TestResult {
    let parameters = Parameters::initialised(5, &Device::Cpu);
    let training = TrainingDenseNet::new(&tiny(), parameters.builder(DType::F32))?;
    let variables = parameters.named();
    let films = films(0.0)?;
    for _ in 0..200 {
        training.logits(&films)?.1.follow(&variables, 0.1)?;
    }
    // 0.9^200 of the start is left; of the first norm there are 4 * 64 values a channel.
    let maps = raygen_nn::conv2d(
        &films,
        named(&variables, "features.conv0.weight")?.as_tensor(),
        None,
        &raygen_nn::ConvGeometry { stride: 2, padding: raygen_nn::Padding::all(3) },
    )?;
    let mean = maps.mean_keepdim((0, 2, 3))?;
    let variance = (maps.broadcast_sub(&mean)?.sqr()?.sum((0, 2, 3))? / (4.0 * 64.0 - 1.0))?;
    for (name, expected) in [("running_mean", mean.flatten_all()?), ("running_var", variance)] {
        let running = named(&variables, &format!("features.norm0.{name}"))?.as_detached_tensor();
        let error = (&running - &expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(error < 1e-5 * expected.abs()?.max_all()?.to_scalar::<f32>()?, "{name}: {running} {expected}");
    }
    // What the norms of the training network do, the predicting one does too, up to the unbiased variance: a fifteenth of it in the last.
    let (ours, theirs) = (network(&variables)?.logits(&films)?, training.logits(&films)?.0);
    let error = (ours - &theirs)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(error < 0.1 * theirs.abs()?.max_all()?.to_scalar::<f32>()?, "{error}");
    Ok(())
}

fn named<'a>(variables: &'a [(String, Var)], name: &str) -> Result<&'a Var, Box<dyn Error>> {
    let found = variables.iter().find(|(other, _)| other == name).map(|(_, var)| var);
    found.ok_or_else(|| format!("no tensor {name}").into())
}

#[test]
fn both_networks_have_the_same_tensors() -> TestResult {
    let shapes = |build: &dyn Fn(VarBuilder<'static>) -> candle_core::Result<()>| -> Result<_, Box<dyn Error>> {
        let parameters = Parameters::initialised(1, &Device::Cpu);
        build(parameters.builder(DType::F32))?;
        let named = parameters.named().into_iter();
        Ok(named.map(|(name, var)| (name, var.dims().to_vec())).collect::<BTreeMap<_, _>>())
    };
    let training = shapes(&|vb| TrainingDenseNet::new(&tiny(), vb).map(drop))?;
    assert_eq!(training, shapes(&|vb| DenseNet::new(&tiny(), vb).map(drop))?);
    assert_eq!(training.keys().filter(|name| is_running(name)).count(), 2 * (1 + 2 * 3 + 1 + 1));
    Ok(())
}
