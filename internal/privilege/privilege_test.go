package privilege

import (
	"errors"
	"testing"
)

func TestLookupUser(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want User
		bad  bool
	}{
		{text: "root", want: User{"root", 0, 0}},
		{text: "0", want: User{"root", 0, 0}},
		{text: "root:17", want: User{"root", 0, 17}},
		{text: "0:0", want: User{"root", 0, 0}},
		{text: "4000000000", want: User{"4000000000", 4000000000, 4000000000}},
		{text: "4000000000:5", want: User{"4000000000", 4000000000, 5}},
		{text: "", bad: true},
		{text: ":5", bad: true},
		{text: "root:", bad: true},
		{text: "-1", bad: true},
		{text: "4294967295", bad: true}, // no ID (chown(2))
		{text: "no-such-user", bad: true},
		{text: "root:no-such-group", bad: true},
	} {
		u, err := LookupUser(c.text)
		switch {
		case c.bad:
			if !errors.Is(err, ErrUser) {
				t.Errorf("%q: %+v, %v, want ErrUser", c.text, u, err)
			}
		case err != nil || *u != c.want:
			t.Errorf("%q: %+v, %v, want %+v", c.text, u, err, c.want)
		}
	}
}

func TestStatusString(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s    Status
		want string
	}{
		{Status{User: "root", Capabilities: []string{NetAdmin}, NoNewPrivileges: true, Landlock: true}, "root (uid 0), cap_net_admin, no new privileges, landlock"},
		{Status{User: "61234", UID: 61234, Seccomp: true, LandlockReason: "this kernel has none"}, "61234, no capabilities, seccomp, no landlock: this kernel has none"},
		{Status{User: "root", Capabilities: make([]string, 41)}, "root (uid 0), 41 capabilities"},
	} {
		if got := c.s.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
