package checksum

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"
)

// reference is the sum of RFC 1071 section 4.1, two bytes at a time in a number
// that cannot overflow here, folded.
func reference(b []byte, initial uint64) uint16 {
	sum := initial>>48 + initial>>32&0xFFFF + initial>>16&0xFFFF + initial&0xFFFF
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint64(b[i])<<8 | uint64(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint64(b[len(b)-1]) << 8
	}
	for sum > 0xFFFF {
		sum = sum>>16 + sum&0xFFFF
	}
	return uint16(sum)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSumTable(t *testing.T) {
	tests := []struct {
		name    string
		bytes   string
		initial uint64
		want    uint16
	}{
		{"nothing", "", 0, 0},
		{"nothing on a sum", "", 0x12345, 0x2346},
		{"RFC 1071 section 3", "0001f203f4f5f6f7", 0, 0xDDF2},
		{"odd length", "0001f2", 0, 0xF201},
		{"one byte", "ab", 0, 0xAB00},
		{"all ones", "ffffffffffffffffffffffffffffffff", 0, 0xFFFF},
		{"all ones on all ones", "ffffffffffffffff", 1<<64 - 1, 0xFFFF},
		{"zeros", "000000000000000000", 0, 0},
		{"IPv4 header without checksum", "45000073000040004011" + "0000" + "c0a80001c0a800c7", 0, 0x479E},
		{"IPv4 header with checksum", "45000073000040004011" + "b861" + "c0a80001c0a800c7", 0, 0xFFFF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := unhex(t, tt.bytes)
			if got := Fold(Sum(b, tt.initial)); got != tt.want {
				t.Errorf("Fold(Sum) = %#04x, want %#04x", got, tt.want)
			}
			if got := Checksum(b, tt.initial); got != ^tt.want {
				t.Errorf("Checksum = %#04x, want %#04x", got, ^tt.want)
			}
		})
	}
}

// Every length up to a few unrolled blocks, at every alignment, against the
// reference: random bytes, and all ones, which carry at every step.
func TestSumLengthsAndAlignments(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 600)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	ones := bytes.Repeat([]byte{0xFF}, 600)
	for _, buf := range [][]byte{random, ones} {
		for align := range 8 {
			for n := 0; n <= 520; n++ {
				b := buf[align : align+n]
				for _, initial := range []uint64{0, 1, 0xFFFF, 0xFFFFFFFFFFFFFFFF, 0x0123456789ABCDEF} {
					if got, want := Fold(Sum(b, initial)), reference(b, initial); got != want {
						t.Fatalf("align %d, length %d, initial %#x: %#04x, want %#04x", align, n, initial, got, want)
					}
				}
			}
		}
	}
}

// A sum is zero only when everything was zero; a checksum of 0xFFFF therefore
// only comes from zeros.
func TestSumIsZeroOnlyForZeros(t *testing.T) {
	for _, b := range [][]byte{{0xFF, 0xFF}, {0xFF, 0xFE, 0, 1}, bytes.Repeat([]byte{0xFF}, 256)} {
		if got := Fold(Sum(b, 0)); got != 0xFFFF {
			t.Errorf("Fold(Sum(%x)) = %#04x, want 0xffff", b[:2], got)
		}
	}
	if got := Fold(Sum(make([]byte, 256), 0)); got != 0 {
		t.Errorf("sum of zeros = %#04x", got)
	}
}

func TestSumInPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 1500)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	want := Fold(Sum(b, 0))
	for cut := 0; cut <= len(b); cut += 2 {
		if got := Fold(Sum(b[cut:], Sum(b[:cut], 0))); got != want {
			t.Fatalf("cut at %d: %#04x, want %#04x", cut, got, want)
		}
	}
}

func TestFold(t *testing.T) {
	for _, tt := range []struct {
		sum  uint64
		want uint16
	}{
		{0, 0},
		{1, 1},
		{0xFFFF, 0xFFFF},
		{0x10000, 1},
		{0x1FFFF, 1},
		{0xFFFF0001, 1},
		{0xFFFFFFFF, 0xFFFF},
		{0x1_0000_0000, 1},
		{0x0001_0002_0003_0004, 10},
		{0xFFFF_FFFF_FFFF_FFFF, 0xFFFF},
		{0xFFFF_FFFF_FFFF_FFFE, 0xFFFE},
		{0x8000_8000_8000_8000, 2},
	} {
		if got := Fold(tt.sum); got != tt.want {
			t.Errorf("Fold(%#x) = %#04x, want %#04x", tt.sum, got, tt.want)
		}
	}
}

