package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
)

// TestControlAbusedBesideTraffic: whatever clients do to the control socket, TCP
// goes on, and the next client is answered.
func TestControlAbusedBesideTraffic(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "abuse", 2, wiring{})
	a, b := hosts[0], hosts[1]
	at := netip.MustParseAddr("10.0.1.103")
	p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--addr", "10.0.1.100/24")
	up(t, b.Namespace, "--vni", "4097", "--peer", a.ip4.String(), "--addr", at.String()+"/24")

	over := make(chan struct{})
	carried := make(chan error, 1)
	go func() {
		var errs []error
		for n := 0; ; n++ {
			select {
			case <-over:
				if n == 0 {
					errs = append(errs, errors.New("nothing was carried"))
				}
				carried <- errors.Join(errs...)
				return
			default:
				errs = append(errs, transfer(a.Namespace, b.Namespace, at, 4<<20))
			}
		}
	}()

	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", p.control)
		},
	}}
	for range 20 {
		resp, err := client.Post("http://govxlan/v1/fdb", "application/json", bytes.NewReader(bytes.Repeat([]byte("rubbish "), 1<<17)))
		// The server need not read to the end what it has refused.
		if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		if err == nil {
			if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), `{"error":"request: `) {
				t.Errorf("a megabyte of rubbish: %s %s", resp.Status, text)
			}
			resp.Body.Close()
		}
	}
	for i := range 300 {
		conn, err := net.Dial("unix", p.control)
		if errors.Is(err, syscall.EAGAIN) {
			break // the queue of those who wait to be accepted is full
		}
		must(t, err)
		defer conn.Close()
		if i%2 == 0 {
			_, err := io.WriteString(conn, "GET /v1/status HTTP/1.1\r\n")
			must(t, err)
		}
	}
	eventually(t, func() error {
		_, err := control.NewClient(p.control).Status(t.Context())
		return err
	})
	close(over)
	if err := <-carried; err != nil {
		t.Errorf("the traffic beside: %v", err)
	}
}

// TestStatsAgreeWithTheKernel: what the kernel has counted at both ends of an
// endpoint, the device and the underlay, is what stats have counted, no frame
// less.
func TestStatsAgreeWithTheKernel(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "account", 2, wiring{})
	a, b := hosts[0], hosts[1]
	a.quiet(t)
	b.quiet(t)
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
	p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--offload", "off", "--vlan", "drop", "--learning=false",
		"--mac", station(9).String())
	_, err := control.NewClient(p.control).ChangeFDB(t.Context(), control.FDBChange{
		Verb: "add", MAC: station(3), Destination: control.Destination{VTEP: b.ip4},
	})
	must(t, err)
	near, far := openPort(t, a.Namespace, p.device(), false), openPort(t, b.Namespace, "vxlan0", false)
	before := deviceCounters(t, a, p.device())

	const each = 200
	for n := range uint32(each) {
		near.send(testFrame(station(2), station(1), nil, 100, n)) // unknown: flooded
		near.send(testFrame(station(3), station(1), nil, 100, n)) // known
		near.send(testFrame(station(2), station(1), tagQ, 100, n))
		far.send(testFrame(station(1), station(2), nil, 100, n))
		far.send(testFrame(station(1), station(9), nil, 100, n)) // our own MAC
		far.send(testFrame(broadcast, station(2), nil, 100, n))
		far.send(testFrame(station(1), vxlan.MAC{1, 2}, nil, 100, n)) // the MAC of a group
		if n%32 == 31 {
			time.Sleep(time.Millisecond) // queues on the way are short
		}
	}
	eventually(t, func() error {
		s, err := control.NewClient(p.control).Stats(t.Context(), 4097)
		if err != nil {
			return err
		}
		c := s.VNIs[0].Counters
		now := deviceCounters(t, a, p.device())
		handed, taken := now.TxPackets-before.TxPackets, now.RxPackets-before.RxPackets
		lost := now.TxDropped - before.TxDropped // on the way into the device's queue: the kernel's to count
		switch {
		case handed+lost < 3*each || c.RxFrames+sumOf(c, "rx_drop_")+sumOf(s.Counters, "rx_drop_") < 4*each:
			return fmt.Errorf("not all has come yet: %d handed over, %+v", handed, c)
		case handed != c.TxFrames+sumOf(c, "tx_drop_"):
			return fmt.Errorf("the device handed over %d frames, %d were sent and %d dropped", handed, c.TxFrames, sumOf(c, "tx_drop_"))
		case taken != c.RxFrames:
			return fmt.Errorf("the device took %d frames, %d are counted", taken, c.RxFrames)
		case c.TxDropVLAN == 0 || c.TxUnknown == 0 || c.RxDropOwnMAC == 0 || c.RxBroadcast == 0 || c.RxDropInvalidSource == 0:
			return fmt.Errorf("a reason is missing: %+v", c)
		}
		return nil
	})
	if rest := sumOf(p.status().Counters, "_drop_"); rest != 0 {
		t.Errorf("%d dropped that are of no VNI", rest)
	}
}

// deviceCounters are the kernel's.
func deviceCounters(t *testing.T, h *host, device string) (s netlink.LinkStatistics) {
	t.Helper()
	must(t, h.Do(func() error {
		link, err := netlink.LinkByName(device)
		if err == nil {
			s = *link.Attrs().Statistics
		}
		return err
	}))
	return s
}

// sumOf adds up the counters whose names have this in them.
func sumOf[C vtep.Counters | vtep.EndpointCounters](c C, part string) (n uint64) {
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		if strings.Contains(v.Type().Field(i).Tag.Get("json"), part) {
			n += v.Field(i).Uint()
		}
	}
	return n
}
