// SPDX-License-Identifier: GPL-2.0-only

use crate::inner::{flag, payload, Inner};
use crate::proto::merge::{Merge, Merged};

#[test]
fn a_train_becomes_one_packet() {
    for (v6, inner) in [(false, Inner::tcp_v4()), (true, Inner::tcp_v6())] {
        let inner = inner.with_flags(flag::ACK | flag::PSH | flag::CWR);
        let payload = payload(10_001);
        let packets = inner.cut(&payload, 1300, false);

        let mut merge = Merge::begin(&packets[0], packets[0].len()).unwrap();
        for packet in &packets[1..] {
            assert!(merge.is_open());
            assert!(merge.append(packet, packet.len()));
        }
        assert!(!merge.is_open());

        let header_len = inner.header_len();
        let network_len = inner.network_len();
        assert_eq!(merge.header_len(), header_len);
        let mut headers = vec![0xee; header_len];
        let merged = merge.finish(&mut headers).unwrap();
        assert_eq!(
            merged,
            Merged {
                segments: 8,
                mss: 1300,
                v6,
                fixed_id: false,
                transport_offset: network_len as u16,
                ecn: true,
            }
        );

        let mut expected = inner.packet(&payload)[..header_len].to_vec();
        let sum = network_len + 16..network_len + 18;
        expected[sum.clone()].copy_from_slice(&headers[sum]);
        assert_eq!(headers, expected);
    }
}
