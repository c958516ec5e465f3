// SPDX-License-Identifier: GPL-2.0-only

use crate::proto::packet_id::PacketIds;
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const LAST: u64 = u32::MAX as u64;

fn ids(before: u64, count: u32) -> Option<Vec<u32>> {
    PacketIds::reserve(before, count).map(Iterator::collect)
}

#[test]
fn the_first_id_is_one() {
    assert_eq!(ids(0, 1), Some(vec![1]));
    assert_eq!(ids(0, 3), Some(vec![1, 2, 3]));
    assert_eq!(ids(41, 2), Some(vec![42, 43]));
}

#[test]
fn the_last_id_is_used_and_none_after_it() {
    assert_eq!(ids(LAST - 1, 1), Some(vec![u32::MAX]));
    assert_eq!(ids(LAST - 2, 2), Some(vec![u32::MAX - 1, u32::MAX]));
    assert_eq!(ids(LAST, 1), None);
    assert_eq!(ids(LAST + 1, 1), None);
    assert_eq!(ids(LAST + 1, u32::MAX), None);
    assert_eq!(ids(u64::MAX, 1), None);
    assert_eq!(ids(u64::MAX, u32::MAX), None);
}

#[test]
fn a_range_that_crosses_the_end_is_refused_whole() {
    assert_eq!(ids(LAST - 1, 2), None);
    assert_eq!(ids(1, u32::MAX), None);
    assert!(PacketIds::reserve(0, u32::MAX).is_some());
}

#[test]
fn an_empty_range_yields_nothing() {
    assert_eq!(ids(0, 0), Some(vec![]));
    assert_eq!(ids(LAST, 0), Some(vec![]));
}

#[test]
fn a_used_up_range_stays_used_up() {
    let mut ids = PacketIds::reserve(LAST - 1, 1).unwrap();

    assert_eq!(ids.next(), Some(u32::MAX));
    assert_eq!(ids.next(), None);
    assert_eq!(ids.next(), None);
}

#[test]
fn threads_never_share_an_id() {
    let (threads, batches) = if cfg!(miri) { (2, 8) } else { (4, 500) };
    let counter = AtomicU64::new(0);

    let taken: Vec<u32> = thread::scope(|scope| {
        let senders: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut taken = Vec::new();
                    for batch in 0..batches {
                        let count = batch % 7;
                        let before = counter.fetch_add(count.into(), Ordering::Relaxed);
                        taken.extend(PacketIds::reserve(before, count).unwrap());
                    }
                    taken
                })
            })
            .collect();
        senders
            .into_iter()
            .flat_map(|sender| sender.join().unwrap())
            .collect()
    });

    let mut sorted = taken;
    sorted.sort_unstable();
    let all: Vec<u32> = (1..=sorted.len() as u32).collect();
    assert_eq!(sorted, all);
}

proptest! {
    #![proptest_config(crate::cases(500))]

    /// Senders take turns at any point, some near the end of the ids: each step is one sender that
    /// takes an id from its range, or reserves the next range if that has none left.
    #[test]
    fn ranges_never_overlap(
        start in prop_oneof![Just(0u64), LAST - 300..=LAST],
        steps in prop::collection::vec((0usize..4, 0u32..70), 0..crate::scale(400, 40)),
    ) {
        let mut counter = start;
        let mut senders: [Option<PacketIds>; 4] = [const { None }; 4];
        let mut taken = HashSet::new();
        let mut refused = false;

        for (sender, count) in steps {
            if let Some(id) = senders[sender].as_mut().and_then(Iterator::next) {
                prop_assert!(u64::from(id) > start && id != 0, "{id} was not free");
                prop_assert!(taken.insert(id), "{id} twice");
                continue;
            }
            let before = counter;
            counter += u64::from(count);
            senders[sender] = PacketIds::reserve(before, count);

            prop_assert_eq!(senders[sender].is_some(), counter <= LAST);
            if count > 0 {
                prop_assert!(!refused || senders[sender].is_none(), "sealed after exhaustion");
                refused |= senders[sender].is_none();
            }
        }
    }

    #[test]
    fn a_range_is_what_the_counter_went_over(before in 0..=LAST, count in 0u32..200) {
        let expected = (before + u64::from(count) <= LAST)
            .then(|| (0..count).map(|n| before as u32 + n + 1).collect());

        prop_assert_eq!(ids(before, count), expected);
    }

    #[test]
    fn any_reservation_is_total(before: u64, count: u32) {
        let ids = PacketIds::reserve(before, count);

        prop_assert_eq!(ids.is_some(), before <= LAST && before + u64::from(count) <= LAST);
        prop_assert!(ids.into_iter().flatten().take(3).all(|id| u64::from(id) > before));
    }
}
