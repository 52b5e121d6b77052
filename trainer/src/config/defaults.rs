//! Values of the keys that a configuration leaves out.

pub(super) fn beta1() -> f64 {
    0.9
}

pub(super) fn beta2() -> f64 {
    0.99
}

pub(super) fn warm_up_steps() -> u64 {
    100
}

pub(super) fn clip_norm() -> f64 {
    1.0
}

pub(super) fn final_ratio() -> f64 {
    0.02
}

pub(super) fn commitment() -> f64 {
    0.25
}

pub(super) fn structure() -> f64 {
    0.5
}

pub(super) fn perceptual() -> f64 {
    1.0
}

pub(super) fn adversarial() -> f64 {
    0.8
}

pub(super) fn discriminator_channels() -> usize {
    64
}

pub(super) fn discriminator_layers() -> usize {
    3
}

pub(super) fn discriminator_rate() -> f64 {
    1.0
}

pub(super) fn decoder_masked() -> f64 {
    0.5
}

pub(super) fn decoder_sampling_steps() -> u32 {
    8
}

pub(super) fn one() -> u32 {
    1
}

pub(super) fn codebook_decay() -> f64 {
    0.98
}

pub(super) fn restart_below() -> f64 {
    0.3
}

pub(super) fn condition_dropout() -> f64 {
    0.1
}

pub(super) fn label_smoothing() -> f64 {
    0.1
}

pub(super) fn token_merge() -> usize {
    1
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn image_channels() -> usize {
    1
}

pub(super) fn is_image_channels(channels: &usize) -> bool {
    *channels == image_channels()
}

pub(super) fn accumulate() -> usize {
    1
}

pub(super) fn is_accumulate(count: &usize) -> bool {
    *count == accumulate()
}

pub(super) fn keep() -> usize {
    2
}

pub(super) fn is_keep(count: &usize) -> bool {
    *count == keep()
}

pub(super) fn plateau_threshold() -> f64 {
    1e-4
}

pub(super) fn plateau_smallest_change() -> f64 {
    1e-8
}

pub(super) fn min_positives() -> usize {
    1
}

pub(super) fn norm_momentum() -> f64 {
    0.1
}
