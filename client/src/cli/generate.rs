//! `raygen generate`: an impression in, pictures out, and the grid filling meanwhile.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use raygen_client::{
    Admitted, GenerateEvent, Progress, Sample, Summary,
    wire::{Canvas, GenerateRequest, OutputOptions, PreviewMode, Sampler, SamplingParams, View, canvas},
};
use serde_json::json;

use super::{
    Session,
    emergence::Emergence,
    failure::Failure,
    files::{check_target, extension, numbered, picture_format, read_picture, write_whole},
    progress::ProgressDisplay,
    token_file::{TokenFile, read_tokens, write_tokens},
};

/// Arguments of `raygen generate`.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct GenerateArguments {
    /// The impression, such as "Pneumonia with pleural effusion".
    impression: String,
    /// Where to write the picture: .png, .jpg or .dcm. With --count, FILE-0.png on.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// models/{model} or models/{model}/versions/{version}; the server's default unless given.
    #[arg(long, default_value = "", hide_default_value = true)]
    model: String,
    /// Seed; the same seed gives the same picture. The server draws one unless given, and says which.
    #[arg(long)]
    seed: Option<u64>,
    /// How many pictures.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Decoding steps.
    #[arg(long, value_name = "K")]
    steps: Option<u32>,
    /// Temperature of token choice; 0 is greedy.
    #[arg(long)]
    temperature: Option<f32>,
    /// Share of the worst token choices to leave out, in [0, 1).
    #[arg(long, value_name = "ALPHA")]
    top_k_filter: Option<f32>,
    /// Classifier-free guidance; 1 is none.
    #[arg(long, value_name = "SCALE")]
    guidance: Option<f32>,
    /// Scale of the noise on confidence (maskgit sampler).
    #[arg(long, value_name = "SCALE")]
    choice_temperature: Option<f32>,
    /// Share of the steps that refine the full grid, 0 to 0.9 (not with the published sampler).
    #[arg(long, value_name = "SHARE")]
    refinement: Option<f32>,
    /// Which sampler.
    #[arg(long, value_enum)]
    sampler: Option<SamplerName>,
    /// What guidance moves away from, instead of the empty text.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    negative: String,
    /// The view of the picture, where the model knows views; its default unless given.
    #[arg(long, value_enum, ignore_case = true)]
    view: Option<ViewName>,
    /// Also write the token grid (JSON).
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Also write each step's preview into this folder.
    #[arg(long, value_name = "DIR")]
    steps_dir: Option<PathBuf>,
    /// Also write the emergence as an animated GIF.
    #[arg(long, value_name = "FILE")]
    gif: Option<PathBuf>,
    /// Start from this picture, or from a token file (.json), instead of an empty grid.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// A picture that is white where --image is to be regenerated.
    #[arg(long, value_name = "FILE", requires = "image")]
    mask: Option<PathBuf>,
    /// Without a mask: the share of --image to regenerate, in (0, 1].
    #[arg(long, value_name = "SHARE", requires = "image", conflicts_with = "mask")]
    strength: Option<f32>,
}

/// Names of the samplers.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum SamplerName {
    /// Exactly the published code.
    Published,
    /// Noise on confidence, annealed.
    Maskgit,
    /// A fixed low-discrepancy order.
    Halton,
}

/// Names of the views.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ViewName {
    /// From front to back.
    #[value(name = "AP")]
    Ap,
    /// From back to front.
    #[value(name = "PA")]
    Pa,
    /// From the side.
    Lateral,
    /// AP or PA, not known which.
    Frontal,
}

impl GenerateArguments {
    /// The view that was given; the model's default for none.
    fn view(&self) -> View {
        match self.view {
            None => View::Unspecified,
            Some(ViewName::Ap) => View::Ap,
            Some(ViewName::Pa) => View::Pa,
            Some(ViewName::Lateral) => View::Lateral,
            Some(ViewName::Frontal) => View::Frontal,
        }
    }

    /// The sampling parameters that were given; the model's defaults for the others.
    pub(crate) fn sampling(&self) -> SamplingParams {
        let sampler = match self.sampler {
            None => Sampler::Unspecified,
            Some(SamplerName::Published) => Sampler::Published,
            Some(SamplerName::Maskgit) => Sampler::Maskgit,
            Some(SamplerName::Halton) => Sampler::Halton,
        };
        SamplingParams {
            step_count: self.steps,
            temperature: self.temperature,
            top_k_filter: self.top_k_filter,
            guidance_scale: self.guidance,
            choice_temperature: self.choice_temperature,
            refinement: self.refinement,
            sampler: sampler.into(),
            seed: self.seed,
        }
    }

