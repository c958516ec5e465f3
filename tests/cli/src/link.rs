// SPDX-License-Identifier: GPL-2.0-only

//! Making interfaces, over rtnetlink.

use crate::{
    args::Mode,
    netlink::{Ask, Attributes, Connection, Error, Message},
    uapi,
};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_sys::protocols::NETLINK_ROUTE;

const RTM_NEWLINK: u16 = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;

/// Makes an interface, which then is down.
pub(crate) fn create(name: &str, mode: Mode) -> Result<(), Error> {
    let message = Message {
        kind: RTM_NEWLINK,
        payload: payload(name, mode),
    };
    Connection::open(NETLINK_ROUTE)?.request(Ask::Do(NLM_F_CREATE | NLM_F_EXCL), message)?;
    Ok(())
}

fn payload(name: &str, mode: Mode) -> Vec<u8> {
    const IFINFOMSG: usize = 16;

    let attributes = Attributes::new().put_str(IFLA_IFNAME, name).put_nest(
        IFLA_LINKINFO,
        Attributes::new()
            .put_str(IFLA_INFO_KIND, uapi::LINK_KIND)
            .put_nest(
                IFLA_INFO_DATA,
                Attributes::new().put_u8(uapi::ifla::MODE, mode as u8),
            ),
    );
    let mut payload = vec![0; IFINFOMSG];
    payload.extend(attributes.as_bytes());
    payload
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_multi_peer_mode() {
        let mut bytes = vec![0; 16];
        bytes.extend(*b"\x09\x00\x03\x00tun0\x00\x00\x00\x00");
        bytes.extend([32, 0, 18, 0x80]);
        bytes.extend(*b"\x0d\x00\x01\x00ovpn-dco\x00\x00\x00\x00");
        bytes.extend([12, 0, 2, 0x80, 5, 0, 1, 0, 1, 0, 0, 0]);

        assert_eq!(payload("tun0", Mode::Mp), bytes);
    }
}
