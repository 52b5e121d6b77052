//! What one key may ask for: requests in flight, and requests a second by a token bucket.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// How long a caller with too many requests in flight is told to wait: until one of its own may have ended.
const IN_FLIGHT_RETRY: Duration = Duration::from_secs(1);

/// Limits of one key; absent ones do not limit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests under way at once.
    pub in_flight: Option<usize>,
    /// Requests a second, on average.
    pub requests_per_second: Option<f64>,
    /// Requests that may come at once after a pause; where absent, one second's worth, and at least 1.
    pub burst: Option<u32>,
}

/// A key's account.
#[derive(Debug)]
pub(super) struct Quota {
    limits: Limits,
    in_flight: Arc<AtomicUsize>,
    bucket: Mutex<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Option<Instant>,
}

/// One request under way; given back on drop.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

/// Which limit was met, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OverQuota {
    pub(super) what: String,
    pub(super) retry_after: Duration,
}

// === impl Limits ===

impl Limits {
    /// What is wrong with them, if anything.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.requests_per_second.is_some_and(|rate| !(rate > 0.0 && rate <= 1e6)) {
            return Err("requests_per_second must be above 0 and at most 1000000".to_owned());
        }
        if self.burst == Some(0) || self.in_flight == Some(0) {
            return Err("burst and in_flight must be at least 1; to lock a key out, remove it".to_owned());
        }
        if self.burst.is_some() && self.requests_per_second.is_none() {
            return Err("burst needs requests_per_second".to_owned());
        }
        Ok(())
    }

    fn capacity(&self, rate: f64) -> f64 {
        self.burst.map_or(rate.max(1.0), f64::from)
    }
}

// === impl Quota ===

impl Quota {
    pub(super) fn new(limits: Limits) -> Self {
        let tokens = limits.requests_per_second.map_or(0.0, |rate| limits.capacity(rate));
        Self { limits, in_flight: Arc::default(), bucket: Mutex::new(Bucket { tokens, filled: None }) }
    }

    /// The account of the same key after its file was read again: what is under way goes on counting.
    pub(super) fn renewed(&self, limits: Limits) -> Self {
        let mut renewed = Self::new(limits);
        renewed.in_flight = Arc::clone(&self.in_flight);
        if limits == self.limits {
            renewed.bucket = Mutex::new(*self.bucket.lock().unwrap_or_else(PoisonError::into_inner));
        }
        renewed
    }

    /// Takes part of the quota for one request. A request refused for being one too many in flight costs no token.
    pub(super) fn try_begin(&self, now: Instant) -> Result<Permit, OverQuota> {
        let most = self.limits.in_flight.unwrap_or(usize::MAX);
        let room = |count: usize| (count < most).then_some(count + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).map_err(|_| OverQuota {
            what: format!("{most} requests are under way, which is this key's limit"),
            retry_after: IN_FLIGHT_RETRY,
        })?;
        let permit = Permit(Arc::clone(&self.in_flight));
        let Some(rate) = self.limits.requests_per_second else { return Ok(permit) };
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let since = bucket.filled.map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        bucket.tokens = (bucket.tokens + since.as_secs_f64() * rate).min(self.limits.capacity(rate));
        bucket.filled = Some(now);
        if bucket.tokens < 1.0 {
            let retry_after = Duration::from_secs_f64((1.0 - bucket.tokens) / rate);
            let what = format!("more than {rate} requests a second came, which is this key's limit");
            return Err(OverQuota { what, retry_after });
        }
        bucket.tokens -= 1.0;
        Ok(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds_and_says_when_to_come_back() {
        let limits = Limits { requests_per_second: Some(2.0), burst: Some(3), in_flight: None };
        let quota = Quota::new(limits);
        let now = Instant::now();
        for _ in 0..3 {
            quota.try_begin(now).expect("within the burst");
        }
        let over = quota.try_begin(now).expect_err("one too many");
        assert_eq!(over.retry_after, Duration::from_millis(500));
        quota.try_begin(now + over.retry_after).expect("as told");
        assert!(quota.try_begin(now + over.retry_after).is_err());
        let later = now + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| quota.try_begin(later).is_ok()).count(), 3, "a pause earns one burst");
    }

    #[test]
    fn requests_in_flight_are_counted_until_they_end_and_across_a_new_file() {
        let limits = Limits { in_flight: Some(2), ..Limits::default() };
        let quota = Quota::new(limits);
        let now = Instant::now();
        let first = quota.try_begin(now).expect("one");
        let _second = quota.try_begin(now).expect("two");
        assert!(quota.try_begin(now).is_err());
        let renewed = quota.renewed(Limits { in_flight: Some(3), ..limits });
        let third = renewed.try_begin(now).expect("three");
        assert!(renewed.try_begin(now).is_err());
        drop((first, third));
        assert!(renewed.try_begin(now).is_ok());
    }

    #[test]
    fn limits_that_cannot_be_are_refused() {
        let rate = |rate| Limits { requests_per_second: Some(rate), ..Limits::default() };
        for wrong in
            [rate(0.0), rate(-1.0), rate(f64::NAN), rate(f64::INFINITY), Limits { burst: Some(1), ..Limits::default() }]
        {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        assert!(rate(0.01).check().is_ok());
    }
}
