//go:build ignore

// The two programs of the accelerated data path. They carry what the endpoint
// has decided already: a unicast frame of a station that is known, to or from the
// VTEP that it is known behind. Everything else they leave alone, and it goes on
// to the endpoint's own reader: a program that is in doubt returns TCX_NEXT.
//
// The maps are a cache that the endpoint fills (path_linux.go has their Go
// shapes). The programs write only time stamps and counters.

#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Newer than some distributions' linux/bpf.h.
#define TCX_NEXT (-1)
#define TCX_DROP 2
#define ADJ_ROOM_DECAP_L3_IPV4 (1ULL << 7)
#define ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)

#define AF_INET 2
#define IP_DF 0x4000
#define IP_MF_OR_OFFSET 0x3FFF

#define VXLAN_FLAGS 0x08000000 // the I flag, and no bit that is reserved
#define OUTER (sizeof(struct iphdr) + sizeof(struct udphdr) + VXLAN_LEN + ETH_HLEN)
#define VXLAN_LEN 8

#define SOURCE_PORTS 64       // a power of two
#define WHOLE_LASTS 10000000000ULL // ns
#define BULK_LASTS 20000000 // ns
#define BULK_BYTES 512       // what makes a segment a long one
#define STAMP_EVERY 100000000 // ns between two writes of a station's time stamp

// What is the same for all VNIs.
struct endpoint {
	__be32 local;                       // our VTEP's address
	__be16 port;                        // where we receive
	__u16 source_ports;                 // how many of the following
	__be16 source_port[SOURCE_PORTS];   // where we send from, by flow
	__u32 regroup;                      // our end of the regrouping pair; 0: there is none
	__u32 paused;                       // all goes to the endpoint
};

// One VNI; as long as it is in a map, its frames are ours to carry.
struct overlay {
	__u32 vni;
	__u32 device;  // its TAP
	__u32 flags;   // OVERLAY_...
	__u32 tx_word; // first half of the VXLAN header, in network order
	__u16 mtu;     // of the TAP
	__u8 ttl;      // of the outer header
	__u8 tos[4];   // of the outer header, by the inner ECN field
	__u8 pad[5];
};

enum {
	OVERLAY_TX = 1 << 0,          // may send
	OVERLAY_RX = 1 << 1,          // may receive
	OVERLAY_INHERIT_TTL = 1 << 2, // from the inner header
	OVERLAY_INHERIT_TOS = 1 << 3,
	OVERLAY_DF = 1 << 4,          // set it
	OVERLAY_INHERIT_DF = 1 << 5,
	OVERLAY_SYN = 1 << 6,         // the endpoint wants to see SYNs (MSS)
	OVERLAY_ND = 1 << 7,          // and neighbour discovery
	OVERLAY_USO = 1 << 8,         // the TAP takes UDP superframes
};

// A MAC address in a VNI.
struct station_key {
	__u32 vni;
	__u8 mac[ETH_ALEN];
	__u16 zero;
};

// Where it is.
struct station {
	__be32 vtep;
	__be16 port;
	__u16 zero;
	__u32 peer;     // index into peers and counters
	__be32 tx_vni;  // second half of the VXLAN header
	__u64 seen;     // when it last sent, CLOCK_MONOTONIC ns; 0: not since it was put here
};

// A VTEP in a VNI, and the way there.
struct peer {
	__u32 vni;
	__be32 vtep;
	__u32 device; // of the underlay; 0: no way, or not for us
	__be32 via;   // the neighbour to hand packets to
	__u32 mtu;    // the largest outer IP packet that fits
	__u32 flags;  // PEER_...
	__u32 ttl;    // of the outer header, where the VNI has none
	__u32 pad;
	__u64 bulk;   // when it last sent a long segment of TCP by itself (ns)
	__u64 whole;  // until then (ns) it is one that sends superframes as they are
	__u64 sample; // from then on (ns) the next large frame goes to the endpoint, which finds paths' MTUs
};

enum {
	PEER_SPEAKS = 1 << 0, // its frames are accepted
	PEER_SAMPLE = 1 << 1,
};

struct tally {
	__u64 rx_frames, rx_bytes, rx_last; // rx_last: CLOCK_MONOTONIC ns
	__u64 tx_frames, tx_bytes;
	__u64 lost; // frames that could not be put back together after a change
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct endpoint);
} settings SEC(".maps");

