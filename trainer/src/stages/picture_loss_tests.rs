#![allow(clippy::unwrap_used)]

use raygen_model::vqgan::{QuantiserKind, VqGanConfig};
use raygen_nn::Parameters;

use super::*;
use crate::loss::adversarial_loss;
use crate::optim::Alone;

const SIDE: usize = 16;

fn network(parameters: &Parameters) -> VqGan {
    let config = VqGanConfig {
        channels: 8,
        channel_multipliers: vec![1, 2],
        residual_blocks: 1,
        attention_resolutions: Vec::new(),
        resolution: SIDE,
        in_channels: 1,
        out_channels: 1,
        z_channels: 8,
        embed_dim: 8,
        codebook_size: 16,
        norm_groups: 4,
        quantiser: QuantiserKind::Nearest,
    };
    VqGan::new(&config, parameters.builder(DType::F32)).unwrap()
}

fn adversarial(start: u64, ramp: u64) -> AdversarialConfig {
    AdversarialConfig { start, weight: 0.5, ramp, channels: 4, layers: 1, rate: 1.0 }
}

fn losses(adversarial: Option<&AdversarialConfig>) -> PictureLoss {
    let config = PictureLossConfig { structure: 0.5, perceptual: None, adversarial, image_channels: 1, seed: 9 };
    PictureLoss::new(&config, &Device::Cpu).unwrap()
}

fn films() -> Tensor {
    let pixels: Vec<f32> = (0..2 * SIDE * SIDE).map(|i| ((i as f32) * 0.61).sin()).collect();
    Tensor::from_vec(pixels, (2, 1, SIDE, SIDE), &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The losses of the network's pictures at `step`, and the gradient of each tensor from whatever `of` makes of them.
fn gradients(
    losses: &PictureLoss,
    step: u64,
    of: impl Fn(&PictureLosses, &Tensor, &VqGan, &Var) -> Tensor,
) -> Vec<(String, Vec<f32>)> {
    let parameters = Parameters::initialised(4, &Device::Cpu);
    let network = network(&parameters);
    let named = parameters.named();
    let last_layer = named.iter().find(|(name, _)| name == LAST_LAYER).unwrap().1.clone();
    let maps = network.before_last_layer(&network.latent(&films()).unwrap()).unwrap();
    let pictures = network.last_layer(&maps).unwrap();
    let decoded = Decoded { network: &network, last_layer: &last_layer, maps: &maps, pictures: &pictures };
    let lost = losses.of(&decoded, &films(), &Alone, step).unwrap();
    let gradients = of(&lost, &pictures, &network, &last_layer).backward().unwrap();
    named.iter().filter_map(|(name, var)| Some((name.clone(), values(gradients.get(var.as_tensor())?)))).collect()
}

#[test]
fn the_gradient_is_that_of_the_sum_with_the_weight_of_equation_7() {
    let config = adversarial(0, 0);
    let losses = losses(Some(&config));
    let ours = gradients(&losses, 0, |lost, _, _, _| lost.loss.clone());
    let direct = gradients(&losses, 0, |_, pictures, _, last_layer| {
        let plain = losses.plain(pictures, &films()).unwrap().0;
        let adversary = losses.adversary.as_ref().unwrap();
        let fooling = adversarial_loss(&adversary.scores(pictures).unwrap()).unwrap();
        let norm = |loss: &Tensor| {
            let gradients = loss.backward().unwrap();
            let squares: f32 = values(gradients.get(last_layer.as_tensor()).unwrap()).iter().map(|g| g * g).sum();
            f64::from(squares.sqrt())
        };
        let weight = config.weight * norm(&plain) / (norm(&fooling) + 1e-4);
        (plain + (fooling * weight).unwrap()).unwrap()
    });
    assert_eq!(ours.len(), direct.len());
    for ((name, ours), (_, direct)) in ours.iter().zip(&direct) {
        let largest = direct.iter().fold(0f32, |largest, g| largest.max(g.abs()));
        // A bias before a norm has no gradient but rounding.
        let tolerance = 1e-3 * largest + 1e-6;
        assert!(ours.iter().zip(direct).all(|(a, b)| (a - b).abs() < tolerance), "{name}: {largest}");
    }
}

#[test]
fn before_its_start_the_discriminator_changes_nothing_and_then_its_weight_rises() {
    let config = adversarial(3, 4);
    let losses = losses(Some(&config));
    let alone = super::tests::losses(None);
    let back = |lost: &PictureLosses, _: &Tensor, _: &VqGan, _: &Var| lost.loss.clone();
    assert_eq!(gradients(&losses, 2, back), gradients(&alone, 2, back));
    assert_ne!(gradients(&losses, 3, back), gradients(&alone, 3, back));
    let weight = |step| losses.adversary.as_ref().unwrap().weight(step);
    assert_eq!([2, 3, 4, 6, 100].map(weight), [None, Some(0.125), Some(0.25), Some(0.5), Some(0.5)]);
}

#[test]
fn the_discriminator_learns_to_tell_pictures_from_films_and_both_its_views_share_what_it_learnt() {
    let mut losses = losses(Some(&adversarial(0, 0)));
    let pictures = films().affine(0.3, 0.1).unwrap();
    let mut last = f64::INFINITY;
    for step in 0..60 {
        last = losses.learn(&films(), &pictures, &Alone, step, 3e-3).unwrap().unwrap().loss;
    }
    assert!(last < 0.5, "it lost {last} after 60 steps");
    let adversary = losses.adversary.as_ref().unwrap();
    let opinion = adversary.opinion(&pictures).unwrap().loss;
    let scores = scalar(&adversary.scores(&pictures).unwrap().mean_all().unwrap()).unwrap();
    assert!((opinion + scores).abs() < 1e-6, "{opinion} {scores}");
}
