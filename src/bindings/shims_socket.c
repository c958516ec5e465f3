// SPDX-License-Identifier: GPL-2.0
/* Sockets of both transports. See shims.h. */

#include <linux/netfilter.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/inet_sock.h>
#include <net/ip.h>
#include <net/ipv6.h>
#include <net/sock.h>
#include <net/strparser.h>
#include <net/tcp.h>
#include <net/udp.h>
#include <net/udp_tunnel.h>
#include <net/xfrm.h>

#include "shims.h"

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