// By the TAP's index, and by VNI: the same values.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct overlay);
} by_device SEC(".maps"), by_vni SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct station_key);
	__type(value, struct station);
} stations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct peer);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tally);
} counters SEC(".maps");

// The network namespace of the endpoint's sockets; 0 where the kernel does not
// tell programs. A device that was moved to another one is no longer ours: the
// indices of devices mean others there.
const volatile __u64 netns_cookie;

// What matters of an inner frame.
struct inner {
	__u32 headers; // length with the Ethernet header; 0: layer 4 was not read
	__u32 end;     // of the packet, as its IP header says
	__u8 ds, ttl, proto;
	__u8 df, v6, syn, nd;
};

// read_inner reads the headers of an IP packet behind an Ethernet header, in a
// frame of len bytes. It returns 0 for whatever the endpoint had better look at
// itself, such as lengths that contradict each other.
static __always_inline int read_inner(struct inner *in, void *eth, void *end, __u32 len)
{
	__be16 type = ((struct ethhdr *)eth)->h_proto;
	void *l3 = eth + ETH_HLEN, *l4;

	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = l3;
		if (l3 + sizeof(*ip) > end || ip->version != 4 || ip->ihl < 5)
			return 0;
		in->v6 = 0;
		in->ds = ip->tos;
		in->ttl = ip->ttl;
		in->df = (ip->frag_off & bpf_htons(IP_DF)) != 0;
		in->end = ETH_HLEN + bpf_ntohs(ip->tot_len);
		in->proto = ip->protocol;
		if (ip->frag_off & bpf_htons(IP_MF_OR_OFFSET))
			in->proto = 0; // no layer 4 in the most of them
		l4 = l3 + ip->ihl * 4;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = l3;
		if (l3 + sizeof(*ip) > end || ip->version != 6)
			return 0;
		in->v6 = 1;
		in->ds = ip->priority << 4 | ip->flow_lbl[0] >> 4;
		in->ttl = ip->hop_limit;
		in->df = 1;
		in->end = ETH_HLEN + sizeof(*ip) + bpf_ntohs(ip->payload_len);
		in->proto = ip->nexthdr;
		l4 = l3 + sizeof(*ip);
	} else {
		return 0;
	}

	if (in->end > len || in->end < l4 - eth)
		return 0;
	in->headers = 0;
	in->syn = 0;
	in->nd = 0;
	if (in->proto == IPPROTO_TCP) {
		struct tcphdr *tcp = l4;
		if (l4 + sizeof(*tcp) > end || tcp->doff < 5)
			return 0;
		in->syn = tcp->syn;
		in->headers = l4 - eth + tcp->doff * 4;
	} else if (in->proto == IPPROTO_UDP) {
		if (l4 + sizeof(struct udphdr) > end)
			return 0;
		in->headers = l4 - eth + sizeof(struct udphdr);
	} else if (in->proto == IPPROTO_ICMPV6 && in->v6) {
		if (l4 + 1 > end)
			return 0;
		__u8 kind = *(__u8 *)l4;
		in->nd = kind >= 133 && kind <= 137;
	}
	return in->headers <= in->end;
}

// sizes tells the length of the longest frame that a frame of the device stands
// for, and how many and how many bytes they are.
static __always_inline int sizes(struct __sk_buff *skb, struct inner *in, __u32 len, __u32 *longest, __u32 *frames, __u32 *bytes)
{
	__u32 segment = skb->gso_size;
	*longest = *bytes = len;
	*frames = 1;
	if (segment == 0)
		return 1;
	if (in->headers == 0 || len <= in->headers)
		return 0;
	__u32 n = skb->gso_segs;
	if (n == 0)
		n = (len - in->headers + segment - 1) / segment;
	*longest = in->headers + segment;
	*frames = n;
	*bytes = len + (n - 1) * in->headers;
	return 1;
}

static __always_inline int group_mac(const __u8 *mac) { return mac[0] & 1; }

// ip_sum is the sum of an IPv4 header of 20 bytes, folded: 0xFFFF when its
// checksum is right.
static __always_inline __u32 ip_sum(void *header)
{
	__u16 *words = header;
	__u32 sum = 0;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xFFFF) + (sum >> 16);
	return (sum & 0xFFFF) + (sum >> 16);
}

