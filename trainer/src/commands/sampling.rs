//! Options that change a model's defaults of sampling.

use clap::Args;
use raygen_trainer::sheet::Changes;

/// How pictures are sampled; what is left out is as the bundle has it.
#[derive(Args)]
pub(crate) struct Sampling {
    /// Seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Steps [default: the model's].
    #[arg(long)]
    steps: Option<u32>,
    /// Guidance [default: the model's].
    #[arg(long)]
    guidance: Option<f32>,
    /// Temperature [default: the model's].
    #[arg(long)]
    temperature: Option<f32>,
    /// Noise on the confidence [default: the model's].
    #[arg(long)]
    choice_temperature: Option<f32>,
    /// Share of the steps that refine the full grid [default: the model's].
    #[arg(long)]
    refinement: Option<f32>,
    /// Top-k filter [default: the model's].
    #[arg(long)]
    top_k_filter: Option<f32>,
    /// Sampler [default: the model's]: published, maskgit or halton.
    #[arg(long)]
    sampler: Option<String>,
}

impl From<Sampling> for Changes {
    fn from(options: Sampling) -> Self {
        let Sampling { seed, steps, guidance, temperature, choice_temperature, refinement, top_k_filter, sampler } =
            options;
        Self { seed, steps, guidance, temperature, choice_temperature, refinement, top_k_filter, sampler }
    }
}
