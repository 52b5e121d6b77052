//! How many of each film's tokens `raygen-trainer generate` gave back for its impression: `recall BUNDLE GENERATED FILMS.csv` prints JSON.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use raygen_manifest::Manifest;
use raygen_model::bundle::Bundle;
use raygen_model::image::{DecodeLimits, decode};
use raygen_model::model::Model;
use raygen_trainer::synthesis;
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, generated, films] = arguments.as_slice() else { bail!("usage: recall BUNDLE GENERATED FILMS.csv") };
    let model = Model::load(&Bundle::open(bundle)?, &Device::Cpu, DType::F32)?;
    let grids = synthesis::grids(Path::new(generated))?;
    let pictures = Manifest::read(Path::new(generated).join("manifest.csv"))?;
    let films: BTreeMap<String, _> =
        Manifest::read(Path::new(films))?.films.into_iter().map(|film| (film.id.clone(), film)).collect();
    let mut shares: Vec<f64> = Vec::new();
    for picture in &pictures.films {
        let film = picture.other.get("prompt_of").and_then(|id| films.get(id)).context("a picture of no film")?;
        let bytes = std::fs::read(&film.path).with_context(|| film.path.display().to_string())?;
        let own = model.encode(&[&decode(&bytes, None, None, &DecodeLimits::default())?])?.concat();
        let grid = grids.get(&picture.id).with_context(|| format!("{} has no grid", picture.id))?;
        let equal = own.iter().zip(grid).filter(|(a, b)| a == b).count();
        shares.push(equal as f64 / own.len() as f64);
    }
    let whole = shares.iter().filter(|share| **share == 1.0).count();
    let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
    let least = shares.iter().copied().fold(1.0, f64::min);
    println!(
        "{}",
        json!({ "films": shares.len(), "given_back_whole": whole, "mean_share": mean, "least_share": least })
    );
    Ok(())
}
