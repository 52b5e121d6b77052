//! The numbers: generated pictures against real films.

use anyhow::Result;
use raygen_eval::classification::{Estimate, Predictions, Undefined, score};
use raygen_eval::distribution::{
    DEFAULT_NEIGHBOURS, LabelKind, excess_kernel_distance, frechet_distance, frechet_interval, inception_score,
    kernel_distance, neighbour_shares, real_halves,
};
use raygen_eval::set_similarity::{MsSsimProtocol, real_baseline, set_similarity};
use raygen_eval::statistics::{Bootstrap, Interval, Units};
use raygen_eval::{Features, GrayImage, MS_SSIM_SMALLEST_SIDE, Measurement, Metric};

use raygen_manifest::View;
use raygen_model::image::Picture;

use super::extract::{Classifier, Seen};
use super::pictures::PictureSet;

/// Parts of the jackknife behind the interval of the Fréchet distance.
const FRECHET_BLOCKS: usize = 10;
/// Pairs of real films behind a baseline of likeness, at most.
const PAIRS: usize = 500;

/// Distances of `generated` from `real`, and what real films are from each other: all by one classifier.
pub(super) fn distances(
    real: &Seen,
    real_set: &PictureSet,
    generated: &Seen,
    generated_set: &PictureSet,
    seed: u64,
) -> Result<Vec<Measurement>> {
    let (of, to) = (&generated.features, &real.features);
    let samples = of.count().min(to.count()) as u64;
    let bootstrap = Bootstrap { seed, ..Bootstrap::default() };
    let mut numbers = vec![frechet(of, to, "generated pictures against real films", seed)];
    let kernel_protocol =
        "unbiased, polynomial kernel of degree 3, all samples, intervals as if samples were independent";
    let from =
        |numbers: &mut Vec<Measurement>, metric: Metric, protocol: String, value: Result<(f64, Option<Interval>)>| {
            let number = match value {
                Ok((value, interval)) => Measurement::new(metric, value, protocol, samples).with_interval(interval),
                Err(error) => Measurement::undefined(metric, error.to_string(), protocol, samples),
            };
            numbers.push(number.with_extractor(to.extractor().clone()));
        };
    let kernel = kernel_distance(of, to).map(|kid| (kid.distance, Some(kid.interval)));
    from(
        &mut numbers,
        Metric::Kid,
        format!("{kernel_protocol}; generated pictures against real films"),
        kernel.map_err(Into::into),
    );
    let halves = real_halves(&Units::groups(&real_set.groups()), seed).map_err(anyhow::Error::from);
    let halves = halves.and_then(|(one, other)| Ok((to.select(&one)?, to.select(&other)?)));
    let beyond = match &halves {
        Ok((one, other)) => excess_kernel_distance(of, one, other).map_err(anyhow::Error::from),
        Err(error) => Err(anyhow::anyhow!("{error}")),
    };
    let baseline = match &halves {
        Ok((one, other)) => kernel_distance(other, one).map_err(anyhow::Error::from),
        Err(error) => Err(anyhow::anyhow!("{error}")),
    };
    for (what, kid) in [
        ("beyond real films against real films of other patients", beyond),
        ("real films against real films of other patients", baseline),
    ] {
        let kid = kid.map(|kid| (kid.distance, Some(kid.interval)));
        from(&mut numbers, Metric::Kid, format!("{kernel_protocol}; {what}"), kid);
    }
    let protocol = format!("k-nearest neighbours, k = {DEFAULT_NEIGHBOURS}, Euclidean");
    match neighbour_shares(to, of, DEFAULT_NEIGHBOURS) {
        Ok(shares) => {
            let generated_units = Units::groups(&generated_set.groups());
            let real_units = Units::groups(&real_set.groups());
            for (metric, share, units) in [
                (Metric::Precision, &shares.precision, &generated_units),
                (Metric::Recall, &shares.recall, &real_units),
                (Metric::Density, &shares.density, &generated_units),
                (Metric::Coverage, &shares.coverage, &real_units),
            ] {
                let interval = share.interval(&bootstrap, units).ok().flatten();
                from(&mut numbers, metric, protocol.clone(), Ok((share.value, interval)));
            }
        }
        Err(error) => {
            for metric in [Metric::Precision, Metric::Recall, Metric::Density, Metric::Coverage] {
                from(&mut numbers, metric, protocol.clone(), Err(anyhow::anyhow!("{error}")));
            }
        }
    }
    Ok(numbers)
}

