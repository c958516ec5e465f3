// SPDX-License-Identifier: GPL-2.0
/* Socket buffers and their memory. See shims.h. */

#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/addrconf.h>
#include <net/gro.h>
#include <net/gso.h>
#include <net/ip_tunnels.h>
#include <net/ipv6.h>
#include <net/page_pool/helpers.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <net/udp.h>

#include "shims.h"

unsigned int ovpn_shim_skb_segments(const struct sk_buff *skb)
{
	return skb_shinfo(skb)->gso_segs ?: 1;
}

/* Pages that no device maps. */
struct page_pool *ovpn_shim_page_pool_create(unsigned int order, unsigned int idle)
{
	struct page_pool_params params = {
		.order = order,
		.pool_size = idle,
		.nid = NUMA_NO_NODE,
	};

	return page_pool_create(&params);
}

void *ovpn_shim_page_address(struct page *page)
{
	return page_address(page);
}

void ovpn_shim_page_pool_return(struct page *page)
{
	page_pool_put_full_page(pp_page_to_nmdesc(page)->pp, page, false);
}

void ovpn_shim_skb_gso(const struct sk_buff *skb, struct ovpn_gso *gso)
{
	const struct skb_shared_info *info = skb_shinfo(skb);
	const unsigned int tcp = SKB_GSO_TCPV4 | SKB_GSO_TCPV6;
	const unsigned int known = tcp | SKB_GSO_TCP_ECN | SKB_GSO_TCP_ACCECN |
				   SKB_GSO_TCP_FIXEDID | SKB_GSO_UDP_L4;

	gso->size = 0;
	gso->headers = 0;
	gso->udp = info->gso_type & SKB_GSO_UDP_L4;
	gso->fixed_id = info->gso_type & SKB_GSO_TCP_FIXEDID;
	gso->keeps_cwr = info->gso_type & SKB_GSO_TCP_ACCECN;
	if (!info->gso_size || info->gso_type & ~known || info->frag_list ||
	    skb->ip_summed != CHECKSUM_PARTIAL || skb->encapsulation ||
	    skb_checksum_start_offset(skb) != skb_transport_offset(skb))
		return;
	gso->headers = skb_transport_offset(skb) + sizeof(struct udphdr);
	if (info->gso_type & tcp) {
		if (gso->udp || !skb_pointer_if_linear(skb, skb_transport_offset(skb),
						       sizeof(struct tcphdr)))
			return;
		gso->headers = skb_transport_offset(skb) + tcp_hdrlen(skb);
	} else if (!gso->udp) {
		return;
	}
	gso->size = info->gso_size;
}

/* The UDP header will stand right before the data. */
void ovpn_shim_skb_set_udp_gso(struct sk_buff *skb, u16 size, u16 segments)
{
	skb_shinfo(skb)->gso_size = size;
	skb_shinfo(skb)->gso_segs = segments;
	skb_shinfo(skb)->gso_type = SKB_GSO_UDP_L4;
	skb->ip_summed = CHECKSUM_PARTIAL;
	skb->csum_start = skb_headroom(skb) - sizeof(struct udphdr);
	skb->csum_offset = offsetof(struct udphdr, check);
}

/* What tcp_gro_complete() does. */
void ovpn_shim_skb_set_joined(struct sk_buff *skb, const struct ovpn_joined *joined)
{
	struct skb_shared_info *info = skb_shinfo(skb);

	skb_set_transport_header(skb, joined->transport_offset);
	skb->csum_start = skb_transport_header(skb) - skb->head;
	skb->csum_offset = offsetof(struct tcphdr, check);
	skb->ip_summed = CHECKSUM_PARTIAL;
	skb->csum_level = 0;
	info->gso_size = joined->size;
	info->gso_segs = joined->segments;
	info->gso_type = joined->v6 ? SKB_GSO_TCPV6 : SKB_GSO_TCPV4;
	if (joined->fixed_id)
		info->gso_type |= SKB_GSO_TCP_FIXEDID;
	if (joined->ecn)
		info->gso_type |= SKB_GSO_TCP_ECN;
}

bool ovpn_shim_skb_add_area(struct sk_buff *skb, struct page *page, u32 offset,
			    u32 len, u32 truesize)
{
	int i = skb_shinfo(skb)->nr_frags;

	if (i >= MAX_SKB_FRAGS)
		return false;
	skb_add_rx_frag(skb, i, page, offset, len, truesize);
	skb_mark_for_recycle(skb);
	return true;
}

struct sk_buff *ovpn_shim_skb_in_area(void *start, u32 len)
{
	struct sk_buff *skb = napi_build_skb(start, len);

	if (skb)
		skb_mark_for_recycle(skb);
	return skb;
}

u32 ovpn_shim_skb_area_overhead(void)
{
	return SKB_DATA_ALIGN(sizeof(struct skb_shared_info));
}

