//! Stage `decoder`: the tokenizer's decoder learns to make films of grids that the transformer filled in, which are never quite
//! those of a film (the paper's future work). Encoder and codes stay as they are, and with them every token.

mod grids;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor, Var};
use raygen_model::bundle::{Bundle, Component, TOKENIZER_FILE};
use raygen_model::model::Model;
use raygen_model::vqgan::VqGan;
use raygen_nn::Parameters;

use self::grids::Grids;
use super::encode::Tokens;
use super::picture_loss::{Decoded, LAST_LAYER, PictureLoss, PictureLossConfig};
use super::tokenizer::{Tokenizer, build, film_tensor, films_ahead, pictures, pixel_tensor, sum_of_psnr};
use super::training_loop::{self, Course, StepReport, Trainee, Validation, named};
use super::transformer::Trained;
use super::{Stage, export, fingerprint};
use crate::config::DecoderConfig;
use crate::data::{Ahead, FilmOrder};
use crate::optim::{AdamW, Gradients, MovingAverage};
use crate::run::{Checkpoint, Waits, write_sheet};

/// The stage.
const NAME: &str = "decoder";
/// The model as it was before, within the stage's folder.
const BEFORE: &str = "before";
/// Films decoded at once in validation.
const BATCH: usize = 8;
/// Films on the sheet.
const DRAWN: usize = 8;

/// The decoder at work.
struct Pupil<'a> {
    stage: &'a Stage<'a>,
    config: &'a DecoderConfig,
    tokenizer: &'a Tokenizer,
    tokens: &'a Tokens,
    grids: &'a Grids,
    order: FilmOrder,
    /// The films of the coming steps, once it steps.
    coming: Option<Ahead<Vec<f32>>>,
    network: VqGan,
    trained: Vec<(String, Var)>,
    last_layer: Var,
    optimiser: AdamW,
    average: MovingAverage,
    losses: PictureLoss,
    judged: Option<VqGan>,
}

/// The tokenizer with a decoder that was fine-tuned to the end; or none where it was asked to stop.
///
/// # Errors
/// Where the loss is no number, or a file cannot be written.
pub(super) fn train(
    stage: &Stage<'_>,
    config: &DecoderConfig,
    tokenizer: &Tokenizer,
    tokens: &Tokens,
    trained: &Trained,
) -> Result<Option<Tokenizer>> {
    // What the transformer fills in is what users of the bundle would get: it is made by the bundle as it is until now.
    let before = stage.directory.stage(NAME).join(BEFORE);
    stage.reduce.once(|| export::export(stage, tokenizer, trained, None, &before))?;
    let bundle = Bundle::open(&before)?;
    let losses = PictureLossConfig {
        structure: config.structure,
        perceptual: stage.config.decoder_perceptual(),
        adversarial: config.adversarial.as_ref(),
        image_channels: tokenizer.config.out_channels,
        seed: stage.config.seed,
    };
    let losses = PictureLoss::new(&losses, stage.device).context("decoder.perceptual")?;
    let seed = stage.config.seed.to_string();
    let films = [stage.films.pixels_fingerprint.as_str(), &stage.films.texts_fingerprint];
    // Two ranks do what one does with twice the batch: the run may change from one to the other.
    let batch = config.batch * stage.reduce.ranks();
    let settings = toml::to_string(&DecoderConfig { batch, ..config.identity() }).context("settings")?;
    let model_digest = what_generates(&bundle)?;
    let digest = model_digest.as_str();
    let grids_settings = format!("{} {} {}", config.masked, config.grids, config.sampling_steps);
    let grids = fingerprint(&["grids", &grids_settings, &seed, digest, films[0], films[1], &tokens.fingerprint]);
    let mut parts = vec![NAME, &settings, &seed, digest, films[0], films[1], &tokens.fingerprint];
    parts.extend(losses.digest());
    let identity = fingerprint(&parts);
    let grids = stage.reduce.once(|| {
        let model = Model::load(&bundle, stage.device, DType::F32)?;
        Grids::make(stage, config, &model, tokens, &grids)
    })?;
    let Some(grids) = grids else { return Ok(None) };
    let mut pupil = Pupil::new(stage, config, (tokenizer, tokens, &grids), losses)?;
    let course = Course {
        stage: NAME,
        identity: &identity,
        steps: config.steps,
        films_per_step: config.batch,
        cadence: config.cadence,
        safety: config.safety(),
        optimiser: config.optimiser,
    };
    if training_loop::train(stage, &course, &mut pupil)?.is_none() {
        return Ok(None);
    }
    let tensors = pupil.exported();
    let network = build(&tokenizer.config, &tensors, stage.device)?;
    let validation_psnr = stage.reduce.once(|| pupil.psnr(&network, |film| tokens.grid(film, 0)))?;
    Ok(Some(Tokenizer {
        config: tokenizer.config.clone(),
        tensors,
        network,
        fingerprint: tokenizer.fingerprint.clone(),
        validation_psnr,
    }))
}

