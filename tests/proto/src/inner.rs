// SPDX-License-Identifier: GPL-2.0-only

//! Inner packets, put together and cut the slow and plain way: what the fuzz targets compare with, too.

/// The flags of the TCP header.
pub(crate) mod flag {
    pub(crate) const FIN: u16 = 0x001;
    pub(crate) const PSH: u16 = 0x008;
    pub(crate) const ACK: u16 = 0x010;
    pub(crate) const ECE: u16 = 0x040;
    pub(crate) const CWR: u16 = 0x080;
}

/// All that can be chosen in the IP header.
#[derive(Clone, Debug)]
pub(crate) enum Ip {
    V4 {
        tos: u8,
        id: u16,
        dont_fragment: bool,
        ttl: u8,
        source: [u8; 4],
        destination: [u8; 4],
        options: Vec<u8>,
    },
    V6 {
        traffic_class: u8,
        flow_label: u32,
        hop_limit: u8,
        source: [u8; 16],
        destination: [u8; 16],
    },
}

/// All that can be chosen in the transport header.
#[derive(Clone, Debug)]
pub(crate) enum Transport {
    Tcp {
        seq: u32,
        ack: u32,
        /// Twelve bits: the reserved ones as well.
        flags: u16,
        window: u16,
        urgent: u16,
        options: Vec<u8>,
    },
    Udp,
}

/// An inner packet but for its payload.
#[derive(Clone, Debug)]
pub(crate) struct Inner {
    pub(crate) ip: Ip,
    pub(crate) ports: [u16; 2],
    pub(crate) transport: Transport,
}

impl Inner {
    /// A plain TCP packet over IPv4, with ACK as its only flag and a time stamp as TCP has it.
    pub(crate) fn tcp_v4() -> Self {
        Self {
            ip: Ip::V4 {
                tos: 0,
                id: 0x1234,
                dont_fragment: true,
                ttl: 64,
                source: [10, 8, 0, 1],
                destination: [10, 8, 0, 2],
                options: Vec::new(),
            },
            ports: [40000, 5201],
            transport: Transport::Tcp {
                seq: 0x0102_0304,
                ack: 0x0506_0708,
                flags: flag::ACK,
                window: 502,
                urgent: 0,
                options: vec![1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4],
            },
        }
    }

