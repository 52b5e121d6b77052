//! The program itself: its ready line, its errors, and its end on SIGTERM.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use raygen_proto::v1::generate_response::Event;
use raygen_proto::v1::ray_gen_service_client::RayGenServiceClient;

use crate::common::{collect, request};
use crate::tiny;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raygen-server"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn failing(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = program(arguments).output().expect("started");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

pub struct Running {
    pub child: Child,
    line: String,
    pub url: String,
}

impl Running {
    fn start(bundle: &Path) -> Self {
        Self::start_with(bundle, &[])
    }

    pub fn start_with(bundle: &Path, environment: &[(&str, &str)]) -> Self {
        let models = bundle.display().to_string();
        let mut child = program(&["--models", &models, "--listen", "127.0.0.1:0", "--device", "cpu"])
            .env("RAYGEN_LOG__FILTER", "info,raygen_server=trace,raygen_model=trace")
            .envs(environment.iter().copied())
            .spawn()
            .expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_default().to_owned();
        Self { child, line, url }
    }

    pub fn signal(&self, name: &str) {
        let told = Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("kill");
        assert!(told.success());
    }

    pub fn ended_within(&mut self, limit: Duration) -> Option<i32> {
        let began = Instant::now();
        while began.elapsed() < limit {
            if let Some(status) = self.child.try_wait().expect("waited") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server does not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        let _ = self.child.kill();
    }
}

pub fn tiny_bundle(directory: &Path) -> std::path::PathBuf {
    let bundle = directory.join("tiny");
    tiny::write(&bundle, &tiny::config(1));
    bundle
}

#[tokio::test]
async fn the_program_says_when_it_is_ready_serves_and_ends_well_on_sigterm() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Running::start(&tiny_bundle(directory.path()));
    assert!(server.line.contains("models/tiny/versions/1") && server.line.contains("on cpu in f32"), "{}", server.line);
    let mut client = RayGenServiceClient::connect(server.url.clone()).await.expect("connected");
    let outcome = collect(client.generate(request("pleural effusion")).await.expect("admitted").into_inner()).await;
    assert_eq!(outcome.samples().len(), 1);

    // Work in flight is finished first.
    let mut asked = request("pleural effusion");
    asked.sampling = asked.sampling.map(|mut sampling| {
        sampling.step_count = Some(200);
        sampling
    });
    let mut running = client.generate(asked).await.expect("admitted").into_inner();
    assert!(matches!(running.message().await.expect("one").expect("one").event, Some(Event::Admitted(_))));
    server.signal("-TERM");
    let outcome = collect(running).await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(outcome.samples().len(), 1);
    assert_eq!(server.ended_within(Duration::from_secs(5)), Some(0));
}

#[tokio::test]
async fn the_log_holds_nothing_of_an_impression() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Running::start(&tiny_bundle(directory.path()));
    let mut client = RayGenServiceClient::connect(server.url.clone()).await.expect("connected");
    let outcome =
        collect(client.generate(request("effusion of Mrs Miller")).await.expect("admitted").into_inner()).await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    for refused in ["Miller\0", &"Miller ".repeat(100), &"Miller".repeat(2000)] {
        assert!(client.generate(request(refused)).await.is_err());
    }
    server.signal("-TERM");
    assert_eq!(server.ended_within(Duration::from_secs(5)), Some(0));
    let mut log = String::new();
    server.child.stderr.take().expect("stderr").read_to_string(&mut log).expect("read");
    assert!(log.contains("stopping"), "something is logged: {log}");
    assert!(!log.to_lowercase().contains("miller"), "{log}");
}

#[test]
fn what_cannot_be_is_told_by_setting_and_ends_the_program() {
    let directory = tempfile::tempdir().expect("a directory");
    let bundle = tiny_bundle(directory.path()).display().to_string();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let nowhere = directory.path().join("nowhere").display().to_string();
    let file = directory.path().join("settings.toml");
    std::fs::write(&file, "[engine]\nslots = 3\n").expect("written");
    let file = file.display().to_string();
    for (arguments, said) in [
        (&["--listen", "here"][..], "--listen: listen: \"here\" is not an address"),
        (&["--device", "tpu"], "--device: device: \"tpu\" is not a device"),
        (&["--dtype", "f8"], "--dtype: dtype: \"f8\" is not a precision"),
        (&["--config", &file], "there is no setting engine.slots"),
        (&["--models", &nowhere, "--listen", "127.0.0.1:0"], "nowhere"),
        (&["--models", &bundle, "--listen", &taken], "listen: cannot listen on"),
    ] {
        let (code, stderr) = failing(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("raygen-server: ") && stderr.contains(said), "{arguments:?}: {stderr}");
    }
    assert_eq!(failing(&["--no-such-option"]).0, Some(2));
}

#[test]
fn the_settings_can_be_printed_and_read_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let print = |arguments: &[&str]| {
        let mut child = program(arguments).env("RAYGEN_ENGINE__MAX_SLOTS", "3").spawn().expect("started");
        let mut text = String::new();
        child.stdout.take().expect("stdout").read_to_string(&mut text).expect("read");
        assert!(child.wait().expect("ended").success());
        text
    };
    let printed = print(&["--listen", "127.0.0.1:4000", "--print-config"]);
    assert!(printed.contains("listen = \"127.0.0.1:4000\"") && printed.contains("max_slots = 3"), "{printed}");
    let file = directory.path().join("settings.toml");
    std::fs::write(&file, &printed).expect("written");
    assert_eq!(print(&["--config", &file.display().to_string(), "--print-config"]), printed);
}
