//! After a step: complete grids are decoded and sent, previews follow to those readers that keep up.

use std::sync::Arc;
use std::time::Instant;

use raygen_model::image::Picture;
use raygen_model::sampler::SampleState;
use tracing::Span;

use super::model::LoadedModel;
use super::outbox::{Finished, Progress};
use super::request::Preview;
use super::running::Running;
use super::scheduler::Row;
use super::stats::EngineStats;
use super::step::decode_each;
use super::worker::{Stepped, Worker};

impl Worker {
    /// Results first, previews after them.
    pub(super) fn deliver(&mut self, stepped: Vec<Stepped>) {
        let mut finished = Vec::new();
        let mut going_on = Vec::new();
        for Stepped { row, state } in stepped {
            let Some(request) = self.requests.get_mut(&row.request) else {
                // Another sample of the request failed in the same step.
                continue;
            };
            request.samples.insert(row.sample, state.clone());
            let done = state.step >= request.generation.params.step_count;
            if request.wants_preview(&state) && request.generation.preview == Preview::Tokens {
                let progress = request.progress(&state);
                send(&self.stats, request, row.sample, progress);
            }
            if done { &mut finished } else { &mut going_on }.push(Stepped { row, state });
        }
        self.finish(finished);
        self.preview(going_on);
    }

    /// Decodes complete grids and sends them.
    fn finish(&mut self, finished: Vec<Stepped>) {
        for (model, rows) in self.by_model(finished) {
            let began = Instant::now();
            let mut rough = Rough::new(&model);
            let grids: Vec<&[u32]> = rows.iter().map(|stepped| stepped.state.ids.as_slice()).collect();
            let spans = self.decode_spans(&rows);
            let pictures = decode_each(&model, &grids);
            let took = began.elapsed();
            drop(spans);
            self.stats.decode_seconds.took(took);
            for (stepped, picture) in rows.iter().zip(pictures) {
                let Stepped { row, state } = stepped;
                let picture = match picture {
                    Ok(picture) => picture,
                    Err(error) => {
                        self.fail(row.request, error);
                        continue;
                    }
                };
                let Some(request) = self.requests.get_mut(&row.request) else {
                    continue;
                };
                request.decoded(took);
                request.samples.remove(&row.sample);
                // Grids alone were sent at once.
                if request.wants_preview(state) && request.generation.preview != Preview::Tokens {
                    let mut progress = request.progress(state);
                    progress.picture = match request.generation.preview {
                        // The last preview is the result itself.
                        Preview::Decoded => Some(picture.clone()),
                        Preview::Approximate => rough.picture(&state.ids),
                        Preview::None | Preview::Tokens => None,
                    };
                    send(&self.stats, request, row.sample, progress);
                }
                request.finished(row.sample, Finished { ids: state.ids.clone(), picture });
                self.stats.picture_done(state.ids.len());
                if self.scheduler.finish(*row)
                    && let Some(request) = self.requests.remove(&row.request)
                {
                    request.close();
                }
            }
        }
    }

    /// One span for each row's decoding.
    fn decode_spans(&self, rows: &[Stepped]) -> Vec<Span> {
        let request = |stepped: &Stepped| self.requests.get(&stepped.row.request);
        rows.iter().filter_map(|stepped| Some(request(stepped)?.decode_span(rows.len()))).collect()
    }

    /// Sends picture previews to those readers that keep up.
    fn preview(&mut self, going_on: Vec<Stepped>) {
        let wanted: Vec<Stepped> = going_on.into_iter().filter(|stepped| self.wants_picture(stepped)).collect();
        for (model, rows) in self.by_model(wanted) {
            let began = Instant::now();
            let decoded: Vec<bool> = rows.iter().map(|stepped| self.is_decoded(stepped.row)).collect();
            let filled: Vec<Vec<u32>> = rows
                .iter()
                .zip(&decoded)
                .filter(|(_, decoded)| **decoded)
                .map(|(stepped, _)| decidable(&stepped.state))
                .collect();
            let grids: Vec<&[u32]> = filled.iter().map(Vec::as_slice).collect();
            let mut pictures = decode_each(&model, &grids).into_iter();
            let mut rough = Rough::new(&model);
            let took = began.elapsed();
            for (stepped, decoded) in rows.iter().zip(decoded) {
                let picture = if decoded {
                    // A preview that cannot be decoded is only a preview: the grid is sent without it.
                    pictures.next().and_then(Result::ok)
                } else {
                    rough.picture(stepped.state.latest())
                };
                let Some(request) = self.requests.get_mut(&stepped.row.request) else {
                    continue;
                };
                if decoded {
                    request.decoded(took);
                }
                let mut progress = request.progress(&stepped.state);
                progress.picture = picture;
                send(&self.stats, request, stepped.row.sample, progress);
            }
        }
    }

    /// Whether a picture preview is due and its reader has room; a preview without room is counted as dropped.
    fn wants_picture(&self, stepped: &Stepped) -> bool {
        let Some(request) = self.requests.get(&stepped.row.request) else {
            return false;
        };
        if request.generation.preview == Preview::Tokens || !request.wants_preview(&stepped.state) {
            return false;
        }
        let room = request.outbox.has_room_for_picture(stepped.row.sample);
        if !room {
            request.outbox.count_dropped();
            self.stats.previews_dropped(1);
        }
        room
    }

    fn is_decoded(&self, row: Row) -> bool {
        self.requests.get(&row.request).is_some_and(|request| request.generation.preview == Preview::Decoded)
    }

    /// Rows whose readers are still there, by model.
    fn by_model(&self, stepped: Vec<Stepped>) -> Vec<(Arc<LoadedModel>, Vec<Stepped>)> {
        let mut groups: Vec<(Arc<LoadedModel>, Vec<Stepped>)> = Vec::new();
        for one in stepped {
            let Some(request) = self.requests.get(&one.row.request).filter(|request| !request.outbox.is_closed())
            else {
                continue;
            };
            let model = &request.generation.model;
            match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, model)) {
                Some((_, rows)) => rows.push(one),
                None => groups.push((Arc::clone(model), vec![one])),
            }
        }
        groups
    }
}

/// Sends a preview, and counts what gave way for it.
fn send(stats: &EngineStats, request: &mut Running, sample: u32, progress: Progress) {
    let first = progress.picture.as_ref().and_then(|_| request.first_preview());
    if let Some(after) = first {
        stats.first_preview_seconds.took(after);
    }
    let dropped = request.outbox.progress(sample, progress);
    stats.previews_dropped(dropped);
}

/// Approximate pictures of one turn. While the patches are being measured a turn takes one decode for them, however many
/// rows ask; their grids are sent without a picture.
struct Rough<'a> {
    model: &'a LoadedModel,
    measuring: bool,
}

// === impl Rough ===

impl<'a> Rough<'a> {
    fn new(model: &'a LoadedModel) -> Self {
        Self { model, measuring: false }
    }

    fn picture(&mut self, ids: &[u32]) -> Option<Picture> {
        if self.measuring {
            return None;
        }
        let picture = self.model.model.approximate(ids);
        self.measuring = matches!(picture, Ok(None));
        picture.ok().flatten()
    }
}

/// The grid with positions that were never decided filled in from the nearest decided one before them, so that it can be
/// decoded; what refinement has hidden is shown as it was.
fn decidable(state: &SampleState) -> Vec<u32> {
    let mask_id = state.mask_id();
    let mut last = state.latest().iter().copied().find(|&id| id != mask_id).unwrap_or(0);
    state
        .latest()
        .iter()
        .map(|&id| {
            if id != mask_id {
                last = id;
            }
            last
        })
        .collect()
}
