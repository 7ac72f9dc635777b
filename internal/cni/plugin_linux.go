package cni

import (
	"context"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/govxlan/govxlan/internal/control"
)

// patience is how long one call may wait for others, and for the endpoint.
const patience = 30 * time.Second

// Main serves one call as a plugin, by the environment and standard input, and
// returns the exit status. about is what it says of itself where nothing is
// called.
func Main(about string) int {
	if err := settle(); err != nil {
		_ = fail(types.ErrIOFailure, "%v", err).Print()
		return 1
	}
	funcs := skel.CNIFuncs{
		Add: with(add, parse), Check: with(check, parse), Status: with(status, parse),
		Del: with(del, readOnly), GC: with(gc, readOnly),
	}
	if err := skel.PluginMainFuncsWithError(funcs, Versions, about); err != nil {
		_ = err.Print()
		return 1
	}
	return 0
}

// request is one call.
type request struct {
	*skel.CmdArgs
	*Conf
	client *control.Client // nil until asked for
}

func readOnly(stdin []byte, _ string) (*Conf, error) {
	c, _, err := read(stdin)
	return c, err
}

func with(f func(context.Context, *request) error, read func(stdin []byte, cniArgs string) (*Conf, error)) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		conf, err := read(args.StdinData, args.Args)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return f(ctx, &request{CmdArgs: args, Conf: conf})
	}
}

// endpoint asks the endpoint for its VNIs, as the first thing.
func (r *request) endpoint(ctx context.Context) ([]control.VNI, error) {
	path := r.Control
	if path == "" {
		var err error
		if path, err = control.Find(); err != nil {
			return nil, r.away(err)
		}
	}
	r.client = control.NewClient(path)
	all, err := r.client.VNIs(ctx)
	if err != nil {
		return nil, r.away(err)
	}
	return all, nil
}

// away is the error where the endpoint does not answer: one that may have passed
// when the runtime tries again.
func (r *request) away(err error) error {
	return fail(types.ErrTryAgainLater, "network %s: VNI %v: %v", r.Name, r.VNI, err)
}

// printResult ends an ADD.
func printResult(r *types100.Result, as string) error {
	out, err := r.GetAsVersion(as)
	if err != nil {
		return fail(types.ErrIncompatibleCNIVersion, "result: %v", err)
	}
	return out.PrintTo(os.Stdout)
}
