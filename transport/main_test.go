package transport

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if code, done := inOwnNamespace(); done {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}
