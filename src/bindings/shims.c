// SPDX-License-Identifier: GPL-2.0
/* Work, tables, devices, AEADs. See shims.h. */

#include <crypto/aead.h>
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/inetdevice.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netdevice.h>
#include <linux/rhashtable.h>
#include <linux/scatterlist.h>
#include <linux/workqueue.h>
#include <net/ip.h>

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
