// SPDX-License-Identifier: GPL-2.0-only

//! A replay window and what is to be accepted by it. The input begins with the first id; then come
//! steps of a byte, with a number after it if the step needs one.

use super::reader::Reader;
use crate::proto::replay::ReplayWindow;
use crate::replay_model::Model;

/// More would only make the model slow.
const MOST_STEPS: usize = 400;

pub(crate) fn check(input: &[u8]) {
    let mut input = Reader::new(input);
    let mut window = ReplayWindow::new();
    let mut model = Model::new();
    let mut now = 1000;
    let mut last = input.u32();

    for step in 0..MOST_STEPS {
        assert_eq!(
            window.check_and_update(last, now),
            model.check_and_update(last, now),
            "id {last} at {now}, step {step}, highest {}",
            model.highest
        );
        if input.is_empty() {
            break;
        }
        let kind = input.u8();
        // A few values of the upper bits let time pass.
        now += match kind >> 4 {
            0xd => 1,
            0xe => 29,
            0xf => 30,
            _ => 0,
        };
        last = match kind & 0x0f {
            0 => last.wrapping_add(1),
            1 => last.wrapping_sub(1),
            2 => last,
            3 => model.highest.saturating_add(1),
            4 => model.highest.saturating_add(input.u8().into()),
            5 => model.highest.saturating_add(input.u16().into()),
            6 => model.highest.saturating_sub(input.u8().into()),
            7 => model.highest.saturating_sub(input.u16().into()),
            8 => model.highest.saturating_sub(2048),
            9 => model.highest.saturating_sub(2047),
            10 => model.highest.saturating_add(2048),
            11 => model.highest.saturating_add(64 * u32::from(input.u8())),
            12 => model.highest.saturating_sub(64 * u32::from(input.u8())),
            13 => model.highest,
            14 => 0,
            _ => input.u32(),
        };
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let in_order = vec![3; 40];
    let late = vec![
        4, 200, 9, 9, 8, 6, 3, 6, 3, 0xf6, 4, 3, 6, 2, 0xe6, 3, 0xd6, 5,
    ];
    let jumps = vec![
        10, 9, 8, 5, 8, 1, 7, 7, 255, 11, 33, 12, 32, 15, 255, 255, 255, 250, 3, 3, 13,
    ];

    [
        [0, 0, 0, 1],
        [0, 0, 0, 0],
        [0, 0, 8, 0],
        [255, 255, 255, 240],
    ]
    .iter()
    .flat_map(|first| [&in_order, &late, &jumps].map(|steps| [first, &steps[..]].concat()))
    .collect()
}
