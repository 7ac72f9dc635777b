package membership

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// errKeyText says what a key looks like.
var errKeyText = errors.New("it is not a key of 32 bytes in base64 (44 characters) or hexadecimal (64)")

// NewKey makes a key for all members of a network, in base64.
func NewKey() string {
	var key [KeyBytes]byte
	rand.Read(key[:])
	return base64.StdEncoding.EncodeToString(key[:])
}

// ParseKey reads a key in base64 or hexadecimal, with white space around it.
func ParseKey(text []byte) ([]byte, error) {
	text = bytes.TrimSpace(text)
	if key, err := hex.DecodeString(string(text)); err == nil && len(key) == KeyBytes {
		return key, nil
	}
	// Strict: there is one way to write a key.
	key, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(key) != KeyBytes {
		return nil, errKeyText
	}
	return key, nil
}

// ReadKey reads the key in a file. open says that others than its owner can read it.
func ReadKey(path string) (key []byte, open bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	const most = 1 << 10 // white space around it, and no endless file
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, false, err
	}
	if key, err = ParseKey(text); err != nil {
		return nil, false, fmt.Errorf("%s: %w", path, err)
	}
	return key, info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0, nil
}
