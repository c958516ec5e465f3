/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen can not express: macros, and the members of struct sk_buff and struct
 * net_device that stand in unnamed unions or bit-fields, whose Rust names would change
 * with the kernel's configuration. Each does one thing, without policy.
 */
#ifndef _OVPN_DCO_SHIMS_H
#define _OVPN_DCO_SHIMS_H

#include <linux/netdevice.h>
#include <linux/poll.h>
#include <linux/rhashtable-types.h>
#include <linux/skbuff.h>
#include <linux/workqueue.h>

struct aead_request;
struct crypto_aead;
struct ethtool_drvinfo;
struct ethtool_link_ksettings;
struct nf_hook_state;
struct page_pool;
struct scatterlist;
struct sock;
struct strparser;
struct udp_tunnel_sock_cfg;

void ovpn_shim_init_rcu_work(struct rcu_work *work, work_func_t func);
void ovpn_shim_init_delayed_work(struct delayed_work *work, work_func_t func,
				 struct lock_class_key *class);

int ovpn_shim_rhltable_init(struct rhltable *table,
			    const struct rhashtable_params *params);

void ovpn_shim_netdev_setup(struct net_device *dev, unsigned int mtu,
			    unsigned int max_mtu, unsigned int headroom,
			    unsigned int gso_max);
void ovpn_shim_netdev_no_redirects(struct net_device *dev);
void ovpn_shim_netdev_count_rx(struct net_device *dev, unsigned int packets,
			       unsigned int bytes);
void ovpn_shim_netdev_count_tx(struct net_device *dev, unsigned int packets,
			       unsigned int bytes);
void ovpn_shim_netdev_count_dropped(struct net_device *dev, unsigned int rx,
				    unsigned int tx);
unsigned int ovpn_shim_skb_segments(const struct sk_buff *skb);
void ovpn_shim_set_drvinfo(struct ethtool_drvinfo *info, const char *driver,
			   const char *version);
int ovpn_shim_get_link_ksettings(struct net_device *dev,
				 struct ethtool_link_ksettings *settings);

/* Where a UDP packet came from and went to; version is 4, 6, or 0 for neither. */
struct ovpn_udp_addresses {
	u8 version;
	u8 source[16];
	u8 destination[16];
	__be16 port;
	u32 scope_id;
};

/* Where a packet is, and what to do with it. */
struct ovpn_aead_job {
	u8 *packet;
	u32 len;
	u8 *to;
	bool seal;
};

int ovpn_shim_aead_run(struct aead_request *request, struct crypto_aead *tfm, u8 *iv,
		       struct scatterlist *source, struct scatterlist *destination,
		       const struct ovpn_aead_job *job);

struct page_pool *ovpn_shim_page_pool_create(unsigned int order, unsigned int idle);
void ovpn_shim_page_pool_return(struct page *page);
void *ovpn_shim_page_address(struct page *page);

/*
 * How to cut a packet that is several in one: bytes of payload for each (0 if it is not known how),
 * bytes of the headers that each begins with, whether it is UDP (else TCP), whether all
 * keep its IPv4 id, and its CWR.
 */
struct ovpn_gso {
	u32 size;
	u32 headers;
	bool udp;
	bool fixed_id;
	bool keeps_cwr;
};

/* How to mark a packet of joined TCP segments. */
struct ovpn_joined {
	u16 size;
	u16 segments;
	u16 transport_offset;
	bool v6;
	bool fixed_id;
	bool ecn;
};

void ovpn_shim_skb_gso(const struct sk_buff *skb, struct ovpn_gso *gso);
void ovpn_shim_skb_set_udp_gso(struct sk_buff *skb, u16 size, u16 segments);
void ovpn_shim_skb_set_joined(struct sk_buff *skb, const struct ovpn_joined *joined);
bool ovpn_shim_skb_add_area(struct sk_buff *skb, struct page *page, u32 offset,
			    u32 len, u32 truesize);
struct sk_buff *ovpn_shim_skb_in_area(void *start, u32 len);
u32 ovpn_shim_skb_area_overhead(void);
u32 ovpn_shim_skb_copy_and_csum(const struct sk_buff *skb, int offset, u8 *to,
				int len);
int ovpn_shim_skb_copy_complete(struct sk_buff *skb, u8 *to);
bool ovpn_shim_skb_claim(struct sk_buff *skb, unsigned int before, unsigned int headroom);
unsigned int ovpn_shim_skb_nr_frags(const struct sk_buff *skb);
const u8 *ovpn_shim_skb_frag(const struct sk_buff *skb, unsigned int i, u32 *len);
const struct sk_buff *ovpn_shim_skb_frag_list(const struct sk_buff *skb);
struct sock *ovpn_shim_udp_train(struct sk_buff *skb, const struct nf_hook_state *state,
				 u32 *payload, u16 *size);

