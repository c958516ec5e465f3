// SPDX-License-Identifier: GPL-2.0-only

//! The ciphers of the data channel, as RustCrypto has them.

use aes_gcm::aead::{consts::U12, Aead, KeyInit, Payload};
use aes_gcm::{aes::Aes192, Aes128Gcm, Aes256Gcm, AesGcm};
use chacha20poly1305::ChaCha20Poly1305;

#[derive(Clone, Copy)]
pub(crate) enum Cipher {
    Aes128Gcm,
    Aes192Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Cipher {
    /// As OpenVPN calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes192Gcm => "AES-192-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "CHACHA20-POLY1305",
        }
    }

    /// In bytes.
    pub(crate) fn key_length(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes192Gcm => 24,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// The ciphertext of `inner`, and the tag.
    pub(crate) fn seal(self, key: &[u8], nonce: [u8; 12], header: &[u8], inner: &[u8]) -> Vec<u8> {
        let payload = Payload {
            msg: inner,
            aad: header,
        };
        match self {
            Self::Aes128Gcm => encrypt::<Aes128Gcm>(key, nonce, payload),
            Self::Aes192Gcm => encrypt::<AesGcm<Aes192, U12>>(key, nonce, payload),
            Self::Aes256Gcm => encrypt::<Aes256Gcm>(key, nonce, payload),
            Self::ChaCha20Poly1305 => encrypt::<ChaCha20Poly1305>(key, nonce, payload),
        }
    }
}

fn encrypt<C: Aead + KeyInit>(key: &[u8], nonce: [u8; 12], payload: Payload<'_, '_>) -> Vec<u8> {
    let nonce = nonce.as_slice().try_into().expect("all take 12 bytes");
    C::new_from_slice(key)
        .expect("a key of the cipher's length")
        .encrypt(nonce, payload)
        .expect("a short message")
}
