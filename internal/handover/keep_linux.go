package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/govxlan/govxlan/internal/systemd"
	"golang.org/x/sys/unix"
)

// Names of what the service manager keeps: one descriptor each, for it keeps no
// order.
const (
	keptMessage = "govxlan-state"
	keptPrefix  = "govxlan-"
)

// Keep leaves a message and descriptors with the service manager
// (FileDescriptorStoreMax= of the unit), until it starts the service again. The
// descriptors stay the caller's too.
func Keep(message any, fds []int) error {
	file, err := memory(message)
	if err != nil {
		return fmt.Errorf("keep for the next start: %w", err)
	}
	defer file.Close()
	for i, fd := range fds {
		if err := systemd.Store(keptPrefix+strconv.Itoa(i), fd); err != nil {
			return fmt.Errorf("keep descriptor %d of %d for the next start: %w", i, len(fds), err)
		}
	}
	// Last: without it the others mean nothing.
	if err := systemd.Store(keptMessage, int(file.Fd())); err != nil {
		return fmt.Errorf("keep for the next start: %w", err)
	}
	return systemd.Barrier(patience)
}

// patience is how long the service manager may take to read what it is sent.
const patience = 5 * time.Second

// memory writes a message into a file that has no name.
func memory(message any) (_ *os.File, err error) {
	body, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate(keptMessage, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), keptMessage)
	if _, err := file.Write(body); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// Kept takes back what Keep left for this process, and has the service manager
// forget it: whatever becomes of it, it serves once. ok is false when there is
// nothing.
func Kept(into any) (fds []int, ok bool, err error) {
	inherited := systemd.Inherited()
	var rest []int
	var message *os.File
	byNumber := make(map[int]int)
	for _, d := range inherited {
		n, err := strconv.Atoi(strings.TrimPrefix(d.Name, keptPrefix))
		switch {
		case d.Name == keptMessage && message == nil:
			message = os.NewFile(uintptr(d.FD), keptMessage)
		case err == nil && n >= 0 && strings.HasPrefix(d.Name, keptPrefix):
			if old, twice := byNumber[n]; twice {
				rest = append(rest, old)
			}
			byNumber[n] = d.FD
		default:
			rest = append(rest, d.FD)
		}
		if strings.HasPrefix(d.Name, keptPrefix) {
			systemd.Forget(d.Name)
		}
	}
	CloseAll(rest)
	for i := range len(byNumber) {
		fd, there := byNumber[i]
		if !there {
			err = fmt.Errorf("descriptor %d is missing", i)
			continue
		}
		fds = append(fds, fd)
		delete(byNumber, i)
	}
	if message != nil {
		defer message.Close()
		err = errors.Join(err, decode(message, into))
	} else if len(fds)+len(byNumber) > 0 {
		err = errors.New("descriptors without a description")
	}
	if len(inherited) > 0 {
		// What is given up must be gone before the same is opened anew.
		err = errors.Join(err, systemd.Barrier(patience))
	}
	if err != nil {
		CloseAll(fds)
		for _, fd := range byNumber {
			unix.Close(fd)
		}
		return nil, false, fmt.Errorf("what was kept for this start: %w", err)
	}
	return fds, message != nil, nil
}

func decode(file *os.File, into any) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return json.NewDecoder(io.LimitReader(file, mostMessage)).Decode(into)
}
