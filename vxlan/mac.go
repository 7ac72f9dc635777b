package vxlan

import "fmt"

// MAC is a 48-bit Ethernet address. It is comparable and serves as a map key;
// MAC(frame[0:6]) and MAC(frame[6:12]) are the destination and the source of a
// frame.
type MAC [6]byte

// Broadcast is the address of all stations, ff:ff:ff:ff:ff:ff.
var Broadcast = MAC{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}

// ParseMAC reads an address in one of four ways of writing, in either case of
// letters: 02:42:ac:11:00:02, 02-42-ac-11-00-02, 0242.ac11.0002, 0242ac110002.
// The error quotes s and wraps [ErrMAC].
func ParseMAC(s string) (MAC, error) {
	var m MAC
	// A separator follows every stride digits.
	var sep byte
	var stride int
	switch len(s) {
	case 17:
		sep, stride = s[2], 2
		if sep != ':' && sep != '-' {
			return MAC{}, badMAC(s)
		}
	case 14:
		sep, stride = '.', 4
	case 12:
		stride = 12 // none
	default:
		return MAC{}, badMAC(s)
	}
	digits := 0
	for i := 0; i < len(s); i++ {
		if i%(stride+1) == stride {
			if s[i] != sep {
				return MAC{}, badMAC(s)
			}
			continue
		}
		v, ok := hexDigit(s[i])
		if !ok {
			return MAC{}, badMAC(s)
		}
		m[digits/2] = m[digits/2]<<4 | v
		digits++
	}
	return m, nil
}

func badMAC(s string) error { return fmt.Errorf("%w: %q", ErrMAC, s) }

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// IsMulticast reports whether m is a group address: the lowest bit of its first
// byte is set. The broadcast address is one of them.
func (m MAC) IsMulticast() bool { return m[0]&1 != 0 }

// IsBroadcast reports whether m is ff:ff:ff:ff:ff:ff.
func (m MAC) IsBroadcast() bool { return m == Broadcast }

// IsZero reports whether m is 00:00:00:00:00:00, which no station has.
func (m MAC) IsZero() bool { return m == MAC{} }

// String returns m as 02:42:ac:11:00:02.
func (m MAC) String() string {
	var b [17]byte
	return string(m.append(b[:0]))
}

func (m MAC) append(b []byte) []byte {
	const digits = "0123456789abcdef"
	for i, v := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, digits[v>>4], digits[v&0xF])
	}
	return b
}

// AppendText appends m to b as [MAC.String] writes it. It never fails.
func (m MAC) AppendText(b []byte) ([]byte, error) { return m.append(b), nil }

// MarshalText returns m as [MAC.String] writes it. It never fails.
func (m MAC) MarshalText() ([]byte, error) { return m.append(nil), nil }

// UnmarshalText reads what [ParseMAC] reads. On error m keeps its value.
func (m *MAC) UnmarshalText(text []byte) error {
	v, err := ParseMAC(string(text))
	if err == nil {
		*m = v
	}
	return err
}
