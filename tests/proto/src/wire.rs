// SPDX-License-Identifier: GPL-2.0-only

//! Whole sealed packets, by AEAD implementations that have nothing to do with the kernel's.

use crate::proto::message::KEEPALIVE;
use crate::proto::nonce::{nonce, NonceTail};
use crate::proto::packet::{
    parse, DataHeader, KeyId, Packet, PeerId, HEADER_LEN, OVERHEAD, TAG_LEN,
};
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes192;
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm};
use chacha20poly1305::ChaCha20Poly1305;
use proptest::prelude::*;

type Aes192Gcm = AesGcm<Aes192, U12>;

const TAIL: [u8; 8] = [0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x07, 0x18];

/// A key with the bytes 0, 1, 2 and so on.
fn counting_key<C: KeyInit>() -> C {
    let key: Vec<u8> = (0..C::key_size() as u8).collect();
    C::new_from_slice(&key).unwrap()
}

fn seal<C: Aead>(cipher: &C, tail: &NonceTail, header: &DataHeader, inner: &[u8]) -> Vec<u8> {
    let aad = header.encode();
    let payload = Payload {
        msg: inner,
        aad: &aad,
    };
    let nonce = nonce(header.packet_id, tail);
    let mut ciphertext = cipher
        .encrypt(nonce.as_slice().try_into().unwrap(), payload)
        .unwrap();
    let tag = ciphertext.split_off(inner.len());

    [&aad[..], &tag, &ciphertext].concat()
}

fn open<C: Aead>(cipher: &C, tail: &NonceTail, packet: &[u8]) -> Option<(DataHeader, Vec<u8>)> {
    let Ok(Packet::Data(header)) = parse(packet) else {
        return None;
    };
    let (aad, sealed) = packet.split_at_checked(HEADER_LEN)?;
    let (tag, ciphertext) = sealed.split_at_checked(TAG_LEN)?;
    let payload = Payload {
        msg: &[ciphertext, tag].concat(),
        aad,
    };
    let nonce = nonce(header.packet_id, tail);
    let inner = cipher
        .decrypt(nonce.as_slice().try_into().unwrap(), payload)
        .ok()?;

    Some((header, inner))
}

fn header(key_id: u8, peer_id: u32, packet_id: u32) -> DataHeader {
    DataHeader {
        key_id: KeyId::new(key_id).unwrap(),
        peer_id: PeerId::new(peer_id).unwrap(),
        packet_id,
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// A sealed keepalive under the counting key, to be known bytes: made with OpenSSL by way of
/// Python's `cryptography`, header, nonce and order of the parts written out by hand.
fn check_known<C: Aead + KeyInit>(header: DataHeader, known: &str) {
    let cipher: C = counting_key();
    let tail = NonceTail::new(TAIL);
    let known = unhex(known);

    assert_eq!(seal(&cipher, &tail, &header, &KEEPALIVE), known);
    assert_eq!(
        open(&cipher, &tail, &known),
        Some((header, KEEPALIVE.to_vec()))
    );
}

#[test]
fn aes_128_gcm_packet_is_known() {
    check_known::<Aes128Gcm>(
        header(0, 0, 1),
        "4800000000000001c237354e9909aa96c07317a436c87dbf70555c45a50e8abfaf331aa9b54ad8fb",
    );
}

#[test]
fn aes_192_gcm_packet_is_known() {
    check_known::<Aes192Gcm>(
        header(3, 0x76706e, 0x0102_0304),
        "4b76706e010203045065a1ef4792cd135dbab623dce3e7d2602b1e96216288bcdea255aae6eb5a42",
    );
}

#[test]
fn aes_256_gcm_packet_is_known() {
    check_known::<Aes256Gcm>(
        header(7, 0xff_ffff, u32::MAX),
        "4fffffffffffffff26386894080a8a26988b9cbf1ae4285b1ec5cde7255fa400a1561fdf6da9993c",
    );
}

#[test]
fn chacha20_poly1305_packet_is_known() {
    check_known::<ChaCha20Poly1305>(
        header(5, 0x0a0b0c, 0x8000_0001),
        "4d0a0b0c8000000131910293bfe518b815d0c1d475981209ef610b05bee60c50a1f1dd54aa3d03e3",
    );
}

/// Each byte of a packet is authenticated, the header too, and so is the nonce tail.
fn check_sealed<C: Aead + KeyInit>(
    header: DataHeader,
    tail: [u8; 8],
    inner: &[u8],
    changed_bit: prop::sample::Index,
) -> Result<(), TestCaseError> {
    let cipher: C = counting_key();
    let mut packet = seal(&cipher, &NonceTail::new(tail), &header, inner);

    prop_assert_eq!(packet.len(), inner.len() + OVERHEAD);
    prop_assert_eq!(
        open(&cipher, &NonceTail::new(tail), &packet),
        Some((header, inner.to_vec()))
    );

    let mut other_tail = tail;
    let bit = changed_bit.index(other_tail.len() * 8);
    other_tail[bit / 8] ^= 1 << (bit % 8);
    prop_assert_eq!(open(&cipher, &NonceTail::new(other_tail), &packet), None);

    let bit = changed_bit.index(packet.len() * 8);
    packet[bit / 8] ^= 1 << (bit % 8);
    prop_assert_eq!(open(&cipher, &NonceTail::new(tail), &packet), None);
    Ok(())
}

proptest! {
    #![proptest_config(crate::cases(200))]

    #[test]
    fn a_sealed_packet_opens_unless_changed(
        key_id in 0u8..8,
        peer_id in 0u32..0x100_0000,
        packet_id in 1..=u32::MAX,
        tail: [u8; 8],
        inner in prop::collection::vec(any::<u8>(), 0..200),
        changed_bit: prop::sample::Index,
    ) {
        let header = header(key_id, peer_id, packet_id);

        check_sealed::<Aes128Gcm>(header, tail, &inner, changed_bit)?;
        check_sealed::<Aes192Gcm>(header, tail, &inner, changed_bit)?;
        check_sealed::<Aes256Gcm>(header, tail, &inner, changed_bit)?;
        check_sealed::<ChaCha20Poly1305>(header, tail, &inner, changed_bit)?;
    }
}
