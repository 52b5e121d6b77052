//! How long the stages take on this machine: a few steps of each on noise, within a limit that is kept also where one step
//! would take minutes.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::{DType, Device};
use serde::Serialize;

use crate::config::{AdversarialConfig, RunConfig};
use crate::stages::classifier::trial as classifier_trial;
use crate::stages::tokenizer::trial::{self as tokenizer_trial, noise};
use crate::stages::transformer::trial as transformer_trial;

/// For all stages together.
const LIMIT: Duration = Duration::from_secs(20);
/// For the steps of one stage.
const BUDGET: Duration = Duration::from_secs(5);
/// From one film up, a step of so many times as many is tried while that fits.
const GROWTH: usize = 4;
/// Steps of a stage are timed at most so often.
const MOST: usize = 10;
/// Films encoded at once.
const ENCODED: usize = 4;

/// How long one step takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// Seconds a step; for the stage `encode`, a grid.
    pub seconds: f64,
    /// Steps that were timed.
    pub steps: usize,
    /// Films of such a step. Fewer than the configuration's where a whole step would have taken too long: then the time is
    /// scaled up.
    pub films: usize,
}

/// Times of the stages; `None` where the limit came first, or the stage has no step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Times {
    /// A step of the tokenizer.
    pub tokenizer: Option<Measured>,
    /// A grid of the token cache.
    pub encode: Option<Measured>,
    /// A step of the transformer.
    pub transformer: Option<Measured>,
    /// A step of the decoder.
    pub decoder: Option<Measured>,
    /// A step of the classifier.
    pub classifier: Option<Measured>,
}

type Step = Box<dyn FnMut() -> Result<()>>;

/// Times all stages of `config`; `text` is the length of texts and the number of word pieces, where pictures are to be made.
///
/// # Errors
/// Where a network cannot be built or run, as in the run itself.
pub(super) fn measure(config: &RunConfig, text: Option<(usize, usize)>, device: &Device) -> Result<Times> {
    let end = Instant::now() + LIMIT;
    let mut times = Times::default();
    if let Some(text) = text {
        measure_generator(config, text, device, end, &mut times)?;
    }
    if let Some(classifier) = config.classifier.clone().filter(|classifier| classifier.steps > 0) {
        let (own, of) = (config.clone(), device.clone());
        times.classifier = timed(end, classifier.batch, move |films| {
            let mut trial = classifier_trial::Trial::new(&own, &classifier, films, &of)?;
            Ok(Box::new(move || trial.step()))
        })?;
    }
    Ok(times)
}

fn measure_generator(
    config: &RunConfig,
    text: (usize, usize),
    device: &Device,
    end: Instant,
    times: &mut Times,
) -> Result<()> {
    if config.tokenizer.steps > 0 {
        let (own, device) = (config.clone(), device.clone());
        times.tokenizer = timed(end, config.tokenizer.batch, move |films| {
            let mut trial = tokenizer_trial::Trial::new(&own, films, &device)?;
            Ok(Box::new(move || trial.step()))
        })?;
    }
    let (own, of) = (config.clone(), device.clone());
    let encode = timed(end, ENCODED, move |films| {
        let tokenizer = tokenizer_trial::untrained(&own, &of)?;
        let images = noise(&own, films, &of)?;
        Ok(Box::new(move || {
            tokenizer.network.encode(&images)?.to_dtype(DType::U32)?.flatten_all()?.to_vec1::<u32>()?;
            Ok(())
        }))
    })?;
    times.encode = encode.map(|step| Measured { seconds: step.seconds / ENCODED as f64, ..step });
    let (own, of) = (config.clone(), device.clone());
    let batch = timed(end, config.transformer.batch, move |films| {
        let mut trial = transformer_trial::Trial::new(&own, films, text, &of)?;
        Ok(Box::new(move || trial.step()))
    })?;
    // Each batch is timed with an update of its own, so that this is rather too much.
    let batches = config.transformer.accumulate as f64;
    times.transformer = batch.map(|batch| Measured { seconds: batch.seconds * batches, ..batch });
    let Some(decoder) = config.decoder.clone().filter(|decoder| decoder.steps > 0) else { return Ok(()) };
    let (mut own, of) = (config.clone(), device.clone());
    // A step of the whole tokenizer with the losses of the decoder, its discriminator at work.
    own.tokenizer.structure = decoder.structure;
    own.tokenizer.perceptual = decoder.perceptual;
    own.tokenizer.adversarial = decoder.adversarial.map(|adversarial| AdversarialConfig { start: 0, ..adversarial });
    times.decoder = timed(end, decoder.batch, move |films| {
        let mut trial = tokenizer_trial::Trial::new(&own, films, &of)?;
        Ok(Box::new(move || trial.step()))
    })?;
    Ok(())
}

