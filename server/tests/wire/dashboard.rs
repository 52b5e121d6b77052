//! The page at `/`: what a browser gets on the gRPC port, and what gRPC still gets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::Served;

/// Asks as a browser does, over HTTP/1.1; the answer's head in lower case, and its body.
async fn ask(server: &Served, request_line: &str, headers: &str) -> (String, Vec<u8>) {
    let mut socket = tokio::net::TcpStream::connect(server.address).await.expect("connected");
    let request = format!("{request_line} HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("answered");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    (String::from_utf8_lossy(&answer[..end]).to_lowercase(), answer[end + 4..].to_vec())
}

#[tokio::test]
async fn browsers_get_the_page_and_its_files_and_grpc_stays_what_it_is() {
    let server = Served::start().await;
    let (head, body) = ask(&server, "GET /", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    assert!(!head.contains("access-control-allow-origin"), "the page is for its own origin: {head}");
    assert!(String::from_utf8_lossy(&body).contains("./app.js"));

    let (head, script) = ask(&server, "GET /app.js", "accept-encoding: gzip\r\n").await;
    assert!(head.contains("content-type: text/javascript"), "{head}");
    assert!(head.contains("content-encoding: gzip") && script.starts_with(&[0x1f, 0x8b]), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag").to_owned();
    let known = format!("accept-encoding: gzip\r\nif-none-match: {tag}\r\n");
    let (head, body) = ask(&server, "GET /app.js", &known).await;
    assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}");

    let (head, body) = ask(&server, "HEAD /", "").await;
    assert!(head.starts_with("http/1.1 200") && !head.contains("content-length: 0") && body.is_empty(), "{head}");
    let (head, _) = ask(&server, "GET /no/such/page", "").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");

    // gRPC-web at a path that nobody serves.
    let grpc = "content-type: application/grpc-web+proto\r\ncontent-length: 0\r\n";
    let (head, _) = ask(&server, "POST /no.such.Service/Method", grpc).await;
    assert!(head.starts_with("http/1.1 200") && head.contains("grpc-status: 12"), "{head}");
}

#[tokio::test]
async fn the_status_tells_slots_and_queue() {
    let server = Served::start().await;
    let (head, body) = ask(&server, "GET /status.json", "").await;
    assert!(head.contains("cache-control: no-store"), "{head}");
    let status: serde_json::Value = serde_json::from_slice(&body).expect("json");
    assert_eq!(status["slots"], 8);
    assert_eq!(status["slots_in_use"], 0);
    assert_eq!(status["requests_waiting_capacity"], 64);
    assert_eq!(status["taking_work"], true);
    assert_eq!(server.api.engine().stats().steps(), 0, "asking starts no step");

    server.api.engine().close();
    let (_, body) = ask(&server, "GET /status.json", "").await;
    let status: serde_json::Value = serde_json::from_slice(&body).expect("json");
    assert_eq!(status["taking_work"], false);
}
