//! Classifier-free guidance: away from the null (or negative) text, more with every step.

use super::SamplingParams;

/// The guidance scale of `step` (from 0): rises linearly from 1 at the first step to the full scale at the last.
/// With one step, the full scale.
pub fn guidance_at(params: &SamplingParams, step: u32) -> f32 {
    if params.step_count <= 1 {
        return params.guidance_scale;
    }
    let last = params.step_count - 1;
    let share = step.min(last) as f32 / last as f32;
    1.0 + (params.guidance_scale - 1.0) * share
}

/// Guided logits: unconditional + scale * (conditional - unconditional). A scale of 1 gives back the conditional
/// ones unchanged, to the bit.
pub fn combine(conditional: &[f32], unconditional: &[f32], scale: f32) -> Vec<f32> {
    if scale == 1.0 {
        return conditional.to_vec();
    }
    conditional.iter().zip(unconditional).map(|(with, without)| without + scale * (with - without)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guidance_rises_from_one_to_the_scale() {
        let params = SamplingParams { step_count: 5, guidance_scale: 3.0, ..SamplingParams::default() };
        let scales: Vec<f32> = (0..5).map(|step| guidance_at(&params, step)).collect();
        assert_eq!(scales, [1.0, 1.5, 2.0, 2.5, 3.0]);
    }

    #[test]
    fn a_single_step_has_the_full_scale() {
        let params = SamplingParams { step_count: 1, guidance_scale: 3.0, ..SamplingParams::default() };
        assert_eq!(guidance_at(&params, 0), 3.0);
    }

    #[test]
    fn scale_one_is_the_conditional_to_the_bit() {
        let conditional = [0.1f32, -7.3, 1e-20];
        assert_eq!(combine(&conditional, &[9.0, 0.3, 5.0], 1.0), conditional);
        assert_eq!(combine(&[2.0], &[1.0], 3.0), [4.0]);
    }
}
