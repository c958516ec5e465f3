// SPDX-License-Identifier: GPL-2.0

//! OpenVPN data channel offload.
//!
//! OpenVPN's daemon does TLS, authentication and configuration, and hands sockets, peers and keys
//! to this module over generic netlink. The module encrypts, decrypts and routes every data
//! packet.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod abstractions;
mod batch;
#[allow(unsafe_code)]
mod bindings;
mod config;
mod endpoint;
mod interface;
mod keepalive;
mod keys;
mod log;
mod netlink;
mod pace;
mod peer;
mod peers;
mod proto;
mod refusal;
mod route;
mod rx;
mod seal;
mod socket;
mod stats;
mod tcp;
mod train;
mod tx;
mod udp;

use abstractions::{rtnl, udp_tunnel::Trains, workqueue::WorkQueue};
use interface::{Interface, LINK};
use kernel::{prelude::*, str::CStr};
use socket::Socket;

module! {
    type: OvpnDco,
    name: "ovpn_dco_v2",
    authors: ["The ovpn-dco developers"],
    description: "OpenVPN data channel offload",
    license: "GPL",
    alias: [
        "rtnl-link-ovpn-dco",
        "net-pf-16-proto-16-family-ovpn-dco-v2",
        "ovpn-dco",
    ],
}

/// The version of this module, as `modinfo` and OpenVPN's log show it.
const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("OVPN_DCO_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("the version has a NUL in it"),
    };

/// What the module holds while it is loaded. Dropped from top to bottom: first all interfaces go and
/// none can come, then what they left behind; that userspace is told of, so the family goes last.
struct OvpnDco {
    _link: rtnl::Registration<Interface>,
    _trains: Trains<Socket>,
    _work: WorkQueue,
    _family: netlink::Registration,
}

impl kernel::Module for OvpnDco {
    fn init(module: &'static ThisModule) -> Result<Self> {
        if cfg!(ovpn_dco_debug) {
            pr_warn!("debug build: cipher `none` may be used, which protects nothing\n");
        }
        tcp::OVERRIDES.fill();
        let work = WorkQueue::start()?;
        let family = netlink::register(module)?;
        let trains = Trains::register()?;
        let link = LINK.register()?;

        pr_info!(
            "OpenVPN data channel offload {}\n",
            env!("OVPN_DCO_VERSION")
        );
        Ok(Self {
            _link: link,
            _trains: trains,
            _work: work,
            _family: family,
        })
    }
}
