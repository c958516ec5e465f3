// SPDX-License-Identifier: GPL-2.0

//! Keys and the two slots that a peer has for them.

#[cfg(ovpn_dco_debug)]
use crate::{
    abstractions::parameters,
    proto::packet::{HEADER_LEN, OVERHEAD},
};
use crate::{
    abstractions::{
        aead::{Aead, Workspace, Workspaces},
        chacha20poly1305::ChaCha20Poly1305,
        memory,
        rcu::{Guard, RcuArc, RcuCell, RcuRef},
        softirq::BhDisabled,
    },
    config::{Cipher, KeyDirection, NewKey, Slot},
    proto::{
        nonce::{nonce, NonceTail},
        packet::{DataHeader, KeyId},
        packet_id::PacketIds,
        replay::{ReplayError, ReplayWindow},
    },
    refusal::{Outcome, Refusal},
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        SpinLock,
    },
};

/// What protects the packets.
enum Protection {
    Aead(Aead),
    ChaCha20Poly1305(ChaCha20Poly1305),
    /// Nothing: for debugging, the tag is all zero.
    #[cfg(ovpn_dco_debug)]
    None,
}

/// One direction of a key.
pub(crate) struct Direction {
    protection: Protection,
    tail: NonceTail,
}

impl Direction {
    fn new(cipher: &Cipher, direction: &KeyDirection<'_>) -> Outcome<Self> {
        let refused = Refusal::because(c"the kernel's crypto API refuses the cipher or its key");

        Ok(Self {
            protection: match cipher {
                Cipher::AesGcm => Aead::new(c"gcm(aes)", direction.key)
                    .map(Protection::Aead)
                    .map_err(refused)?,
                Cipher::ChaCha20Poly1305 => ChaCha20Poly1305::new(direction.key)
                    .map(Protection::ChaCha20Poly1305)
                    .map_err(refused)?,
                #[cfg(ovpn_dco_debug)]
                Cipher::None => Protection::None,
            },
            tail: NonceTail::new(*direction.nonce_tail),
        })
    }

    /// Makes room in `workspaces` for what this needs. Process context; fails with `ENOMEM`.
    pub(crate) fn prepare(&self, workspaces: &Workspaces) -> Result {
        match &self.protection {
            Protection::Aead(aead) => workspaces.make_room(aead),
            Protection::ChaCha20Poly1305(_) => Ok(()),
            #[cfg(ovpn_dco_debug)]
            Protection::None => Ok(()),
        }
    }

    /// Seals `packet` where it is: [`OVERHEAD`] bytes to be written, then the inner packet.
    #[inline]
    pub(crate) fn seal(
        &self,
        workspace: &mut Workspace,
        header: &DataHeader,
        packet: &mut [u8],
    ) -> Result {
        *packet.first_chunk_mut().ok_or(EINVAL)? = header.encode();
        match &self.protection {
            Protection::Aead(aead) => {
                workspace.seal(aead, nonce(header.packet_id, &self.tail), packet)
            }
            Protection::ChaCha20Poly1305(key) => {
                key.seal(&nonce(header.packet_id, &self.tail), packet)
            }
            #[cfg(ovpn_dco_debug)]
            Protection::None => {
                let tag = packet.get_mut(HEADER_LEN..OVERHEAD).ok_or(EINVAL)?;
                tag.fill(0);
                Ok(())
            }
        }
    }

    /// Opens `packet` where it is, if it is authentic: the inner packet is behind [`OVERHEAD`] bytes.
    #[inline]
    pub(crate) fn open(
        &self,
        workspace: &mut Workspace,
        header: &DataHeader,
        packet: &mut [u8],
    ) -> Result {
        match &self.protection {
            Protection::Aead(aead) => {
                workspace.open(aead, nonce(header.packet_id, &self.tail), packet)
            }
            Protection::ChaCha20Poly1305(key) => {
                key.open(&nonce(header.packet_id, &self.tail), packet)
            }
            #[cfg(ovpn_dco_debug)]
            Protection::None => packet.get(OVERHEAD..).map(|_| ()).ok_or(EINVAL),
        }
    }

    /// As [`open`](Self::open), but only reads `packet`. The inner packet fills `to`, which is as
    /// long; without success, what `to` holds is undefined.
    #[inline]
    pub(crate) fn open_to(
        &self,
        workspace: &mut Workspace,
        header: &DataHeader,
        packet: &[u8],
        to: &mut [u8],
    ) -> Result {
        match &self.protection {
            Protection::Aead(aead) => {
                workspace.open_to(aead, nonce(header.packet_id, &self.tail), packet, to)
            }
            Protection::ChaCha20Poly1305(key) => {
                key.open_to(&nonce(header.packet_id, &self.tail), packet, to)
            }
            #[cfg(ovpn_dco_debug)]
            Protection::None => {
                let inner = packet.get(OVERHEAD..).ok_or(EINVAL)?;
                if inner.len() != to.len() {
                    return Err(EINVAL);
                }
                to.copy_from_slice(inner);
                Ok(())
            }
        }
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        // The crypto API wipes the key itself.
        memory::wipe(self.tail.bytes_mut());
    }
}

