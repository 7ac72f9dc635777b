package wireguard

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// LineError is what is wrong with a configuration, and where.
type LineError struct {
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// mostLine bounds a line in bytes; a list of thousands of AllowedIPs fits.
const mostLine = 1 << 20

// Parse reads a configuration in the format of wg(8): sections in brackets, a
// "key = value" a line, names in any case, comments from # on.
//
//	[Interface]
//	PrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=
//	ListenPort = 51820
//	Address = 10.9.0.1/24
//
//	[Peer]
//	PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
//	AllowedIPs = 10.9.0.2/32
//	Endpoint = 192.168.52.204:51820
//
// Of wg-quick(8) it knows Address and MTU; what that would do to the host, such as
// DNS and PostUp, is noted in Config.Ignored. Errors are LineErrors; they do not
// quote secrets.
func Parse(r io.Reader) (*Config, error) {
	p := parser{config: new(Config), seen: make(map[string]bool), owners: make(map[netip.Prefix]int)}
	s := bufio.NewScanner(r)
	s.Buffer(nil, mostLine)
	for s.Scan() {
		p.line++
		text, _, _ := strings.Cut(s.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if err := p.parse(text); err != nil {
			return nil, &LineError{p.line, err}
		}
	}
	if err := s.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return nil, &LineError{p.line + 1, fmt.Errorf("longer than %d bytes", mostLine)}
		}
		return nil, err
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	return p.config, nil
}

// parser is where reading has come to.
type parser struct {
	config *Config
	line   int
	begun  int // line of the section
	inside section
	whole  int             // line of [Interface]; 0: there was none
	seen   map[string]bool // keys of this section that are there once at most
	owners map[netip.Prefix]int
}

type section uint8

const (
	nowhere section = iota
	inInterface
	inPeer
)

func (p *parser) parse(text string) error {
	if strings.HasPrefix(text, "[") {
		return p.open(text)
	}
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return errors.New("give 'key = value', [Interface] or [Peer]")
	}
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	name := strings.ToLower(key)
	switch p.inside {
	case inInterface:
		return p.ofInterface(key, name, value)
	case inPeer:
		return p.ofPeer(key, name, value)
	}
	return fmt.Errorf("%s stands before [Interface] and [Peer]", key)
}

// open begins a section.
func (p *parser) open(text string) error {
	if err := p.closePeer(); err != nil {
		return err
	}
	clear(p.seen)
	p.begun = p.line
	switch strings.ToLower(text) {
	case "[interface]":
		if p.whole != 0 {
			return fmt.Errorf("[Interface] is there already, in line %d", p.whole)
		}
		p.inside, p.whole = inInterface, p.line
	case "[peer]":
		p.inside = inPeer
		p.config.Peers = append(p.config.Peers, Peer{})
	default:
		return fmt.Errorf("section %s: there are [Interface] and [Peer]", text)
	}
	return nil
}

// closePeer checks the peer that ends here.
func (p *parser) closePeer() error {
	if p.inside != inPeer {
		return nil
	}
	last := len(p.config.Peers) - 1
	key := p.config.Peers[last].PublicKey
	if key.IsZero() {
		return fmt.Errorf("the [Peer] of line %d has no PublicKey", p.begun)
	}
	for i := range last {
		if p.config.Peers[i].PublicKey == key {
			return fmt.Errorf("the [Peer] of line %d has the PublicKey of one before it", p.begun)
		}
	}
	return nil
}

// finish checks the whole.
func (p *parser) finish() error {
	if err := p.closePeer(); err != nil {
		return &LineError{p.line, err}
	}
	switch {
	case p.whole == 0:
		return &LineError{max(p.line, 1), errors.New("there is no [Interface]")}
	case p.config.PrivateKey.IsZero():
		return &LineError{p.whole, errors.New("[Interface] has no PrivateKey: 'govxlan key gen' makes one")}
	}
	public := p.config.PrivateKey.Public()
	for i := range p.config.Peers {
		if p.config.Peers[i].PublicKey == public {
			return &LineError{p.line, fmt.Errorf("peer %v is this end itself: give the public key of the other one", public)}
		}
	}
	return nil
}

// once refuses a key that is there a second time.
func (p *parser) once(key, name string) error {
	if p.seen[name] {
		return fmt.Errorf("%s is there twice in this section", key)
	}
	p.seen[name] = true
	return nil
}