// encapsulate takes frames that leave the TAP.
SEC("tcx/egress")
int encapsulate(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr eth;
	if (data + sizeof(eth) > end || skb->vlan_present)
		return TCX_NEXT;
	__builtin_memcpy(&eth, data, sizeof(eth));
	if (group_mac(eth.h_dest))
		return TCX_NEXT;

	__u32 index = skb->ifindex, zero = 0;
	struct overlay *o = bpf_map_lookup_elem(&by_device, &index);
	if (!o || !(o->flags & OVERLAY_TX))
		return TCX_NEXT;
	if (netns_cookie && bpf_get_netns_cookie(skb) != netns_cookie)
		return TCX_NEXT;
	struct station_key key = {.vni = o->vni};
	__builtin_memcpy(key.mac, eth.h_dest, ETH_ALEN);
	struct station *st = bpf_map_lookup_elem(&stations, &key);
	if (!st)
		return TCX_NEXT;
	index = st->peer;
	struct peer *p = bpf_map_lookup_elem(&peers, &index);
	if (!p || p->vtep != st->vtep || p->vni != o->vni || p->device == 0)
		return TCX_NEXT;
	struct endpoint *s = bpf_map_lookup_elem(&settings, &zero);
	if (!s || s->paused)
		return TCX_NEXT;

	struct inner in;
	__u32 longest, frames, bytes;
	if (!read_inner(&in, data, end, skb->len) || !sizes(skb, &in, skb->len, &longest, &frames, &bytes))
		return TCX_NEXT;
	if (in.syn && (o->flags & OVERLAY_SYN) || in.nd && (o->flags & OVERLAY_ND))
		return TCX_NEXT;
	// Where the TAP takes none, their checksum is not as segmentation behind a
	// tunnel header wants it (udp_send_skb leaves it half done, and not marked so).
	if (skb->gso_size && in.proto != IPPROTO_TCP && !(o->flags & OVERLAY_USO))
		return TCX_NEXT;
	longest += OUTER - ETH_HLEN;
	if (longest > p->mtu || skb->len + OUTER - ETH_HLEN > 0xFFFF)
		return TCX_NEXT;
	if (p->flags & PEER_SAMPLE && longest > 552) {
		__u64 now = bpf_ktime_get_coarse_ns();
		if (now >= p->sample) {
			p->sample = now + 10000000000ULL;
			return TCX_NEXT;
		}
	}

	__u32 hash = bpf_get_hash_recalc(skb);
	__u32 slot = (__u64)hash * s->source_ports >> 32;
	struct {
		struct iphdr ip;
		struct udphdr udp;
		__be32 vxlan[2];
		struct ethhdr eth;
	} __attribute__((packed)) h = {
		.ip = {.version = 4, .ihl = 5, .ttl = o->ttl ? o->ttl : p->ttl, .protocol = IPPROTO_UDP, .saddr = s->local, .daddr = p->vtep},
		.udp = {.source = s->source_port[slot & (SOURCE_PORTS - 1)], .dest = st->port},
		.vxlan = {o->tx_word, st->tx_vni},
	};
	__u16 len = skb->len + OUTER - ETH_HLEN;
	h.ip.tot_len = bpf_htons(len);
	h.udp.len = bpf_htons(len - sizeof(struct iphdr));
	h.ip.tos = o->tos[in.ds & 3];
	if (o->flags & OVERLAY_INHERIT_TOS)
		h.ip.tos |= in.ds & ~3;
	if (o->flags & OVERLAY_INHERIT_TTL)
		h.ip.ttl = in.ttl;
	if (o->flags & OVERLAY_DF || o->flags & OVERLAY_INHERIT_DF && in.df)
		h.ip.frag_off = bpf_htons(IP_DF);
	else
		h.ip.id = bpf_get_prandom_u32(); // routers may take it apart
	h.ip.check = ~ip_sum(&h.ip);
	h.eth = eth;
	// The L2 length of the inner frame is that of its Ethernet header alone:
	// with the VXLAN header counted in, superframes are lost in segmentation.
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
		      BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN);
	if (bpf_skb_adjust_room(skb, OUTER, BPF_ADJ_ROOM_MAC, flags))
		return TCX_NEXT;
	struct tally *c = bpf_map_lookup_elem(&counters, &index);
	struct bpf_redir_neigh next = {.nh_family = AF_INET, .ipv4_nh = p->via};
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + ETH_HLEN + sizeof(h) > end) {
		if (c)
			c->lost += frames;
		return TCX_DROP;
	}
	((struct ethhdr *)data)->h_proto = bpf_htons(ETH_P_IP);
	__builtin_memcpy(data + ETH_HLEN, &h, sizeof(h));
	if (c) {
		c->tx_frames += frames;
		c->tx_bytes += bytes;
	}
	return bpf_redirect_neigh(p->device, &next, sizeof(next), 0);
}

