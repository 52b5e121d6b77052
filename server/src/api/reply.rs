//! A response stream from its writer's end to its reader's: a call lasts until its last message was taken, and no longer
//! than its reader takes them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::call::{Call, RequestId};
use super::errors::ApiError;

/// The writer's end. Dropping it before the last message is a mistake, which the reader is told.
pub(super) struct Reply<T> {
    sender: mpsc::Sender<Result<T, Status>>,
    shared: Arc<Mutex<Shared<T>>>,
    patience: Duration,
}

/// The reader's end: what tonic sends.
pub(super) struct Reading<T> {
    shared: Arc<Mutex<Shared<T>>>,
    is_last: fn(&T) -> bool,
}

/// The reader is gone, or has not read for too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// What both ends see, so that a reader that stalls holds nothing back.
struct Shared<T> {
    /// Absent once the stream has ended.
    messages: Option<mpsc::Receiver<Result<T, Status>>>,
    /// Said instead of what a stalled reader did not take.
    last_words: Option<Status>,
    complete: bool,
    reader: Option<Waker>,
    /// Before the call, so that it is free when the call has ended.
    request_id: Option<RequestId>,
    call: Option<Call>,
}

/// A stream of at most `unread` messages on their way. `is_last` knows the message that completes it; a reader that takes
/// nothing for `patience` is given up.
pub(super) fn channel<T>(
    call: Call,
    request_id: Option<RequestId>,
    unread: usize,
    patience: Duration,
    is_last: fn(&T) -> bool,
) -> (Reply<T>, Reading<T>) {
    let (sender, messages) = mpsc::channel(unread);
    let shared = Shared {
        messages: Some(messages),
        last_words: None,
        complete: false,
        reader: None,
        request_id,
        call: Some(call),
    };
    let shared = Arc::new(Mutex::new(shared));
    (Reply { sender, shared: Arc::clone(&shared), patience }, Reading { shared, is_last })
}

fn lock<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Shared ===

impl<T> Shared<T> {
    /// The call is over: everything that it held is free.
    fn end(&mut self, code: Code) {
        self.messages = None;
        self.request_id = None;
        if let Some(mut call) = self.call.take() {
            call.end(code);
        }
    }
}

// === impl Reply ===

impl<T> Reply<T> {
    /// Sends a message as soon as there is room for it.
    ///
    /// # Errors
    /// The reader is gone, or gave no room for too long; there is nobody to send to any more.
    pub(super) async fn send(&self, message: Result<T, Status>) -> Result<(), Gone> {
        match timeout(self.patience, self.sender.send(message)).await {
            Ok(sent) => sent.map_err(|_| Gone),
            Err(_) => Err(self.give_up()),
        }
    }

    /// Sends the last message, and waits until the reader has taken everything.
    pub(super) async fn finish(self, message: Result<T, Status>) {
        if self.send(message).await.is_err() {
            return;
        }
        for free in 1..=self.sender.max_capacity() {
            match timeout(self.patience, self.sender.reserve_many(free)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    self.give_up();
                    return;
                }
            }
        }
    }

    /// Ends when the reader is gone.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Lets go of everything that a stalled reader holds back. Should it come back, it is told.
    fn give_up(&self) -> Gone {
        let mut shared = lock(&self.shared);
        if shared.messages.is_some() {
            tracing::warn!(seconds = self.patience.as_secs(), "a client does not read; its request is cancelled");
            let status = Status::from(ApiError::Stalled(self.patience));
            shared.end(status.code());
            shared.last_words = Some(status);
        }
        if let Some(reader) = shared.reader.take() {
            reader.wake();
        }
        Gone
    }
}

// === impl Reading ===

