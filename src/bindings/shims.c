// SPDX-License-Identifier: GPL-2.0
/* See shims.h. */

#include <crypto/aead.h>
#include <linux/ethtool.h>
#include <linux/inetdevice.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netfilter.h>
#include <linux/scatterlist.h>
#include <net/addrconf.h>
#include <net/gso.h>
#include <net/inet_sock.h>
#include <net/ip6_route.h>
#include <net/ip_tunnels.h>
#include <net/ipv6.h>
#include <net/l3mdev.h>
#include <net/route.h>
#include <net/sock.h>
#include <net/strparser.h>
#include <net/tcp.h>
#include <net/udp.h>
#include <net/udp_tunnel.h>
#include <net/xfrm.h>

#include "shims.h"

void ovpn_shim_init_rcu_work(struct rcu_work *work, work_func_t func)
{
	INIT_RCU_WORK(work, func);
}

/*
 * As INIT_DELAYED_WORK(), which would have one lock class for all work that comes this way: then
 * lockdep would take what waits for one kind for waiting for any.
 */
void ovpn_shim_init_delayed_work(struct delayed_work *work, work_func_t func,
				 struct lock_class_key *class)
{
	__INIT_WORK_KEY(&work->work, func, 0, class);
	__timer_init(&work->timer, delayed_work_timer_fn, TIMER_IRQSAFE);
}

int ovpn_shim_rhltable_init(struct rhltable *table,
			    const struct rhashtable_params *params)
{
	return rhltable_init(table, params);
}

void ovpn_shim_netdev_setup(struct net_device *dev, unsigned int mtu,
			    unsigned int max_mtu, unsigned int headroom,
			    unsigned int gso_max)
{
	netdev_features_t features = NETIF_F_SG | NETIF_F_HW_CSUM |
				     NETIF_F_RXCSUM | NETIF_F_GSO |
				     NETIF_F_GSO_SOFTWARE;

	/* what is in high memory comes copied: it is read where it is */
	if (!IS_ENABLED(CONFIG_HIGHMEM))
		features |= NETIF_F_HIGHDMA;
	dev->needs_free_netdev = true;
	dev->pcpu_stat_type = NETDEV_PCPU_STAT_DSTATS;
	dev->type = ARPHRD_NONE;
	dev->flags = IFF_POINTOPOINT | IFF_NOARP | IFF_MULTICAST;
	dev->priv_flags |= IFF_NO_QUEUE;
	dev->lltx = true;
	dev->hard_header_len = 0;
	dev->addr_len = 0;
	dev->mtu = mtu;
	dev->min_mtu = IPV4_MIN_MTU;
	dev->max_mtu = max_mtu;
	dev->needed_headroom = headroom;
	dev->features |= features;
	dev->hw_features |= features;
	dev->hw_enc_features |= features;
	netif_set_tso_max_size(dev, gso_max);
	/* the route that brought a packet here names the next hop */
	netif_keep_dst(dev);
}

void ovpn_shim_netdev_no_redirects(struct net_device *dev)
{
	struct in_device *in_dev = __in_dev_get_rtnl(dev);

	if (in_dev) {
		IN_DEV_CONF_SET(in_dev, SEND_REDIRECTS, false);
		IPV4_DEVCONF_ALL(dev_net(dev), SEND_REDIRECTS) = false;
	}
}

void ovpn_shim_netdev_count_rx(struct net_device *dev, unsigned int packets,
			       unsigned int bytes)
{
	struct pcpu_dstats *stats = this_cpu_ptr(dev->dstats);

	u64_stats_update_begin(&stats->syncp);
	u64_stats_add(&stats->rx_packets, packets);
	u64_stats_add(&stats->rx_bytes, bytes);
	u64_stats_update_end(&stats->syncp);
}

