package dockerlab

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// load gives the daemon the Image, without a registry.
func (d *Daemon) load(ctx context.Context) error {
	text, err := image(ctx)
	if err == nil {
		_, err = d.docker(ctx, bytes.NewReader(text), "import", "-", Image)
	}
	return err
}

// image is a tar file of busybox, which is to be static, and its links.
func image(ctx context.Context) ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("%w: install busybox-static", err)
	}
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s is not static: install busybox-static in place of busybox", path)
		}
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list, err := exec.CommandContext(ctx, path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("busybox --list: %w", err)
	}
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	var errs []error
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		_, err := 0, w.WriteHeader(&h)
		if err == nil {
			_, err = w.Write(content)
		}
		errs = append(errs, err)
	}
	for _, dir := range []string{"bin", "etc", "proc", "tmp", "www"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, program)
	for _, name := range strings.Fields(string(list)) {
		if name != "busybox" {
			add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	return text.Bytes(), errors.Join(append(errs, w.Close())...)
}
