package privilege

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"sync"
)

// Capabilities that an endpoint may need after its start (capabilities(7)).
const (
	NetAdmin = "cap_net_admin" // devices, their addresses, programs on them
	NetRaw   = "cap_net_raw"   // binding a socket to another device than before
	SysAdmin = "cap_sys_admin" // entering other network namespaces
)

// User is who a process changes to.
type User struct {
	Name     string
	UID, GID int
}

// ErrUser: there is no such user or group.
var ErrUser = errors.New("no such user or group")

// LookupUser finds NAME or UID, with :GROUP or :GID behind it where the group is
// not to be the user's own. A number needs no entry in the system's list, but has
// itself for a group then.
func LookupUser(text string) (*User, error) {
	name, group, grouped := strings.Cut(text, ":")
	u, err := lookup(name)
	if err != nil {
		return nil, err
	}
	if !grouped {
		return u, nil
	}
	if n, ok := number(group); ok {
		u.GID = n
		return u, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return nil, fmt.Errorf("%w: there is no group %q on this host", ErrUser, group)
	}
	u.GID, err = strconv.Atoi(g.Gid)
	return u, err
}

func lookup(name string) (*User, error) {
	n, numeric := number(name)
	found, err := user.Lookup(name)
	if numeric {
		found, err = user.LookupId(name)
	}
	switch {
	case err != nil && numeric:
		return &User{Name: name, UID: n, GID: n}, nil
	case err != nil:
		return nil, fmt.Errorf("%w: there is no user %q on this host", ErrUser, name)
	}
	u := &User{Name: found.Username}
	if u.UID, err = strconv.Atoi(found.Uid); err == nil {
		u.GID, err = strconv.Atoi(found.Gid)
	}
	return u, err
}

// number reads an ID; the largest 32-bit number stands for none (chown(2)).
func number(text string) (int, bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	return int(n), err == nil && n != 1<<32-1
}

// Wish says what a process keeps.
type Wish struct {
	// User to change to; nil: it stays who it is.
	User *User
	// Capabilities by name, as far as it has them.
	Capabilities []string
	// Read and Write are files and directories, with all below them, that it may
	// open; of Clear, directories, it may remove files. What does not exist is
	// left out.
	Read, Write, Clear []string
	// Ports that it may still bind TCP sockets to, and Connect, of others, that it may
	// connect them to.
	Ports, Connect []uint16
}

// Status is what a process has.
type Status struct {
	User string `json:"user"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
	// Capabilities are the effective ones, by name, as cap_net_admin.
	Capabilities []string `json:"capabilities"`
	// NoNewPrivileges: no program that it starts could have more.
	NoNewPrivileges bool `json:"no_new_privileges"`
	// Landlock confines it to some files.
	Landlock bool `json:"landlock"`
	// LandlockReason says why not, if that is no choice of the user.
	LandlockReason string `json:"landlock_reason,omitempty"`
	// Seccomp: system calls are filtered, by whoever started it.
	Seccomp bool `json:"seccomp"`
}

// String is a line for people.
func (s Status) String() string {
	var b strings.Builder
	b.WriteString(s.User)
	if s.User != strconv.Itoa(s.UID) {
		fmt.Fprintf(&b, " (uid %d)", s.UID)
	}
	switch n := len(s.Capabilities); {
	case n == 0:
		b.WriteString(", no capabilities")
	case n > 8:
		fmt.Fprintf(&b, ", %d capabilities", n)
	default:
		b.WriteString(", " + strings.Join(s.Capabilities, " "))
	}
	for _, f := range []struct {
		name string
		on   bool
	}{{"no new privileges", s.NoNewPrivileges}, {"landlock", s.Landlock}, {"seccomp", s.Seccomp}} {
		if f.on {
			b.WriteString(", " + f.name)
		}
	}
	if s.LandlockReason != "" {
		b.WriteString(", no landlock: " + s.LandlockReason)
	}
	return b.String()
}

// state is what the kernel does not tell of us.
var state struct {
	sync.Mutex
	landlock bool
	reason   string
	uid      int // that name is of; -1: none yet
	name     string
}

func init() { state.uid = -1 }

// userName names a user; without an entry it is the number.
func userName(uid int) string {
	state.Lock()
	defer state.Unlock()
	if state.uid != uid {
		state.uid, state.name = uid, strconv.Itoa(uid)
		if u, err := user.LookupId(state.name); err == nil {
			state.name = u.Username
		}
	}
	return state.name
}
