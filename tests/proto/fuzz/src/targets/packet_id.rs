// SPDX-License-Identifier: GPL-2.0-only

//! Senders that share a key's counter. The input begins with how many ids are left (0: all) and the
//! nonce tail; then each two bytes are a step: who sends, and how many ids it reserves if it has none.

use super::reader::Reader;
use crate::proto::nonce::{nonce, NonceTail};
use crate::proto::packet_id::PacketIds;
use std::collections::HashSet;

const LAST: u64 = 0xffff_ffff;

pub(crate) fn check(input: &[u8]) {
    let mut input = Reader::new(input);
    let start = match input.u16() {
        0 => 0,
        left => LAST + 1 - u64::from(left),
    };
    let secret: [u8; 8] = input.array();
    let mut tail = NonceTail::new(secret);

    let mut counter = start;
    let mut senders: [Option<PacketIds>; 4] = [const { None }; 4];
    let mut expected: [Vec<u64>; 4] = [const { Vec::new() }; 4];
    let mut nonces = HashSet::new();
    while !input.is_empty() {
        let sender = usize::from(input.u8() % 4);
        let count = u64::from(input.u8());

        let sent = senders[sender].as_mut().and_then(Iterator::next);
        if expected[sender].is_empty() {
            assert_eq!(sent, None, "an id that has not been reserved");
            let ids = PacketIds::reserve(counter, count as u32);
            counter += count;
            // The whole range or nothing, and nothing for ever after.
            assert_eq!(
                ids.is_some(),
                counter <= LAST,
                "{count} ids up to {counter}"
            );
            if ids.is_some() {
                expected[sender] = (counter - count + 1..=counter).collect();
            }
            senders[sender] = ids;
        } else {
            let next = expected[sender].remove(0);
            assert_eq!(sent.map(u64::from), Some(next), "not the next id");
            let nonce = nonce(next as u32, &tail);
            assert_eq!(
                nonce[..4],
                (next as u32).to_be_bytes(),
                "the id in the nonce"
            );
            assert_eq!(nonce[4..], secret, "the tail of the nonce");
            assert!(nonces.insert(nonce), "a nonce twice");
        }
    }
    tail.bytes_mut().fill(0);
    assert_eq!(
        nonce(1, &tail),
        [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        "wiped"
    );
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let turns = [0, 3, 1, 2, 0, 0, 1, 0, 2, 0, 0, 9, 0, 9, 0, 5, 2, 1, 3, 255];

    [0u16, 1, 2, 6, 0xffff]
        .iter()
        .map(|left| [&left.to_be_bytes()[..], b"the tail", &turns].concat())
        .collect()
}