/// How many packets a new key counts as sent.
fn sent_before() -> i64 {
    #[cfg(ovpn_dco_debug)]
    {
        i64::from(parameters::first_packet_id().saturating_sub(1))
    }
    #[cfg(not(ovpn_dco_debug))]
    {
        0
    }
}

/// A key for both directions, with what has been sent and received under it.
#[pin_data]
pub(crate) struct Key {
    /// The id that packets under this key carry.
    pub(crate) id: KeyId,
    /// For sealing.
    pub(crate) encrypt: Direction,
    /// For opening.
    pub(crate) decrypt: Direction,
    sent: Atomic<i64>,
    #[pin]
    replay: SpinLock<ReplayWindow>,
}

impl Key {
    /// Makes a key. Process context, may sleep.
    pub(crate) fn new(config: &NewKey<'_>) -> Outcome<RcuArc<Self>> {
        let encrypt = Direction::new(&config.cipher, &config.encrypt)?;
        let decrypt = Direction::new(&config.cipher, &config.decrypt)?;

        RcuArc::pin_init(
            pin_init!(Self {
                id: config.key_id,
                encrypt,
                decrypt,
                sent: Atomic::new(sent_before()),
                replay <- new_spinlock!(ReplayWindow::new()),
            }),
            GFP_KERNEL,
        )
        .map_err(Refusal::because(c"out of memory"))
    }

    /// Takes `count` packet ids; `None` if the key has run out of them.
    #[inline]
    pub(crate) fn take_packet_ids(&self, count: u32) -> Option<PacketIds> {
        let before = self.sent.fetch_add(i64::from(count), Relaxed);
        PacketIds::reserve(u64::try_from(before).ok()?, count)
    }

    /// Whether an authentic packet with this id is new; if so, it is not new any more.
    ///
    /// `now` is in seconds, of a clock that does not go back.
    #[inline]
    pub(crate) fn accept(
        &self,
        packet_id: u32,
        now: u64,
        _bh: &BhDisabled,
    ) -> Result<(), ReplayError> {
        self.replay.lock().check_and_update(packet_id, now)
    }
}

/// The primary key, which seals, and the secondary one; both open.
pub(crate) struct KeySlots {
    slots: [RcuCell<Key>; 2],
    /// The index of the primary slot.
    primary: Atomic<i32>,
}

impl KeySlots {
    /// Two empty slots.
    pub(crate) fn new() -> Self {
        Self {
            slots: [RcuCell::new(None), RcuCell::new(None)],
            primary: Atomic::new(0),
        }
    }

    fn cells(&self) -> (&RcuCell<Key>, &RcuCell<Key>) {
        let [first, second] = &self.slots;
        if self.primary.load(Acquire) == 0 {
            (first, second)
        } else {
            (second, first)
        }
    }

    fn cell(&self, slot: Slot) -> &RcuCell<Key> {
        let (primary, secondary) = self.cells();
        match slot {
            Slot::Primary => primary,
            Slot::Secondary => secondary,
        }
    }

    /// The key that seals.
    #[inline]
    pub(crate) fn primary<'g>(&self, guard: &'g Guard) -> Option<RcuRef<'g, Key>> {
        self.cells().0.load(guard)
    }

    /// The key with this id.
    #[inline]
    pub(crate) fn find<'g>(&self, id: KeyId, guard: &'g Guard) -> Option<RcuRef<'g, Key>> {
        let (primary, secondary) = self.cells();
        let matching = |key: &RcuRef<'g, Key>| key.id == id;

        primary
            .load(guard)
            .filter(matching)
            .or_else(|| secondary.load(guard).filter(matching))
    }

    /// Puts `key` into `slot` in place of what is there. Serialised by the caller, as are the
    /// next two.
    pub(crate) fn install(&self, slot: Slot, key: Option<RcuArc<Key>>) {
        self.cell(slot).replace(key);
    }

    /// Lets primary and secondary change places.
    pub(crate) fn swap(&self) {
        self.primary.store(self.primary.load(Relaxed) ^ 1, Release);
    }

    /// Empties both slots.
    pub(crate) fn clear(&self) {
        for slot in &self.slots {
            slot.replace(None);
        }
    }
}
