//! `raygen-trainer import`: other people's checkpoints into a bundle.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use raygen_model::bundle::StoreType;
use raygen_trainer::import::{self, ImportFailure, Options, Sources};
use raygen_trainer::run::StopSignal;

/// What a shell expects of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// The files of a model, and what they do not tell. Any part alone makes a bundle of that part.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("parts").required(true).multiple(true))]
pub(crate) struct Import {
    /// RayGen's transformer: a Lightning .ckpt or a .pth dump, with or without the text encoder inside.
    #[arg(long, value_name = "FILE", group = "parts")]
    transformer: Option<PathBuf>,
    /// A taming-transformers VQ-GAN (VQModel or GumbelVQ): its .ckpt.
    #[arg(long, value_name = "FILE", group = "parts", requires = "vqgan_config")]
    vqgan: Option<PathBuf>,
    /// The VQ-GAN's project file: the *-project.yaml that taming-transformers wrote under configs/.
    #[arg(long, value_name = "FILE", requires = "vqgan")]
    vqgan_config: Option<PathBuf>,
    /// A BERT folder as Hugging Face has it: configuration, vocabulary, and weights unless the transformer's checkpoint
    /// holds them. CXR-BERT is one.
    #[arg(long, value_name = "DIR", group = "parts")]
    text_encoder: Option<PathBuf>,
    /// A DenseNet classifier: CheXNet's, torchvision's or torchxrayvision's, as they distribute it, or RayGen's own.
    #[arg(long, value_name = "FILE", group = "parts")]
    classifier: Option<PathBuf>,
    /// The bundle to write. One that is there is replaced once the new one is complete; anything else is left alone.
    #[arg(long, value_name = "BUNDLE")]
    out: PathBuf,
    /// Attention heads of the transformer: no tensor tells their number.
    #[arg(long, value_name = "N", default_value_t = 8)]
    heads: usize,
    /// Text tokens per impression [default: 256, or fewer where the text encoder has fewer positions].
    #[arg(long, value_name = "N")]
    text_max_length: Option<usize>,
    /// Store tensors in this type [default: as they are in the files].
    #[arg(long)]
    dtype: Option<Dtype>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Import {
    /// Imports, and says what it read. Ctrl-C and SIGTERM leave nothing half-written.
    pub(crate) fn run(self) -> Result<ExitCode> {
        let stop = StopSignal::install().context("signal handler")?;
        for (option, path) in
            [("--transformer", &self.transformer), ("--vqgan", &self.vqgan), ("--classifier", &self.classifier)]
        {
            if let Some(path) = path.as_ref().filter(|path| path.is_dir()) {
                bail!(
                    "{option} {}: is a folder; give the file in it (a BERT folder is given with --text-encoder)",
                    path.display()
                );
            }
        }
        if let Some(path) = self.text_encoder.as_ref().filter(|path| path.is_file()) {
            bail!(
                "--text-encoder {}: is a file; give its folder, which holds config.json and the vocabulary too",
                path.display()
            );
        }
        let sources = Sources {
            transformer: self.transformer,
            vqgan: self.vqgan.zip(self.vqgan_config),
            text_encoder: self.text_encoder,
            classifier: self.classifier,
        };
        let store = self.dtype.map(|dtype| match dtype {
            Dtype::F32 => StoreType::F32,
            Dtype::F16 => StoreType::F16,
            Dtype::Bf16 => StoreType::Bf16,
        });
        let options = Options { heads: self.heads, text_max_length: self.text_max_length, store };
        let report = match import::import(&sources, options, &self.out, &stop) {
            Err(error @ ImportFailure::Interrupted) => {
                eprintln!("{error}");
                return Ok(ExitCode::from(INTERRUPTED));
            }
            // Its text tells its causes already.
            outcome => outcome.map_err(|error| anyhow!("{error}"))?,
        };
        print!("{report}");
        println!("serve it with: raygen-server --models {}", self.out.display());
        Ok(ExitCode::SUCCESS)
    }
}
