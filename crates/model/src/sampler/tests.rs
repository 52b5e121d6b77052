//! What every sampler promises, whatever the logits.

use proptest::prelude::*;

use crate::random::{Purpose, Randomness, standard_normal};

use super::*;

const CODEBOOK: usize = 12;

fn noise_logits(positions: usize, seed: u64, step: u32) -> Vec<f32> {
    let mut generator = Randomness::new(seed, Purpose::Initialise).stream(u64::from(step), 0);
    (0..positions * CODEBOOK).map(|_| 3.0 * standard_normal(&mut generator)).collect()
}

fn undecided_after(params: &SamplingParams, total: usize, step: u32) -> usize {
    match params.sampler {
        Sampler::Published if step + 1 == params.step_count => 0,
        Sampler::Published => masked_before_published(total, step + 1, params.step_count),
        Sampler::Maskgit | Sampler::Halton => masked_after(total, step, params.step_count),
    }
}

fn any_params() -> impl Strategy<Value = SamplingParams> {
    let sampler = prop_oneof![Just(Sampler::Published), Just(Sampler::Maskgit), Just(Sampler::Halton)];
    (sampler, 1u32..20, prop_oneof![Just(0.0f32), 0.01f32..3.0], 0.0f32..0.99, 0.0f32..10.0, any::<u64>()).prop_map(
        |(sampler, step_count, temperature, top_k_filter, choice_temperature, seed)| SamplingParams {
            sampler,
            step_count,
            temperature,
            top_k_filter,
            guidance_scale: 1.0,
            choice_temperature,
            refinement: 0.0,
            seed,
        },
    )
}

fn run(mut state: SampleState, params: &SamplingParams, logits_seed: u64) -> SampleState {
    for step in 0..params.step_count {
        let logits = noise_logits(state.ids.len(), logits_seed, step);
        advance(&mut state, params, &logits).unwrap();
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_step_decides_the_scheduled_number_and_never_changes_what_is_decided(
        params in any_params(),
        kept in proptest::collection::vec(any::<bool>(), 36),
        logits_seed in any::<u64>(),
    ) {
        let mask_id = CODEBOOK as u32;
        let canvas: Vec<u32> = kept.iter().map(|&kept| if kept { 3 } else { mask_id }).collect();
        let mut state = SampleState::from_canvas(canvas, mask_id, 5);
        let total = state.total();
        for step in 0..params.step_count {
            let before = state.clone();
            advance(&mut state, &params, &noise_logits(36, logits_seed, step)).unwrap();
            prop_assert_eq!(state.undecided().len(), undecided_after(&params, total, step));
            for position in 0..36 {
                if before.ids[position] != mask_id {
                    prop_assert_eq!(state.ids[position], before.ids[position]);
                    prop_assert_eq!(state.confidence[position], before.confidence[position]);
                }
                prop_assert!((0.0..=1.0).contains(&state.confidence[position]));
                prop_assert_eq!(state.confidence[position] == 0.0, state.ids[position] == mask_id);
            }
        }
        prop_assert!(state.is_complete());
        prop_assert!(state.ids.iter().all(|&id| id < mask_id));
    }

    #[test]
    fn refining_hides_and_decides_again_but_never_what_the_caller_gave(
        params in any_params(),
        refinement in 0.1f32..0.9,
        kept in proptest::collection::vec(any::<bool>(), 36),
        logits_seed in any::<u64>(),
    ) {
        prop_assume!(params.sampler != Sampler::Published);
        let params = SamplingParams { refinement, ..params };
        let mask_id = CODEBOOK as u32;
        let canvas: Vec<u32> = kept.iter().map(|&kept| if kept { 3 } else { mask_id }).collect();
        let mut state = SampleState::from_canvas(canvas.clone(), mask_id, 5);
        let mut refined = state.clone();
        for step in 0..params.step_count {
            advance(&mut refined, &params, &noise_logits(36, logits_seed, step)).unwrap();
            for (position, &given) in canvas.iter().enumerate() {
                prop_assert!(given == mask_id || refined.ids[position] == given);
                prop_assert_eq!(refined.confidence[position] == 0.0, refined.ids[position] == mask_id);
                prop_assert!(refined.ids[position] == mask_id || refined.latest()[position] == refined.ids[position]);
            }
            // Once the grid was full, a preview has no holes.
            if step + 1 >= params.fill_steps() {
                prop_assert!(!refined.latest().contains(&mask_id));
            }
            // Until the last step that fills, it is the same generation as without refinement.
            if step + 1 < params.fill_steps() {
                let plain = SamplingParams { refinement: 0.0, step_count: params.fill_steps(), ..params.clone() };
                advance(&mut state, &plain, &noise_logits(36, logits_seed, step)).unwrap();
                prop_assert_eq!(&state, &refined);
            }
        }
        prop_assert!(refined.is_complete());
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens(params in any_params(), refinement in 0.0f32..0.9) {
        let mut params = SamplingParams { refinement, ..params };
        params.change_sampler(params.sampler);
        let state = SampleState::new(25, CODEBOOK as u32, 2);
        prop_assert_eq!(run(state.clone(), &params, 9), run(state, &params, 9));
    }
}

#[test]
fn another_seed_or_sample_gives_other_tokens() {
    for sampler in [Sampler::Published, Sampler::Maskgit, Sampler::Halton] {
        let params = SamplingParams { sampler, step_count: 4, top_k_filter: 0.0, ..SamplingParams::default() };
        let first = run(SampleState::new(64, CODEBOOK as u32, 0), &params, 1);
        let sibling = run(SampleState::new(64, CODEBOOK as u32, 1), &params, 1);
        let reseeded = run(SampleState::new(64, CODEBOOK as u32, 0), &SamplingParams { seed: 1, ..params }, 1);
        assert_ne!(first.ids, sibling.ids, "{sampler:?}");
        assert_ne!(first.ids, reseeded.ids, "{sampler:?}");
    }
}

#[test]
fn refinement_decides_a_good_part_of_the_grid_anew() {
    let params = SamplingParams { step_count: 8, refinement: 0.5, temperature: 2.0, ..SamplingParams::default() };
    let mut state = SampleState::new(400, CODEBOOK as u32, 0);
    for step in 0..params.step_count {
        advance(&mut state, &params, &noise_logits(400, 1, step)).unwrap();
        let hidden = state.undecided().len();
        match step + 1 {
            // Half of the tokens at first, then fewer; the bounds are six standard deviations of 400 draws.
            4 => assert!((140..=260).contains(&hidden), "{hidden}"),
            7 => assert!((65..=185).contains(&hidden), "{hidden}"),
            8 => assert_eq!(hidden, 0),
            _ => {}
        }
    }
}

#[test]
fn a_number_that_is_not_finite_is_an_error_and_changes_nothing() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for sampler in [Sampler::Published, Sampler::Maskgit, Sampler::Halton] {
            let params = SamplingParams { sampler, ..SamplingParams::default() };
            let mut state = SampleState::new(9, CODEBOOK as u32, 0);
            let before = state.clone();
            let mut logits = noise_logits(9, 0, 0);
            logits[5 * CODEBOOK + 7] = bad;
            let error = advance(&mut state, &params, &logits).unwrap_err();
            assert_eq!(error, SamplingError::NotFinite { step: 0, position: 5, id: 7 });
            assert_eq!(state, before);
        }
    }
}