u32 ovpn_shim_skb_copy_and_csum(const struct sk_buff *skb, int offset, u8 *to,
				int len)
{
	return (__force u32)skb_copy_and_csum_bits(skb, offset, to, len);
}

/* Copies the packet, with the checksum that the stack left to the device. */
int ovpn_shim_skb_copy_complete(struct sk_buff *skb, u8 *to)
{
	__sum16 *sum;

	if (skb->ip_summed != CHECKSUM_PARTIAL)
		return skb_copy_bits(skb, 0, to, skb->len);
	if (skb_checksum_start_offset(skb) < 0 ||
	    skb_checksum_start_offset(skb) > skb_headlen(skb) ||
	    skb_checksum_start_offset(skb) + skb->csum_offset + sizeof(__sum16) > skb->len)
		return -EINVAL;
	skb_copy_and_csum_dev(skb, to);
	/* to UDP a zero means that there is no checksum, and to TCP both are the same */
	sum = (__sum16 *)(to + skb_checksum_start_offset(skb) + skb->csum_offset);
	if (!get_unaligned(sum))
		put_unaligned(CSUM_MANGLED_0, sum);
	return 0;
}

/*
 * Makes a packet of the stack one of ours, with its checksum done, @before more bytes in front, and
 * @headroom in front of these. Nothing that the stack noted about it stays but the socket that is
 * charged for it. False, and nothing has changed, if the bytes are not its alone or not in one
 * piece, or if there is no room.
 */
bool ovpn_shim_skb_claim(struct sk_buff *skb, unsigned int before, unsigned int headroom)
{
	u16 alloc_cpu = skb->alloc_cpu;

	if (skb_is_nonlinear(skb) || skb_cloned(skb) || skb_headroom(skb) < before + headroom)
		return false;
	if (skb->ip_summed == CHECKSUM_PARTIAL) {
		int start = skb_checksum_start_offset(skb);
		__sum16 *sum = (__sum16 *)(skb->data + start + skb->csum_offset);

		if (start < 0 || start + skb->csum_offset + sizeof(*sum) > skb->len)
			return false;
		put_unaligned(csum_fold(csum_partial(skb->data + start, skb->len - start, 0)) ?:
			      CSUM_MANGLED_0, sum);
	}
	memset(&skb->headers, 0, sizeof(skb->headers));
	skb->alloc_cpu = alloc_cpu;
	skb->queue_mapping = 0;
	skb_metadata_clear(skb);
	skb_clear_tstamp(skb);
	/* who sent it learns when it was sent, not what became of it */
	skb_shinfo(skb)->tx_flags = 0;
	__skb_push(skb, before);
	return true;
}

unsigned int ovpn_shim_skb_nr_frags(const struct sk_buff *skb)
{
	return skb_shinfo(skb)->nr_frags;
}

/* Null for what the CPU can not read where it is. */
const u8 *ovpn_shim_skb_frag(const struct sk_buff *skb, unsigned int i, u32 *len)
{
	const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];

	*len = skb_frag_size(frag);
	if (!skb_frags_readable(skb) || PageHighMem(skb_frag_page(frag)))
		return NULL;
	return skb_frag_address(frag);
}

const struct sk_buff *ovpn_shim_skb_frag_list(const struct sk_buff *skb)
{
	return skb_shinfo(skb)->frag_list;
}

u16 ovpn_shim_skb_protocol(const struct sk_buff *skb)
{
	return ntohs(skb->protocol);
}

u32 ovpn_shim_skb_mark(const struct sk_buff *skb)
{
	return skb->mark;
}

void ovpn_shim_skb_udp_addresses(const struct sk_buff *skb,
				 struct ovpn_udp_addresses *addresses)
{
	addresses->port = udp_hdr(skb)->source;
	addresses->scope_id = 0;
	if (skb->protocol == htons(ETH_P_IP)) {
		addresses->version = 4;
		memcpy(addresses->source, &ip_hdr(skb)->saddr, 4);
		memcpy(addresses->destination, &ip_hdr(skb)->daddr, 4);
	} else if (skb->protocol == htons(ETH_P_IPV6)) {
		addresses->version = 6;
		memcpy(addresses->source, &ipv6_hdr(skb)->saddr, 16);
		memcpy(addresses->destination, &ipv6_hdr(skb)->daddr, 16);
		addresses->scope_id = ipv6_iface_scope_id(&ipv6_hdr(skb)->saddr,
							  skb->skb_iif);
	} else {
		addresses->version = 0;
	}
}

void ovpn_shim_skb_prepare_encap(struct sk_buff *skb, u32 mark)
{
	/* with a device, the tunnel helpers would count into its statistics */
	skb->dev = NULL;
	skb->mark = mark;
	if (!skb_is_gso(skb))
		skb->ip_summed = CHECKSUM_NONE;
	skb->ignore_df = 1;
}

