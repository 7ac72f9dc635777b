// Command govxlan is a VXLAN tunnel endpoint in user space, and the tools to
// look into one.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/govxlan/govxlan/internal/cni"
	"github.com/spf13/cobra"
)

// Exit statuses, the same for every command.
const (
	exitFailure = 1
	exitUsage   = 2
)

// usageError marks a mistake in the command line, as against a failure of what
// it asked for. It ends the program with exitUsage.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitStatus ends the program with that status, where what is to be said has been
// said.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// main1 runs one command line and returns its exit status, so that tests can
// call it without a process of its own.
func main1(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return 0
	}
	var said exitStatus
	if errors.As(err, &said) {
		return int(said)
	}
	fmt.Fprintf(stderr, "govxlan: %v\n", err)
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
}

func main() {
	if cni.Called(os.Args, os.Getenv) {
		os.Exit(cni.Main(aboutCNI()))
	}
	os.Exit(main1(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "govxlan",
		Short: "One Ethernet across hosts: a VXLAN endpoint in user space",
		Long: `govxlan joins containers, virtual machines and hosts to one Ethernet over any
IP network (VXLAN, RFC 7348). It speaks to the Linux kernel's vxlan device and
to every other VXLAN endpoint, and needs no kernel module.

On two hosts, 192.168.52.203 and 192.168.52.204:

  govxlan up --vni 4097 --peer 192.168.52.204 --addr 10.0.1.100/24
  govxlan up --vni 4097 --peer 192.168.52.203 --addr 10.0.1.103/24`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w%s (see '%s --help')", err, flagMeant(cmd, err), cmd.CommandPath())
	})
	root.AddCommand(commands()...)
	judgeArguments(root)
	completeFrom(root)
	return root
}

// judgeArguments makes wrong arguments wrong usage, as wrong flags are, for a
// command and those below it.
func judgeArguments(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.HasSubCommands() {
				return usagef("unknown command %q for %q%s (see '%s --help')", args[0], cmd.CommandPath(), commandMeant(cmd, args[0]), cmd.CommandPath())
			}
			err := check(cmd, args)
			switch {
			case err == nil:
				return nil
			case strings.HasPrefix(err.Error(), "unknown command"): // cobra.NoArgs
				return usagef("%q is one argument too many: '%s' takes none", args[0], cmd.CommandPath())
			}
			return usagef("%s was given %d arguments: the usage is '%s'", cmd.Name(), len(args), cmd.UseLine())
		}
	}
	for _, sub := range c.Commands() {
		judgeArguments(sub)
	}
}
