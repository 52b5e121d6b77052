//! What a run will take, before it takes anything: parameters, memory, disk, steps and, by a few steps on noise, time.

mod classifier;
mod measure;
mod memory;
mod networks;
mod show;

use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::Device;
use raygen_manifest::{Film, Split};
use serde::Serialize;

pub use self::measure::{Measured, Times};
pub use self::memory::Memory;
pub use self::networks::Network;
pub(crate) use self::networks::tensor_sizes;
use crate::config::{Cadence, RunConfig};
use crate::data::FilmList;
use crate::run::memory::{available_bytes, peak_resident_bytes};
use crate::stages::tokenizer::{check_tokenizer_start, network_config};
use crate::stages::transformer::{Shapes, check_text_start, vocabulary};

/// A forward pass takes about this share of a step.
const FORWARD: f64 = 1.0 / 3.0;
/// Forward passes over a validation film: four masks, with and without the text.
const FORWARDS_PER_FILM: f64 = 8.0;
/// The stage that is timed as if all of the tokenizer learnt, which is rather too much.
const DECODER: &str = "decoder";
/// Bytes of a token, in memory and on disk.
const TOKEN_BYTES: u64 = 2;
/// Bytes of a pixel of a film that is ready for a step.
const F32: u64 = 4;
/// Steps whose films are in memory where not all are: the one that goes on, and those that are made ready.
const FILMS_AHEAD: u64 = 4;
/// Films on a sheet: three impressions of eight samples.
const SAMPLES: f64 = 24.0;

/// What a run will take. Bytes and seconds are estimates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The run.
    pub name: String,
    /// Where it writes.
    pub out: PathBuf,
    /// Whether a run is there already, which would go on.
    pub out_holds_a_run: bool,
    /// The films.
    pub films: Films,
    /// The networks.
    pub networks: Vec<Network>,
    /// The stages that train.
    pub stages: Vec<StagePlan>,
    /// The token cache, where pictures are to be made.
    pub encode: Option<EncodePlan>,
    /// Memory that the machine has left, where it can be told.
    pub available_bytes: Option<u64>,
    /// The most that this process had in memory while steps were timed, where they were.
    pub measured_peak_bytes: Option<u64>,
    /// Why times are missing.
    pub not_measured: Option<String>,
    /// Seconds of the whole run, where all of its stages were timed.
    pub seconds: Option<f64>,
}

/// The films of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Films {
    /// To learn from.
    pub train: usize,
    /// To validate on.
    pub val: usize,
    /// Lateral ones, left out.
    pub lateral: usize,
    /// Missing ones, left out because `data.bad_films` says so.
    pub missing: usize,
    /// Decoded, on disk, a byte a pixel.
    pub bytes: u64,
    /// Of them in memory: all, or where they are more than `data.memory_mib`, those of the coming steps.
    pub memory_bytes: u64,
}

/// A stage that trains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StagePlan {
    /// Which.
    pub stage: &'static str,
    /// Steps.
    pub steps: u64,
    /// Films a step.
    pub batch: usize,
    /// How often each film is seen.
    pub epochs: f64,
    /// In memory.
    pub memory: Memory,
    /// On disk, all checkpoints that are kept.
    pub checkpoint_bytes: u64,
    /// A step on this machine.
    pub step: Option<Measured>,
    /// Seconds of all steps and validations.
    pub seconds: Option<f64>,
}

/// The token cache.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EncodePlan {
    /// Token grids.
    pub grids: usize,
    /// Tokens of a grid.
    pub tokens: usize,
    /// On disk.
    pub bytes: u64,
    /// A grid on this machine.
    pub grid: Option<Measured>,
    /// Seconds of all.
    pub seconds: Option<f64>,
}