// The headers that decapsulate reads: to the end of the inner IPv6 header.
struct received {
	struct ethhdr outer_eth;
	struct iphdr ip;
	struct udphdr udp;
	__be32 vxlan[2];
	struct ethhdr eth;
} __attribute__((packed));

// mark carries a congestion mark of the underlay inwards: CE, to a flow that can
// hear it. Other combinations are the endpoint's.
static __always_inline int mark(struct received *r, struct inner *in, void *end)
{
	__u8 outer = r->ip.tos & 3, inner = in->ds & 3;
	if (outer == 0 || outer == inner)
		return 1;
	if (outer != 3 || inner == 0)
		return 0;
	void *l3 = r + 1;
	if (in->v6) {
		struct ipv6hdr *ip = l3;
		if (l3 + sizeof(*ip) > end)
			return 0;
		ip->flow_lbl[0] |= 3 << 4;
		return 1;
	}
	struct iphdr *ip = l3;
	if (l3 + sizeof(*ip) > end)
		return 0;
	// RFC 1624: the second byte of the header grew by 3 - inner.
	__u32 sum = bpf_ntohs(ip->check) + 0xFFFF - (3 - inner);
	sum = (sum & 0xFFFF) + (sum >> 16);
	ip->check = bpf_htons((sum & 0xFFFF) + (sum >> 16));
	ip->tos |= 3;
	return 1;
}

