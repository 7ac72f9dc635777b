#!/bin/bash
# Makes the captures in this folder: two hosts as network namespaces, joined by a
# veth pair, with the Linux kernel's vxlan devices on it. Needs root, iproute2,
# ethtool, tcpdump, ping, python3, xxd, hexdump, od, and editcap and tshark (of
# Wireshark). Everything it makes in the system is removed again, also when it
# fails.
#
#   ./make-captures.sh [DIRECTORY]
set -euo pipefail
out=$(realpath "${1:-$(dirname "$0")}")
work=$(mktemp -d)
A=gvx-explain-a-$$
B=gvx-explain-b-$$
pids=()

cleanup() {
	kill "${pids[@]}" 2>/dev/null || true
	ip netns del $A 2>/dev/null || true
	ip netns del $B 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

a() { ip netns exec $A "$@"; }
b() { ip netns exec $B "$@"; }
both() { a "$@"; b "$@"; }

ip netns add $A
ip netns add $B
both sysctl -qw net.ipv6.conf.all.router_solicitations=0 net.ipv6.conf.default.router_solicitations=0 \
	net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.autoconf=0
ip link add ens160 netns $A address 02:42:c0:a8:34:cb type veth peer name ens160 netns $B address 02:42:c0:a8:34:cc
both ip link set lo up
both ip link set ens160 up
a ip addr add 192.168.52.203/24 dev ens160
b ip addr add 192.168.52.204/24 dev ens160
a ip addr add fd00::203/64 dev ens160 nodad
b ip addr add fd00::204/64 dev ens160 nodad

# name, index for addresses, MTU, options of the kernel's device
overlay() {
	local name=$1 i=$2 mtu=$3 from=$4 to=$5
	shift 5
	a ip link add "$name" address "02:42:0a:00:0$i:64" mtu "$mtu" type vxlan local "$from" remote "$to" "$@"
	b ip link add "$name" address "02:42:0a:00:0$i:67" mtu "$mtu" type vxlan local "$to" remote "$from" "$@"
	a ip addr add "10.0.$i.100/24" dev "$name"
	b ip addr add "10.0.$i.103/24" dev "$name"
	a ip addr add "fd01:$i::100/64" dev "$name" nodad
	b ip addr add "fd01:$i::103/64" dev "$name" nodad
	both ip link set "$name" up
}
overlay vx4 1 1450 192.168.52.203 192.168.52.204 id 4097 dstport 4789 srcport 49152 65535 udpcsum
overlay vx6 2 1430 fd00::203 fd00::204 id 16777215 dstport 4789
overlay vxg 3 1450 192.168.52.203 192.168.52.204 id 7 dstport 8472 gbp noudpcsum
# Too large for the underlay on purpose: the kernel fragments the outer packet.
overlay vxbig 4 1500 192.168.52.203 192.168.52.204 id 4100 dstport 4789 srcport 49152 65535 udpcsum

cat >"$work/server.py" <<'PY'
import socket, threading
def tcp(s):
    s.listen()
    while True:
        c, _ = s.accept()
        while c.recv(65536): pass
        c.sendall(b"thank you\n"); c.close()
def udp(s, answer):
    while True:
        d, a = s.recvfrom(4096); s.sendto(answer(d), a)
def dns(d):
    return d[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + d[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\0\1\x67"
for family, every in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    for kind, port, serve in ((socket.SOCK_STREAM, 7000, tcp), (socket.SOCK_DGRAM, 7801, lambda s: udp(s, bytes.upper)), (socket.SOCK_DGRAM, 53, lambda s: udp(s, dns))):
        s = socket.socket(family, kind)
        if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((every, port))
        threading.Thread(target=serve, args=(s,), daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
PY
cat >"$work/client.py" <<'PY'
import socket, sys
addr, what = sys.argv[1], sys.argv[2:]
family = socket.AF_INET6 if ":" in addr else socket.AF_INET
def datagram(port, data, answered=True):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(3); s.connect((addr, port)); s.send(data)
    if answered: s.recv(2000)
def stream(data):
    c = socket.create_connection((addr, 7000)); c.sendall(data); c.shutdown(socket.SHUT_WR)
    while c.recv(100): pass
for w in what:
    if w == "tcp": stream(b"hello over the overlay\n")
    if w == "bulk": stream(b"x" * 6000)
    if w == "udp": datagram(7801, b"ahoy")
    if w == "closed": datagram(7999, b"nobody", False)
    if w == "dns": datagram(53, b"\x30\x39\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1")
    if w == "groups":
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.1.1") + socket.inet_aton(addr))
        t = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        t.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, "ff05::1:1") + socket.if_nametoindex("vx4").to_bytes(4, sys.byteorder))
    if w == "frames":
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("vx4", 0))
        macs = bytes.fromhex("02420a000167" "02420a000164")
        s.send(macs + bytes.fromhex("81006005" "0806" "0001080006040001" "02420a000164" "0a000164" "000000000000" "0a000167") + bytes(14))
        s.send(macs + bytes.fromhex("88b5") + b"an experiment nobody knows")
        s.send(bytes.fromhex("0180c2000000" "02420a000164" "0026" "424203") + bytes(35))
PY
ip netns exec $B python3 "$work/server.py" >"$work/ready" &
pids+=($!)
until grep -qs ready "$work/ready"; do sleep 0.1; done

# capture NAME DEVICE FILTER [options]; then traffic; then stop
capture() {
	local file=$work/$1.pcap device=$2 filter=$3
	shift 3
	ip netns exec $A tcpdump -Z root -i "$device" -U -w "$file" "$@" "$filter" 2>"$work/tcpdump" &
	dump=$!
	pids+=($dump)
	until grep -qs "listening on" "$work/tcpdump"; do sleep 0.1; done
}
stop() {
	sleep 1
	kill -INT $dump
	wait $dump || true
}
ping1() { a ping -q -c 1 -W 3 "$@" >/dev/null; }
client() { a python3 "$work/client.py" "$@"; }
sleep 3 # reports of the devices' own groups pass

scene4() {
	ping1 10.0.1.103
	client 10.0.1.103 tcp udp closed dns
	ping1 fd01:1::103
	client fd01:1::103 tcp udp
}
scene6() {
	ping1 10.0.2.103
	ping1 fd01:2::103
	client 10.0.2.103 tcp
	client fd01:2::103 udp closed
}

capture v4-offload ens160 "udp port 4789 and ip"; scene4; stop
capture v6-offload ens160 "udp port 4789 and ip6"; scene6; stop
capture superframe ens160 "udp port 4789 and ip"; client 10.0.1.103 bulk; stop
capture gbp-8472 ens160 "udp port 8472"; ping1 10.0.3.103; ping1 -m 4660 10.0.3.103; stop
capture sll any "udp port 4789 and ip" -y LINUX_SLL; ping1 10.0.1.103; stop
capture sll2 any "udp port 4789 and ip" -y LINUX_SLL2; ping1 10.0.1.103; stop
capture snap70 ens160 "udp port 4789 and ip" -s 70; ping1 10.0.1.103; stop
capture inner vx4 "icmp"; ping1 10.0.1.103; stop
capture groups ens160 "udp port 4789 and ip"; client 10.0.1.100 groups frames; stop

for n in $A $B; do
	for d in ens160 vx4 vx6 vxbig; do
		ip netns exec $n ethtool -K $d tx off rx off tso off gso off gro off >/dev/null
	done
	ip -n $n neigh flush dev vx4
	ip -n $n neigh flush dev vx6
done
capture v4-wire ens160 "udp port 4789 and ip"; scene4; stop
capture v6-wire ens160 "udp port 4789 and ip6"; scene6; stop
capture fragments ens160 "ip and (udp port 4789 or ip[6:2] & 0x1fff != 0)"; ping1 -s 1472 10.0.4.103; stop

for f in "$work"/*.pcap; do cp "$f" "$out/"; done
for f in "$out"/*.pcap; do
	name=$(basename "$f" .pcap)
	# What tcpdump itself says is the oracle of the one-line summaries. It ends
	# the line at a VXLAN header; an inner frame's line goes behind a bar. Port
	# 8472 it takes for OTV.
	as=()
	if [[ $name == gbp-8472 ]]; then as=(-T vxlan); fi
	tcpdump -nSt "${as[@]}" -r "$f" 2>/dev/null |
		sed -E ':a; /VXLAN, flags [^|]*vni [0-9]+$/ { N; s/\n/ | /; ta }' >"$out/$name.tcpdump"
done
editcap -F pcapng -a 1:'rx vni 4097: flooded' "$work/v4-wire.pcap" "$work/v4-wire.pcapng"
editcap -F pcapng -r "$work/v4-wire.pcapng" "$out/v4-wire.pcapng" 1-4

# Hexdumps of the first packets, as the usual programs print them.
mkdir -p "$out/hex"
editcap -F pcap -r "$work/v4-wire.pcap" "$work/four.pcap" 1-4 5-8
for o in x xx X XX; do
	tcpdump -nt$o -r "$work/four.pcap" >"$out/hex/tcpdump-$o.txt" 2>/dev/null
done
tshark -r "$work/four.pcap" -x >"$out/hex/tshark.txt" 2>/dev/null
editcap -F pcap -r "$work/v4-wire.pcap" "$work/one.pcap" 8
tail -c +41 "$work/one.pcap" >"$work/one.bin" # behind the headers of file and packet
(cd "$work" && xxd one.bin) >"$out/hex/xxd.txt"
xxd -p "$work/one.bin" >"$out/hex/xxd-p.txt"
(cd "$work" && xxd -i one.bin) >"$out/hex/xxd-i.txt"
xxd -d "$work/one.bin" >"$out/hex/xxd-d.txt"
hexdump "$work/one.bin" >"$out/hex/hexdump.txt"
hexdump -C "$work/one.bin" >"$out/hex/hexdump-C.txt"
od -Ax -tx1 "$work/one.bin" >"$out/hex/od-Ax-tx1.txt"
od -tx1 "$work/one.bin" >"$out/hex/od-tx1.txt"
od -x "$work/one.bin" >"$out/hex/od-x.txt"
cp "$work/one.bin" "$out/hex/one.bin"