fn frechet(of: &Features, to: &Features, what: &str, seed: u64) -> Measurement {
    let protocol = format!(
        "Fréchet distance, covariance over n - 1, interval as if samples were independent, n = {} and {}; {what}",
        of.count(),
        to.count()
    );
    let samples = of.count().min(to.count()) as u64;
    let number = match frechet_distance(of, to) {
        Ok(found) => {
            let interval = frechet_interval(of, to, FRECHET_BLOCKS, seed).ok();
            let protocol = match found.bias() {
                Some(bias) => format!("{protocol}; {bias}"),
                None => protocol,
            };
            Measurement::new(Metric::Fid, found.distance, protocol, samples).with_interval(interval)
        }
        Err(error) => Measurement::undefined(Metric::Fid, error.to_string(), protocol, samples),
    };
    number.with_extractor(to.extractor().clone())
}

/// Inception score of the classifier's own classes.
pub(super) fn inception(classifier: &Classifier, seen: &Seen, set: &PictureSet, seed: u64) -> Measurement {
    let kind = if classifier.is_exclusive() { LabelKind::Exclusive } else { LabelKind::Independent };
    let classes = classifier.classes().len();
    let protocol = format!("Inception score over the classifier's own {classes} classes");
    let bootstrap = Bootstrap { seed, ..Bootstrap::default() };
    let units = Units::groups(&set.groups());
    let found = inception_score(&seen.probabilities, classes, kind, &units, &bootstrap);
    let number = match found {
        Ok(found) => Measurement::new(Metric::InceptionScore, found.score, protocol, found.samples as u64)
            .with_interval(found.interval),
        Err(error) => Measurement::undefined(Metric::InceptionScore, error.to_string(), protocol, set.len() as u64),
    };
    number.with_extractor(classifier.extractor().clone())
}

/// Pictures of a view below which it gets no number of its own.
const LEAST_OF_A_VIEW: usize = 10;

/// How well the classifier finds in the pictures what their labels say: AUROC of each class, their mean, and the mean within
/// each view.
pub(super) fn agreement(
    classifier: &Classifier,
    seen: &Seen,
    set: &PictureSet,
    what: &str,
    seed: u64,
) -> Result<Vec<Measurement>> {
    let all: Vec<usize> = (0..set.len()).collect();
    let mut numbers = aurocs(classifier, seen, (set, &all), what, seed)?;
    for (view, name) in [(View::AP, "AP"), (View::PA, "PA")] {
        let places: Vec<usize> = all.iter().copied().filter(|place| set.items[*place].view == Some(view)).collect();
        if places.len() >= LEAST_OF_A_VIEW && places.len() < all.len() {
            let of_view = aurocs(classifier, seen, (set, &places), &format!("{what}; view {name} only"), seed)?;
            numbers.extend(of_view.into_iter().filter(|number| *number.metric() == Metric::auroc_macro()));
        }
    }
    Ok(numbers)
}

