// SPDX-License-Identifier: GPL-2.0-only

//! The fuzz targets, a file for each: what any bytes are taken for, and what must hold of it.
//!
//! Each compares the code with a plain account of what it is to do. Bytes that an input lacks are
//! taken for 0, so that every input means something.

mod checksum;
mod ip;
mod merge;
mod packet;
mod packet_id;
mod reader;
mod replay;
mod segment;
mod tcp_frame;

/// One of the targets.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// Panics if something does not hold.
    pub(crate) check: fn(&[u8]),
    /// Inputs to begin with.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

pub(crate) const ALL: [Target; 8] = [
    target("checksum", checksum::check, checksum::seeds),
    target("ip", ip::check, ip::seeds),
    target("merge", merge::check, merge::seeds),
    target("packet", packet::check, packet::seeds),
    target("packet_id", packet_id::check, packet_id::seeds),
    target("replay", replay::check, replay::seeds),
    target("segment", segment::check, segment::seeds),
    target("tcp_frame", tcp_frame::check, tcp_frame::seeds),
];

const fn target(name: &'static str, check: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, check, seeds }
}
