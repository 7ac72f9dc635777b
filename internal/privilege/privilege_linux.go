package privilege

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Drop gives up, on every thread, what the wish does not name. It is not to be
// taken back. Landlock is left out where the kernel has none.
func Drop(w Wish) error {
	names, err := values(w.Capabilities)
	if err != nil {
		return err
	}
	if err := confine(w); err != nil {
		return err
	}
	if err := become(w.User); err != nil {
		return err
	}
	return shed(names)
}

func values(names []string) (list []cap.Value, err error) {
	for _, name := range names {
		v, err := cap.FromName(name)
		if err != nil {
			return nil, fmt.Errorf("capability %s: %w", name, err)
		}
		list = append(list, v)
	}
	return list, nil
}

// landlockConfig is all that Landlock knows of files and TCP. Its scopes, and Unix
// sockets of others, are left alone: a process may have to talk to its supervisor.
var landlockConfig = landlock.V5

// confine keeps the process away from all files that the wish does not name, and
// from TCP but for asking name servers.
func confine(w Wish) error {
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		reason := "this kernel has none"
		if errors.Is(err, unix.EOPNOTSUPP) {
			reason = "it is not enabled in this kernel (lsm=landlock,...)"
		} else if errors.Is(err, unix.EPERM) {
			reason = "a filter of system calls forbids it"
		}
		state.Lock()
		state.reason = reason
		state.Unlock()
		return nil
	}
	rules := []landlock.Rule{landlock.ConnectTCP(53)}
	for _, p := range w.Ports {
		rules = append(rules, landlock.BindTCP(p))
	}
	for _, p := range w.Connect {
		rules = append(rules, landlock.ConnectTCP(p))
	}
	for _, set := range []struct {
		paths     []string
		dir, file landlock.AccessFSSet
	}{
		{w.Read, ll.AccessFSReadFile | ll.AccessFSReadDir, ll.AccessFSReadFile},
		{
			w.Write,
			ll.AccessFSReadFile | ll.AccessFSReadDir | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSMakeReg | ll.AccessFSRemoveFile,
			ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSIoctlDev,
		},
		{w.Clear, ll.AccessFSRemoveFile, 0},
	} {
		for _, path := range set.paths {
			info, err := os.Stat(path)
			if err != nil {
				continue
			}
			access := set.file
			if info.IsDir() {
				access = set.dir
			}
			if access != 0 {
				rules = append(rules, landlock.PathAccess(access, path).IgnoreIfMissing())
			}
		}
	}
	if err := landlockConfig.BestEffort().Restrict(rules...); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	state.Lock()
	state.landlock = true
	state.Unlock()
	return nil
}

// MayBecome says why this process cannot change to a user; nil: it can.
func MayBecome(u *User) error {
	if u.UID == unix.Getuid() && u.GID == unix.Getgid() {
		return nil
	}
	has := cap.GetProc()
	for _, v := range []cap.Value{cap.SETUID, cap.SETGID} {
		if on, err := has.GetFlag(cap.Permitted, v); err != nil || !on {
			return fmt.Errorf("changing to another user takes the capability %s: run this as root", strings.ToUpper(v.String()))
		}
	}
	return nil
}

// become changes the user, with all groups, and keeps the capabilities so far.
func become(u *User) error {
	if u == nil || u.UID == unix.Getuid() && u.GID == unix.Getgid() {
		return nil
	}
	if err := cap.SetGroups(u.GID); err != nil {
		return fmt.Errorf("change to group %d: %w (run as root, or with CAP_SETGID)", u.GID, err)
	}
	if err := cap.SetUID(u.UID); err != nil {
		return fmt.Errorf("change to user %s: %w (run as root, or with CAP_SETUID)", u.Name, err)
	}
	return nil
}

// shed gives up all capabilities but some, for good.
func shed(keep []cap.Value) error {
	had, want := cap.GetProc(), cap.NewSet()
	may, err := had.GetFlag(cap.Permitted, cap.SETPCAP)
	if err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	var gone []cap.Value
	for v := range cap.MaxBits() {
		if !slices.Contains(keep, v) {
			gone = append(gone, v)
			continue
		}
		if on, err := had.GetFlag(cap.Permitted, v); err != nil || !on {
			continue
		}
		for _, flag := range []cap.Flag{cap.Permitted, cap.Effective} {
			if err := want.SetFlag(flag, true, v); err != nil {
				return fmt.Errorf("capability %v: %w", v, err)
			}
		}
	}
	// Whoever may not lower the bounding set has been started with little, and
	// gets nothing of it below.
	if may {
		raised := cap.GetProc()
		if err := errors.Join(raised.SetFlag(cap.Effective, true, cap.SETPCAP), raised.SetProc(), cap.DropBound(gone...)); err != nil {
			return fmt.Errorf("bounding set of capabilities: %w", err)
		}
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := cap.ResetAmbient(); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	if err := want.SetProc(); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// Current is what this process has at the moment, by what the kernel says of its
// threads (proc_pid_status(5)).
func Current() Status {
	s := Status{Capabilities: []string{}}
	f, err := os.Open("/proc/thread-self/status")
	if err != nil {
		s.UID, s.GID = os.Geteuid(), os.Getegid()
	} else {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			name, text, _ := strings.Cut(lines.Text(), ":")
			s.take(name, strings.Fields(text))
		}
	}
	s.User = userName(s.UID)
	state.Lock()
	defer state.Unlock()
	s.Landlock, s.LandlockReason = state.landlock, state.reason
	return s
}

// take reads a line. Of users and groups the second is the effective one.
func (s *Status) take(name string, fields []string) {
	switch {
	case name == "Uid" && len(fields) > 1:
		s.UID, _ = strconv.Atoi(fields[1])
	case name == "Gid" && len(fields) > 1:
		s.GID, _ = strconv.Atoi(fields[1])
	case len(fields) == 0:
	case name == "CapEff":
		set, _ := strconv.ParseUint(fields[0], 16, 64)
		for v := range cap.MaxBits() {
			if set>>v&1 != 0 {
				s.Capabilities = append(s.Capabilities, v.String())
			}
		}
	case name == "NoNewPrivs":
		s.NoNewPrivileges = fields[0] == "1"
	case name == "Seccomp":
		s.Seccomp = fields[0] == "2"
	}
}
