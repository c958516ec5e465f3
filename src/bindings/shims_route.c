// SPDX-License-Identifier: GPL-2.0
/* Routes, of packets outside and inside. See shims.h. */

#include <linux/inetdevice.h>
#include <linux/netdevice.h>
#include <net/addrconf.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/l3mdev.h>
#include <net/route.h>
#include <net/sock.h>

#include "shims.h"

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
