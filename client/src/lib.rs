//! Rust client of RayGen: chest X-rays from impressions, over gRPC.
//!
//! ```no_run
//! use raygen_client::{Client, GenerateEvent, wire};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("http://127.0.0.1:50051").await?;
//! let request = wire::GenerateRequest { impression: "Pulmonary edema.".into(), ..Default::default() };
//! let mut generation = client.generate(request).await?;
//! while let Some(event) = generation.next().await? {
//!     match event {
//!         GenerateEvent::Progress(progress) => println!("step {} of {}", progress.step, progress.step_count),
//!         GenerateEvent::Sample(sample) => std::fs::write("film.png", &sample.image.data)?,
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Requests are the wire's own messages ([`wire`]); responses are types whose fields are really there. Errors
//! ([`ClientError`]) carry the gRPC code, the reason, the fields that were refused and when to try again.
//! Pictures are synthetic and never for diagnosis.

#![forbid(unsafe_code)]

mod connection;
mod encoding;
mod error;
mod generation;
mod scoring;

pub use connection::{Client, ConnectOptions};
pub use encoding::EncodedImage;
pub use error::{ClientError, FieldViolation, Refusal};
pub use generation::{Admitted, GenerateEvent, Generation, Progress, Sample, Summary};
pub use scoring::{ScoreEvent, Scoring};

/// The messages of package `raygen.v1`.
pub mod wire {
    pub use raygen_proto::v1::{
        Canvas, DecodeRequest, EncodeRequest, GenerateRequest, Image, ImageFormat, Model, OutputOptions, PreviewMode,
        Sampler, SamplingParams, TokenGrid, View, canvas, encode_request,
        encode_response::Embedding,
        model::State as ModelState,
        score_request::{ScoreConfig, ScoreItem, score_item},
        score_response::{GeneratedSample, ItemScore, Metric, RatioScore},
    };
}
