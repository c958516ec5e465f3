// SPDX-License-Identifier: GPL-2.0-only

//! The protocol layer under libFuzzer, which looks for inputs that reach new code.
//!
//! `OVPN_FUZZ_TARGET` says which of the targets is meant. If `OVPN_FUZZ_SEEDS` names a directory, the
//! target's seeds are written there first. The arguments are libFuzzer's; see `run`.

#![no_main]

// No target needs all of it.
#[allow(dead_code)]
#[path = "../../src/inner.rs"]
mod inner;
#[allow(dead_code)]
#[path = "../../../../src/proto/mod.rs"]
mod proto;
#[path = "../../src/replay_model.rs"]
mod replay_model;
mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use targets::Target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn choose() -> &'static Target {
    let name = std::env::var("OVPN_FUZZ_TARGET").unwrap_or_default();
    let target = targets::ALL.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| {
        let names: Vec<_> = targets::ALL.iter().map(|target| target.name).collect();
        panic!(
            "OVPN_FUZZ_TARGET is '{name}', not one of {}",
            names.join(", ")
        )
    });

    if let Ok(directory) = std::env::var("OVPN_FUZZ_SEEDS") {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let path = format!("{directory}/{number}");
            std::fs::write(&path, seed).unwrap_or_else(|error| panic!("writing {path}: {error}"));
        }
    }
    target
}

fuzz_target!(init: { TARGET.get_or_init(choose); }, |input: &[u8]| {
    (TARGET.get_or_init(choose).check)(input);
});
