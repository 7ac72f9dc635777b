package wireguard

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
)

// KeyLen is the length of all keys in bytes.
const KeyLen = 32

// Key is a private, public or preshared key. Its text form is base64, 44
// characters, as with wg(8).
type Key [KeyLen]byte

// ErrKey: a text is no key.
var ErrKey = errors.New("a key is 44 characters of base64, as 'govxlan key gen' and 'wg genkey' print it")

// ParseKey reads the text form. The error does not quote it: it may be secret.
func ParseKey(s string) (k Key, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != KeyLen || len(s) != base64.StdEncoding.EncodedLen(KeyLen) {
		return k, ErrKey
	}
	return Key(b), nil
}

// NewPrivateKey makes a private key, clamped as wg(8) does it.
func NewPrivateKey() Key {
	k := NewPresharedKey()
	k[0] &^= 7
	k[31] = k[31]&^0x80 | 0x40
	return k
}

// NewPresharedKey makes a key for both ends to have.
func NewPresharedKey() (k Key) {
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// Public returns the public key that belongs to a private one.
func (k Key) Public() Key {
	private, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		panic(err) // its length is right
	}
	return Key(private.PublicKey().Bytes())
}

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k == Key{} }

// String returns the text form.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// hex is the form of the library's configuration protocol.
func (k Key) hex() string { return hex.EncodeToString(k[:]) }