    fn canvas(&self) -> Result<Option<Canvas>, Failure> {
        let Some(path) = &self.image else { return Ok(None) };
        let is_grid = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let source =
            if is_grid { canvas::Source::Grid(read_tokens(path)?) } else { canvas::Source::Image(read_picture(path)?) };
        let mask = self.mask.as_deref().map(read_picture).transpose()?;
        Ok(Some(Canvas { source: Some(source), mask, strength: self.strength }))
    }

    /// Refuses targets that cannot be written, before any work is done.
    fn check_targets(&self) -> Result<(), Failure> {
        check_target(&self.out)?;
        self.tokens.iter().chain(&self.gif).try_for_each(|path| check_target(path))?;
        match &self.gif {
            Some(path) if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gif")) => {
                Err(Failure::Usage(format!("{}: the name of an animation must end in .gif", path.display())))
            }
            _ => Ok(()),
        }
    }

    fn wants_previews(&self) -> bool {
        self.steps_dir.is_some() || self.gif.is_some()
    }
}

/// Runs the command.
pub(crate) async fn run(session: &Session, arguments: GenerateArguments) -> Result<(), Failure> {
    let format = picture_format(&arguments.out)?;
    arguments.check_targets()?;
    let canvas = arguments.canvas()?;
    let client = session.connect().await?;
    let display = ProgressDisplay::new(session.output);
    let preview_mode = if arguments.wants_previews() {
        PreviewMode::Decoded
    } else if display.wants_grids() || session.output.is_json() {
        PreviewMode::Tokens
    } else {
        PreviewMode::None
    };
    let request = GenerateRequest {
        model: arguments.model.clone(),
        impression: arguments.impression.clone(),
        negative_impression: arguments.negative.clone(),
        sampling: Some(arguments.sampling()),
        sample_count: arguments.count.unwrap_or(0),
        output: Some(OutputOptions {
            preview_mode: preview_mode.into(),
            image_format: format.into(),
            ..OutputOptions::default()
        }),
        canvas,
        view: arguments.view().into(),
        ..GenerateRequest::default()
    };
    let mut run = Run {
        session,
        arguments: &arguments,
        display,
        admitted: None,
        step_count: 0,
        emergences: BTreeMap::new(),
        files: Vec::new(),
    };
    let mut generation = client.generate(request).await?;
    while let Some(event) = generation.next().await? {
        match event {
            GenerateEvent::Admitted(admitted) => run.admitted(admitted),
            GenerateEvent::Progress(progress) => run.progress(&progress)?,
            GenerateEvent::Sample(sample) => run.sample(&sample)?,
            GenerateEvent::Summary(summary) => run.summary(&summary),
        }
    }
    Ok(())
}

/// A generation in progress.
struct Run<'a> {
    session: &'a Session,
    arguments: &'a GenerateArguments,
    display: ProgressDisplay,
    admitted: Option<Admitted>,
    step_count: u32,
    /// Frames of the animation of each sample.
    emergences: BTreeMap<u32, Emergence>,
    /// What was written, with the picture's size, in order.
    files: Vec<(PathBuf, u32, u32)>,
}

