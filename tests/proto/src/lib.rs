// SPDX-License-Identifier: GPL-2.0-only

//! Host tests of the protocol layer: one file for each of `src/proto`, `wire` for the whole packet
//! and `train` for whole trains of them, and what these need: `inner` has inner packets, `any` any of
//! them, `replay_model` a plain replay window.
//!
//! Without `cfg(test)` this crate is the layer alone, on `core`, as it stands in the kernel.

#![cfg_attr(not(test), no_std, allow(dead_code))]

#[path = "../../../src/proto/mod.rs"]
mod proto;

#[cfg(test)]
mod any;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod headers;
#[cfg(test)]
mod inner;
#[cfg(test)]
mod ip;
#[cfg(test)]
mod merge;
#[cfg(test)]
mod message;
#[cfg(test)]
mod nonce;
#[cfg(test)]
mod packet;
#[cfg(test)]
mod packet_id;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod replay_model;
#[cfg(test)]
mod segment;
#[cfg(test)]
#[path = "../fuzz/src/targets/mod.rs"]
mod targets;
#[cfg(test)]
mod tcp_frame;
#[cfg(test)]
mod train;
// Mostly the work of AEADs, which are not ours and take Miri minutes.
#[cfg(all(test, not(miri)))]
mod wire;

/// How much a test does: `native`, or `miri` under Miri, which is some hundred times slower.
#[cfg(test)]
const fn scale(native: usize, miri: usize) -> usize {
    if cfg!(miri) {
        miri
    } else {
        native
    }
}

/// How many cases a property is tried on.
#[cfg(test)]
fn cases(native: u32) -> proptest::test_runner::Config {
    let mut config = proptest::test_runner::Config::with_cases(native);

    if cfg!(miri) {
        config.cases = native.min(2);
        // Miri cuts the program off from the file system.
        config.failure_persistence = None;
    }
    config
}
