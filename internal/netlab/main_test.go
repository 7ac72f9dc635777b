package netlab_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// The test binary is also the program that the tests run inside namespaces:
// what it does is named in the environment.
const roleVariable = "NETLAB_TEST_ROLE"

var roles = map[string]func(){
	// sleep ends only when it is killed.
	"sleep": func() { time.Sleep(time.Hour) },
	// devices prints the network devices that it can see.
	"devices": func() {
		list, err := net.Interfaces()
		if err != nil {
			fail(err)
		}
		for _, i := range list {
			fmt.Println(i.Name)
		}
	},
	// stdin ends when its input does, and says hello before.
	"stdin": func() {
		fmt.Println("hello")
		_, _ = io.Copy(io.Discard, os.Stdin)
	},
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		roles[role]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}