impl Run<'_> {
    fn admitted(&mut self, admitted: Admitted) {
        let output = self.session.output;
        output.event(|| {
            json!({
                "event": "admitted", "model": admitted.model, "seed": admitted.seed,
                "queue_position": admitted.queue_position, "unsupported_terms": admitted.unsupported_terms,
            })
        });
        if !admitted.unsupported_terms.is_empty() {
            output.warning(&format!("the model was not trained on: {}", admitted.unsupported_terms.join(", ")));
        }
        let waiting = match admitted.queue_position {
            0 => String::new(),
            ahead => format!(", {ahead} requests ahead"),
        };
        output.note(&format!("{}, seed {}{waiting}", admitted.model, admitted.seed));
        self.admitted = Some(admitted);
    }

    fn progress(&mut self, progress: &Progress) -> Result<(), Failure> {
        self.step_count = progress.step_count;
        self.session.output.event(|| {
            json!({
                "event": "progress", "sample_index": progress.sample_index, "step": progress.step,
                "step_count": progress.step_count, "grid": TokenFile::from(&progress.grid),
            })
        });
        if let Some(preview) = &progress.preview {
            if let Some(folder) = &self.arguments.steps_dir {
                let folder = self.step_folder(folder, progress.sample_index)?;
                write_whole(&folder.join(format!("step-{:03}.{}", progress.step, extension(preview))), &preview.data)?;
            }
            if self.arguments.gif.is_some() {
                self.emergences.entry(progress.sample_index).or_default().add(&preview.data);
            }
        }
        self.display.step(progress);
        Ok(())
    }

    fn sample(&mut self, sample: &Sample) -> Result<(), Failure> {
        let number = self.number(sample.sample_index);
        let out = numbered(&self.arguments.out, number);
        write_whole(&out, &sample.image.data)?;
        let tokens = self.arguments.tokens.as_deref().map(|path| numbered(path, number));
        if let Some(path) = &tokens {
            write_tokens(path, &sample.grid)?;
        }
        let gif = self.arguments.gif.as_deref().map(|path| numbered(path, number));
        if let Some(path) = &gif {
            let mut emergence = self.emergences.remove(&sample.sample_index).unwrap_or_default();
            emergence.add(&sample.image.data);
            let animation = emergence
                .encode(&self.comment(sample.sample_index))
                .map_err(|problem| Failure::Local(format!("{}: {problem}", path.display())))?;
            write_whole(path, &animation)?;
        }
        self.session.output.event(|| {
            json!({
                "event": "sample", "sample_index": sample.sample_index, "out": out, "tokens": tokens, "gif": gif,
                "width": sample.image.width, "height": sample.image.height,
            })
        });
        self.files.push((out, sample.image.width, sample.image.height));
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) {
        self.display.finish();
        let output = self.session.output;
        if summary.dropped_preview_count > 0 && self.arguments.wants_previews() {
            output.warning(&format!(
                "{} previews were dropped because they were read too slowly",
                summary.dropped_preview_count
            ));
        }
        let (model, seed) = self.admitted.as_ref().map_or(("", 0), |admitted| (admitted.model.as_str(), admitted.seed));
        let (steps, decode) = (summary.step_duration.as_secs_f64(), summary.decode_duration.as_secs_f64());
        let words = || {
            let files =
                self.files.iter().map(|(path, width, height)| format!("{} ({width} x {height})\n", path.display()));
            let files: String = files.collect();
            format!(
                "{files}synthetic, not for diagnosis; {model}, seed {seed}, {} steps in {steps:.2} s, decoded in {decode:.2} s",
                self.step_count
            )
        };
        output.result(words, || {
            json!({
                "event": "summary", "model": model, "seed": seed,
                "files": self.files.iter().map(|(path, ..)| path).collect::<Vec<_>>(),
                "queue_seconds": summary.queue_duration.as_secs_f64(), "step_seconds": steps, "decode_seconds": decode,
                "dropped_preview_count": summary.dropped_preview_count,
            })
        });
    }

    /// Files are numbered where the command line says how many there are.
    fn number(&self, sample_index: u32) -> Option<u32> {
        self.arguments.count.map(|_| sample_index)
    }

    fn step_folder(&self, folder: &Path, sample_index: u32) -> Result<PathBuf, Failure> {
        let folder = match self.number(sample_index) {
            Some(number) => folder.join(format!("sample-{number}")),
            None => folder.to_owned(),
        };
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure::Local(format!("{}: cannot be made: {error}", folder.display())))?;
        Ok(folder)
    }

    /// What the animation says about itself.
    fn comment(&self, sample_index: u32) -> String {
        let (model, seed) = self.admitted.as_ref().map_or(("", 0), |admitted| (admitted.model.as_str(), admitted.seed));
        format!("Synthetic chest X-ray, not for diagnosis; RayGen; Model={model}; Seed={seed}; Sample={sample_index}")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: GenerateArguments,
    }

    #[test]
    fn a_view_is_asked_for_by_its_name_in_any_case_and_by_nothing_else() {
        let view = |words: &[&str]| {
            let line = [&["raygen", "Edema.", "--out", "film.png"], words].concat();
            Line::try_parse_from(line).map(|line| line.arguments.view())
        };
        assert_eq!(view(&[]).ok(), Some(View::Unspecified));
        assert_eq!(view(&["--view", "PA"]).ok(), Some(View::Pa));
        assert_eq!(view(&["--view", "ap"]).ok(), Some(View::Ap));
        assert_eq!(view(&["--view", "Lateral"]).ok(), Some(View::Lateral));
        assert!(view(&["--view", "LL"]).is_err());
    }
}
