// SPDX-License-Identifier: GPL-2.0

//! `OVPN_CMD_SET_PEER`: sets a peer's keepalive.

use crate::{
    abstractions::genl::{Command, Failure, Policy, Request},
    bindings::{
        ovpn_netlink_attrs_OVPN_ATTR_SET_PEER as SET_PEER,
        ovpn_netlink_set_peer_attrs_OVPN_SET_PEER_ATTR_KEEPALIVE_INTERVAL as KEEPALIVE_INTERVAL,
        ovpn_netlink_set_peer_attrs_OVPN_SET_PEER_ATTR_KEEPALIVE_TIMEOUT as KEEPALIVE_TIMEOUT,
        ovpn_netlink_set_peer_attrs_OVPN_SET_PEER_ATTR_MAX as MAX,
        ovpn_netlink_set_peer_attrs_OVPN_SET_PEER_ATTR_PEER_ID as PEER_ID,
        ovpn_nl_commands_OVPN_CMD_SET_PEER as CMD_SET_PEER,
    },
    interface::Interface,
};
use kernel::prelude::*;

pub(super) struct SetPeer;

static ARGUMENTS: [Policy; MAX as usize + 1] = Policy::table(&[
    (PEER_ID, Policy::U32),
    (KEEPALIVE_INTERVAL, Policy::U32),
    (KEEPALIVE_TIMEOUT, Policy::U32),
]);

static POLICIES: [Policy; SET_PEER as usize + 1] = super::policies(SET_PEER, &ARGUMENTS);

impl Command for SetPeer {
    const NUMBER: u8 = CMD_SET_PEER as u8;
    const POLICIES: &'static [Policy] = &POLICIES;

    fn run(request: &Request<'_>) -> Result<(), Failure> {
        let interface = super::interface(request)?;
        let arguments = super::arguments(request, SET_PEER)?;
        let id = super::existing(&super::peer_id(&arguments, PEER_ID)?)?;

        match (
            arguments.get(KEEPALIVE_INTERVAL),
            arguments.get(KEEPALIVE_TIMEOUT),
        ) {
            (Some(interval), Some(timeout)) => Ok(Interface::set_peer(
                &interface,
                id,
                interval.u32()?,
                timeout.u32()?,
            )?),
            // One of them alone has always been ignored.
            _ => Ok(interface.check_peer(id)?),
        }
    }
}