impl Plan {
    /// Plans `config`, which would write to `out`; times it on the device, if one is given.
    ///
    /// # Errors
    /// What a run would stop with at its start: a wrong manifest, a film that is not there, a bundle that does not fit.
    pub fn make(config: &RunConfig, out: &Path, device: Option<&Device>) -> Result<Self> {
        let films = FilmList::read(&config.manifest(), &config.data.views, config.data.bad_films)?;
        if !config.makes_pictures() {
            let mut plan = Self::empty(config, out, &films);
            plan.add_classifier(config, &films)?;
            plan.measure(config, None, device)?;
            return Ok(plan);
        }
        let (train, val) = (films.of(Split::Train).count(), films.of(Split::Val).count());
        let words = vocabulary(config, films.of(Split::Train).filter_map(|film| film.impression.as_deref()))?;
        let tokenizer = network_config(config);
        let mut shapes = Shapes::new(config, &tokenizer, words);
        if let Some(bundle) = config.text_start() {
            shapes.text_encoder = check_text_start(&bundle, config)?;
        }
        if let Some(bundle) = config.tokenizer_start() {
            check_tokenizer_start(&bundle, &tokenizer)?;
        }
        let networks = networks::count(config, &shapes)?;
        let text_length = match shapes.transformer.pads_text_to_maximum() {
            true => config.transformer.text.max_tokens,
            false => longest(&films).min(config.transformer.text.max_tokens),
        };
        let [vqgan, transformer, text] = &networks;
        let adversarial = config.tokenizer.adversarial.as_ref().filter(|_| config.tokenizer.steps > 0);
        let discriminator = networks::discriminator(config, adversarial);
        let vqgan: Vec<&Network> = std::iter::once(vqgan).chain(&discriminator).collect();
        let vqgan_activations = if config.tokenizer.steps == 0 { 0 } else { memory::tokenizer_activations(config) };
        let mut plan = Self {
            stages: vec![
                StagePlan {
                    stage: "tokenizer",
                    steps: config.tokenizer.steps,
                    batch: config.tokenizer.batch,
                    epochs: epochs(config.tokenizer.steps, config.tokenizer.batch, train),
                    memory: Memory::of(&vqgan, vqgan_activations),
                    checkpoint_bytes: Memory::checkpoint(&vqgan)
                        * kept(config.tokenizer.steps, &config.tokenizer.safety()),
                    step: None,
                    seconds: None,
                },
                StagePlan {
                    stage: "transformer",
                    steps: config.transformer.steps,
                    batch: config.transformer.films_a_step(),
                    epochs: epochs(config.transformer.steps, config.transformer.films_a_step(), train),
                    memory: Memory::of(
                        &[transformer, text],
                        memory::transformer_activations(config, text_length as u64),
                    ),
                    checkpoint_bytes: Memory::checkpoint(&[transformer, text])
                        * kept(config.transformer.steps, &config.transformer.safety()),
                    step: None,
                    seconds: None,
                },
            ],
            encode: Some(EncodePlan {
                grids: (train + val) * config.encode.views,
                tokens: tokenizer.positions(),
                bytes: TOKEN_BYTES * ((train + val) * config.encode.views * tokenizer.positions()) as u64,
                grid: None,
                seconds: None,
            }),
            networks: Vec::from(networks),
            ..Self::empty(config, out, &films)
        };
        plan.add_decoder(config, train);
        plan.add_classifier(config, &films)?;
        plan.measure(config, Some((text_length, shapes.text_encoder.vocab_size)), device)?;
        Ok(plan)
    }

    /// Adds the stage `decoder`, if the run has it. It trains a part of the tokenizer, on activations of that part: what is told is
    /// for all of it, rather too much.
    fn add_decoder(&mut self, config: &RunConfig, train: usize) {
        let Some(decoder) = &config.decoder else { return };
        let networks = networks::decoder(config);
        let activations = memory::tokenizer_activations(config) / config.tokenizer.batch as u64 * decoder.batch as u64;
        let networks: Vec<&Network> = networks.iter().collect();
        self.stages.push(StagePlan {
            stage: DECODER,
            steps: decoder.steps,
            batch: decoder.batch,
            epochs: epochs(decoder.steps, decoder.batch, train),
            memory: Memory::of(&networks, activations),
            checkpoint_bytes: Memory::checkpoint(&networks) * kept(decoder.steps, &decoder.safety()),
            step: None,
            seconds: None,
        });
    }

    /// Of a run without stages.
    fn empty(config: &RunConfig, out: &Path, films: &FilmList) -> Self {
        let (train, val) = (films.of(Split::Train).count(), films.of(Split::Val).count());
        let bytes = (train + val) as u64 * (config.data.image_size as u64).pow(2);
        let memory_bytes = match bytes <= config.data.memory_limit() {
            true => bytes,
            false => FILMS_AHEAD * (largest_batch(config) as u64) * (config.data.image_size as u64).pow(2) * F32,
        };
        Self {
            name: config.name.clone(),
            out: out.to_owned(),
            out_holds_a_run: out.join("config.toml").exists(),
            films: Films { train, val, lateral: films.lateral, missing: films.missing.0.len(), bytes, memory_bytes },
            networks: Vec::new(),
            stages: Vec::new(),
            encode: None,
            available_bytes: available_bytes(),
            measured_peak_bytes: None,
            not_measured: None,
            seconds: None,
        }
    }

