package netlab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// labsDir holds one directory for each lab, named as the lab. A lab that is in
// use holds a lock (flock) on the file "state" in it; the kernel drops the lock
// when its owner dies, however that happens, and so a lock that can be had is
// the proof of a dead owner. Process numbers alone are none: they are used
// again, and mean nothing in another process namespace.
const labsDir = "/run/govxlan/labs"

const namePrefix = "gvx-"

// state is a lab's record on disk.
type state struct {
	name, dir string
	file      *os.File // locked; nil after remove or keep
	record    record
}

// record is what Sweep and Clean must know of a lab whose owner is gone. Its
// namespaces they find by name.
type record struct {
	Keep      bool      `json:"keep,omitempty"`
	Processes []process `json:"processes,omitempty"`
}

// process names one process for good: a number is used again, but not together
// with the same time of birth.
type process struct {
	PID int `json:"pid"`
	// Start is the time of birth in clock ticks since boot, field 22 of
	// /proc/PID/stat.
	Start uint64 `json:"start"`
}

// lockLabs keeps a new lab from being taken for a dead one in the instant before
// its lock is held. It is held only while labs are looked at.
func lockLabs() (unlock func(), err error) {
	if err := os.MkdirAll(labsDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(labsDir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("flock "+f.Name(), err)
		}
	}
}

func newState(label string) (*state, error) {
	unlock, err := lockLabs()
	if err != nil {
		return nil, err
	}
	defer unlock()
	base := fmt.Sprintf("%s%s-%d", namePrefix, label, os.Getpid())
	name := base
	// A second lab of this process, or the kept lab of an earlier process that
	// had the same number.
	for n := 2; ; n++ {
		err := os.Mkdir(filepath.Join(labsDir, name), 0o700)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		name = base + "." + strconv.Itoa(n)
	}
	s := &state{name: name, dir: filepath.Join(labsDir, name)}
	s.file, err = os.OpenFile(filepath.Join(s.dir, "state"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = flock(s.file, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = s.write()
	}
	if err != nil {
		os.RemoveAll(s.dir)
		if s.file != nil {
			s.file.Close()
		}
		return nil, err
	}
	return s, nil
}

// write stores the record in the locked file itself: a file renamed over it
// would carry no lock.
func (s *state) write() error {
	text, err := json.Marshal(s.record)
	if err != nil {
		return err
	}
	if _, err := s.file.WriteAt(text, 0); err != nil {
		return err
	}
	return s.file.Truncate(int64(len(text)))
}

func (s *state) addProcess(pid int) error {
	start, err := processStart(pid)
	if err != nil {
		return err
	}
	s.record.Processes = append(s.record.Processes, process{pid, start})
	return s.write()
}

func (s *state) keep() error {
	s.record.Keep = true
	if err := s.write(); err != nil {
		return err
	}
	return s.file.Close()
}

func (s *state) remove() error {
	// Under the lock: what is half removed looks like a dead lab to a sweep,
	// and its name is free for a new one before the last step.
	unlock, err := lockLabs()
	if err != nil {
		return errors.Join(err, s.file.Close())
	}
	defer unlock()
	err = os.RemoveAll(s.dir)
	return errors.Join(err, s.file.Close())
}

// Sweep removes the labs whose owners are dead, other than those they wanted
// kept, and returns their names.
func Sweep() ([]string, error) {
	return sweep(func(_ string, r record) bool { return !r.Keep })
}

// Clean removes the labs of one label whose owners are gone, those that were
// kept too, and returns their names. Labs in use stay.
func Clean(label string) ([]string, error) {
	return sweep(func(name string, _ record) bool {
		return strings.HasPrefix(name, namePrefix+label+"-")
	})
}

func sweep(wanted func(name string, r record) bool) (removed []string, err error) {
	if _, err := os.Stat(labsDir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	unlock, err := lockLabs()
	if err != nil {
		return nil, err
	}
	defer unlock()
	entries, err := os.ReadDir(labsDir)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), namePrefix) {
			continue
		}
		gone, err := sweepOne(e.Name(), wanted)
		if err != nil {
			errs = append(errs, fmt.Errorf("netlab: sweep %s: %w", e.Name(), err))
		}
		if gone {
			removed = append(removed, e.Name())
		}
	}
	return removed, errors.Join(errs...)
}

func sweepOne(name string, wanted func(string, record) bool) (bool, error) {
	dir := filepath.Join(labsDir, name)
	var r record
	f, err := os.OpenFile(filepath.Join(dir, "state"), os.O_RDWR, 0)
	switch {
	case err == nil:
		defer f.Close()
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil {
			return false, nil // in use
		}
		// A record that was cut off half written names no process; the rest of
		// the lab can go all the same.
		_ = json.NewDecoder(f).Decode(&r)
	case !errors.Is(err, os.ErrNotExist):
		return false, err
	}
	if !wanted(name, r) {
		return false, nil
	}
	for _, p := range r.Processes {
		p.end()
	}
	names, err := filepath.Glob(filepath.Join(runNetns, name+"-*"))
	if err != nil {
		return false, err
	}
	var errs []error
	for _, path := range names {
		errs = append(errs, removeNamespace(filepath.Base(path)))
	}
	if err := errors.Join(errs...); err != nil {
		return false, err
	}
	return true, os.RemoveAll(dir)
}