void ovpn_shim_netdev_count_tx(struct net_device *dev, unsigned int packets,
			       unsigned int bytes)
{
	struct pcpu_dstats *stats = this_cpu_ptr(dev->dstats);

	u64_stats_update_begin(&stats->syncp);
	u64_stats_add(&stats->tx_packets, packets);
	u64_stats_add(&stats->tx_bytes, bytes);
	u64_stats_update_end(&stats->syncp);
}

void ovpn_shim_netdev_count_dropped(struct net_device *dev, unsigned int rx,
				    unsigned int tx)
{
	struct pcpu_dstats *stats = this_cpu_ptr(dev->dstats);

	u64_stats_update_begin(&stats->syncp);
	u64_stats_add(&stats->rx_drops, rx);
	u64_stats_add(&stats->tx_drops, tx);
	u64_stats_update_end(&stats->syncp);
}

void ovpn_shim_set_drvinfo(struct ethtool_drvinfo *info, const char *driver,
			   const char *version)
{
	strscpy(info->driver, driver, sizeof(info->driver));
	strscpy(info->version, version, sizeof(info->version));
	/* what the C module has always said */
	strscpy(info->bus_info, "ovpn", sizeof(info->bus_info));
}

/* A tunnel has no speed. Some programs want one, and the C module has always named this. */
int ovpn_shim_get_link_ksettings(struct net_device *dev,
				 struct ethtool_link_ksettings *settings)
{
	settings->base.speed = SPEED_1000;
	settings->base.duplex = DUPLEX_FULL;
	settings->base.autoneg = AUTONEG_DISABLE;
	settings->base.port = PORT_TP;
	settings->base.transceiver = XCVR_INTERNAL;
	return 0;
}

enum { OVPN_AAD_LEN = 8, OVPN_TAG_LEN = 16, OVPN_HEAD_LEN = OVPN_AAD_LEN + OVPN_TAG_LEN };

/*
 * Seals or opens a packet of associated data, tag and `len` bytes of body, where it is or
 * to `to`. One call, for it is made for each packet.
 */
int ovpn_shim_aead_run(struct aead_request *request, struct crypto_aead *tfm, u8 *iv,
		       struct scatterlist *source, struct scatterlist *destination,
		       const struct ovpn_aead_job *job)
{
	sg_set_buf(&source[0], job->packet, OVPN_AAD_LEN);
	sg_set_buf(&source[1], job->packet + OVPN_HEAD_LEN, job->len);
	sg_set_buf(&source[2], job->packet + OVPN_AAD_LEN, OVPN_TAG_LEN);
	if (job->to)
		sg_set_buf(&destination[1], job->to, job->len);
	else
		destination = source;
	aead_request_set_tfm(request, tfm);
	aead_request_set_callback(request, 0, NULL, NULL);
	aead_request_set_ad(request, OVPN_AAD_LEN);
	if (job->seal) {
		aead_request_set_crypt(request, source, destination, job->len, iv);
		return crypto_aead_encrypt(request);
	}
	aead_request_set_crypt(request, source, destination, job->len + OVPN_TAG_LEN, iv);
	return crypto_aead_decrypt(request);
}

static struct sock *ovpn_train_sock4(struct sk_buff *skb, const struct nf_hook_state *state,
				     const struct udphdr *udp)
{
	const struct iphdr *ip = ip_hdr(skb);
	struct sock *sk;

	sk = __udp4_lib_lookup(state->net, ip->saddr, udp->source, ip->daddr, udp->dest,
			       inet_iif(skb), inet_sdif(skb), skb);
	if (sk && !xfrm4_policy_check(sk, XFRM_POLICY_IN, skb))
		return NULL;
	return sk;
}

#if IS_ENABLED(CONFIG_IPV6)
static struct sock *ovpn_train_sock6(struct sk_buff *skb, const struct nf_hook_state *state,
				     const struct udphdr *udp)
{
	const struct ipv6hdr *ip = ipv6_hdr(skb);
	struct sock *sk;

	sk = __udp6_lib_lookup(state->net, &ip->saddr, udp->source, &ip->daddr, udp->dest,
			       inet6_iif(skb), inet6_sdif(skb), skb);
	if (sk && !xfrm6_policy_check(sk, XFRM_POLICY_IN, skb))
		return NULL;
	return sk;
}
#endif