u16 ovpn_shim_skb_protocol(const struct sk_buff *skb);
u32 ovpn_shim_skb_mark(const struct sk_buff *skb);
void ovpn_shim_skb_udp_addresses(const struct sk_buff *skb,
				 struct ovpn_udp_addresses *addresses);
void ovpn_shim_skb_prepare_encap(struct sk_buff *skb, u32 mark);
void ovpn_shim_skb_prepare_decap(struct sk_buff *skb, struct net_device *dev,
				 __be16 protocol);
bool ovpn_shim_skb_may_be_joined(struct sk_buff *skb);
void ovpn_shim_skb_take_owner(struct sk_buff *skb, struct sk_buff *from);
bool ovpn_shim_skb_owner_is_free(const struct sk_buff *skb);
struct sk_buff *ovpn_shim_skb_segment(struct sk_buff *skb);

int ovpn_shim_sk_state(const struct sock *sk);
u32 ovpn_shim_sk_mark(const struct sock *sk);
int ovpn_shim_sk_protocol(const struct sock *sk);
int ovpn_shim_sk_type(const struct sock *sk);
int ovpn_shim_sk_family(const struct sock *sk);
bool ovpn_shim_sk_no_check_tx(const struct sock *sk, bool v6);
u16 ovpn_shim_sk_port(const struct sock *sk);

int ovpn_shim_sock_error(struct sock *sk);
bool ovpn_shim_sk_is_disconnected(const struct sock *sk);
bool ovpn_shim_sk_is_shut_for_sending(const struct sock *sk);
bool ovpn_shim_tcp_set_nodelay(struct sock *sk, bool on);
bool ovpn_shim_tcp_is_idle(const struct sock *sk);
/* Where the memory of what a process sends on a socket comes from. */
struct ovpn_shim_sk_memory {
	gfp_t allocation;
	bool task_frag;
};

bool ovpn_shim_xmit_is_nested(void);
bool ovpn_shim_sk_trylock(struct sock *sk, struct ovpn_shim_sk_memory *memory);
void ovpn_shim_sk_unlock(struct sock *sk, const struct ovpn_shim_sk_memory *memory);
void ovpn_shim_sk_lock_callbacks(struct sock *sk);
void ovpn_shim_sk_unlock_callbacks(struct sock *sk);
void ovpn_shim_sk_wake_readers(struct sock *sk);
void ovpn_shim_sk_wake_senders(struct sock *sk);
void ovpn_shim_strp_pause(struct strparser *strp);
u32 ovpn_shim_strp_accumulated(const struct sk_buff *head);
void ovpn_shim_strp_finish_work(struct strparser *strp);
bool ovpn_shim_tcp_unread(struct sock *sk, struct sk_buff *skb);
int ovpn_shim_tcp_send_beyond_limit(struct sock *sk, struct sk_buff *skb, int offset);
void ovpn_shim_skb_queue_init(struct sk_buff_head *queue);

static const unsigned int ovpn_const_HZ = HZ;
static const __poll_t ovpn_const_POLL_IN = (__force __poll_t)(EPOLLIN | EPOLLRDNORM);
static const __poll_t ovpn_const_POLL_OUT = (__force __poll_t)(EPOLLOUT | EPOLLWRNORM);
static const __poll_t ovpn_const_POLL_ENDED = (__force __poll_t)(EPOLLRDHUP | EPOLLHUP | EPOLLERR);

bool ovpn_shim_udp_taken(const struct sock *sk);
void ovpn_shim_udp_attach(struct sock *sk, void *data,
			  int (*receive)(struct sock *sk, struct sk_buff *skb),
			  void (*destroy)(struct sock *sk));
void ovpn_shim_udp_detach(struct sock *sk);
void *ovpn_shim_udp_user_data(const struct sock *sk,
			      int (*receive)(struct sock *sk, struct sk_buff *skb));

struct rtable *ovpn_shim_route4(struct net *net, struct sock *sk, __be32 *saddr,
				__be32 daddr, __be16 sport, __be16 dport, u32 mark);
struct dst_entry *ovpn_shim_route6(struct net *net, struct sock *sk, u8 *saddr,
				   const u8 *daddr, __be16 sport, __be16 dport,
				   u32 mark, u32 scope);
bool ovpn_shim_dst_is_over(const struct dst_entry *dst,
			   const struct net_device *dev);
bool ovpn_shim_nexthop4(struct net_device *dev, const struct dst_entry *dst,
			__be32 address, u32 mark, __be32 *nexthop);
bool ovpn_shim_nexthop6(struct net_device *dev, const struct dst_entry *dst,
			const u8 *address, u32 mark, u8 *nexthop);

#ifdef OVPN_DCO_DEBUG
u32 ovpn_shim_first_packet_id(void);
#endif

#endif
