//! taming-transformers' VQ-GAN: a `.ckpt` and the `project.yaml` beside it.

use std::path::Path;

use serde::Deserialize;

use super::{Tensors, checkpoint::Checkpoint, error::ImportError, expected::take};
use crate::vqgan::{VqGan, VqGanConfig};

/// A VQ-GAN as it was in its files.
#[derive(Debug, Clone)]
pub struct ImportedVqGan {
    /// What the YAML says.
    pub config: VqGanConfig,
    /// The network's tensors.
    pub tensors: Tensors,
    /// Names in the file that were not needed: losses, above all.
    pub passed_over: Vec<String>,
}

/// Reads a VQ-GAN from its checkpoint and its project file.
///
/// # Errors
/// Files that are not what they should be; a YAML that asks for what is not supported (a Gumbel quantiser, `double_z`)
/// or disagrees with the tensors; missing, misshapen or non-finite tensors.
pub fn vqgan(checkpoint: &Path, project: &Path) -> Result<ImportedVqGan, ImportError> {
    let config = read_project(project)?;
    let checkpoint = Checkpoint::open(checkpoint, |name| {
        let wanted = !name.starts_with("loss.");
        wanted.then(|| name.to_owned())
    })?;
    if checkpoint.shape("quantize.embed.weight").is_some() {
        let problem = "holds a Gumbel quantiser (`quantize.embed.weight`), which is not supported";
        return Err(ImportError::unreadable(checkpoint.path(), problem));
    }
    let tensors = take(&checkpoint, |vb| VqGan::new(&config, vb))?;
    let passed_over = checkpoint.passed_over(&tensors);
    Ok(ImportedVqGan { config, tensors, passed_over })
}

#[derive(Deserialize)]
struct Project {
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    target: String,
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    embed_dim: usize,
    n_embed: usize,
    ddconfig: DdConfig,
}

#[derive(Deserialize)]
struct DdConfig {
    #[serde(default)]
    double_z: bool,
    z_channels: usize,
    resolution: usize,
    in_channels: usize,
    out_ch: usize,
    ch: usize,
    ch_mult: Vec<usize>,
    num_res_blocks: usize,
    attn_resolutions: Vec<usize>,
}

fn read_project(path: &Path) -> Result<VqGanConfig, ImportError> {
    let text = std::fs::read_to_string(path).map_err(|source| ImportError::io(path, source))?;
    let project: Project = serde_yaml_ng::from_str(&text).map_err(|error| {
        ImportError::unreadable(path, format!("is not a taming-transformers project file: {error}"))
    })?;
    let Model { target, params: Params { embed_dim, n_embed, ddconfig } } = project.model;
    if target.contains("Gumbel") {
        let problem = format!("`{target}` has a Gumbel quantiser; only VQModel is supported");
        return Err(ImportError::field(path, "model.target", problem));
    }
    if ddconfig.double_z {
        let problem = "true makes a variational autoencoder; only VQModel (false) is supported";
        return Err(ImportError::field(path, "model.params.ddconfig.double_z", problem));
    }
    let config = VqGanConfig {
        channels: ddconfig.ch,
        channel_multipliers: ddconfig.ch_mult,
        residual_blocks: ddconfig.num_res_blocks,
        attention_resolutions: ddconfig.attn_resolutions,
        resolution: ddconfig.resolution,
        in_channels: ddconfig.in_channels,
        out_channels: ddconfig.out_ch,
        z_channels: ddconfig.z_channels,
        embed_dim,
        codebook_size: n_embed,
        norm_groups: 32,
    };
    config.validate().map_err(|source| ImportError::config(path, source))?;
    Ok(config)
}
