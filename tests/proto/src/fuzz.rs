// SPDX-License-Identifier: GPL-2.0-only

//! The fuzz targets on their seeds, and on what fuzzing has kept, if `OVPN_PROTO_CORPUS` says where.

use crate::targets::{self, Target};
use std::{env, fs};

fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let mut inputs = (target.seeds)();
    assert!(!inputs.is_empty(), "{} has no seeds", target.name);
    if let Ok(corpus) = env::var("OVPN_PROTO_CORPUS") {
        let kept = fs::read_dir(format!("{corpus}/{}", target.name)).unwrap();
        inputs.extend(kept.map(|input| fs::read(input.unwrap().path()).unwrap()));
    }
    inputs
}

#[test]
fn every_input_of_the_fuzz_targets_holds() {
    for target in &targets::ALL {
        for input in inputs(target).iter().take(crate::scale(usize::MAX, 1)) {
            (target.check)(input);
        }
    }
}