/*
 * The socket that several UDP packets in one are for, found as the UDP layer would find it.
 * Null for all that is not plain: the UDP layer then takes them one by one.
 */
struct sock *ovpn_shim_udp_train(struct sk_buff *skb, const struct nf_hook_state *state,
				 u32 *payload, u16 *size)
{
	struct skb_shared_info *info = skb_shinfo(skb);
	unsigned int offset;
	struct udphdr *udp;

	if (!info->gso_size || info->gso_type != SKB_GSO_UDP_L4 || skb->encapsulation ||
	    (skb->ip_summed != CHECKSUM_PARTIAL && skb->ip_summed != CHECKSUM_UNNECESSARY))
		return NULL;
	if (state->pf == NFPROTO_IPV4)
		offset = ip_hdrlen(skb);
	else if (ipv6_hdr(skb)->nexthdr == IPPROTO_UDP)
		offset = sizeof(struct ipv6hdr);
	else
		return NULL;
	/* what was spliced could change between the check of the tag and the decryption */
	if (skb_has_shared_frag(skb))
		return NULL;
	if (!pskb_may_pull(skb, offset + sizeof(*udp)))
		return NULL;
	udp = (struct udphdr *)(skb->data + offset);
	if (!udp->check)
		return NULL;
	*payload = offset + sizeof(*udp);
	*size = skb_shinfo(skb)->gso_size;
	skb_set_transport_header(skb, offset);
	if (state->pf == NFPROTO_IPV4)
		return ovpn_train_sock4(skb, state, udp);
#if IS_ENABLED(CONFIG_IPV6)
	return ovpn_train_sock6(skb, state, udp);
#else
	return NULL;
#endif
}

int ovpn_shim_sk_state(const struct sock *sk)
{
	return READ_ONCE(sk->sk_state);
}

u32 ovpn_shim_sk_mark(const struct sock *sk)
{
	return READ_ONCE(sk->sk_mark);
}

int ovpn_shim_sk_protocol(const struct sock *sk)
{
	return sk->sk_protocol;
}

int ovpn_shim_sk_type(const struct sock *sk)
{
	return sk->sk_type;
}

int ovpn_shim_sk_family(const struct sock *sk)
{
	return READ_ONCE(sk->sk_family);
}

bool ovpn_shim_sk_no_check_tx(const struct sock *sk, bool v6)
{
	return v6 ? udp_get_no_check6_tx(sk) : sk->sk_no_check_tx;
}

u16 ovpn_shim_sk_port(const struct sock *sk)
{
	return ntohs(READ_ONCE(inet_sk(sk)->inet_sport));
}

int ovpn_shim_sock_error(struct sock *sk)
{
	return sock_error(sk);
}

bool ovpn_shim_sk_is_disconnected(const struct sock *sk)
{
	return READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN ||
	       READ_ONCE(sk->sk_state) == TCP_CLOSE;
}

bool ovpn_shim_sk_is_shut_for_sending(const struct sock *sk)
{
	return READ_ONCE(sk->sk_shutdown) & SEND_SHUTDOWN;
}

/*
 * Whether a small segment goes out while another is on its way. Returns what was before. The
 * socket is locked.
 */
bool ovpn_shim_tcp_set_nodelay(struct sock *sk, bool on)
{
	struct tcp_sock *tp = tcp_sk(sk);
	bool before = tp->nonagle & TCP_NAGLE_OFF;

	if (on)
		tp->nonagle |= TCP_NAGLE_OFF;
	else
		tp->nonagle &= ~TCP_NAGLE_OFF;
	return before;
}

