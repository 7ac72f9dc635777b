package probe

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func frames() *rapid.Generator[Frame] {
	return rapid.Custom(func(t *rapid.T) Frame {
		return Frame{
			Kind: Kind(rapid.IntRange(1, 3).Draw(t, "kind")),
			Came: rapid.IntRange(0, MaxLen).Draw(t, "came"),
			Want: rapid.IntRange(0, MaxLen).Draw(t, "want"),
			ID:   rapid.Uint64().Draw(t, "id"),
			Seq:  rapid.Uint32().Draw(t, "seq"),
		}
	})
}

func TestWhatIsPutIsParsed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := frames().Draw(t, "frame")
		b := make([]byte, rapid.IntRange(MinLen, 2000).Draw(t, "length"))
		for i := range b {
			b[i] = 0xFF // every byte is written
		}
		f.Put(b)
		got, err := Parse(b)
		if err != nil || got != f {
			t.Fatalf("parsed %+v, %v; put %+v", got, err, f)
		}
	})
}

// A bit that is flipped anywhere is seen: either it is no probe any more, or a
// damaged one.
func TestDamageIsSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := frames().Draw(t, "frame")
		b := make([]byte, rapid.IntRange(MinLen, 300).Draw(t, "length"))
		f.Put(b)
		bit := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
		b[bit/8] ^= 1 << (bit % 8)
		if got, err := Parse(b); err == nil {
			t.Fatalf("with bit %d flipped: %+v", bit, got)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	good := make([]byte, 100)
	(&Frame{Kind: Request}).Put(good)
	other := make([]byte, 100)
	(&Frame{Kind: 4}).Put(other)
	swapped := bytes.Clone(good)
	copy(swapped[60:70], good[70:80])
	copy(swapped[70:80], good[60:70])
	for name, tc := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":             {nil, ErrNone},
		"an Ethernet header":  {good[:14], ErrNone},
		"a byte too short":    {good[:MinLen-1], ErrNone},
		"cut":                 {good[:99], ErrDamaged},
		"a later kind":        {other, ErrNone},
		"swapped parts":       {swapped, ErrDamaged},
		"padded by a network": {append(bytes.Clone(good), 0), ErrDamaged},
	} {
		if _, err := Parse(tc.b); err != tc.want {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestAnswerIsNeverLonger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := frames().Draw(t, "frame")
		request := rapid.IntRange(MinLen, MaxLen).Draw(t, "request")
		n := f.AnswerLen(request)
		if n > request || n < MinLen || f.Want >= MinLen && n > f.Want {
			t.Fatalf("answer of %d bytes to %d, of which %d were wanted", n, request, f.Want)
		}
	})
}

func TestBucket(t *testing.T) {
	var b Bucket
	now := time.Hour
	count := func() (n int) {
		for b.Take(now) {
			n++
		}
		return n
	}
	if n := count(); n != Burst {
		t.Errorf("%d at once, want %d", n, Burst)
	}
	now += 10 * Every
	if n := count(); n != 10 {
		t.Errorf("%d after ten times the interval", n)
	}
	now += time.Hour
	if n := count(); n != Burst {
		t.Errorf("%d after a rest, want %d", n, Burst)
	}
}

func FuzzParse(f *testing.F) {
	good := make([]byte, 64)
	(&Frame{Kind: Request, ID: 7, Seq: 1, Want: 64}).Put(good)
	f.Add(good)
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Parse(b)
		if err != nil {
			return
		}
		// What is accepted says the same when it is put again.
		again := make([]byte, len(b))
		got.Put(again)
		if back, err := Parse(again); err != nil || back != got {
			t.Errorf("%+v came back as %+v, %v", got, back, err)
		}
	})
}

func TestParseAllocatesNothing(t *testing.T) {
	b := make([]byte, 1400)
	f := Frame{Kind: Request, ID: 7}
	if n := testing.AllocsPerRun(100, func() {
		f.Put(b)
		if _, err := Parse(b); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
