//! A server without a model: the wire's shapes, and a mishap for each impression that asks for one.

use std::{io::Cursor, net::TcpListener, pin::Pin, time::Duration};

use raygen_proto::v1::{
    DecodeRequest, DecodeResponse, EncodeRequest, EncodeResponse, GenerateRequest, GenerateResponse, Image,
    ImageFormat, PreviewMode, ScoreRequest, ScoreResponse, TokenGrid,
    generate_response::{Admitted, Event, Progress, Sample, Summary},
    ray_gen_service_server::{RayGenService, RayGenServiceServer},
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

pub(crate) const SIDE: u32 = 4;
pub(crate) const MASK: u32 = 64;
const STEPS: u32 = 4;
const MODEL: &str = "models/fake/versions/1";

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Starts it on a free port; it ends with the test.
pub(crate) fn start() -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(RayGenServiceServer::new(Fake))
                .serve_with_incoming(incoming)
                .await?;
            Ok(())
        })
    });
    Ok(format!("http://{address}"))
}

struct Fake;

/// A picture of one gray.
pub(crate) fn png(gray: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = image::GrayImage::from_pixel(SIDE * 2, SIDE * 2, image::Luma([gray]));
    if let Err(error) = picture.write_to(&mut bytes, image::ImageFormat::Png) {
        panic!("a PNG in memory: {error}");
    }
    bytes.into_inner()
}

fn picture(gray: u8) -> Image {
    Image { format: ImageFormat::Png.into(), data: png(gray), width: SIDE * 2, height: SIDE * 2, bit_depth: 8 }
}

/// The grid with so many positions decided.
fn grid(decided: u32) -> TokenGrid {
    let token_ids = (0..SIDE * SIDE).map(|place| if place < decided { place } else { MASK }).collect();
    TokenGrid { height: SIDE, width: SIDE, token_ids, mask_token_id: MASK }
}

/// Everything that a generation sends.
fn events(request: &GenerateRequest) -> Vec<Result<GenerateResponse, Status>> {
    let seed = request.sampling.and_then(|sampling| sampling.seed).unwrap_or(42);
    let previews = request.output.is_some_and(|output| output.preview_mode() == PreviewMode::Decoded);
    let unsupported_terms =
        if request.impression.contains("zebra") { vec!["zebra\u{1b}[31m".to_owned()] } else { Vec::new() };
    let mut events =
        vec![(0, Event::Admitted(Admitted { model: MODEL.to_owned(), seed, queue_position: 0, unsupported_terms }))];
    for step in 1..=STEPS {
        for sample in 0..request.sample_count.max(1) {
            let preview = previews.then(|| picture(step as u8 * 10));
            let grid = Some(grid(SIDE * SIDE * step / STEPS));
            events.push((
                sample,
                Event::Progress(Progress { step, step_count: STEPS, grid, preview, confidence: Vec::new() }),
            ));
        }
    }
    for sample in 0..request.sample_count.max(1) {
        let gray = 200 + sample as u8;
        events.push((sample, Event::Sample(Sample { grid: Some(grid(SIDE * SIDE)), image: Some(picture(gray)) })));
    }
    events.push((0, Event::Summary(Summary::default())));
    if request.impression.contains("vanishes") {
        // After a step of each sample.
        events.truncate(1 + request.sample_count.max(1) as usize);
    }
    let numbered = events.into_iter().enumerate();
    let message =
        |(at, (sample_index, event))| Ok(GenerateResponse { sequence: at as u64, sample_index, event: Some(event) });
    let mut messages: Vec<_> = numbered.map(message).collect();
    if request.impression.contains("fails") {
        let info = ErrorDetails::with_error_info("NUMERIC_FAILURE", "raygen", std::collections::HashMap::new());
        messages.truncate(3);
        messages.push(Err(Status::with_error_details(Code::Internal, "the logits of a row are not finite", info)));
    }
    messages
}

#[tonic::async_trait]
impl RayGenService for Fake {
    type GenerateStream = Messages<GenerateResponse>;
    type EncodeStream = Messages<EncodeResponse>;
    type ScoreStream = Messages<ScoreResponse>;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        let request = request.into_inner();
        if request.impression.contains("full") {
            let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(2500)));
            details.set_error_info("QUEUE_FULL", "raygen", std::collections::HashMap::new());
            return Err(Status::with_error_details(Code::ResourceExhausted, "64 requests wait already", details));
        }
        let events = events(&request);
        if request.impression.contains("slow") {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                for event in events {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
            });
            return Ok(Response::new(Box::pin(ReceiverStream::new(receiver))));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(events))))
    }

    async fn encode(&self, _: Request<EncodeRequest>) -> Result<Response<Self::EncodeStream>, Status> {
        // Ends without a grid.
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }

    async fn decode(&self, request: Request<DecodeRequest>) -> Result<Response<DecodeResponse>, Status> {
        match request.into_inner().grid {
            Some(_) => Ok(Response::new(DecodeResponse { image: Some(picture(99)) })),
            None => Err(Status::invalid_argument("no grid")),
        }
    }

    async fn score(&self, request: Request<Streaming<ScoreRequest>>) -> Result<Response<Self::ScoreStream>, Status> {
        let count = request.into_inner().filter_map(Result::ok).fold(0, |count, _| count + 1).await;
        Err(Status::unimplemented(format!("{count} messages came")))
    }
}