bool ovpn_shim_tcp_is_idle(const struct sock *sk)
{
	return tcp_rtx_and_write_queues_empty(sk);
}

/*
 * With bottom halves disabled: whether a device transmits for another device.
 */
bool ovpn_shim_xmit_is_nested(void)
{
	return dev_recursion_level() > 1;
}

/*
 * With bottom halves disabled: locks the socket as softirq context does, if nobody else has it.
 * Until it is unlocked, what is sent must neither sleep for memory nor take it from the current
 * task, which may be an interrupted one that is just using its own.
 */
bool ovpn_shim_sk_trylock(struct sock *sk, struct ovpn_shim_sk_memory *memory)
{
	if (!spin_trylock(&sk->sk_lock.slock))
		return false;
	if (sock_owned_by_user(sk)) {
		spin_unlock(&sk->sk_lock.slock);
		return false;
	}
	memory->allocation = sk->sk_allocation;
	memory->task_frag = sk->sk_use_task_frag;
	sk->sk_allocation = GFP_ATOMIC;
	sk->sk_use_task_frag = false;
	return true;
}

void ovpn_shim_sk_unlock(struct sock *sk, const struct ovpn_shim_sk_memory *memory)
{
	sk->sk_allocation = memory->allocation;
	sk->sk_use_task_frag = memory->task_frag;
	spin_unlock(&sk->sk_lock.slock);
}

void ovpn_shim_sk_lock_callbacks(struct sock *sk)
{
	write_lock_bh(&sk->sk_callback_lock);
}

void ovpn_shim_sk_unlock_callbacks(struct sock *sk)
{
	write_unlock_bh(&sk->sk_callback_lock);
}

void ovpn_shim_sk_wake_readers(struct sock *sk)
{
	struct socket_wq *wq;

	rcu_read_lock();
	wq = rcu_dereference(sk->sk_wq);
	if (skwq_has_sleeper(wq))
		wake_up_interruptible_all(&wq->wait);
	rcu_read_unlock();
}

void ovpn_shim_sk_wake_senders(struct sock *sk)
{
	struct socket_wq *wq;

	rcu_read_lock();
	wq = rcu_dereference(sk->sk_wq);
	if (skwq_has_sleeper(wq))
		wake_up_interruptible_poll(&wq->wait, EPOLLOUT | EPOLLWRNORM |
					   EPOLLWRBAND);
	rcu_read_unlock();
}

void ovpn_shim_strp_pause(struct strparser *strp)
{
	strp_pause(strp);
}

/* How much of a message that is not complete has come. */
u32 ovpn_shim_strp_accumulated(const struct sk_buff *head)
{
	return ((const struct sk_skb_cb *)head->cb)->strp.accum_len;
}

/* Waits for what the parser has left to its work item. */
void ovpn_shim_strp_finish_work(struct strparser *strp)
{
	flush_work(&strp->work);
}

/*
 * Makes @skb, a copy of the bytes that were last taken out of the stream, what is read from it
 * next. The socket is locked. Takes @skb unless it fails, for lack of memory.
 */
bool ovpn_shim_tcp_unread(struct sock *sk, struct sk_buff *skb)
{
	struct tcp_skb_cb *cb = TCP_SKB_CB(skb);
	struct tcp_sock *tp = tcp_sk(sk);

	if (!sk_rmem_schedule(sk, skb, skb->truesize))
		return false;

	memset(cb, 0, sizeof(*cb));
	cb->end_seq = tp->copied_seq;
	cb->seq = cb->end_seq - skb->len;
	WRITE_ONCE(tp->copied_seq, cb->seq);
	tp->rcvq_space.seq -= skb->len;
	skb_set_owner_r(skb, sk);
	__skb_queue_head(&sk->sk_receive_queue, skb);
	return true;
}

/*
 * Sends the rest of @skb even if the send buffer is full. The socket is locked.
 */