    /// The most that a run on the CPU holds in memory at once: the films and the larger stage, the transformer with all tokens.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        self.films.memory_bytes + self.stage_bytes()
    }

    fn stage_bytes(&self) -> u64 {
        let tokens = self.encode.as_ref().map_or(0, |encode| encode.bytes);
        let of = |stage: &StagePlan| stage.memory.total() + if stage.stage == "transformer" { tokens } else { 0 };
        self.stages.iter().map(of).max().unwrap_or(0)
    }

    fn measure(&mut self, config: &RunConfig, text: Option<(usize, usize)>, device: Option<&Device>) -> Result<()> {
        let Some(device) = device else {
            self.not_measured = Some("--no-measure".to_owned());
            return Ok(());
        };
        // Steps are timed without films; on a GPU the memory that counts for them is not the machine's.
        let needed = self.stage_bytes();
        if let Some(available) = self.available_bytes.filter(|available| device.is_cpu() && needed > *available) {
            let (needed, available) = (crate::run::memory::readable(needed), crate::run::memory::readable(available));
            self.not_measured = Some(format!("it needs about {needed} of memory, and {available} are left"));
            return Ok(());
        }
        let times = measure::measure(config, text, device)?;
        self.measured_peak_bytes = peak_resident_bytes();
        let val = self.films.val as f64;
        let sampling = &config.export.sampling;
        let passes = if sampling.guidance_scale == 1.0 { 1.0 } else { 2.0 };
        let sheet = SAMPLES * f64::from(sampling.step_count) * passes;
        for stage in &mut self.stages {
            match (stage.stage, &config.classifier) {
                ("tokenizer", _) => stage.take(times.tokenizer, &config.tokenizer.cadence, val),
                (DECODER, _) => {
                    if let Some(decoder) = &config.decoder {
                        stage.take(times.decoder, &decoder.cadence, 2.0 * val);
                    }
                }
                (classifier::STAGE, Some(config)) => stage.take(times.classifier, &config.cadence, val),
                _ => stage.take(times.transformer, &config.transformer.cadence, val * FORWARDS_PER_FILM + sheet),
            }
        }
        // The decoder's stage fills in a part of every film's grid first.
        if let (Some(decoder), Some(stage)) =
            (&config.decoder, self.stages.iter_mut().find(|stage| stage.stage == DECODER))
        {
            let grids = (self.films.train + self.films.val) as f64 * f64::from(decoder.grids);
            let forward = times.transformer.map(|step| {
                step.seconds / config.transformer.films_a_step() as f64 * FORWARD * f64::from(decoder.sampling_steps)
            });
            stage.seconds = stage.seconds.zip(forward).map(|(seconds, forward)| seconds + grids * passes * forward);
        }
        if let Some(encode) = &mut self.encode {
            encode.grid = times.encode;
            encode.seconds = times.encode.map(|grid| grid.seconds * encode.grids as f64);
        }
        let encode = self.encode.iter().map(|encode| encode.seconds);
        self.seconds = self.stages.iter().map(|stage| stage.seconds).chain(encode).sum();
        if self.seconds.is_none() {
            self.not_measured = Some("a step takes too long here to be timed in 20 s".to_owned());
        }
        Ok(())
    }
}

impl StagePlan {
    /// Takes the time of a step in; each validation is `forwards` forward passes of one film.
    fn take(&mut self, step: Option<Measured>, cadence: &Cadence, forwards: f64) {
        if self.steps == 0 {
            self.seconds = Some(0.0);
            return;
        }
        self.step = step;
        self.seconds = step.map(|step| {
            // One at the last step whatever the cadence, and one for the report of the end.
            let validations = (self.steps.div_ceil(cadence.validate_every) + 1) as f64;
            let forward = step.seconds / self.batch as f64 * FORWARD;
            self.steps as f64 * step.seconds + validations * forwards * forward
        });
    }
}

fn epochs(steps: u64, batch: usize, films: usize) -> f64 {
    steps as f64 * batch as f64 / films.max(1) as f64
}

/// Films of a step, of the stage that has the most of those that look at films.
fn largest_batch(config: &RunConfig) -> usize {
    let decoder = config.decoder.as_ref().map_or(0, |decoder| decoder.batch);
    let classifier = config.classifier.as_ref().map_or(0, |classifier| classifier.batch);
    config.tokenizer.batch.max(decoder).max(classifier)
}

/// Checkpoints on disk at the end; while one is written there is one more.
fn kept(steps: u64, safety: &crate::config::Safety) -> u64 {
    if steps == 0 { 0 } else { safety.keep as u64 + u64::from(safety.keep_best) }
}

/// Word pieces of the longest impression: most words are one piece or two, and there are a start and an end.
fn longest(films: &FilmList) -> usize {
    let pieces = |film: &Film| film.impression.as_deref().map_or(0, |text| text.split_whitespace().count()) * 3 / 2 + 2;
    films.films.iter().map(|(film, _)| pieces(film)).max().unwrap_or(2)
}
