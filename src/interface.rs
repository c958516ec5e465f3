// SPDX-License-Identifier: GPL-2.0

//! An interface: the device that packets enter and leave the tunnels by.

use crate::{
    abstractions::{
        aead::Workspaces,
        gro::GroCells,
        net::Net,
        netdevice::{self, DeviceCell, Driver, NetDevice, Shape},
        rcu::{Guard, RcuArc},
        rtnl::LinkOps,
        skb::{self, SkBuff},
        softirq::BhDisabled,
        workqueue::{DelayedWork, Run, WorkClass},
    },
    config::{NewKey, NewPeer, PeerInfo, Slot},
    keepalive,
    keys::Key,
    log::debug,
    peers::Peers,
    proto::{
        packet::{PeerId, OVERHEAD},
        tcp_frame::PREFIX_LEN,
    },
    refusal::{Outcome, Refusal},
    tx,
};
use kernel::{prelude::*, str::CStr};

/// How many peers an interface has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One: all packets go there.
    P2p = 0,
    /// Many: the routing table says which packet goes where.
    Mp = 1,
}

/// The state of one device of the link type `ovpn-dco`.
#[pin_data]
pub(crate) struct Interface {
    mode: Mode,
    device: DeviceCell,
    /// Merges what comes out of the tunnels.
    pub(crate) gro: GroCells,
    /// What each CPU seals and opens with.
    pub(crate) workspaces: Workspaces,
    /// The other ends.
    #[pin]
    pub(crate) peers: Peers,
    #[pin]
    keepalive: DelayedWork<Interface>,
}

/// The link type of this module.
pub(crate) static LINK: LinkOps<Interface> = LinkOps::new(c"ovpn-dco");

/// Bytes of the largest outer headers: IPv6 and UDP.
pub(crate) const OUTER_HEADERS: u32 = 40 + 8;
static KEEPALIVE: WorkClass = WorkClass::new();

const ETHERNET_MTU: u32 = 1500;
const IP_MTU_MAX: u32 = 65535;

/// What the stack may send as one packet: so much that, cut at the usual sizes, with the headers of all
/// packets repeated and sealed, it still is one UDP packet for the link, of 64 KiB at most.
const GSO_MAX: u32 = 61_000;

impl Driver for Interface {
    const NAME: &'static CStr = c"ovpn-dco";
    const VERSION: &'static CStr = crate::VERSION;
    const SHAPE: Shape = Shape {
        mtu: ETHERNET_MTU - OUTER_HEADERS - OVERHEAD as u32,
        max_mtu: IP_MTU_MAX - OUTER_HEADERS - OVERHEAD as u32,
        headroom: skb::HEADROOM + (OVERHEAD + PREFIX_LEN) as u32,
        gso_max: GSO_MAX,
    };

    fn link() -> &'static LinkOps<Self> {
        &LINK
    }

    fn new(mode: u8) -> Result<RcuArc<Self>> {
        let mode = match mode {
            0 => Mode::P2p,
            1 => Mode::Mp,
            _ => return Err(ERANGE),
        };
        let workspaces = Workspaces::new()?;

        RcuArc::pin_init(
            try_pin_init!(Self {
                mode,
                device: DeviceCell::new(),
                gro: GroCells::new(),
                workspaces,
                peers <- Peers::new(),
                keepalive <- DelayedWork::new(&KEEPALIVE),
            }? Error),
            GFP_KERNEL,
        )
    }

    fn mode(&self) -> u8 {
        self.mode as u8
    }

    fn device(&self) -> &DeviceCell {
        &self.device
    }

    fn gro(&self) -> &GroCells {
        &self.gro
    }

    fn open(&self, dev: &NetDevice) {
        // Client to client traffic leaves by the interface that it came in by; a client must not
        // be told that it could go directly.
        if self.mode == Mode::Mp {
            dev.disable_redirects();
        }
    }

    fn uninit(this: &RcuArc<Self>, _dev: &NetDevice) {
        this.peers.close(this);
        DelayedWork::cancel(this);
    }

    fn transmit(&self, dev: &NetDevice, skb: SkBuff, bh: &BhDisabled) {
        tx::transmit(self, dev, skb, bh);
    }
}

