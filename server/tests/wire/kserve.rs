//! The KServe protocol under the same rules as ours: keys, quotas and the budget of messages hold for each generation of a stream.

use std::time::Duration;

use raygen_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use raygen_proto::inference::model_infer_request::InferInputTensor;
use raygen_proto::inference::{InferTensorContents, ModelInferRequest, ModelStreamInferResponse, ServerLiveRequest};
use raygen_server::security::Security;
use raygen_server::transport::PortLimits;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};

use crate::common::refusal;
use crate::security::{ALL, LIMITED, Port, keyed, port};

fn infer(id: &str) -> ModelInferRequest {
    let contents = InferTensorContents { bytes_contents: vec![b"edema".to_vec()], ..InferTensorContents::default() };
    let impression = InferInputTensor {
        name: "impression".to_owned(),
        datatype: "BYTES".to_owned(),
        shape: vec![1],
        contents: Some(contents),
        ..InferInputTensor::default()
    };
    ModelInferRequest { id: id.to_owned(), inputs: vec![impression], ..ModelInferRequest::default() }
}

fn with_key<T>(message: T, key: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-api-key", MetadataValue::from_static(key));
    request
}

async fn client(port: &Port) -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::new(port.channel().await)
}

/// The answer that ends a request of a stream: its id and what was wrong.
async fn last(answers: &mut Streaming<ModelStreamInferResponse>) -> (String, String) {
    loop {
        let answer = answers.message().await.expect("the stream goes on").expect("an answer");
        let response = answer.infer_response.unwrap_or_default();
        if !answer.error_message.is_empty() || response.parameters.contains_key("triton_final_response") {
            return (response.id, answer.error_message);
        }
    }
}

#[tokio::test]
async fn only_health_is_open_to_those_without_a_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let port = port(keyed(directory.path()).1, PortLimits::default()).await;
    let mut client = client(&port).await;
    assert!(client.server_live(ServerLiveRequest {}).await.expect("open").into_inner().live);
    let status = client.model_infer(infer("a")).await.expect_err("no key");
    assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"));
    assert!(client.model_infer(with_key(infer("a"), ALL)).await.is_ok());
}

#[tokio::test]
async fn each_generation_of_a_stream_takes_its_share_of_the_keys_quota() {
    let directory = tempfile::tempdir().expect("a directory");
    let port = port(keyed(directory.path()).1, PortLimits::default()).await;
    port.controls.slow(Duration::from_millis(100));
    let (sender, receiver) = mpsc::channel(8);
    let stream = with_key(ReceiverStream::new(receiver), LIMITED);
    let mut answers = client(&port).await.model_stream_infer(stream).await.expect("opened").into_inner();
    // This key may have one request under way.
    sender.send(infer("first")).await.expect("sent");
    sender.send(infer("second")).await.expect("sent");
    let (id, error) = last(&mut answers).await;
    assert_eq!(id, "second");
    assert!(error.contains("this key's limit"), "{error}");
    assert_eq!(last(&mut answers).await, ("first".to_owned(), String::new()));
    // The first one is done: the stream goes on with what is free again.
    port.api.calls().all_ended().await;
    sender.send(infer("third")).await.expect("sent");
    assert_eq!(last(&mut answers).await, ("third".to_owned(), String::new()));
}

#[tokio::test]
async fn a_long_stream_of_small_messages_stays_within_the_budget() {
    let limits = PortLimits { max_receiving_bytes: 1024, ..PortLimits::default() };
    let port = port(Security::default(), limits).await;
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = client(&port).await.model_stream_infer(ReceiverStream::new(receiver)).await.expect("opened");
    for _ in 0..60 {
        sender.send(infer("again and again and again")).await.expect("sent");
        assert_eq!(last(answers.get_mut()).await.1, "");
    }
}
