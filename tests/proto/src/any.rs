// SPDX-License-Identifier: GPL-2.0-only

//! Any inner packets, for the properties.

use crate::inner::{Ip, Transport};
use proptest::prelude::*;

/// Any IP header with up to `options` words of options, if IPv4, among them no source route.
pub(crate) fn any_ip(options: usize) -> impl Strategy<Value = Ip> {
    let option = any::<u8>().prop_map(|byte| match byte {
        131 | 137 => 0,
        byte => byte,
    });
    let v4 = (
        any::<(u8, u16, bool, u8)>(),
        any::<([u8; 4], [u8; 4])>(),
        prop::collection::vec(option, 0..=options * 4),
    )
        .prop_map(
            |((tos, id, dont_fragment, ttl), (source, destination), mut options)| {
                options.truncate(options.len() / 4 * 4);
                Ip::V4 {
                    tos,
                    id,
                    dont_fragment,
                    ttl,
                    source,
                    destination,
                    options,
                }
            },
        );
    let v6 = (
        any::<(u8, u8)>(),
        0..=0xf_ffffu32,
        any::<([u8; 16], [u8; 16])>(),
    )
        .prop_map(
            |((traffic_class, hop_limit), flow_label, (source, destination))| Ip::V6 {
                traffic_class,
                flow_label,
                hop_limit,
                source,
                destination,
            },
        );

    prop_oneof![v4, v6]
}

/// Any TCP header.
pub(crate) fn any_tcp() -> impl Strategy<Value = Transport> {
    (
        any::<(u32, u32, u16, u16)>(),
        0..=0xfffu16,
        prop::collection::vec(any::<u8>(), 0..=40),
    )
        .prop_map(|((seq, ack, window, urgent), flags, mut options)| {
            options.truncate(options.len() / 4 * 4);
            Transport::Tcp {
                seq,
                ack,
                flags,
                window,
                urgent,
                options,
            }
        })
}