func (p *parser) ofInterface(key, name, value string) error {
	c := p.config
	switch name {
	case "address":
		return p.addresses(key, value)
	case "dns", "table", "preup", "postup", "predown", "postdown", "saveconfig":
		c.Ignored = append(c.Ignored, Ignored{p.line, key})
		return nil
	}
	if err := p.once(key, name); err != nil {
		return err
	}
	var err error
	switch name {
	case "privatekey":
		c.PrivateKey, err = parseKey(key, value)
	case "listenport":
		var n uint64
		n, err = parseNumber(key, value, 0, 65535)
		c.ListenPort = uint16(n)
	case "mtu":
		var n uint64
		n, err = parseNumber(key, value, 576, 65535)
		c.MTU = int(n)
	case "fwmark":
		if value == "off" {
			break
		}
		var n uint64
		if n, err = strconv.ParseUint(value, 0, 32); err != nil {
			err = fmt.Errorf("%s %q: give a number such as 0x51820, or off", key, value)
		}
		c.FirewallMark = uint32(n)
	default:
		err = fmt.Errorf("[Interface] has no %s: it has PrivateKey, ListenPort, FwMark, Address and MTU", key)
	}
	return err
}

// addresses reads Address: the length of the prefix is for routes, which there are
// none of.
func (p *parser) addresses(key, value string) error {
	for s := range strings.SplitSeq(value, ",") {
		s = strings.TrimSpace(s)
		prefix, err := parsePrefix(s)
		a := prefix.Addr().Unmap()
		if err != nil || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("%s %q: give an address in the tunnel, such as 10.9.0.1/24", key, s)
		}
		for _, b := range p.config.Addresses {
			if a.Is4() == b.Is4() {
				return fmt.Errorf("%s %q: one address of each family at most, and %v is there already", key, s, b)
			}
		}
		p.config.Addresses = append(p.config.Addresses, a)
	}
	return nil
}

func (p *parser) ofPeer(key, name, value string) error {
	peer := &p.config.Peers[len(p.config.Peers)-1]
	if name == "allowedips" {
		return p.allowed(peer, key, value)
	}
	if err := p.once(key, name); err != nil {
		return err
	}
	var err error
	switch name {
	case "publickey":
		peer.PublicKey, err = parseKey(key, value)
	case "presharedkey":
		peer.PresharedKey, err = parseKey(key, value)
	case "endpoint":
		host, port, bad := net.SplitHostPort(value)
		if n, notPort := strconv.ParseUint(port, 10, 16); bad != nil || notPort != nil || n == 0 || host == "" || strings.ContainsAny(host, " \t") {
			return fmt.Errorf("%s %q: give HOST:PORT, such as 192.168.52.204:51820 or [fd52::204]:51820", key, value)
		}
		peer.Endpoint = value
	case "persistentkeepalive":
		if value == "off" {
			break
		}
		var n uint64
		n, err = parseNumber(key, value, 0, 65535)
		peer.Keepalive = time.Duration(n) * time.Second
	default:
		err = fmt.Errorf("[Peer] has no %s: it has PublicKey, PresharedKey, AllowedIPs, Endpoint and PersistentKeepalive", key)
	}
	return err
}

// allowed reads AllowedIPs, which may be empty.
func (p *parser) allowed(peer *Peer, key, value string) error {
	if value == "" {
		return nil
	}
	index := len(p.config.Peers)
	for s := range strings.SplitSeq(value, ",") {
		s = strings.TrimSpace(s)
		prefix, err := parsePrefix(s)
		if err != nil {
			return fmt.Errorf("%s %q: give addresses in the tunnel, such as 10.9.0.2/32", key, s)
		}
		prefix = prefix.Masked()
		switch p.owners[prefix] {
		case 0:
			p.owners[prefix] = index
			peer.AllowedIPs = append(peer.AllowedIPs, prefix)
		case index: // once more
		default:
			return fmt.Errorf("%s %q: another [Peer] has that already", key, s)
		}
	}
	return nil
}

// parsePrefix reads ADDR or ADDR/BITS.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err == nil && prefix.Addr().Is4In6() {
		return netip.Prefix{}, errors.New("an IPv4 address mapped into IPv6")
	}
	return prefix, err
}

func parseKey(name, value string) (Key, error) {
	k, err := ParseKey(value)
	if err == nil && k.IsZero() && !strings.EqualFold(name, "PresharedKey") {
		err = errors.New("all zeros is no key")
	}
	if err != nil {
		return k, fmt.Errorf("%s: %w", name, err)
	}
	return k, nil
}

func parseNumber(name, value string, least, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s %q: give a number, %d to %d", name, value, least, most)
	}
	return n, nil
}
