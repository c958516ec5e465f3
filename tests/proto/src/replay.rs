// SPDX-License-Identifier: GPL-2.0-only

use crate::proto::replay::{
    ReplayError::{Expired, Replayed, TooOld, Zero},
    ReplayWindow, BACKTRACK_SECONDS, WINDOW_LEN,
};
use crate::replay_model::Model;
use proptest::prelude::*;
use std::collections::HashSet;

/// How the id of the next packet is chosen.
#[derive(Clone, Debug)]
enum Pick {
    Ahead(u32),
    Behind(u32),
    /// The id of an earlier packet of the sequence.
    Again(prop::sample::Index),
    Any(u32),
}

impl Pick {
    fn id(&self, highest: u32, sent: &[u32]) -> u32 {
        match self {
            Self::Ahead(by) => highest.saturating_add(*by),
            Self::Behind(by) => highest.saturating_sub(*by),
            Self::Again(_) if sent.is_empty() => 1,
            Self::Again(index) => *index.get(sent),
            Self::Any(id) => *id,
        }
    }
}

/// Mostly small steps, and the distances at which words, the window or the ring come to an end.
fn distance() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => 0u32..5,
        4 => 0u32..200,
        2 => 0u32..2300,
        2 => (1u32..35, -2i32..=2).prop_map(|(words, off)| (words * 64).saturating_add_signed(off)),
        2 => (-3i32..=3).prop_map(|off| 2048u32.saturating_add_signed(off)),
        1 => 0u32..100_000,
    ]
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        10 => distance().prop_map(Pick::Ahead),
        10 => distance().prop_map(Pick::Behind),
        5 => any::<prop::sample::Index>().prop_map(Pick::Again),
        1 => prop_oneof![Just(0), Just(1), 0..5000u32].prop_map(Pick::Any),
    ]
}

/// Seconds from one packet to the next: mostly none, sometimes about the limit.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![
        30 => Just(0u64),
        5 => 0u64..10,
        2 => 28u64..=32,
        1 => 0u64..1000,
    ]
}

/// Where a sequence begins: at the first id, anywhere, or short of the last.
fn first_id() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(1u32),
        1u32..5000,
        any::<u32>(),
        u32::MAX - 5000..=u32::MAX
    ]
}

fn accept(window: &mut ReplayWindow, id: u32, now: u64) {
    assert_eq!(window.check_and_update(id, now), Ok(()), "id {id} at {now}");
}

#[test]
fn limits_are_those_of_the_c_drivers() {
    assert_eq!(WINDOW_LEN, 2048);
    assert_eq!(BACKTRACK_SECONDS, 30);
    assert!(size_of::<ReplayWindow>() <= 300);
}

#[test]
fn an_id_is_accepted_once() {
    let mut window = ReplayWindow::new();

    for id in 1..=5000 {
        accept(&mut window, id, 0);
        assert_eq!(window.check_and_update(id, 0), Err(Replayed));
    }
    assert_eq!(window.check_and_update(4999, 0), Err(Replayed));
}

#[test]
fn zero_is_refused_always() {
    let mut window = ReplayWindow::new();

    assert_eq!(window.check_and_update(0, 0), Err(Zero));
    accept(&mut window, 9, 0);
    assert_eq!(window.check_and_update(0, 0), Err(Zero));
    accept(&mut window, 5000, 0);
    assert_eq!(window.check_and_update(0, 100), Err(Zero));
}

#[test]
fn ids_may_come_in_any_order() {
    let mut window = ReplayWindow::new();

    for id in (1..=2048).rev() {
        accept(&mut window, id, 0);
    }
    for id in 1..=2048 {
        assert_eq!(window.check_and_update(id, 0), Err(Replayed));
    }
}

#[test]
fn the_window_reaches_back_2047_ids() {
    // Each place of the highest id within its word, and so each start of the window within its own.
    for highest in 5000..5064 {
        let mut window = ReplayWindow::new();
        accept(&mut window, highest, 0);

        assert_eq!(window.check_and_update(highest - 2048, 0), Err(TooOld));
        accept(&mut window, highest - 2047, 0);
        assert_eq!(window.check_and_update(highest - 2047, 0), Err(Replayed));
        assert_eq!(window.check_and_update(1, 0), Err(TooOld));
    }
}

#[test]
fn a_slide_forgets_nothing_that_it_still_covers() {
    let steps = [1, 2, 63, 64, 65, 1000, 1983, 1984, 2046, 2047];
    for step in steps.into_iter().skip(crate::scale(0, 9)) {
        let mut window = ReplayWindow::new();
        for id in (1..=4000).step_by(2) {
            accept(&mut window, id, 0);
        }
        let highest = 3999 + step;
        accept(&mut window, highest, 0);

        for id in highest - 2047..highest {
            let expected = if id % 2 == 1 && id <= 3999 {
                Err(Replayed)
            } else {
                Ok(())
            };
            assert_eq!(
                window.check_and_update(id, 0),
                expected,
                "{id} after {step}"
            );
        }
    }
}

#[test]
fn a_jump_leaves_no_old_bits_behind() {
    let jumps = [2048, 2049, 2111, 2112, 2113, 4224, 1 << 20, u32::MAX - 2048];
    for jump in jumps.into_iter().skip(crate::scale(0, 7)) {
        let mut window = ReplayWindow::new();
        for id in 1..=2048 {
            accept(&mut window, id, 0);
        }
        let highest = 2048 + jump;
        accept(&mut window, highest, 0);

        for id in highest - 2047..highest {
            let expected = if id <= 2048 { Err(Replayed) } else { Ok(()) };
            assert_eq!(
                window.check_and_update(id, 0),
                expected,
                "{id} after {jump}"
            );
        }
    }
}

