// SPDX-License-Identifier: GPL-2.0

//! `OVPN_CMD_SWAP_KEYS`: lets a peer's keys change places.

use crate::{
    abstractions::genl::{Command, Failure, Policy, Request},
    bindings::{
        ovpn_netlink_attrs_OVPN_ATTR_SWAP_KEYS as SWAP_KEYS,
        ovpn_netlink_swap_keys_attrs_OVPN_SWAP_KEYS_ATTR_MAX as MAX,
        ovpn_netlink_swap_keys_attrs_OVPN_SWAP_KEYS_ATTR_PEER_ID as PEER_ID,
        ovpn_nl_commands_OVPN_CMD_SWAP_KEYS as CMD_SWAP_KEYS,
    },
};
use kernel::prelude::*;

pub(super) struct SwapKeys;

static ARGUMENTS: [Policy; MAX as usize + 1] = Policy::table(&[(PEER_ID, Policy::U32)]);

static POLICIES: [Policy; SWAP_KEYS as usize + 1] = super::policies(SWAP_KEYS, &ARGUMENTS);

impl Command for SwapKeys {
    const NUMBER: u8 = CMD_SWAP_KEYS as u8;
    const POLICIES: &'static [Policy] = &POLICIES;

    fn run(request: &Request<'_>) -> Result<(), Failure> {
        let interface = super::interface(request)?;
        let arguments = super::arguments(request, SWAP_KEYS)?;
        let id = super::existing(&super::peer_id(&arguments, PEER_ID)?)?;

        Ok(interface.swap_keys(id)?)
    }
}
