// SPDX-License-Identifier: GPL-2.0

//! `OVPN_CMD_NEW_KEY`: puts a key into a slot of a peer.

use crate::{
    abstractions::genl::{Attribute, Command, Failure, Policy, Request},
    bindings::{
        ovpn_cipher_alg_OVPN_CIPHER_ALG_AES_GCM as AES_GCM,
        ovpn_cipher_alg_OVPN_CIPHER_ALG_CHACHA20_POLY1305 as CHACHA20_POLY1305,
        ovpn_cipher_alg_OVPN_CIPHER_ALG_NONE as NONE,
        ovpn_netlink_attrs_OVPN_ATTR_NEW_KEY as NEW_KEY,
        ovpn_netlink_key_dir_attrs_OVPN_KEY_DIR_ATTR_CIPHER_KEY as CIPHER_KEY,
        ovpn_netlink_key_dir_attrs_OVPN_KEY_DIR_ATTR_MAX as DIRECTION_MAX,
        ovpn_netlink_key_dir_attrs_OVPN_KEY_DIR_ATTR_NONCE_TAIL as NONCE_TAIL,
        ovpn_netlink_new_key_attrs_OVPN_NEW_KEY_ATTR_CIPHER_ALG as CIPHER_ALG,
        ovpn_netlink_new_key_attrs_OVPN_NEW_KEY_ATTR_DECRYPT_KEY as DECRYPT_KEY,
        ovpn_netlink_new_key_attrs_OVPN_NEW_KEY_ATTR_ENCRYPT_KEY as ENCRYPT_KEY,
        ovpn_netlink_new_key_attrs_OVPN_NEW_KEY_ATTR_KEY_ID as KEY_ID,
        ovpn_netlink_new_key_attrs_OVPN_NEW_KEY_ATTR_KEY_SLOT as KEY_SLOT,
        ovpn_netlink_new_key_attrs_OVPN_NEW_KEY_ATTR_MAX as MAX,
        ovpn_netlink_new_key_attrs_OVPN_NEW_KEY_ATTR_PEER_ID as PEER_ID,
        ovpn_nl_commands_OVPN_CMD_NEW_KEY as CMD_NEW_KEY,
    },
    config::{self, Cipher, KeyDirection},
    proto::{nonce::NONCE_TAIL_LEN, packet::KeyId},
};
use kernel::prelude::*;

pub(super) struct NewKey;

static DIRECTION: [Policy; DIRECTION_MAX as usize + 1] = Policy::table(&[
    (CIPHER_KEY, Policy::max_length(u8::MAX)),
    (NONCE_TAIL, Policy::exact_length(NONCE_TAIL_LEN as u8)),
]);

static ARGUMENTS: [Policy; MAX as usize + 1] = Policy::table(&[
    (PEER_ID, Policy::U32),
    (KEY_SLOT, super::KEY_SLOT),
    (KEY_ID, Policy::U8),
    (CIPHER_ALG, Policy::U16),
    (ENCRYPT_KEY, Policy::nest(&DIRECTION)),
    (DECRYPT_KEY, Policy::nest(&DIRECTION)),
]);

static POLICIES: [Policy; NEW_KEY as usize + 1] = super::policies(NEW_KEY, &ARGUMENTS);

impl Command for NewKey {
    const NUMBER: u8 = CMD_NEW_KEY as u8;
    const POLICIES: &'static [Policy] = &POLICIES;
    const SECRET: bool = true;

    fn run(request: &Request<'_>) -> Result<(), Failure> {
        let interface = super::interface(request)?;
        let arguments = super::arguments(request, NEW_KEY)?;

        let id = super::peer_id(&arguments, PEER_ID)?;
        let slot = super::key_slot(&arguments, KEY_SLOT)?;
        let key_id = arguments.require(KEY_ID, c"the key id is missing")?;
        let cipher = arguments.require(CIPHER_ALG, c"the cipher is missing")?;
        let encrypt = arguments.require(ENCRYPT_KEY, c"the key to encrypt with is missing")?;
        let decrypt = arguments.require(DECRYPT_KEY, c"the key to decrypt with is missing")?;

        let key_id = KeyId::new(key_id.u8()?)
            .ok_or_else(|| key_id.refuse(ERANGE, c"the key id does not fit into 3 bits"))?;
        let cipher = parse_cipher(&cipher)?;
        let key = config::NewKey {
            key_id,
            cipher,
            encrypt: direction(&encrypt, cipher)?,
            decrypt: direction(&decrypt, cipher)?,
        };

        Ok(interface.new_key(super::existing(&id)?, slot, &key)?)
    }
}

fn parse_cipher(attribute: &Attribute<'_>) -> Result<Cipher, Failure> {
    match attribute.u16()?.into() {
        AES_GCM => Ok(Cipher::AesGcm),
        CHACHA20_POLY1305 => Ok(Cipher::ChaCha20Poly1305),
        #[cfg(ovpn_dco_debug)]
        NONE => Ok(Cipher::None),
        #[cfg(not(ovpn_dco_debug))]
        NONE => Err(attribute.refuse(
            crate::abstractions::errno::eopnotsupp(),
            c"the cipher none is only for a module built with DEBUG=1",
        )),
        _ => Err(attribute.refuse(EINVAL, c"there is no such cipher")),
    }
}

/// Reads the key material of one direction.
fn direction<'a>(nest: &Attribute<'a>, cipher: Cipher) -> Result<KeyDirection<'a>, Failure> {
    #[cfg(ovpn_dco_debug)]
    if matches!(cipher, Cipher::None) {
        return Ok(KeyDirection {
            key: &[],
            nonce_tail: &[0; NONCE_TAIL_LEN],
        });
    }

    let direction = nest.nest();
    let key = direction.require(CIPHER_KEY, c"the cipher key is missing")?;
    let nonce_tail = direction.require(NONCE_TAIL, c"the nonce tail is missing")?;

    if !cipher.takes_key_of(key.bytes().len()) {
        return Err(key.refuse(EINVAL, c"the cipher does not take a key of this length"));
    }
    Ok(KeyDirection {
        key: key.bytes(),
        nonce_tail: nonce_tail.array_ref()?,
    })
}
