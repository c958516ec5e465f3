// SPDX-License-Identifier: GPL-2.0-only

use crate::inner::{checksum, flag, payload, Inner, Ip};
use crate::proto::merge::{Merge, Merged};

/// An id that no flip of one bit in the next one leads back to.
const ID: u16 = 0x12ff;

/// A packet over IPv4 and one over IPv6, with every option and flag that a merge may have.
fn both() -> [Inner; 2] {
    [Inner::tcp_v4().with_id(ID), Inner::tcp_v6()]
}

pub(crate) fn begin(packet: &[u8]) -> Option<Merge> {
    Merge::begin(packet, packet.len())
}

pub(crate) fn append(merge: &mut Merge, packet: &[u8]) -> bool {
    merge.append(packet, packet.len())
}

/// The headers of the whole.
pub(crate) fn finish(merge: &Merge) -> (Vec<u8>, Merged) {
    let header_len = merge.header_len();
    let mut room = vec![0xee; header_len + 9];
    let merged = merge.finish(&mut room).unwrap();

    assert_eq!(room.split_off(header_len), [0xee; 9]);
    (room, merged)
}

/// Puts the right checksum into an IPv4 header.
fn repair(packet: &mut [u8]) {
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let sum = checksum(&[&packet[..20]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The bits of a byte that are flipped: all, or under Miri one.
fn flips(at: usize) -> std::ops::Range<u32> {
    if cfg!(miri) {
        let bit = at as u32 % 8;
        bit..bit + 1
    } else {
        0..8
    }
}

/// Two packets that follow one another, with 100 bytes of payload each.
fn two(inner: &Inner) -> [Vec<u8>; 2] {
    inner.cut(&payload(200), 100, false).try_into().unwrap()
}

#[test]
fn a_train_becomes_one_packet() {
    let mss = crate::scale(1300, 13);
    let payload = payload(7 * mss + 1);

    for inner in both() {
        let inner = inner.with_flags(flag::ACK | flag::PSH | flag::ECE | flag::CWR);
        let packets = inner.cut(&payload, mss, false);
        let mut merge = begin(&packets[0]).unwrap();
        for packet in &packets[1..] {
            assert!(merge.is_open());
            assert!(append(&mut merge, packet));
        }
        assert!(!merge.is_open());

        let (headers, merged) = finish(&merge);
        assert_eq!(headers, inner.merged_headers(&payload));
        assert_eq!(
            merged,
            Merged {
                segments: 8,
                mss: mss as u16,
                v6: matches!(inner.ip, Ip::V6 { .. }),
                fixed_id: false,
                transport_offset: inner.network_len() as u16,
                ecn: true,
            }
        );
    }
}

#[test]
fn the_stack_can_complete_the_checksum() {
    let payload = payload(2501);

    for inner in both() {
        let packets = inner.cut(&payload, 1300, false);
        let mut merge = begin(&packets[0]).unwrap();
        assert!(append(&mut merge, &packets[1]));

        let (mut whole, _) = finish(&merge);
        whole.extend(&payload);
        let at = inner.network_len();
        let sum = checksum(&[&whole[at..]]);
        whole[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(whole, inner.packet(&payload));
    }
}

#[test]
fn a_merge_of_one_changes_the_tcp_checksum_alone() {
    let payload = payload(100);

    for inner in both() {
        for flags in [flag::ACK, flag::ACK | flag::PSH] {
            let inner = inner.clone().with_flags(flags);
            let merge = begin(&inner.packet(&payload)).unwrap();

            let (headers, merged) = finish(&merge);
            assert_eq!(headers, inner.merged_headers(&payload));
            assert_eq!((merged.segments, merged.mss), (1, 100));
            assert!(!merged.fixed_id && !merged.ecn);
        }
    }
}

#[test]
fn the_headers_are_enough() {
    for inner in both() {
        let packets = two(&inner);
        let header_len = inner.header_len();
        let [first, second] = [&packets[0][..header_len], &packets[1][..header_len]];

        for len in 0..header_len {
            assert!(Merge::begin(&first[..len], packets[0].len()).is_none());
        }
        let mut merge = Merge::begin(first, packets[0].len()).unwrap();
        for len in 0..header_len {
            assert!(!merge.append(&second[..len], packets[1].len()));
        }
        assert!(merge.append(second, packets[1].len()));
        assert_eq!(
            finish(&merge).0,
            inner.merged_headers(&payload(200)),
            "{inner:?}"
        );
    }
}

/// What a packet must not differ in, as a list of all in which it may.
#[test]
fn a_flip_of_any_other_bit_ends_the_merge() {
    for inner in both() {
        let [first, second] = two(&inner);
        let network_len = inner.network_len();
        let expected = inner.merged_headers(&payload(200));

        for at in 0..inner.header_len() {
            for bit in flips(at) {
                let mut other = second.clone();
                other[at] ^= 1 << bit;
                let place = at.checked_sub(network_len);
                let may_differ = matches!((place, bit), (Some(13), 3) | (Some(16 | 17), _));

                let mut merge = begin(&first).unwrap();
                if place.is_none() {
                    // In IPv4 the header checksum alone would tell.
                    assert!(!append(&mut merge, &other), "byte {at}, bit {bit}");
                    repair(&mut other);
                    if other == second {
                        continue;
                    }
                }
                assert_eq!(
                    append(&mut merge, &other),
                    may_differ,
                    "byte {at}, bit {bit} of {inner:?}"
                );
                if !may_differ {
                    // Nothing of it was taken.
                    assert!(append(&mut merge, &second));
                    let (headers, merged) = finish(&merge);
                    assert_eq!(headers, expected);
                    assert_eq!(merged.segments, 2);
                }
            }
        }
    }
}

/// The same for the first packet: either no merge begins with it, or the next does not continue it.
#[test]
fn a_flip_of_any_other_bit_in_the_first_packet_ends_the_merge() {
    for inner in both() {
        let [first, second] = two(&inner);
        let network_len = inner.network_len();

        for at in 0..inner.header_len() {
            for bit in flips(at) {
                let mut other = first.clone();
                other[at] ^= 1 << bit;
                let value = 1u8 << bit;
                let place = at.checked_sub(network_len);
                let v4 = network_len == 20;
                let begins = match (place, at) {
                    // Version, length, fragment, protocol.
                    (None, 0) => !v4 && value < 0x10,
                    (None, 2 | 3 | 9) => !v4,
                    (None, 4..=5) => v4,
                    (None, 6) => v4 && value == 0x40,
                    (None, 7) => !v4,
                    (None, _) => true,
                    // Data offset and flags. A longer header would still leave a payload.
                    (Some(12), _) => [0x10, 0x20, 0x40].contains(&value),
                    (Some(13), _) => [0x08, 0x10, 0x40, 0x80].contains(&value),
                    (Some(_), _) => true,
                };
                // CWR, which the first alone may have, and the checksum.
                let continued = matches!((place, bit), (Some(13), 7) | (Some(16 | 17), _));

                if v4 && place.is_none() {
                    assert!(begin(&other).is_none(), "byte {at}, bit {bit}");
                    repair(&mut other);
                    if other == first {
                        continue;
                    }
                }
                let mut merge = begin(&other);
                assert_eq!(merge.is_some(), begins, "byte {at}, bit {bit} of {inner:?}");
                let appended = merge.as_mut().is_some_and(|merge| append(merge, &second));
                assert_eq!(appended, continued, "byte {at}, bit {bit} of {inner:?}");
            }
        }
    }
}

#[test]
fn any_other_flag_begins_no_merge() {
    let allowed = flag::ACK | flag::PSH | flag::ECE | flag::CWR;

    for inner in both() {
        for flags in (0..=0xfff).step_by(crate::scale(1, 311)) {
            let packet = inner.clone().with_flags(flags).packet(&[1]);
            let begins = flags & !allowed == 0;
            assert_eq!(begin(&packet).is_some(), begins, "{flags:#x}");
        }
    }
}

#[test]
fn data_offsets_that_no_header_has_begin_no_merge() {
    for inner in both() {
        let mut packet = inner.packet(&[0; 100]);
        let at = inner.network_len() + 12;
        for data_offset in 0..=15 {
            packet[at] = data_offset << 4;
            let merge = begin(&packet);
            assert_eq!(merge.is_some(), data_offset >= 5, "{data_offset}");
            if let Some(merge) = merge {
                let tcp_len = usize::from(data_offset) * 4;
                assert_eq!(merge.header_len(), inner.network_len() + tcp_len);
            }
        }
    }
}

#[test]
fn other_protocols_options_and_fragments_begin_no_merge() {
    for inner in both() {
        assert!(begin(&inner.clone().udp().packet(&[0; 100])).is_none());
        for first in (0..=u8::MAX).filter(|first| first >> 4 != 6 && *first != 0x45) {
            let mut packet = inner.packet(&[0; 100]);
            packet[0] = first;
            repair(&mut packet);
            assert!(begin(&packet).is_none(), "{first:#x}");
        }
    }

    let mut with_options = Inner::tcp_v4();
    if let Ip::V4 { options, .. } = &mut with_options.ip {
        *options = vec![1; 4];
    }
    assert!(begin(&with_options.packet(&[0; 100])).is_none());

    for bit in 0..16 {
        let mut packet = Inner::tcp_v4().packet(&[0; 100]);
        packet[6..8].copy_from_slice(&(1u16 << bit).to_be_bytes());
        repair(&mut packet);
        // "Don't fragment" is no fragment.
        assert_eq!(begin(&packet).is_some(), bit == 14, "bit {bit}");
    }
}

#[test]
fn a_length_that_is_not_that_of_the_header_ends_the_merge() {
    for inner in both() {
        let [first, second] = two(&inner);
        let right = first.len();

        for len in [
            0,
            1,
            20,
            40,
            right - 1,
            right + 1,
            65535,
            65536,
            right + 65536,
            usize::MAX,
        ] {
            assert!(Merge::begin(&first, len).is_none(), "{len}");
            let mut merge = begin(&first).unwrap();
            assert!(!merge.append(&second, len), "{len}");
        }
    }
}

#[test]
fn nothing_without_a_payload_is_merged() {
    for inner in both() {
        let [first, _] = two(&inner);
        assert!(begin(&inner.packet(&[])).is_none());

        let mut merge = begin(&first).unwrap();
        let next = inner.with_seq(0x0102_0304 + 100).with_id(ID + 1);
        assert!(!append(&mut merge, &next.packet(&[])));
        assert!(append(&mut merge, &next.packet(&[1])));
    }
}

#[test]
fn nothing_follows_a_shorter_payload() {
    for inner in both() {
        let packets = inner.cut(&payload(250), 100, false);
        let mut merge = begin(&packets[0]).unwrap();
        assert!(append(&mut merge, &packets[1]));
        assert!(merge.is_open());
        assert!(append(&mut merge, &packets[2]));
        assert!(!merge.is_open());

        let next = inner.with_seq(0x0102_0304 + 250).with_id(ID + 3);
        for len in [1, 50, 100] {
            assert!(!append(&mut merge, &next.packet(&payload(len))));
        }
    }
}

#[test]
fn nothing_follows_a_push() {
    for inner in both() {
        let [first, second] = two(&inner);
        let push = inner.clone().with_flags(flag::ACK | flag::PSH);

        let mut merge = begin(&push.packet(&payload(100))).unwrap();
        assert!(!merge.is_open());
        assert!(!append(&mut merge, &second));

        let mut merge = begin(&first).unwrap();
        let push = push.with_seq(0x0102_0304 + 100).with_id(ID + 1);
        assert!(append(&mut merge, &push.packet(&payload(100))));
        assert!(!merge.is_open());
        let next = inner.with_seq(0x0102_0304 + 200).with_id(ID + 2);
        assert!(!append(&mut merge, &next.packet(&payload(100))));
    }
}

#[test]
fn a_longer_payload_is_not_merged() {
    for inner in both() {
        let [first, second] = two(&inner);
        let mut merge = begin(&first).unwrap();
        let next = inner.with_seq(0x0102_0304 + 100).with_id(ID + 1);

        assert!(!append(&mut merge, &next.packet(&payload(101))));
        assert!(append(&mut merge, &second));
    }
}

#[test]
fn only_the_first_may_have_cwr() {
    for inner in both() {
        let cwr = inner.with_flags(flag::ACK | flag::CWR);
        let mut merge = begin(&cwr.packet(&payload(100))).unwrap();
        let next = cwr.with_seq(0x0102_0304 + 100).with_id(ID + 1);

        assert!(merge.has_cwr());
        assert!(!append(&mut merge, &next.packet(&payload(100))));
        let next = next.with_flags(flag::ACK);
        assert!(append(&mut merge, &next.packet(&payload(100))));
        assert!(finish(&merge).1.ecn);
        let other = begin(&next.packet(&payload(100))).unwrap();
        assert!(!other.has_cwr());
    }
}

#[test]
fn ids_count_up_or_stay() {
    // The ids of a train, whether it may be fragmented, how many are merged and if the id is fixed.
    let trains: [(&[u16], bool, u16, bool); 12] = [
        (&[7, 8, 9, 10], true, 4, false),
        (&[7, 8, 9, 10], false, 4, false),
        (&[7, 7, 7, 7], true, 4, true),
        (&[7, 7, 7, 7], false, 1, false),
        (&[0, 0, 0, 0], true, 4, true),
        (&[7, 7, 8, 9], true, 2, true),
        (&[7, 8, 8, 8], true, 2, false),
        (&[7, 8, 7, 8], true, 2, false),
        (&[7, 9, 11, 13], true, 1, false),
        (&[7, 6, 5, 4], true, 1, false),
        (&[0xfffe, 0xffff, 0, 1], false, 4, false),
        (&[0xffff, 0xffff, 0xffff, 0], true, 3, true),
    ];

    for (ids, dont_fragment, segments, fixed_id) in trains {
        let inner = Inner::tcp_v4().with_dont_fragment(dont_fragment);
        let packets: Vec<_> = (0..)
            .zip(ids)
            .map(|(index, id)| {
                let inner = inner.clone().with_id(*id);
                let seq = 0x0102_0304 + index * 100;
                inner.with_seq(seq).packet(&payload(100))
            })
            .collect();

        let mut merge = begin(&packets[0]).unwrap();
        let appended = packets[1..]
            .iter()
            .take_while(|packet| append(&mut merge, packet))
            .count();
        let (_, merged) = finish(&merge);
        assert_eq!(merged.segments, segments, "{ids:?}");
        assert_eq!(merged.segments as usize, appended + 1, "{ids:?}");
        assert_eq!(merged.fixed_id, fixed_id, "{ids:?}");
    }
}

#[test]
fn the_sequence_number_wraps_around() {
    for inner in both() {
        for before in [0, 1, 50, 99, 100, 101, 150] {
            let inner = inner.clone().with_seq(0u32.wrapping_sub(before));
            let packets = inner.cut(&payload(300), 100, false);
            let mut merge = begin(&packets[0]).unwrap();
            assert!(append(&mut merge, &packets[1]), "{before} before");
            assert!(append(&mut merge, &packets[2]), "{before} before");
            assert_eq!(finish(&merge).0, inner.merged_headers(&payload(300)));
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "64 KiB take minutes")]
fn the_whole_is_no_longer_than_an_ip_packet() {
    const MSS: usize = 1400;

    for inner in both() {
        let most = 65535 - inner.header_len();
        let full = most / MSS;
        let last = inner
            .clone()
            .with_seq((0x0102_0304 + full * MSS) as u32)
            .with_id(ID + full as u16);
        let payload = payload(most);
        let packets = inner.cut(&payload[..full * MSS], MSS, false);

        let mut merge = begin(&packets[0]).unwrap();
        for packet in &packets[1..] {
            assert!(append(&mut merge, packet));
        }
        for too_long in [most % MSS + 1, MSS] {
            assert!(!append(&mut merge, &last.packet(&vec![0; too_long])));
        }
        assert!(append(&mut merge, &last.packet(&payload[full * MSS..])));
        assert_eq!(finish(&merge).0, inner.merged_headers(&payload));
    }
}

#[test]
#[cfg_attr(miri, ignore = "64 KiB take minutes")]
fn a_single_packet_may_be_as_long() {
    for inner in both() {
        let most = 65535 - inner.header_len();
        let payload = payload(most + 1);
        let mut merge = begin(&inner.packet(&payload[..most])).unwrap();
        let (headers, merged) = finish(&merge);
        assert_eq!(headers, inner.merged_headers(&payload[..most]));
        assert_eq!(usize::from(merged.mss), most);

        let next = inner
            .clone()
            .with_seq((0x0102_0304 + most) as u32)
            .with_id(ID + 1);
        assert!(!append(&mut merge, &next.packet(&[1])));
        // In IPv6 the field could say it.
        assert!(begin(&inner.packet(&payload)).is_none());
    }
}

#[test]
fn as_many_packets_as_there_are_bytes_can_be_merged() {
    for inner in both() {
        let most = 65535 - inner.header_len();
        let count = crate::scale(most, 20);
        let packet = |index: usize| {
            let inner = inner.clone().with_seq((0x0102_0304 + index) as u32);
            inner.with_id(ID.wrapping_add(index as u16)).packet(&[7])
        };

        let mut merge = begin(&packet(0)).unwrap();
        for index in 1..count {
            assert!(append(&mut merge, &packet(index)), "{index}");
        }
        assert_eq!(usize::from(finish(&merge).1.segments), count);
        assert_eq!(append(&mut merge, &packet(count)), count < most);
    }
}

#[test]
fn too_little_room_for_the_headers_is_refused() {
    for inner in both() {
        let merge = begin(&inner.packet(&[1])).unwrap();
        let mut room = vec![0; inner.header_len()];

        assert!(merge.finish(&mut room).is_some());
        for len in 0..inner.header_len() {
            assert_eq!(merge.finish(&mut room[..len]), None, "{len}");
        }
    }
}
