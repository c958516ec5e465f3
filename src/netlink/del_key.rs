// SPDX-License-Identifier: GPL-2.0

//! `OVPN_CMD_DEL_KEY`: empties a slot of a peer.

use crate::{
    abstractions::genl::{Command, Failure, Policy, Request},
    bindings::{
        ovpn_netlink_attrs_OVPN_ATTR_DEL_KEY as DEL_KEY,
        ovpn_netlink_del_key_attrs_OVPN_DEL_KEY_ATTR_KEY_SLOT as KEY_SLOT,
        ovpn_netlink_del_key_attrs_OVPN_DEL_KEY_ATTR_MAX as MAX,
        ovpn_netlink_del_key_attrs_OVPN_DEL_KEY_ATTR_PEER_ID as PEER_ID,
        ovpn_nl_commands_OVPN_CMD_DEL_KEY as CMD_DEL_KEY,
    },
};
use kernel::prelude::*;

pub(super) struct DelKey;

static ARGUMENTS: [Policy; MAX as usize + 1] =
    Policy::table(&[(PEER_ID, Policy::U32), (KEY_SLOT, super::KEY_SLOT)]);

static POLICIES: [Policy; DEL_KEY as usize + 1] = super::policies(DEL_KEY, &ARGUMENTS);

impl Command for DelKey {
    const NUMBER: u8 = CMD_DEL_KEY as u8;
    const POLICIES: &'static [Policy] = &POLICIES;

    fn run(request: &Request<'_>) -> Result<(), Failure> {
        let interface = super::interface(request)?;
        let arguments = super::arguments(request, DEL_KEY)?;

        let id = super::peer_id(&arguments, PEER_ID)?;
        let slot = super::key_slot(&arguments, KEY_SLOT)?;

        Ok(interface.del_key(super::existing(&id)?, slot)?)
    }
}