    /// The same over IPv6.
    pub(crate) fn tcp_v6() -> Self {
        Self {
            ip: Ip::V6 {
                traffic_class: 0,
                flow_label: 0x1_2345,
                hop_limit: 64,
                source: [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                destination: [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            },
            ..Self::tcp_v4()
        }
    }

    pub(crate) fn udp(mut self) -> Self {
        self.transport = Transport::Udp;
        self
    }

    pub(crate) fn with_flags(mut self, new: u16) -> Self {
        if let Transport::Tcp { flags, .. } = &mut self.transport {
            *flags = new;
        }
        self
    }

    pub(crate) fn with_seq(mut self, new: u32) -> Self {
        if let Transport::Tcp { seq, .. } = &mut self.transport {
            *seq = new;
        }
        self
    }

    pub(crate) fn with_id(mut self, new: u16) -> Self {
        if let Ip::V4 { id, .. } = &mut self.ip {
            *id = new;
        }
        self
    }

    pub(crate) fn with_dont_fragment(mut self, new: bool) -> Self {
        if let Ip::V4 { dont_fragment, .. } = &mut self.ip {
            *dont_fragment = new;
        }
        self
    }

    pub(crate) fn with_tcp_options(mut self, new: &[u8]) -> Self {
        if let Transport::Tcp { options, .. } = &mut self.transport {
            *options = new.to_vec();
        }
        self
    }

    pub(crate) fn network_len(&self) -> usize {
        match &self.ip {
            Ip::V4 { options, .. } => 20 + options.len(),
            Ip::V6 { .. } => 40,
        }
    }

    pub(crate) fn header_len(&self) -> usize {
        self.network_len()
            + match &self.transport {
                Transport::Tcp { options, .. } => 20 + options.len(),
                Transport::Udp => 8,
            }
    }

    /// The packet, all lengths and checksums right. A length that does not fit is cut off, as the
    /// stack may do in a packet that is yet to be cut.
    pub(crate) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let transport_len = self.header_len() - self.network_len() + payload.len();
        let mut transport = Vec::new();
        for port in self.ports {
            transport.extend(port.to_be_bytes());
        }
        let protocol: u8;
        let checksum_at: usize;
        match &self.transport {
            Transport::Tcp {
                seq,
                ack,
                flags,
                window,
                urgent,
                options,
            } => {
                (protocol, checksum_at) = (6, 16);
                transport.extend(seq.to_be_bytes());
                transport.extend(ack.to_be_bytes());
                let data_offset = (20 + options.len()) as u16 / 4;
                transport.extend((data_offset << 12 | flags).to_be_bytes());
                transport.extend(window.to_be_bytes());
                transport.extend([0, 0]);
                transport.extend(urgent.to_be_bytes());
                transport.extend(options);
            }
            Transport::Udp => {
                (protocol, checksum_at) = (17, 6);
                transport.extend((transport_len as u16).to_be_bytes());
                transport.extend([0, 0]);
            }
        }
        transport.extend(payload);

        let mut network = Vec::new();
        let mut pseudo_header = Vec::new();
        match &self.ip {
            Ip::V4 {
                tos,
                id,
                dont_fragment,
                ttl,
                source,
                destination,
                options,
            } => {
                let network_len = 20 + options.len();
                network.extend([0x40 | (network_len / 4) as u8, *tos]);
                network.extend(((network_len + transport_len) as u16).to_be_bytes());
                network.extend(id.to_be_bytes());
                network.extend([u8::from(*dont_fragment) << 6, 0, *ttl, protocol, 0, 0]);
                network.extend(source);
                network.extend(destination);
                network.extend(options);
                let sum = checksum(&[&network]);
                network[10..12].copy_from_slice(&sum.to_be_bytes());

                pseudo_header.extend(source);
                pseudo_header.extend(destination);
                pseudo_header.extend([0, protocol]);
                pseudo_header.extend((transport_len as u16).to_be_bytes());
            }
            Ip::V6 {
                traffic_class,
                flow_label,
                hop_limit,
                source,
                destination,
            } => {
                let first = 6 << 28 | u32::from(*traffic_class) << 20 | flow_label;
                network.extend(first.to_be_bytes());
                network.extend((transport_len as u16).to_be_bytes());
                network.extend([protocol, *hop_limit]);
                network.extend(source);
                network.extend(destination);

                pseudo_header.extend(source);
                pseudo_header.extend(destination);
                pseudo_header.extend((transport_len as u32).to_be_bytes());
                pseudo_header.extend([0, 0, 0, protocol]);
            }
        }

        let mut sum = checksum(&[&pseudo_header, &transport]);
        if sum == 0 && protocol == 17 {
            sum = 0xffff;
        }
        transport[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        network.extend(transport);
        network
    }

    /// The headers of the packet as the stack has them before it is cut: in the place of the TCP
    /// checksum is the sum over the pseudo-header.
    pub(crate) fn merged_headers(&self, payload: &[u8]) -> Vec<u8> {
        let mut headers = self.packet(payload);
        headers.truncate(self.header_len());

        let tcp_len = (self.header_len() - self.network_len() + payload.len()) as u16;
        let addresses = match self.ip {
            Ip::V4 { .. } => &headers[12..20],
            Ip::V6 { .. } => &headers[8..40],
        };
        let sum = !checksum(&[addresses, &[0, 6], &tcp_len.to_be_bytes()]);
        let at = self.network_len() + 16;
        headers[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        headers
    }

    /// The packets that this one is to be cut into, with `mss` bytes of payload each.
    pub(crate) fn cut(&self, payload: &[u8], mss: usize, fixed_id: bool) -> Vec<Vec<u8>> {
        let count = payload.len().div_ceil(mss);

        payload
            .chunks(mss)
            .enumerate()
            .map(|(index, payload)| {
                let mut inner = self.clone();
                if let Ip::V4 { id, .. } = &mut inner.ip {
                    if !fixed_id {
                        *id = id.wrapping_add(index as u16);
                    }
                }
                if let Transport::Tcp { seq, flags, .. } = &mut inner.transport {
                    *seq = seq.wrapping_add((index * mss) as u32);
                    if index > 0 {
                        *flags &= !flag::CWR;
                    }
                    if index + 1 < count {
                        *flags &= !(flag::FIN | flag::PSH);
                    }
                }
                inner.packet(payload)
            })
            .collect()
    }
}

/// A payload in which no two places look the same.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|at| (at.wrapping_mul(0x9e37_79b1) >> 24) as u8)
        .collect()
}

/// The sum over a payload as the kernel has it.
pub(crate) fn payload_sum(payload: &[u8]) -> u32 {
    payload
        .chunks(2)
        .map(|word| {
            let low = word.get(1).copied().unwrap_or(0);
            u32::from(u16::from_ne_bytes([word[0], low]))
        })
        .sum()
}

/// The Internet checksum of RFC 1071 over parts that are each padded to whole words.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0;
    for word in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    !(sum as u16)
}

/// As another implementation, Scapy, puts them together.
#[test]
fn packets_are_known() {
    assert_eq!(
        Inner::tcp_v4().packet(b"odd"),
        [
            0x45, 0x00, 0x00, 0x37, 0x12, 0x34, 0x40, 0x00, 0x40, 0x06, 0x14, 0x7b, 0x0a, 0x08,
            0x00, 0x01, 0x0a, 0x08, 0x00, 0x02, 0x9c, 0x40, 0x14, 0x51, 0x01, 0x02, 0x03, 0x04,
            0x05, 0x06, 0x07, 0x08, 0x80, 0x10, 0x01, 0xf6, 0xc8, 0xa1, 0x00, 0x00, 0x01, 0x01,
            0x08, 0x0a, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x03, 0x04, 0x6f, 0x64, 0x64,
        ]
    );
    assert_eq!(
        Inner::tcp_v6().udp().packet(b"odd"),
        [
            0x60, 0x01, 0x23, 0x45, 0x00, 0x0b, 0x11, 0x40, 0xfd, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0xfd, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x9c, 0x40,
            0x14, 0x51, 0x00, 0x0b, 0x81, 0xdd, 0x6f, 0x64, 0x64,
        ]
    );
}