int ovpn_shim_tcp_send_beyond_limit(struct sock *sk, struct sk_buff *skb, int offset)
{
	int sndbuf = READ_ONCE(sk->sk_sndbuf), sent;

	WRITE_ONCE(sk->sk_sndbuf, INT_MAX);
	sent = skb_send_sock_locked(sk, skb, offset, skb->len - offset);
	WRITE_ONCE(sk->sk_sndbuf, sndbuf);
	return sent;
}

void ovpn_shim_udp_attach(struct sock *sk, void *data,
			  int (*receive)(struct sock *sk, struct sk_buff *skb),
			  void (*destroy)(struct sock *sk))
{
	struct udp_tunnel_sock_cfg cfg = {
		.sk_user_data = data,
		.encap_type = UDP_ENCAP_OVPNINUDP,
		.encap_rcv = receive,
		.encap_destroy = destroy,
	};

	setup_udp_tunnel_sock(sock_net(sk), sk, &cfg);
	/* let packets from the link be joined; udp_unexpected_gso() takes apart what we leave */
	udp_set_bit(GRO_ENABLED, sk);
}

void ovpn_shim_udp_detach(struct sock *sk)
{
	/* the daemon's own setsockopt(UDP_GRO) sets both */
	if (!udp_test_bit(ACCEPT_L4, sk))
		udp_clear_bit(GRO_ENABLED, sk);
	/* undo what setup_udp_tunnel_sock() did, in reverse */
	WRITE_ONCE(udp_sk(sk)->encap_type, 0);
	WRITE_ONCE(udp_sk(sk)->encap_rcv, NULL);
	WRITE_ONCE(udp_sk(sk)->encap_destroy, NULL);
	rcu_assign_sk_user_data(sk, NULL);
	inet_dec_convert_csum(sk);
	inet_set_bit(MC_LOOP, sk);
}

/*
 * The user data is ours while the callback is. It is looked at a second time, as the socket
 * may have been given back and taken by somebody else since the first; they store their
 * data after our callback is gone.
 */
void *ovpn_shim_udp_user_data(const struct sock *sk,
			      int (*receive)(struct sock *sk, struct sk_buff *skb))
{
	void *data;

	if (READ_ONCE(udp_sk(sk)->encap_rcv) != receive)
		return NULL;
	data = rcu_dereference_check(__sk_user_data(sk), true);
	data = (void *)((uintptr_t)data & SK_USER_DATA_PTRMASK);
	smp_rmb();
	return READ_ONCE(udp_sk(sk)->encap_rcv) == receive ? data : NULL;
}

bool ovpn_shim_udp_taken(const struct sock *sk)
{
	return READ_ONCE(udp_sk(sk)->encap_type) || rcu_access_pointer(sk->sk_user_data);
}

struct rtable *ovpn_shim_route4(struct net *net, struct sock *sk, __be32 *saddr,
				__be32 daddr, __be16 sport, __be16 dport, u32 mark)
{
	struct flowi4 fl = {
		.saddr = *saddr,
		.daddr = daddr,
		.fl4_sport = sport,
		.fl4_dport = dport,
		.flowi4_proto = IPPROTO_UDP,
		.flowi4_mark = mark,
		.flowi4_oif = READ_ONCE(sk->sk_bound_dev_if),
		.flowi4_uid = sk_uid(sk),
	};
	struct rtable *rt;

	/* an IPv6 socket has an IPv4 address only if it is bound to a mapped one */
	if (!fl.saddr && (sk->sk_family == AF_INET ||
			  ipv6_addr_v4mapped(&inet6_sk(sk)->saddr)))
		fl.saddr = inet_sk(sk)->inet_saddr;
	if (fl.saddr && !inet_confirm_addr(net, NULL, 0, fl.saddr, RT_SCOPE_HOST))
		fl.saddr = 0;
	rt = ip_route_output_flow(net, &fl, sk);
	*saddr = fl.saddr;
	return rt;
}