impl Run for Interface {
    fn work(&self) -> &DelayedWork<Self> {
        &self.keepalive
    }

    fn run(this: RcuArc<Self>) {
        keepalive::run(&this);
    }
}

/// What userspace asks of an interface. All in process context.
impl Interface {
    /// The interface with this index in `net`.
    pub(crate) fn find(net: &Net, ifindex: u32) -> Outcome<RcuArc<Self>> {
        let guard = Guard::new();

        netdevice::find::<Self>(net, ifindex, &guard)
            .ok_or(Refusal::new(ENODEV, c"there is no device with this index"))?
            .ok_or(Refusal::new(EINVAL, c"the device is not of type ovpn-dco"))?
            .to_arc()
            .ok_or(Refusal::new(ENODEV, c"the device is being deleted"))
    }

    /// The mode that the interface was created with.
    #[inline]
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// The device; `None` once it is being deleted. Any context.
    #[inline]
    pub(crate) fn device<'g>(&self, guard: &'g Guard) -> Option<&'g NetDevice> {
        self.device.get(guard)
    }

    /// NEW_PEER.
    pub(crate) fn new_peer(this: &RcuArc<Self>, config: &NewPeer) -> Outcome {
        Peers::add(this, config)
    }

    /// SET_PEER: keepalive interval and timeout in seconds, 0 for off.
    pub(crate) fn set_peer(
        this: &RcuArc<Self>,
        id: PeerId,
        interval: u32,
        timeout: u32,
    ) -> Outcome {
        let now = crate::abstractions::time::boottime_seconds();

        this.peers.configure(id, |peer| {
            peer.keepalive.set(interval, timeout, now);
            DelayedWork::schedule(this, 0);
        })
    }

    /// Whether there is such a peer, or a tombstone of one.
    pub(crate) fn check_peer(&self, id: PeerId) -> Outcome {
        self.peers.configure(id, |_| {})
    }

    /// DEL_PEER.
    pub(crate) fn del_peer(&self, id: PeerId) -> Outcome {
        self.peers.delete(self, id)
    }

    /// NEW_KEY: a key that stood in the slot goes.
    pub(crate) fn new_key(&self, id: PeerId, slot: Slot, config: &NewKey<'_>) -> Outcome {
        // Looked up twice: making a key is slow, and not to be done for a peer that is not there.
        let mut exists = false;
        self.peers.configure(id, |_| exists = true)?;
        if !exists {
            return Ok(());
        }
        let key = Key::new(config)?;

        for direction in [&key.encrypt, &key.decrypt] {
            direction
                .prepare(&self.workspaces)
                .map_err(Refusal::because(c"out of memory"))?;
        }
        debug!(
            "peer {}: new key {:?} for {:?}\n",
            id.get(),
            config.key_id,
            slot
        );
        self.peers
            .configure(id, |peer| peer.keys.install(slot, Some(key)))
    }

    /// SWAP_KEYS.
    pub(crate) fn swap_keys(&self, id: PeerId) -> Outcome {
        self.peers.configure(id, |peer| peer.keys.swap())
    }

    /// DEL_KEY: a slot that is empty already is no error.
    pub(crate) fn del_key(&self, id: PeerId, slot: Slot) -> Outcome {
        self.peers
            .configure(id, |peer| peer.keys.install(slot, None))
    }

    /// GET_PEER.
    pub(crate) fn get_peer(&self, id: PeerId) -> Outcome<PeerInfo> {
        let guard = Guard::new();

        self.peers
            .by_id(id, &guard)
            .map(|peer| peer.info(&guard))
            .ok_or(Refusal::new(ENOENT, c"there is no peer with this id"))
    }

    /// What GET_PEER tells of the peer with the lowest id that is not below `first`.
    pub(crate) fn peer_from(&self, first: u32) -> Option<PeerInfo> {
        let guard = Guard::new();

        self.peers.from(first, &guard).map(|peer| peer.info(&guard))
    }
}