// The pseudo-headers as the RFCs draw them, summed as bytes.
func TestPseudo(t *testing.T) {
	v4 := unhex(t, "c0a80001"+"c0a800c7"+"00"+"11"+"fffb")
	if got, want := Fold(Pseudo(v4[0:4], v4[4:8], 17, 0xFFFB)), reference(v4, 0); got != want {
		t.Errorf("IPv4: %#04x, want %#04x", got, want)
	}
	v6 := unhex(t, "20010db8000000000000000000000001"+"20010db80000000000000000000000ff"+"0001fffb"+"000000"+"06")
	if got, want := Fold(Pseudo(v6[0:16], v6[16:32], 6, 0x1FFFB)), reference(v6, 0); got != want {
		t.Errorf("IPv6: %#04x, want %#04x", got, want)
	}
}

func TestUpdate(t *testing.T) {
	// The example of RFC 1624 section 4: equation 3 gives 0x0000, where equation
	// 2 gave 0xFFFF.
	if got := Update(0xDD2F, 0x5555, 0x3285); got != 0 {
		t.Errorf("RFC 1624 example: %#04x, want 0", got)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	b := make([]byte, 20)
	for range 20000 {
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		b[0] = 0x45 // a header is never all zero
		binary.BigEndian.PutUint16(b[10:], 0)
		check := Checksum(b, 0)
		at := 2 * rng.IntN(4)
		from := binary.BigEndian.Uint16(b[at:])
		to := uint16(rng.Uint32())
		if at == 0 {
			to |= 0x4000
		}
		binary.BigEndian.PutUint16(b[at:], to)
		if got, want := Update(check, from, to), Checksum(b, 0); got != want {
			t.Fatalf("% x: word at %d was %#04x: Update = %#04x, want %#04x", b, at, from, got, want)
		}
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte{}, uint64(0), uint16(0))
	f.Add([]byte{0xFF}, uint64(1<<64-1), uint16(1))
	f.Add(bytes.Repeat([]byte{0xFF}, 200), uint64(1), uint16(64))
	f.Fuzz(func(t *testing.T, b []byte, initial uint64, cut uint16) {
		want := reference(b, initial)
		if got := Fold(Sum(b, initial)); got != want {
			t.Fatalf("Sum: %#04x, want %#04x", got, want)
		}
		at := int(cut) &^ 1
		if at > len(b) {
			return
		}
		if got := Fold(Sum(b[at:], Sum(b[:at], initial))); got != want {
			t.Fatalf("cut at %d: %#04x, want %#04x", at, got, want)
		}
		// With its own checksum behind it, a packet of even length sums up to
		// all ones.
		if len(b)%2 == 0 {
			whole := binary.BigEndian.AppendUint16(bytes.Clone(b), Checksum(b, initial))
			if got := Checksum(whole, initial); got != 0 {
				t.Fatalf("verifying the checksum gives %#04x, want 0", got)
			}
		}
	})
}

func TestNoAllocs(t *testing.T) {
	b := make([]byte, 1500)
	for name, f := range map[string]func(){
		"Sum":      func() { sink64 = Sum(b, 1) },
		"Checksum": func() { sink16 = Checksum(b, 1) },
		"Pseudo":   func() { sink64 = Pseudo(b[:16], b[16:32], 17, 100) },
		"Update":   func() { sink16 = Update(1, 2, 3) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

var (
	sink16 uint16
	sink64 uint64
)

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{8, 20, 40, 64, 128, 1458, 9000, 65535} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			buf := make([]byte, n)
			for i := range buf {
				buf[i] = byte(i * 7)
			}
			b.SetBytes(int64(n))
			for b.Loop() {
				sink64 = Sum(buf, 1)
			}
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	c := uint16(0xB861)
	for b.Loop() {
		c = Update(c, 0x4500, 0x4503)
	}
	sink16 = c
}

func Example() {
	// An IPv4 header with its checksum field, bytes 10 and 11, still zero.
	header := []byte{
		0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11,
		0x00, 0x00, 0xC0, 0xA8, 0x00, 0x01, 0xC0, 0xA8, 0x00, 0xC7,
	}
	check := Checksum(header, 0)
	binary.BigEndian.PutUint16(header[10:], check)
	fmt.Printf("%#04x, verified: %v\n", check, Checksum(header, 0) == 0)
	// Output: 0xb861, verified: true
}