#[test]
fn too_few_logits_and_too_many_steps_are_errors() {
    let params = SamplingParams { step_count: 1, ..SamplingParams::default() };
    let mut state = SampleState::new(4, CODEBOOK as u32, 0);
    assert_eq!(advance(&mut state, &params, &[0.0; 3]), Err(SamplingError::LogitsLength { expected: 48, found: 3 }));
    advance(&mut state, &params, &noise_logits(4, 0, 0)).unwrap();
    assert_eq!(advance(&mut state, &params, &noise_logits(4, 0, 0)), Err(SamplingError::Finished { step_count: 1 }));
}

#[test]
fn one_published_step_is_greedy() {
    let params = SamplingParams { step_count: 1, ..SamplingParams::published() };
    let logits = noise_logits(16, 4, 0);
    let mut state = SampleState::new(16, CODEBOOK as u32, 0);
    advance(&mut state, &params, &logits).unwrap();
    let greedy: Vec<u32> = logits.chunks_exact(CODEBOOK).map(|row| choice::argmax(row) as u32).collect();
    assert_eq!(state.ids, greedy);
}

#[test]
fn filtered_ids_are_never_chosen() {
    for sampler in [Sampler::Published, Sampler::Maskgit, Sampler::Halton] {
        let params = SamplingParams { sampler, temperature: 50.0, top_k_filter: 0.75, ..SamplingParams::default() };
        let logits = noise_logits(64, 11, 0);
        let mut state = SampleState::new(64, CODEBOOK as u32, 0);
        advance(&mut state, &params, &logits).unwrap();
        for (row, &id) in logits.chunks_exact(CODEBOOK).zip(&state.ids) {
            if id < CODEBOOK as u32 {
                let better = row.iter().filter(|&&value| value > row[id as usize]).count();
                assert!(better < keep_count(CODEBOOK, 0.75), "{sampler:?} chose the {better}th best id");
            }
        }
    }
}