/// Tells models that generate alike from others: their networks and how they are asked, and not what the card says of them.
fn what_generates(bundle: &Bundle) -> Result<String> {
    let files = [Component::VqGan, Component::Transformer, Component::TextEncoder].map(|component| component.file());
    let mut parts = Vec::new();
    for file in files.iter().map(String::as_str).chain([TOKENIZER_FILE]) {
        parts.push(bundle.checksum(file).with_context(|| format!("SHA256SUMS lists no {file}"))?.to_owned());
    }
    let config = bundle.config();
    parts.push(serde_json::to_string(&config.components)?);
    parts.push(serde_json::to_string(&config.text)?);
    parts.push(serde_json::to_string(&config.sampling)?);
    Ok(fingerprint(&parts.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Whether a tensor of the tokenizer belongs to what is trained here.
pub(crate) fn learns(name: &str) -> bool {
    name.starts_with("decoder.") || name.starts_with("post_quant_conv.")
}

// === impl Pupil ===

impl<'a> Pupil<'a> {
    fn new(
        stage: &'a Stage<'a>,
        config: &'a DecoderConfig,
        (tokenizer, tokens, grids): (&'a Tokenizer, &'a Tokens, &'a Grids),
        losses: PictureLoss,
    ) -> Result<Self> {
        let parameters = Parameters::from_tensors(tokenizer.tensors.clone())?;
        let network = VqGan::new(&tokenizer.config, parameters.builder(DType::F32))?;
        let trained: Vec<(String, Var)> = parameters.named().into_iter().filter(|(name, _)| learns(name)).collect();
        let last_layer = trained.iter().find(|(name, _)| name == LAST_LAYER).map(|(_, var)| var.clone());
        Ok(Self {
            stage,
            config,
            tokenizer,
            tokens,
            grids,
            order: FilmOrder::new(stage.config.seed, stage.films.train.len()),
            coming: None,
            network,
            last_layer: last_layer.with_context(|| format!("the tokenizer has no tensor {LAST_LAYER}"))?,
            optimiser: AdamW::new(config.optimiser, &trained)?,
            average: MovingAverage::new(config.optimiser.ema_decay, &trained)?,
            trained,
            losses,
            judged: None,
        })
    }

    /// All tensors of the tokenizer, the decoder's averaged.
    fn exported(&self) -> BTreeMap<String, Tensor> {
        let mut tensors = self.tokenizer.tensors.clone();
        tensors.extend(self.average.averages().clone());
        tensors
    }

    /// Grids of equal size as ids [count, side, side].
    fn ids(&self, grids: &[&[u16]]) -> Result<Tensor> {
        let side = self.tokenizer.config.grid_side();
        let ids: Vec<u32> = grids.iter().flat_map(|grid| grid.iter().map(|id| u32::from(*id))).collect();
        Ok(Tensor::from_vec(ids, (grids.len(), side, side), self.stage.device)?)
    }

    fn films(&self, indices: &[usize]) -> Result<Tensor> {
        film_tensor(self.stage.films, indices, self.tokenizer.config.out_channels, self.stage.device)
    }

    /// Mean PSNR over the validation films of what `network` decodes from the grid of each.
    fn psnr<'g>(&self, network: &VqGan, grid: impl Fn(usize) -> &'g [u16]) -> Result<f64> {
        let films = &self.stage.films.val;
        let mut total = 0.0;
        for indices in films.chunks(BATCH) {
            let grids: Vec<&[u16]> = indices.iter().map(|film| grid(*film)).collect();
            total += sum_of_psnr(&self.films(indices)?, &network.decode(&self.ids(&grids)?)?)?;
        }
        Ok(total / films.len() as f64)
    }
}

// === impl Trainee for Pupil ===

impl Trainee for Pupil<'_> {
    fn step(&mut self, step: u64, rate: f64, waits: &mut Waits) -> Result<StepReport> {
        let reduce = self.stage.reduce;
        let drawn: Vec<(usize, u64)> = self.order.batch_of(step, self.config.batch, reduce.place());
        let films: Vec<usize> = drawn.iter().map(|(place, _)| self.stage.films.train[*place]).collect();
        let numbers = drawn.iter().map(|(_, epoch)| (epoch % u64::from(self.config.grids)) as usize);
        let grids: Vec<&[u16]> =
            films.iter().zip(numbers).map(|(film, number)| self.grids.grid(*film, number)).collect();
        let (stage, batch) = (self.stage, self.config.batch);
        let coming = match &mut self.coming {
            Some(coming) => coming,
            None => self.coming.insert(films_ahead(stage, (step, self.config.steps), batch, 0)?),
        };
        let channels = self.tokenizer.config.out_channels;
        let images =
            waits.data(|| pixel_tensor(coming.take(step)?, batch, stage.films.side, channels, stage.device))?;
        let codes = self.network.codes(&self.ids(&grids)?)?.detach();
        let maps = self.network.before_last_layer(&codes)?;
        let pictures = self.network.last_layer(&maps)?;
        let decoded =
            Decoded { network: &self.network, last_layer: &self.last_layer, maps: &maps, pictures: &pictures };
        let losses = self.losses.of(&decoded, &images, reduce, step)?;
        let gradients = Gradients::of_mean(&self.trained, &losses.loss, reduce)?;
        let report = self.optimiser.update(&self.trained, &gradients, rate)?;
        if report.without_gradient > 0 {
            bail!("{} tensors of the decoder got no gradient: it would not learn", report.without_gradient);
        }
        self.average.update(&self.trained, step)?;
        let mut metrics = vec![("reconstruction", losses.absolute)];
        metrics.extend(losses.others);
        let mut gradient_norm = report.gradient_norm;
        if let Some(lesson) = self.losses.learn(&images, &pictures, reduce, step, rate)? {
            metrics.extend(lesson.metrics());
            gradient_norm = if lesson.gradient_norm.is_finite() { gradient_norm } else { lesson.gradient_norm };
        }
        let loss = super::picture_loss::scalar(&losses.total)?;
        let numbers = std::iter::once(loss).chain(metrics.iter().map(|(_, value)| *value));
        let means = reduce.mean_numbers(numbers.collect())?;
        let loss = means.first().copied().unwrap_or(loss);
        metrics.iter_mut().zip(means.iter().skip(1)).for_each(|((_, value), mean)| *value = *mean);
        Ok(StepReport { loss, gradient_norm, metrics })
    }

    fn validate(&mut self) -> Result<Validation> {
        let network = build(&self.tokenizer.config, &self.exported(), self.stage.device)?;
        let generated = self.psnr(&network, |film| self.grids.grid(film, 0))?;
        let own = self.psnr(&network, |film| self.tokens.grid(film, 0))?;
        self.judged = Some(network);
        Ok(Validation {
            watched: vec![generated, own],
            metrics: named([("generated_psnr", generated), ("psnr", own)]),
            score: generated,
            summary: format!("val PSNR {generated:.2} dB of grids filled in, {own:.2} dB of the films' own"),
        })
    }

    fn draw(&self, step: u64) -> Result<bool> {
        let Some(network) = &self.judged else { return Ok(true) };
        let films: Vec<usize> = self.stage.films.val.iter().copied().take(DRAWN).collect();
        let grids: Vec<&[u16]> = films.iter().map(|film| self.grids.grid(*film, 0)).collect();
        let ids = self.ids(&grids)?;
        let rows = [
            ("films".to_owned(), pictures(&self.films(&films)?)?),
            ("filled in, decoded as before".to_owned(), pictures(&self.tokenizer.network.decode(&ids)?)?),
            ("filled in, decoded now".to_owned(), pictures(&network.decode(&ids)?)?),
        ];
        let sheet = self.stage.directory.stage(NAME).join(format!("samples/step-{step:06}.png"));
        write_sheet(&sheet, &rows, films.len())?;
        Ok(true)
    }

    fn checkpoint(&self, step: u64) -> Result<Checkpoint> {
        let (updates, first, second) = self.optimiser.state();
        let weights = self.trained.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        let mut checkpoint = Checkpoint {
            step,
            updates,
            groups: BTreeMap::from([
                ("weights".to_owned(), weights),
                ("first".to_owned(), first.clone()),
                ("second".to_owned(), second.clone()),
                ("average".to_owned(), self.average.averages().clone()),
            ]),
            ..Checkpoint::default()
        };
        self.losses.record(&mut checkpoint)?;
        Ok(checkpoint)
    }

    fn restore(&mut self, mut checkpoint: Checkpoint) -> Result<u64> {
        let weights = checkpoint.take("weights");
        for (name, var) in &self.trained {
            var.set(weights.get(name).with_context(|| format!("the checkpoint lacks tensor {name}"))?)?;
        }
        self.optimiser.restore(checkpoint.updates, checkpoint.take("first"), checkpoint.take("second"))?;
        self.average.restore(checkpoint.take("average"))?;
        self.losses.restore(&mut checkpoint)?;
        Ok(checkpoint.step)
    }
}
