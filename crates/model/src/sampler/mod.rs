//! Samplers: how a grid of undecided positions is filled, step by step. Host-side and pure.
//!
//! One step is: run the network over [`SampleState::ids`], guide its logits ([`combine`]), and [`advance`].
//! All randomness is counter-based, so a sample's tokens do not depend on what else is generated.

mod choice;
mod error;
mod filter;
mod guidance;
mod halton;
mod maskgit;
mod params;
mod published;
mod refine;
mod schedule;
mod state;

pub use error::{ParameterError, SamplingError};
pub use filter::{keep_count, keep_largest};
pub use guidance::{combine, guidance_at};
pub use params::{Sampler, SamplingParams};
pub use published::{Noise, advance_with_noise};
pub use schedule::{masked_after, masked_before_published};
pub use state::SampleState;

/// Takes one step: decides positions of `state` from `logits` [positions * codebook size], row-major, guided already.
///
/// Positions decided before never change while the grid is filled; refinement hides some of them again, never those that the
/// caller gave. After `step_count` steps no position is undecided.
///
/// # Errors
/// The logits have the wrong length, hold a value that is not finite, or every step was taken already. The state
/// is unchanged then.
pub fn advance(state: &mut SampleState, params: &SamplingParams, logits: &[f32]) -> Result<(), SamplingError> {
    let codebook = check(state, params, logits)?;
    match params.sampler {
        _ if state.step >= params.fill_steps() => refine::advance(state, params, logits, codebook),
        Sampler::Published => published::advance(state, params, logits, codebook),
        Sampler::Maskgit => maskgit::advance(state, params, logits, codebook),
        Sampler::Halton => halton::advance(state, params, logits, codebook),
    }
    state.step += 1;
    refine::hide(state, params);
    Ok(())
}

/// Checks what `advance` was given; returns the codebook size.
fn check(state: &SampleState, params: &SamplingParams, logits: &[f32]) -> Result<usize, SamplingError> {
    if state.step >= params.step_count {
        return Err(SamplingError::Finished { step_count: params.step_count });
    }
    let codebook = state.mask_id() as usize;
    let expected = state.ids.len() * codebook;
    if logits.len() != expected || codebook == 0 {
        return Err(SamplingError::LogitsLength { expected, found: logits.len() });
    }
    if let Some(index) = logits.iter().position(|value| !value.is_finite()) {
        return Err(SamplingError::NotFinite { position: index / codebook, id: index % codebook, step: state.step });
    }
    Ok(codebook)
}

#[cfg(test)]
mod tests;