// decapsulate takes packets that arrive on the underlay.
SEC("tcx/ingress")
int decapsulate(struct __sk_buff *skb)
{
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present)
		return TCX_NEXT;
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct received *r = data;
	__u32 zero = 0;
	if ((void *)(r + 1) > end) {
		// Drivers may leave all of a packet in pages.
		if (skb->len < sizeof(*r) + sizeof(struct iphdr) || bpf_skb_pull_data(skb, sizeof(*r) + sizeof(struct iphdr)))
			return TCX_NEXT;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		r = data;
		if ((void *)(r + 1) > end)
			return TCX_NEXT;
	}
	if (r->ip.protocol != IPPROTO_UDP || r->ip.ihl != 5 || r->ip.frag_off & bpf_htons(IP_MF_OR_OFFSET))
		return TCX_NEXT;
	struct endpoint *s = bpf_map_lookup_elem(&settings, &zero);
	if (!s || s->paused || r->udp.dest != s->port || r->ip.daddr != s->local)
		return TCX_NEXT;
	if (r->vxlan[0] != bpf_htonl(VXLAN_FLAGS) || r->vxlan[1] & bpf_htonl(0xFF))
		return TCX_NEXT;
	// The length is what it says, without padding; so is the header's sum.
	__u32 len = skb->len - ETH_HLEN;
	if (bpf_ntohs(r->ip.tot_len) != len || bpf_ntohs(r->udp.len) != len - sizeof(struct iphdr) || r->ip.version != 4 || ip_sum(&r->ip) != 0xFFFF)
		return TCX_NEXT;
	// A checksum is the device's to verify: here it would cost a pass.
	if (r->udp.check && bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY) < 0)
		return TCX_NEXT;

	__u32 vni = bpf_ntohl(r->vxlan[1]) >> 8;
	struct overlay *o = bpf_map_lookup_elem(&by_vni, &vni);
	if (!o || !(o->flags & OVERLAY_RX) || group_mac(r->eth.h_dest))
		return TCX_NEXT;
	struct station_key key = {.vni = vni};
	__builtin_memcpy(key.mac, r->eth.h_source, ETH_ALEN);
	struct station *st = bpf_map_lookup_elem(&stations, &key);
	if (!st || st->vtep != r->ip.saddr)
		return TCX_NEXT;
	__u32 index = st->peer;
	struct peer *p = bpf_map_lookup_elem(&peers, &index);
	if (!p || p->vtep != st->vtep || p->vni != vni || !(p->flags & PEER_SPEAKS))
		return TCX_NEXT;
	// From elsewhere than by where we send to it: routing judges that (rp_filter).
	if (p->device != skb->ifindex)
		return TCX_NEXT;

	struct inner in;
	__u32 longest, frames, bytes;
	if (!read_inner(&in, &r->eth, end, skb->len - OUTER)) {
		if (data + 160 <= end || bpf_skb_pull_data(skb, skb->len < 160 ? skb->len : 160))
			return TCX_NEXT;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		r = data;
		if ((void *)(r + 1) > end || !read_inner(&in, &r->eth, end, skb->len - OUTER))
			return TCX_NEXT;
	}
	if (!sizes(skb, &in, skb->len - OUTER, &longest, &frames, &bytes))
		return TCX_NEXT;
	if (in.syn && (o->flags & OVERLAY_SYN) || in.nd && (o->flags & OVERLAY_ND))
		return TCX_NEXT;
	if (longest > o->mtu + ETH_HLEN)
		return TCX_NEXT;
	if (skb->gso_size) {
		// A superframe, or a train of datagrams? That of a flow of TCP ends where
		// its IP header says, and no VXLAN header follows after one segment.
		__be32 second[2];
		if (in.proto != IPPROTO_TCP || in.end != skb->len - OUTER)
			return TCX_NEXT;
		if (bpf_skb_load_bytes(skb, offsetof(struct received, vxlan) + skb->gso_size, second, sizeof(second)) == 0 &&
		    second[0] == bpf_htonl(VXLAN_FLAGS) && !(second[1] & bpf_htonl(0xFF)))
			return TCX_NEXT;
	}
	if (!mark(r, &in, end))
		return TCX_NEXT;

	__u64 now = bpf_ktime_get_coarse_ns();
	if (now - st->seen > STAMP_EVERY)
		st->seen = now;
	int regroup = in.proto == IPPROTO_TCP && !skb->gso_size && s->regroup && now > p->whole;
	if (skb->gso_size && p->whole < now + WHOLE_LASTS / 2)
		p->whole = now + WHOLE_LASTS;
	if (regroup) {
		// Short segments gain nothing, unless they would overtake long ones.
		if (bytes >= BULK_BYTES)
			p->bulk = now;
		else
			regroup = now - p->bulk < BULK_LASTS;
	}
	__u32 flow = bpf_ntohs(r->udp.source) & 7;
	struct ethhdr eth = r->eth;
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | (in.v6 ? ADJ_ROOM_DECAP_L3_IPV6 : ADJ_ROOM_DECAP_L3_IPV4);
	if (bpf_skb_adjust_room(skb, -(__s32)OUTER, BPF_ADJ_ROOM_MAC, flags))
		return TCX_NEXT;
	struct tally *c = bpf_map_lookup_elem(&counters, &index);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + sizeof(eth) > end) {
		if (c)
			c->lost += frames;
		return TCX_DROP;
	}
	__builtin_memcpy(data, &eth, sizeof(eth));
	if (c) {
		c->rx_frames += frames;
		c->rx_bytes += bytes;
		c->rx_last = now;
	}
	if (!regroup)
		return bpf_redirect(o->device, BPF_F_INGRESS);
	bpf_set_hash(skb, o->device << 3 | flow);
	skb->queue_mapping = bpf_get_smp_processor_id() + 1;
	return bpf_redirect(s->regroup, 0);
}

// Regrouping. The kernel puts TCP segments together (GRO) where a device hands
// them over, which for ours is the underlay: there they are still UDP datagrams.
// So they go through a pair of veth devices, the far end of which does GRO, and
// come back. The far end is in a network namespace of its own, with which the
// pair ends when the process does. On the way there is room for 32 bits, in the
// hash, and GRO keeps apart what differs in it: the TAP, and three bits of the
// flow to choose one of its lists.

// regrouped is at the far end.
SEC("tcx/ingress")
int regrouped(struct __sk_buff *skb) { return bpf_redirect_peer(skb->ifindex, 0); }

// deliver is at our end, where they come back.
SEC("tcx/ingress")
int deliver(struct __sk_buff *skb)
{
	__u32 device = skb->hash >> 3;
	if (!bpf_map_lookup_elem(&by_device, &device))
		return TCX_DROP;
	bpf_set_hash_invalid(skb);
	return bpf_redirect(device, BPF_F_INGRESS);
}

char __license[] SEC("license") = "Apache-2.0";
