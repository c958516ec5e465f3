// SPDX-License-Identifier: GPL-2.0-only

//! IP packets with a UDP datagram in them.

const UDP: u8 = 17;
const PORTS: [u16; 2] = [5000, 5001];
const V4: [[u8; 4]; 2] = [[10, 8, 0, 2], [10, 8, 0, 1]];
const V6: [[u8; 16]; 2] = [
    [0xfd, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    [0xfd, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
];

/// Packets of both versions by their names, for each length of what the datagram holds, and one of
/// `longest` bytes in all.
pub(crate) fn packets(lengths: &[usize], longest: usize) -> Vec<(String, Vec<u8>)> {
    let mut made = Vec::new();
    // The longest early, so that it is among those that are sealed first.
    for (version, head) in [("v4", 28), ("v6", 48)] {
        made.push((
            format!("{version}-{}", longest - head),
            packet(version, longest - head),
        ));
    }
    for &length in lengths {
        for version in ["v4", "v6"] {
            made.push((format!("{version}-{length}"), packet(version, length)));
        }
    }
    made
}

fn packet(version: &str, length: usize) -> Vec<u8> {
    let data: Vec<u8> = (0..length).map(|n| (n * 7 + length) as u8).collect();
    let udp_length = u16::try_from(8 + length).expect("a short packet");

    if version == "v4" {
        let mut packet = vec![0x45, 0];
        packet.extend((20 + udp_length).to_be_bytes());
        // An identification, and do not fragment.
        packet.extend([0x12, 0x34, 0x40, 0, 64, UDP, 0, 0]);
        packet.extend(V4.concat());
        let check = checksum(&packet);
        packet[10..12].copy_from_slice(&check.to_be_bytes());
        packet.extend(datagram(&V4.concat(), udp_length, &data));
        packet
    } else {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(udp_length.to_be_bytes());
        packet.extend([UDP, 64]);
        packet.extend(V6.concat());
        packet.extend(datagram(&V6.concat(), udp_length, &data));
        packet
    }
}

fn datagram(addresses: &[u8], length: u16, data: &[u8]) -> Vec<u8> {
    let mut datagram: Vec<u8> = PORTS.iter().flat_map(|port| port.to_be_bytes()).collect();
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);

    let mut covered = addresses.to_vec();
    covered.extend([0, UDP]);
    covered.extend(length.to_be_bytes());
    covered.extend(&datagram);
    // Zero would say that there is no checksum.
    let check = match checksum(&covered) {
        0 => 0xffff,
        check => check,
    };
    datagram[6..8].copy_from_slice(&check.to_be_bytes());
    datagram
}

/// The Internet checksum.
fn checksum(data: &[u8]) -> u16 {
    let sum: u32 = data
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low)))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}