/// Times steps of `films` films that `make` prepares. A step cannot be interrupted: where the end comes first, its thread is
/// left behind, and goes with the process.
fn timed(
    end: Instant,
    films: usize,
    make: impl Fn(usize) -> Result<Step> + Send + 'static,
) -> Result<Option<Measured>> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(None);
    }
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("plan".to_owned()).spawn(move || {
        // Nobody listens any more where the end came first.
        let _ = sender.send(steps(films, &make));
    })?;
    match receiver.recv_timeout(left) {
        Ok(measured) => measured.map(Some),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the thread that timed a stage ended without a result"),
    }
}

fn steps(films: usize, make: &impl Fn(usize) -> Result<Step>) -> Result<Measured> {
    let once = |step: &mut Step| -> Result<f64> {
        let begun = Instant::now();
        step()?;
        Ok(begun.elapsed().as_secs_f64())
    };
    let begun = Instant::now();
    let mut tried = 1;
    loop {
        let scale = films as f64 / tried as f64;
        let mut step = make(tried)?;
        // The first one allocates, and is no measure unless there is no time for another.
        let first = once(&mut step)?;
        if begun.elapsed() > BUDGET {
            return Ok(Measured { seconds: first * scale, steps: 1, films: tried });
        }
        let mut seconds = vec![once(&mut step)?];
        let larger = films.min(GROWTH * tried);
        let expected = 2.0 * seconds[0] * larger as f64 / tried as f64;
        let fits = begun.elapsed() + Duration::try_from_secs_f64(expected)? <= BUDGET;
        if tried < films && fits {
            tried = larger;
            continue;
        }
        while seconds.len() < MOST && begun.elapsed() < BUDGET {
            seconds.push(once(&mut step)?);
        }
        seconds.sort_by(f64::total_cmp);
        return Ok(Measured { seconds: seconds[seconds.len() / 2] * scale, steps: seconds.len(), films: tried });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sleeping(milliseconds: u64) -> impl Fn(usize) -> Result<Step> + Send + 'static {
        move |films| {
            Ok(Box::new(move || {
                thread::sleep(Duration::from_millis(milliseconds * films as u64));
                Ok(())
            }))
        }
    }

    #[test]
    fn a_step_is_timed_and_a_long_one_is_scaled_up_from_fewer_films() {
        let end = Instant::now() + Duration::from_secs(60);
        let short = timed(end, 3, sleeping(2)).unwrap().unwrap();
        assert_eq!((short.steps, short.films), (MOST, 3));
        assert!(short.seconds >= 6e-3, "{short:?}");
        let long = timed(end, 100_000, sleeping(40)).unwrap().unwrap();
        assert!(long.films < 100 && long.seconds >= 4000.0, "{long:?}");
    }

    #[test]
    fn the_end_is_kept_whatever_a_step_takes() {
        let begun = Instant::now();
        assert_eq!(timed(begun + Duration::from_millis(50), 1, sleeping(60_000)).unwrap(), None);
        assert_eq!(timed(begun, 1, sleeping(1)).unwrap(), None);
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
