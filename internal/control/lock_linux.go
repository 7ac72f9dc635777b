package control

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockPatience is how long another process may hold the lock. Whoever may read
// the directory can hold it for ever; nobody needs longer than some milliseconds.
const lockPatience = 2 * time.Second

// lockDirectory keeps others from making sockets in dir until unlock, as far as
// they ask. It leaves no file behind.
func lockDirectory(dir string) (unlock func()) {
	d, err := os.Open(dir)
	if err != nil {
		return func() {} // what follows will say so
	}
	for begun := time.Now(); unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil && time.Since(begun) < lockPatience; {
		time.Sleep(5 * time.Millisecond)
	}
	return func() { d.Close() }
}