#[test]
fn the_last_id_is_the_end() {
    let mut window = ReplayWindow::new();

    accept(&mut window, u32::MAX, 0);
    assert_eq!(window.check_and_update(u32::MAX, 0), Err(Replayed));
    accept(&mut window, u32::MAX - 2047, 0);
    assert_eq!(window.check_and_update(u32::MAX - 2048, 0), Err(TooOld));
    assert_eq!(window.check_and_update(1, 0), Err(TooOld));
}

#[test]
fn a_late_packet_is_refused() {
    let mut window = ReplayWindow::new();
    accept(&mut window, 10, 1000);

    accept(&mut window, 8, 1029);
    assert_eq!(window.check_and_update(7, 1030), Err(Expired));
    assert_eq!(window.check_and_update(8, 1030), Err(Replayed));
    assert_eq!(window.check_and_update(10, 1030), Err(Replayed));
    accept(&mut window, 11, 1030);
}

#[test]
fn a_late_packet_stays_refused_after_the_silence() {
    let mut window = ReplayWindow::new();
    accept(&mut window, 10, 1000);
    accept(&mut window, 20, 1030);

    assert_eq!(window.check_and_update(9, 1030), Err(Expired));
    assert_eq!(window.check_and_update(10, 1030), Err(Replayed));
    accept(&mut window, 11, 1030);
    accept(&mut window, 30, 1031);
    assert_eq!(window.check_and_update(9, 1031), Err(Expired));
    accept(&mut window, 12, 1031);
}

#[test]
fn only_a_new_highest_id_starts_the_time_again() {
    let mut window = ReplayWindow::new();
    accept(&mut window, 10, 1000);

    accept(&mut window, 9, 1020);
    assert_eq!(window.check_and_update(8, 1030), Err(Expired));

    accept(&mut window, 11, 1040);
    accept(&mut window, 50, 1069);
    accept(&mut window, 12, 1098);
    assert_eq!(window.check_and_update(13, 1099), Err(Expired));
}

#[test]
fn the_first_packet_may_come_at_any_time() {
    for now in [0, 29, 30, 1 << 40, u64::MAX] {
        let mut window = ReplayWindow::new();
        accept(&mut window, 7, now);
        accept(&mut window, 3, now);
    }
}

#[test]
fn a_clock_that_lags_is_held_to_the_latest_reading() {
    let mut window = ReplayWindow::new();
    accept(&mut window, 10, 1000);
    accept(&mut window, 20, 990);

    accept(&mut window, 5, 0);
    accept(&mut window, 19, 1029);
    assert_eq!(window.check_and_update(18, 1030), Err(Expired));
}

#[test]
fn the_end_of_time_does_not_overflow() {
    let mut window = ReplayWindow::new();
    accept(&mut window, 10, u64::MAX - 1);
    accept(&mut window, 9, u64::MAX);
    accept(&mut window, 11, u64::MAX);
}

proptest! {
    #![proptest_config(crate::cases(500))]

    #[test]
    fn the_window_does_as_the_model(
        first in first_id(),
        start in prop_oneof![Just(0u64), 0u64..100_000],
        steps in prop::collection::vec((pick(), pause()), 0..crate::scale(400, 40)),
    ) {
        let mut window = ReplayWindow::new();
        let mut model = Model::new();
        let mut sent = vec![first];
        let mut now = start;

        prop_assert_eq!(
            window.check_and_update(first, now),
            model.check_and_update(first, now)
        );
        for (pick, pause) in steps {
            let id = pick.id(model.highest, &sent);
            now += pause;
            sent.push(id);

            prop_assert_eq!(
                window.check_and_update(id, now),
                model.check_and_update(id, now),
                "id {} at {}", id, now
            );
        }
    }

    #[test]
    fn any_calls_are_total(calls in prop::collection::vec(any::<(u32, u64)>(), 0..50)) {
        let mut window = ReplayWindow::new();
        let mut accepted = HashSet::new();

        for (id, now) in calls {
            if window.check_and_update(id, now).is_ok() {
                prop_assert!(id != 0 && accepted.insert(id));
            }
        }
    }
}

proptest! {
    #![proptest_config(crate::cases(50))]

    /// Long sequences, so that the ring goes round many times.
    #[test]
    fn a_shuffled_stream_is_accepted_once(
        first in prop_oneof![Just(1u32), u32::MAX - 40_000..u32::MAX - 20_000],
        shifts in prop::collection::vec(0u32..1000, 1..64),
    ) {
        let mut window = ReplayWindow::new();
        let len = crate::scale(10_000, 100) as u32;
        // No packet is overtaken by one that was sent more than 1000 ids after it.
        let mut stream: Vec<u32> = (0..len).collect();
        stream.sort_by_key(|n| n + shifts[*n as usize % shifts.len()]);

        for n in &stream {
            prop_assert_eq!(window.check_and_update(first + n, 0), Ok(()));
            prop_assert_eq!(window.check_and_update(first + n, 0), Err(Replayed));
        }
        for n in &stream {
            prop_assert!(window.check_and_update(first + n, 0).is_err());
        }
    }
}
