package doctor

import (
	"fmt"
	"strconv"
	"strings"
)

// mangles says whether a kernel is known to mangle trains of equal datagrams
// (UDP GSO), which no probe shows for certain: 7.0.0 to 7.1.4.
func mangles(release string) bool {
	var v [3]int
	for i, part := range strings.SplitN(release, ".", 3) {
		digits := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if digits >= 0 {
			part = part[:digits]
		}
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		v[i] = n
	}
	return v[0] == 7 && (v[1] == 0 || v[1] == 1 && v[2] <= 4)
}

// judgeConntrack says whether there is room in the table of connections; the text
// is empty where there is no table.
func judgeConntrack(count, most int) (s State, command, text string) {
	switch {
	case most == 0:
		return OK, "", ""
	case count >= most-most/10:
		return Warn, fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 2*most),
			fmt.Sprintf("the table of connections has %d of %d entries: when it is full, new flows are dropped", count, most)
	}
	return OK, "", fmt.Sprintf("the table of connections has room: %d of %d", count, most)
}

// judgeChecksums compares the kernel's counters before and after the examination.
func judgeChecksums(before, now counts) (s State, command, text string) {
	const mend = "ethtool -K <device of the sender> tx-checksum-ip-generic off"
	switch {
	case now.checksum > before.checksum:
		return Fail, mend, fmt.Sprintf("%d UDP datagrams came with a wrong checksum just now, and were dropped: an offload of the sender, or of a NAT on the way, does not complete them", now.checksum-before.checksum)
	case now.checksum > 10 && now.checksum*1000 > now.received:
		return Warn, mend, fmt.Sprintf("%d UDP datagrams came with a wrong checksum since this network namespace began, and were dropped, beside %d good ones: an offload of the sender, or of a NAT on the way, does not complete them", now.checksum, now.received)
	case now.checksum > 0:
		return OK, "", fmt.Sprintf("UDP checksums that arrive are right, but for %d of %d", now.checksum, now.checksum+now.received)
	}
	return OK, "", "all UDP checksums that arrived were right"
}
