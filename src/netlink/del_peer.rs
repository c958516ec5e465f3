// SPDX-License-Identifier: GPL-2.0

//! `OVPN_CMD_DEL_PEER`: removes a peer, and tells user space that one is gone.

use super::{FAMILY, IFINDEX, PEERS};
use crate::{
    abstractions::{
        genl::{self, Command, Failure, Policy, Request},
        net::Net,
    },
    bindings::{
        ovpn_del_peer_reason___OVPN_DEL_PEER_REASON_AFTER_LAST as REASON_AFTER_LAST,
        ovpn_netlink_attrs_OVPN_ATTR_DEL_PEER as DEL_PEER,
        ovpn_netlink_del_peer_attrs_OVPN_DEL_PEER_ATTR_MAX as MAX,
        ovpn_netlink_del_peer_attrs_OVPN_DEL_PEER_ATTR_PEER_ID as PEER_ID,
        ovpn_netlink_del_peer_attrs_OVPN_DEL_PEER_ATTR_REASON as REASON,
        ovpn_nl_commands_OVPN_CMD_DEL_PEER as CMD_DEL_PEER,
    },
    config::Reason,
    proto::packet::PeerId,
};
use kernel::prelude::*;

pub(super) struct DelPeer;

static ARGUMENTS: [Policy; MAX as usize + 1] = Policy::table(&[
    (REASON, Policy::u8_range(0, REASON_AFTER_LAST as u8 - 1)),
    (PEER_ID, Policy::U32),
]);

static POLICIES: [Policy; DEL_PEER as usize + 1] = super::policies(DEL_PEER, &ARGUMENTS);

/// More than the attributes of the notification need.
const NOTIFICATION_ROOM: usize = 64;

impl Command for DelPeer {
    const NUMBER: u8 = CMD_DEL_PEER as u8;
    const POLICIES: &'static [Policy] = &POLICIES;

    fn run(request: &Request<'_>) -> Result<(), Failure> {
        let interface = super::interface(request)?;
        let arguments = super::arguments(request, DEL_PEER)?;
        let id = super::existing(&super::peer_id(&arguments, PEER_ID)?)?;

        Ok(interface.del_peer(id)?)
    }
}

/// Tells the listeners in the namespace `net` that the peer `id` of the interface `ifindex` is
/// gone.
///
/// Process context, may sleep. That it can not be told is only logged: the peer is gone all the
/// same.
pub(crate) fn notify_del_peer(net: &Net, ifindex: u32, id: PeerId, reason: Reason) {
    let result = FAMILY.multicast(
        net,
        PEERS,
        CMD_DEL_PEER as u8,
        NOTIFICATION_ROOM,
        |message| {
            message.put_u32(IFINDEX, ifindex)?;
            message.put_nest(DEL_PEER, |nest| {
                nest.put_u8(REASON, reason as u8)?;
                nest.put_u32(PEER_ID, id.get())
            })
        },
    );

    match result {
        Ok(()) => (),
        // Nobody listens.
        Err(error) if error == ESRCH => (),
        Err(error) => {
            if genl::may_log() {
                pr_warn!(
                    "cannot tell that peer {} of interface {} is gone: error {}\n",
                    id.get(),
                    ifindex,
                    error.to_errno()
                );
            }
        }
    }
}
