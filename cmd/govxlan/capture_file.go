package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/govxlan/govxlan/internal/pcapng"
)

// captureFileBuffer is how many bytes are gathered before they are written, where
// more are ready.
const captureFileBuffer = 256 << 10

// captureFile writes blocks into a file, or into several one after the other. A
// file ends behind a whole block, whatever happens: only whole blocks are handed
// to the system, and of those that it took half the half is taken back.
type captureFile struct {
	path   string
	limit  int64 // bytes after which comes the next file; 0 = never
	files  int   // so many, in turn; 0 = without end
	digits int   // of their numbers
	turn   int   // number of the file

	out     io.Writer
	file    *os.File // out; nil for standard output
	head    []byte   // what every file begins with
	pending []byte
	marks   []captureMark // of pending
	written int64         // bytes of whole blocks in the file
	frames  uint64        // in files
	failed  bool
}

// captureMark is where a block ends, and how many frames it has.
type captureMark struct {
	end    int
	frames uint64
}

func newCaptureFile(path string, stdout io.Writer, limit int64, files int) (*captureFile, error) {
	c := &captureFile{path: path, limit: limit, files: files}
	for n := files - 1; n > 0; n /= 10 {
		c.digits++
	}
	if path == "-" {
		c.out = stdout
		return c, nil
	}
	return c, c.open()
}

// name is that of the file whose turn it is, as tcpdump has it.
func (c *captureFile) name() string {
	switch {
	case c.path == "-":
		return "standard output"
	case c.turn == 0 && c.digits == 0:
		return c.path
	}
	return fmt.Sprintf("%s%0*d", c.path, c.digits, c.turn)
}

func (c *captureFile) open() error {
	f, err := os.Create(c.name())
	if err != nil {
		c.failed = true
		return fmt.Errorf("capture: %w", err)
	}
	c.file, c.out, c.written = f, f, 0
	return nil
}

func (c *captureFile) take(b *pcapng.Block) error {
	frames := uint64(0)
	switch b.Type {
	case pcapng.TypeSection, pcapng.TypeInterface:
		c.head = append(c.head, b.Raw...)
	case pcapng.TypePacket:
		if c.limit > 0 && c.written+int64(len(c.pending)) > c.limit {
			if err := c.next(); err != nil {
				return err
			}
		}
		frames = 1
	}
	c.add(b.Raw, frames)
	if len(c.pending) >= captureFileBuffer {
		return c.flush()
	}
	return nil
}

func (c *captureFile) add(block []byte, frames uint64) {
	c.pending = append(c.pending, block...)
	c.marks = append(c.marks, captureMark{len(c.pending), frames})
}

// next goes on to the next file.
func (c *captureFile) next() error {
	if err := c.close(); err != nil {
		return err
	}
	if c.turn++; c.turn == c.files {
		c.turn = 0
	}
	if err := c.open(); err != nil {
		return err
	}
	c.add(c.head, 0)
	return nil
}

func (c *captureFile) flush() error {
	if len(c.pending) == 0 || c.failed {
		return nil
	}
	n, err := c.out.Write(c.pending)
	whole := 0
	for _, m := range c.marks {
		if m.end > n {
			break
		}
		whole = m.end
		c.frames += m.frames
	}
	c.written += int64(whole)
	c.pending, c.marks = c.pending[:0], c.marks[:0]
	if err != nil {
		c.failed = true
		return c.repair(err)
	}
	return nil
}

// repair cuts the file behind the last whole block.
func (c *captureFile) repair(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	// What is no regular file cannot be cut, and its reader has it already.
	if c.file == nil || c.file.Truncate(c.written) != nil {
		return fmt.Errorf("capture: write %s: %w", c.name(), err)
	}
	return fmt.Errorf("capture: write %s: %w (the file ends with the last frame that is whole)", c.name(), err)
}

func (c *captureFile) close() error {
	err := c.flush()
	if c.file == nil {
		return err
	}
	closed := c.file.Close()
	c.file = nil
	if err == nil && closed != nil {
		err = fmt.Errorf("capture: close %s: %w", c.name(), closed)
	}
	return err
}

func (c *captureFile) taken() uint64 { return c.frames }
