//! taming-transformers' VQ-GAN, nearest-code or Gumbel: a `.ckpt` and the `project.yaml` beside it.

use std::path::Path;

use serde::Deserialize;

use super::{
    Tensors,
    architecture::{self, Architecture},
    checkpoint::Checkpoint,
    error::ImportError,
    expected::take,
    small_file,
};
use crate::vqgan::{QuantiserKind, VqGan, VqGanConfig};

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
/// Files that are not what they should be; a YAML that asks for what is not supported (`double_z`) or disagrees with the
/// tensors; missing, extra, misshapen or non-finite tensors.
pub fn vqgan(checkpoint: &Path, project: &Path) -> Result<ImportedVqGan, ImportError> {
    let (config, target) = read_project(project)?;
    let checkpoint = Checkpoint::open(checkpoint, |name| {
        let wanted = !name.starts_with("loss.");
        wanted.then(|| name.to_owned())
    })?;
    architecture::check(&checkpoint, Architecture::VqGan)?;
    check_quantiser(&checkpoint, &config, project, &target)?;
    let tensors = take(&checkpoint, |vb| VqGan::new(&config, vb))?;
    let passed_over = checkpoint.passed_over(&tensors);
    match passed_over.iter().find(|name| is_of_the_network(name)) {
        Some(name) => {
            let problem = format!("{} describes a smaller network than these weights", project.display());
            Err(ImportError::Unexpected { path: checkpoint.path().to_owned(), tensor: name.clone(), problem })
        }
        None => Ok(ImportedVqGan { config, tensors, passed_over }),
    }
}

/// The kind that the YAML names, against the codebook's name in the file.
fn check_quantiser(
    checkpoint: &Checkpoint,
    config: &VqGanConfig,
    project: &Path,
    target: &str,
) -> Result<(), ImportError> {
    let (foreign, kind) = match config.quantiser {
        QuantiserKind::Nearest => ("quantize.embed.weight", "a Gumbel quantiser"),
        QuantiserKind::Gumbel => ("quantize.embedding.weight", "a quantiser of nearest codes"),
    };
    if checkpoint.shape(foreign).is_none() {
        return Ok(());
    }
    let problem = format!("is `{target}`, but {} holds {kind} (`{foreign}`)", checkpoint.path().display());
    Err(ImportError::field(project, "model.target", problem))
}

/// Whether a picture would pass through this tensor: to leave one out is to compute something else.
fn is_of_the_network(name: &str) -> bool {
    // Averages that training by moving average keeps beside the codebook.
    let is_average = ["quantize.embedding.cluster_size", "quantize.embedding.embed_avg"].contains(&name);
    let roots = ["encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv."];
    !is_average && roots.iter().any(|root| name.starts_with(root))
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

/// The configuration, and the class that the file names.
fn read_project(path: &Path) -> Result<(VqGanConfig, String), ImportError> {
    let text = small_file::read(path)?;
    let project: Project = serde_yaml_ng::from_str(&text).map_err(|error| {
        ImportError::unreadable(path, format!("is not a taming-transformers project file (YAML): {error}"))
    })?;
    let Model { target, params: Params { embed_dim, n_embed, ddconfig } } = project.model;
    if ddconfig.double_z {
        let problem = "true makes a variational autoencoder; only VQModel and GumbelVQ (false) are supported";
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
        quantiser: if target.contains("Gumbel") { QuantiserKind::Gumbel } else { QuantiserKind::Nearest },
    };
    config.validate().map_err(|source| ImportError::config(path, source))?;
    Ok((config, target))
}