fn aurocs(
    classifier: &Classifier,
    seen: &Seen,
    (set, places): (&PictureSet, &[usize]),
    what: &str,
    seed: u64,
) -> Result<Vec<Measurement>> {
    let classes = classifier.classes();
    let labels = places.iter().flat_map(|place| {
        let item = &set.items[*place];
        classes.iter().map(|class| item.shows(class))
    });
    let rows = places.iter().flat_map(|place| &seen.probabilities[place * classes.len()..][..classes.len()]);
    let predictions = Predictions::new(classes.to_vec(), rows.copied().collect(), labels.collect())?;
    let groups: Vec<&str> = places.iter().map(|place| set.items[*place].group.as_str()).collect();
    let scores = score(&predictions, None, &Units::groups(&groups), &Bootstrap { seed, ..Bootstrap::default() })?;
    let protocol = format!("{what}; 95 % bootstrap over patients");
    let number = |metric: Metric, found: &Result<Estimate, Undefined>, samples: usize, protocol: String| {
        let number = match found {
            Ok(found) => Measurement::new(metric, found.value, protocol, samples as u64).with_interval(found.interval),
            Err(reason) => Measurement::undefined(metric, reason.to_string(), protocol, samples as u64),
        };
        number.with_extractor(classifier.extractor().clone())
    };
    let mut numbers: Vec<Measurement> = scores
        .classes
        .iter()
        .map(|class| {
            let protocol = format!("{protocol}; {} positive, {} negative", class.positives, class.negatives);
            number(Metric::Auroc(class.class.clone()), &class.auroc, class.positives + class.negatives, protocol)
        })
        .collect();
    let protocol = format!("{protocol}; mean over {}", scores.auroc.classes.join(", "));
    numbers.push(number(Metric::auroc_macro(), &scores.auroc.estimate, scores.items, protocol));
    Ok(numbers)
}

/// How alike the pictures of one prompt are, by each protocol that the set has enough pictures for, and how alike films of
/// different patients are.
pub(super) fn likeness(real: &PictureSet, generated: &PictureSet, seed: u64) -> Result<Vec<Measurement>> {
    let bootstrap = Bootstrap { seed, ..Bootstrap::default() };
    let all = |set: &PictureSet| set.pictures(&(0..set.len()).collect::<Vec<_>>());
    let (films, pictures) = (all(real)?, all(generated)?);
    let (films, pictures) = (images(&films)?, images(&pictures)?);
    let prompts = generated.prompts();
    let mut numbers = Vec::new();
    for protocol in [MsSsimProtocol::Published, MsSsimProtocol::FourSamples] {
        let size = format!("{} px", generated.side);
        let named = |name: &str| format!("{name}; {size}");
        if generated.side < MS_SSIM_SMALLEST_SIDE {
            let reason = format!("pictures of {size} are too small: five scales need {MS_SSIM_SMALLEST_SIDE} px");
            numbers.push(Measurement::undefined(Metric::MsSsim, reason, named(protocol.name()), 0));
            continue;
        }
        let wanted = protocol.pictures();
        let groups: Vec<Vec<GrayImage<'_>>> = prompts
            .iter()
            .filter(|places| places.len() >= wanted)
            .map(|places| places.iter().take(wanted).map(|place| pictures[*place]).collect())
            .collect();
        numbers.push(if groups.is_empty() {
            let reason = format!("no prompt has {wanted} pictures; give --samples {wanted}");
            Measurement::undefined(Metric::MsSsim, reason, named(protocol.name()), 0)
        } else {
            let found = set_similarity(&groups, protocol, &bootstrap)?;
            Measurement::new(Metric::MsSsim, found.mean, named(&found.protocol), groups.len() as u64)
                .with_interval(found.interval)
        });
        let pairs = PAIRS.min(films.len() / 2);
        numbers.push(match real_baseline(&films, &real.groups(), protocol, pairs, seed, &bootstrap) {
            Ok(found) => Measurement::new(Metric::MsSsim, found.mean, named(&found.protocol), pairs as u64)
                .with_interval(found.interval),
            Err(error) => Measurement::undefined(Metric::MsSsim, error.to_string(), named(protocol.baseline_name()), 0),
        });
    }
    Ok(numbers)
}

/// Pictures as metrics read them.
fn images(pictures: &[Picture]) -> Result<Vec<GrayImage<'_>>> {
    pictures.iter().map(|p| Ok(GrayImage::new(p.width, p.height, &p.pixels)?)).collect()
}