/*
 * Moves the charge of a sender's packet from one buffer to another. That can be done where
 * the destructor takes the buffer's truesize off sk_wmem_alloc: sock_wfree(), and TCP's
 * own, which is not exported but is what is left when the others are excluded.
 */
void ovpn_shim_skb_take_owner(struct sk_buff *skb, struct sk_buff *from)
{
	void (*destructor)(struct sk_buff *skb) = from->destructor;
	struct sock *sk = from->sk;
	int delta;

	if (!sk || !destructor || !sk_fullsock(sk))
		return;
	if (destructor != sock_wfree &&
	    (!sk_is_tcp(sk) || destructor == sock_efree ||
	     destructor == sock_edemux || destructor == sock_pfree ||
	     destructor == sock_rfree))
		return;

	delta = skb->truesize - from->truesize;
	if (delta > 0)
		refcount_add(delta, &sk->sk_wmem_alloc);
	else if (delta < 0)
		WARN_ON_ONCE(refcount_sub_and_test(-delta, &sk->sk_wmem_alloc));
	skb->sk = sk;
	skb->destructor = destructor;
	from->sk = NULL;
	from->destructor = NULL;
}

/*
 * Whether nobody is charged for this buffer, or somebody who could as well be for another one, with
 * ovpn_shim_skb_take_owner(). TCP paces its packets by when each is freed.
 */
bool ovpn_shim_skb_owner_is_free(const struct sk_buff *skb)
{
	return skb->sk ? skb->destructor == sock_wfree : !skb->destructor;
}

void ovpn_shim_skb_prepare_decap(struct sk_buff *skb, struct net_device *dev,
				 __be16 protocol)
{
	skb_gso_reset(skb);
	/* the tag vouches for every byte, of all headers */
	skb->ip_summed = CHECKSUM_UNNECESSARY;
	skb->csum_level = ~0;
	skb_clear_hash(skb);
	skb->dev = dev;
	skb->pkt_type = PACKET_HOST;
	skb->protocol = protocol;
	skb_set_queue_mapping(skb, 0);
	skb_scrub_packet(skb, true);
	skb_reset_mac_header(skb);
	skb_reset_network_header(skb);
	skb_reset_transport_header(skb);
	skb_reset_inner_headers(skb);
}

static bool ovpn_socket_joins(const struct sk_buff *skb, const struct sock *sk)
{
	if (skb->dev->features & NETIF_F_GRO_FRAGLIST)
		return true;
	if (!sk)
		return skb->dev->features & NETIF_F_GRO_UDP_FWD;
	return udp_test_bit(GRO_ENABLED, sk) || READ_ONCE(udp_sk(sk)->gro_receive);
}

/*
 * Whether generic receive offload could join this packet with others. Of UDP it asks the socket: so
 * does this, in the same way, which makes it the same for all packets of a flow.
 */
bool ovpn_shim_skb_may_be_joined(struct sk_buff *skb)
{
	const struct net *net = dev_net(skb->dev);
	const struct udphdr *udp;
	int iif, sdif;

	if (skb->protocol == htons(ETH_P_IP)) {
		const struct iphdr *ip = ip_hdr(skb);

		if (ip->protocol == IPPROTO_ICMP)
			return false;
		if (ip->protocol != IPPROTO_UDP || ip->ihl != sizeof(*ip) / 4)
			return true;
		if (ip_is_fragment(ip) || !pskb_may_pull(skb, sizeof(*ip) + sizeof(*udp)))
			return false;
		ip = ip_hdr(skb);
		udp = (const struct udphdr *)(ip + 1);
		inet_get_iif_sdif(skb, &iif, &sdif);
		return ovpn_socket_joins(skb, __udp4_lib_lookup(net, ip->saddr, udp->source,
								ip->daddr, udp->dest, iif,
								sdif, NULL));
	}
#if IS_ENABLED(CONFIG_IPV6)
	if (skb->protocol == htons(ETH_P_IPV6)) {
		const struct ipv6hdr *ip = ipv6_hdr(skb);

		if (ip->nexthdr == IPPROTO_ICMPV6)
			return false;
		if (ip->nexthdr != IPPROTO_UDP)
			return true;
		if (!pskb_may_pull(skb, sizeof(*ip) + sizeof(*udp)))
			return false;
		ip = ipv6_hdr(skb);
		udp = (const struct udphdr *)(ip + 1);
		inet6_get_iif_sdif(skb, &iif, &sdif);
		return ovpn_socket_joins(skb, __udp6_lib_lookup(net, &ip->saddr, udp->source,
								&ip->daddr, udp->dest, iif,
								sdif, NULL));
	}
#endif
	return true;
}

struct sk_buff *ovpn_shim_skb_segment(struct sk_buff *skb)
{
	return skb_gso_segment(skb, 0);
}

void ovpn_shim_skb_queue_init(struct sk_buff_head *queue)
{
	skb_queue_head_init(queue);
}
