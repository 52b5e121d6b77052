//! Accepts connections: at most so many, TLS handshakes beside each other and not for ever.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::PortLimits;
use super::connection::{Connection, Io};
use crate::security::Tls;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection: it is out of files, and will be for a moment.
const OUT_OF_FILES: Duration = Duration::from_millis(50);
/// Connections whose handshake is over and that nobody has taken yet.
const READY: usize = 16;

/// Connections as they come. Dropping the stream closes the port.
pub(crate) fn incoming(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    limits: PortLimits,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(READY);
    tokio::spawn(accept(listener, tls, limits, ready));
    ReceiverStream::new(connections)
}

async fn accept(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    limits: PortLimits,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = ready.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(OUT_OF_FILES).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            if !std::mem::replace(&mut full, true) {
                tracing::warn!(limits.max_connections, "all connections are taken; more are closed at once");
            }
            continue;
        };
        full = false;
        tokio::spawn(welcome(stream, place, tls.clone(), limits, ready.clone()));
    }
}

async fn welcome(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    tls: Option<Arc<Tls>>,
    limits: PortLimits,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    // Costs nothing but latency where it does not work.
    let _ = stream.set_nodelay(true);
    let io = match tls {
        None => Io::Plain(stream),
        Some(tls) => match timeout(HANDSHAKE, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => Io::Tls(Box::new(stream)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::debug!("a TLS handshake took too long");
                return;
            }
        },
    };
    // Nobody takes it any more when the server goes.
    let _ = ready.send(Ok(Connection::new(io, place, limits.idle_timeout))).await;
}
