// SPDX-License-Identifier: GPL-2.0-only

//! Files of pre-shared keys.
//!
//! Base64, with white space anywhere, of at least 72 bytes: 32 bytes of one direction's cipher key,
//! 32 bytes of the other's, and 8 bytes that end the nonce of both. More bytes may follow.

use anyhow::{Context, Result};
use base64::{engine::general_purpose::STANDARD, Engine};
use std::{fs, path::Path};

const KEY: usize = 32;
const NONCE_TAIL: usize = 8;

/// What one direction is sealed with. Not to be printed: it has no `Debug`.
pub(crate) struct DirectionKey {
    pub(crate) cipher_key: Vec<u8>,
    pub(crate) nonce_tail: [u8; NONCE_TAIL],
}

/// Which key is for which direction. One end has the one, the other end the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The first key encrypts, the second decrypts.
    Normal,
    /// The second key encrypts, the first decrypts.
    Inverse,
}

impl From<u8> for Direction {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::Normal,
            _ => Self::Inverse,
        }
    }
}

/// A key file's contents.
pub(crate) struct KeyFile {
    keys: [[u8; KEY]; 2],
    nonce_tail: [u8; NONCE_TAIL],
}

impl KeyFile {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path)
            .with_context(|| format!("The key file {} cannot be read", path.display()))?;
        Self::parse(&text)
            .with_context(|| format!("{} is not a file of pre-shared keys", path.display()))
    }

    fn parse(text: &[u8]) -> Result<Self> {
        const NEEDED: usize = 2 * KEY + NONCE_TAIL;

        let text: Vec<_> = text
            .iter()
            .copied()
            .filter(|c| !c.is_ascii_whitespace())
            .collect();
        let bytes = STANDARD.decode(text).context("it is not base64")?;
        Self::split(&bytes)
            .with_context(|| format!("it holds {} bytes, and {NEEDED} are needed", bytes.len()))
    }

    fn split(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk()?;
        let (second, rest) = rest.split_first_chunk()?;
        Some(Self {
            keys: [*first, *second],
            nonce_tail: *rest.first_chunk()?,
        })
    }

    /// The keys to encrypt and to decrypt with, of `length` bytes.
    pub(crate) fn pair(&self, direction: Direction, length: usize) -> [DirectionKey; 2] {
        let key = |index: usize| DirectionKey {
            cipher_key: self.keys[index][..length.min(KEY)].to_vec(),
            nonce_tail: self.nonce_tail,
        };
        match direction {
            Direction::Normal => [key(0), key(1)],
            Direction::Inverse => [key(1), key(0)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes 0, 1, 2 … in base64.
    fn base64(length: u8) -> String {
        STANDARD.encode((0..length).collect::<Vec<_>>())
    }

    fn error(text: &str) -> String {
        format!("{:#}", KeyFile::parse(text.as_bytes()).err().unwrap())
    }

    #[test]
    fn the_direction_says_which_key_encrypts() {
        let file = KeyFile::parse(base64(72).as_bytes()).unwrap();
        let first: Vec<_> = (0..32).collect();
        let second: Vec<_> = (32..64).collect();
        let nonce_tail = [64, 65, 66, 67, 68, 69, 70, 71];

        for (direction, keys) in [(0, [&first, &second]), (1, [&second, &first])] {
            for (key, expected) in file.pair(Direction::from(direction), 32).iter().zip(keys) {
                assert_eq!(&key.cipher_key, expected);
                assert_eq!(key.nonce_tail, nonce_tail);
            }
        }
    }

    #[test]
    fn a_shorter_key_is_the_beginning_of_the_longest() {
        let file = KeyFile::parse(base64(72).as_bytes()).unwrap();
        let [encrypt, decrypt] = file.pair(Direction::Normal, 16);

        assert_eq!(encrypt.cipher_key, (0..16).collect::<Vec<_>>());
        assert_eq!(decrypt.cipher_key, (32..48).collect::<Vec<_>>());
    }

    #[test]
    fn line_breaks_do_not_matter() {
        let whole = base64(200);
        let lines: Vec<_> = whole.as_bytes().chunks(64).collect();
        let file = KeyFile::parse(&[lines.join(&b"\r\n"[..]), b"\n".to_vec()].concat()).unwrap();

        assert_eq!(file.nonce_tail, [64, 65, 66, 67, 68, 69, 70, 71]);
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        assert_eq!(error(&base64(71)), "it holds 71 bytes, and 72 are needed");
        assert_eq!(error(""), "it holds 0 bytes, and 72 are needed");
        assert!(error("-----BEGIN OpenVPN Static key V1-----").starts_with("it is not base64"));
    }

    #[test]
    fn the_key_file_of_the_tests_is_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data64.key");

        assert!(KeyFile::read(&path).is_ok());
    }
}