struct dst_entry *ovpn_shim_route6(struct net *net, struct sock *sk, u8 *saddr,
				   const u8 *daddr, __be16 sport, __be16 dport,
				   u32 mark, u32 scope)
{
	struct flowi6 fl = {
		.fl6_sport = sport,
		.fl6_dport = dport,
		.flowi6_proto = IPPROTO_UDP,
		.flowi6_mark = mark,
		.flowi6_oif = scope ?: READ_ONCE(sk->sk_bound_dev_if),
		.flowi6_uid = sk_uid(sk),
	};
	struct dst_entry *dst;

	memcpy(&fl.saddr, saddr, sizeof(fl.saddr));
	memcpy(&fl.daddr, daddr, sizeof(fl.daddr));
	if (ipv6_addr_any(&fl.saddr))
		fl.saddr = inet6_sk(sk)->saddr;
	rcu_read_lock();
	/* without the device, an address in the VRF that it leads to is not found */
	if (!ipv6_addr_any(&fl.saddr) &&
	    !ipv6_chk_addr(net, &fl.saddr,
			   dev_get_by_index_rcu(net, fl.flowi6_oif), 0))
		fl.saddr = in6addr_any;
	rcu_read_unlock();
	dst = ip6_dst_lookup_flow(net, sk, &fl, NULL);
	memcpy(saddr, &fl.saddr, sizeof(fl.saddr));
	return dst;
}

bool ovpn_shim_dst_is_over(const struct dst_entry *dst,
			   const struct net_device *dev)
{
	return dst->dev == dev;
}

bool ovpn_shim_nexthop4(struct net_device *dev, const struct dst_entry *dst,
			__be32 address, u32 mark, __be32 *nexthop)
{
	const struct rtable *rt;
	struct rtable *own = NULL;

	if (dst && dst->dev == dev) {
		rt = dst_rtable(dst);
	} else {
		struct flowi4 fl = {
			.daddr = address,
			.flowi4_mark = mark,
			.flowi4_l3mdev = l3mdev_master_ifindex_rcu(dev),
		};

		own = ip_route_output_key(dev_net(dev), &fl);
		if (IS_ERR(own))
			return false;
		rt = own;
	}
	if (rt->dst.dev != dev) {
		ip_rt_put(own);
		return false;
	}
	*nexthop = rt->rt_uses_gateway && rt->rt_gw_family == AF_INET ?
			rt->rt_gw4 : address;
	ip_rt_put(own);
	return true;
}

bool ovpn_shim_nexthop6(struct net_device *dev, const struct dst_entry *dst,
			const u8 *address, u32 mark, u8 *nexthop)
{
	struct dst_entry *own = NULL;
	bool ours;

	if (!dst || dst->dev != dev) {
		struct flowi6 fl = {
			.flowi6_mark = mark,
			.flowi6_l3mdev = l3mdev_master_ifindex_rcu(dev),
		};

		memcpy(&fl.daddr, address, sizeof(fl.daddr));
		own = ip6_route_output(dev_net(dev), NULL, &fl);
		dst = own;
	}
	ours = !dst->error && dst->dev == dev;
	if (ours) {
		const struct rt6_info *rt = dst_rt6_info(dst);

		if (rt->rt6i_flags & RTF_GATEWAY)
			memcpy(nexthop, &rt->rt6i_gateway, sizeof(rt->rt6i_gateway));
		else
			memcpy(nexthop, address, sizeof(rt->rt6i_gateway));
	}
	dst_release(own);
	return ours;
}

#ifdef OVPN_DCO_DEBUG
static unsigned int first_packet_id = 1;
module_param(first_packet_id, uint, 0600);
MODULE_PARM_DESC(first_packet_id, "what new keys begin to count their packets with");

u32 ovpn_shim_first_packet_id(void)
{
	return READ_ONCE(first_packet_id);
}
#endif

MODULE_VERSION(OVPN_DCO_VERSION);
