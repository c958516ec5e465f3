// SPDX-License-Identifier: GPL-2.0-only

//! What is in the file.

use std::fs::read_to_string;

#[test]
fn file_is_up_to_date() {
    let kept = read_to_string(known_answers::FILE).expect("vectors.txt can be read");
    assert!(
        kept == known_answers::vectors(),
        "vectors.txt is not what the program makes: run cargo run in tests/known-answers"
    );
}

/// The crates have tests of their own; this is the frame around what they make.
#[test]
fn packets_have_their_header_and_length() {
    let text = known_answers::vectors();
    let mut head = String::new();
    let mut seen = 0;

    for words in text.lines().map(|line| line.split(' ').collect::<Vec<_>>()) {
        match words[..] {
            ["key", _, key_id, peer_id, _, _] => {
                let key_id: u8 = key_id.parse().unwrap();
                let peer_id: u32 = peer_id.parse().unwrap();
                head = format!("{:02x}{peer_id:06x}", 0x48 + key_id);
            }
            ["packet", packet_id, name, bytes] => {
                let packet_id: u32 = packet_id.parse().unwrap();
                let (version, length) = name.split_once('-').unwrap();
                let headers = if version == "v4" { 28 } else { 48 };
                let inner = headers + length.parse::<usize>().unwrap();
                assert!(
                    bytes.starts_with(&format!("{head}{packet_id:08x}")),
                    "{name}"
                );
                assert_eq!(bytes.len(), 2 * (8 + 16 + inner), "{name}");
                seen += 1;
            }
            _ => {}
        }
    }
    assert_eq!(seen, 4 * 26);
}