impl<T> Stream for Reading<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = lock(&self.shared);
        let Some(messages) = &mut shared.messages else {
            return Poll::Ready(shared.last_words.take().map(Err));
        };
        match messages.poll_recv(context) {
            Poll::Pending => {
                shared.reader = Some(context.waker().clone());
                Poll::Pending
            }
            Poll::Ready(Some(Ok(message))) => {
                shared.complete |= (self.is_last)(&message);
                Poll::Ready(Some(Ok(message)))
            }
            // tonic asks for nothing behind an error.
            Poll::Ready(Some(Err(status))) => {
                shared.end(status.code());
                Poll::Ready(Some(Err(status)))
            }
            Poll::Ready(None) if shared.complete => {
                shared.end(Code::Ok);
                Poll::Ready(None)
            }
            Poll::Ready(None) => {
                let status = Status::from(ApiError::Internal("the stream ended before its last message".to_owned()));
                shared.end(status.code());
                Poll::Ready(Some(Err(status)))
            }
        }
    }
}

impl<T> Drop for Reading<T> {
    /// A reader that leaves before the last message cancels its call.
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        let code = if shared.complete { Code::Ok } else { Code::Cancelled };
        shared.end(code);
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;
    use crate::api::Calls;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn of(calls: &Calls, unread: usize) -> (Reply<u32>, Reading<u32>) {
        channel(calls.begin("Generate"), None, unread, PATIENCE, |message| *message == 9)
    }

    #[tokio::test]
    async fn a_call_lasts_until_its_last_message_was_read() {
        let calls = Calls::default();
        let (reply, mut reading) = of(&calls, 2);
        let writer = tokio::spawn(async move {
            reply.send(Ok(1)).await.expect("room");
            reply.finish(Ok(9)).await;
        });
        tokio::task::yield_now().await;
        assert_eq!(calls.running(), 1, "everything is written, and nothing read");
        assert_eq!(reading.next().await.expect("one").expect("fine"), 1);
        assert_eq!(reading.next().await.expect("two").expect("fine"), 9);
        assert_eq!(calls.running(), 1);
        assert!(reading.next().await.is_none());
        assert_eq!(calls.running(), 0);
        assert_eq!(calls.ended()[&("Generate", "OK")], 1);
        writer.await.expect("joined");
    }

    #[tokio::test]
    async fn a_reader_that_leaves_before_the_end_counts_as_cancelled() {
        let calls = Calls::default();
        let (reply, mut reading) = of(&calls, 2);
        reply.send(Ok(1)).await.expect("room");
        assert!(reading.next().await.is_some());
        drop(reading);
        assert_eq!(reply.send(Ok(9)).await, Err(Gone));
        assert_eq!(calls.ended()[&("Generate", "CANCELLED")], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stalls_is_given_up_and_told_when_it_comes_back() {
        let calls = Calls::default();
        let (reply, mut reading) = of(&calls, 1);
        reply.send(Ok(1)).await.expect("room");
        assert_eq!(reply.send(Ok(2)).await, Err(Gone));
        assert_eq!(calls.running(), 0);
        let status = reading.next().await.expect("told").expect_err("given up");
        assert_eq!(status.code(), Code::Cancelled);
        assert!(reading.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_never_takes_the_last_message_is_given_up_too() {
        let calls = Calls::default();
        let (reply, _reading) = of(&calls, 2);
        reply.finish(Ok(9)).await;
        assert_eq!(calls.running(), 0);
        assert_eq!(calls.ended()[&("Generate", "CANCELLED")], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_that_goes_on_is_not_given_up() {
        let calls = Calls::default();
        let (reply, mut reading) = of(&calls, 1);
        let writer = tokio::spawn(async move {
            for message in 0..5 {
                reply.send(Ok(message)).await.expect("in time");
            }
            reply.finish(Ok(9)).await;
        });
        let mut read = 0;
        while let Some(message) = reading.next().await {
            message.expect("goes on");
            read += 1;
            tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
        }
        assert_eq!(read, 6);
        assert_eq!(calls.ended()[&("Generate", "OK")], 1);
        writer.await.expect("joined");
    }

    #[tokio::test]
    async fn a_writer_that_vanishes_is_an_error_and_not_the_end() {
        let calls = Calls::default();
        let (reply, mut reading) = of(&calls, 1);
        reply.send(Ok(1)).await.expect("room");
        drop(reply);
        assert!(reading.next().await.expect("one").is_ok());
        assert_eq!(reading.next().await.expect("told").expect_err("an error").code(), Code::Internal);
    }
}
