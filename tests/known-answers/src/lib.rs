// SPDX-License-Identifier: GPL-2.0-only

//! Known answers for the ciphers of the data channel.
//!
//! Neither the kernel's ciphers nor OpenSSL's made them, and nothing of the module's own code did:
//! the layout of a packet is written out here once more. `vectors.txt` is a line of words for each
//! thing, all bytes in hexadecimal:
//!
//! ```text
//! inner NAME BYTES                             an IP packet
//! key CIPHER KEY-ID PEER-ID KEY NONCE-TAIL     what the packets below are sealed with
//! packet PACKET-ID INNER BYTES                 a DATA_V2 packet and the IP packet in it
//! ```

mod cipher;
mod inner;

use cipher::Cipher;
use std::fmt::Write;

/// Where the vectors are kept.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors.txt");

const HEADING: &str = "\
# Known answers for the ciphers of the data channel; src/lib.rs says what the words are.
# Made by `cargo run`, which makes the same again; `cargo test` checks that.
";

/// Lengths of what is in the UDP datagram inside: around the blocks of the ciphers, and up to a
/// packet of 1500 bytes.
const LENGTHS: [usize; 12] = [1, 2, 15, 16, 17, 31, 32, 33, 64, 255, 256, 1000];
const LONGEST: usize = 1500;

/// The ids of the packets, in the order to be received. A sender begins with 1, 2 and 3.
fn packet_ids(count: usize) -> impl Iterator<Item = u32> {
    let late = [
        0xff,
        0x100,
        0xffff,
        0x1_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fffe,
        u32::MAX,
    ];
    let early = u32::try_from(count - late.len()).expect("a few packets");
    (1..=early).chain(late)
}

/// The whole of the file.
pub fn vectors() -> String {
    let mut text = HEADING.to_owned();
    let inners = inner::packets(&LENGTHS, LONGEST);

    for (name, packet) in &inners {
        line(&mut text, &format!("inner {name}"), packet);
    }
    for (cipher, key_id, peer_id) in [
        (Cipher::Aes128Gcm, 0, 0),
        (Cipher::Aes192Gcm, 3, 1),
        (Cipher::Aes256Gcm, 7, 0x12_3456),
        (Cipher::ChaCha20Poly1305, 5, 0xff_fffe),
    ] {
        let key: Vec<u8> = (0..cipher.key_length())
            .map(|n| (n * 11 + key_id) as u8)
            .collect();
        let tail: [u8; 8] = std::array::from_fn(|n| 0xf0 - (n * 3 + key_id) as u8);

        line(
            &mut text,
            &format!("key {} {key_id} {peer_id} {}", cipher.name(), hex(&key)),
            &tail,
        );
        for (packet_id, (name, packet)) in packet_ids(inners.len()).zip(&inners) {
            let sealed = seal(
                cipher,
                &key,
                &tail,
                (key_id as u8, peer_id, packet_id),
                packet,
            );
            line(&mut text, &format!("packet {packet_id} {name}"), &sealed);
        }
    }
    text
}

/// A DATA_V2 packet: opcode and key id, peer id, packet id; tag; ciphertext.
fn seal(
    cipher: Cipher,
    key: &[u8],
    tail: &[u8; 8],
    (key_id, peer_id, packet_id): (u8, u32, u32),
    inner: &[u8],
) -> Vec<u8> {
    let mut packet = vec![9 << 3 | key_id];
    packet.extend(&peer_id.to_be_bytes()[1..]);
    packet.extend(packet_id.to_be_bytes());

    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&packet_id.to_be_bytes());
    nonce[4..].copy_from_slice(tail);

    // RustCrypto puts the tag behind the ciphertext.
    let sealed = cipher.seal(key, nonce, &packet, inner);
    let (ciphertext, tag) = sealed.split_at(inner.len());
    packet.extend(tag);
    packet.extend(ciphertext);
    packet
}

fn line(text: &mut String, words: &str, bytes: &[u8]) {
    writeln!(text, "{words} {}", hex(bytes)).expect("a string takes everything");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
