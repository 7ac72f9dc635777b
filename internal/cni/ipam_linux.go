package cni

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// ipam is the plugin that hands out addresses, such as host-local.
type ipam struct {
	kind     string
	conf     []byte
	versions []string // nil: that of the network does
}

// since11 is the version of the specification that GC and STATUS came with.
const since11 = "1.1.0"

// newIPAM returns nil where the network has none. From version 1.1.0 on it asks
// the plugin what it speaks: an older one is called as it wants to be.
func (r *request) newIPAM(ctx context.Context) (*ipam, error) {
	if r.IPAM.Type == "" {
		return nil, nil
	}
	i := &ipam{kind: r.IPAM.Type, conf: r.stdin}
	if recent, err := version.GreaterThanOrEqualTo(r.CNIVersion, since11); err != nil || !recent {
		return i, nil
	}
	path, err := invoke.FindInPath(i.kind, filepath.SplitList(os.Getenv("CNI_PATH")))
	if err != nil {
		return nil, badConfig("network %s: ipam: %v", r.Name, err)
	}
	speaks, err := invoke.GetVersionInfo(ctx, path, nil)
	if err != nil {
		return nil, fail(types.ErrIOFailure, "network %s: ipam %s: %v", r.Name, i.kind, err)
	}
	i.versions = speaks.SupportedVersions()
	if slices.Contains(i.versions, r.CNIVersion) || len(i.versions) == 0 {
		return i, nil
	}
	var conf map[string]json.RawMessage
	if err := json.Unmarshal(r.stdin, &conf); err != nil {
		return nil, fail(types.ErrDecodingFailure, "%v", err)
	}
	latest := ""
	for _, v := range i.versions {
		if newer, err := version.GreaterThanOrEqualTo(v, latest); latest == "" || err == nil && newer {
			latest = v
		}
	}
	conf["cniVersion"], _ = json.Marshal(latest)
	if i.conf, err = json.Marshal(conf); err != nil {
		return nil, err
	}
	return i, nil
}

// add asks for addresses.
func (i *ipam) add(ctx context.Context) (*types100.Result, error) {
	got, err := invoke.DelegateAdd(ctx, i.kind, i.conf, nil)
	if err != nil {
		return nil, i.failed(err)
	}
	result, err := types100.NewResultFromResult(got)
	if err != nil {
		return nil, fail(types.ErrDecodingFailure, "ipam %s: %v", i.kind, err)
	}
	if len(result.IPs) == 0 {
		return nil, fail(types.ErrInternal, "ipam %s gave no address", i.kind)
	}
	return result, nil
}

// do calls for something without a result. What the plugin is too old for it is
// not asked.
func (i *ipam) do(ctx context.Context, command string) error {
	var call func(context.Context, string, []byte, invoke.Exec) error
	switch command {
	case "CHECK":
		call = invoke.DelegateCheck
	case "DEL":
		call = invoke.DelegateDel
	case "GC":
		call = invoke.DelegateGC
	case "STATUS":
		call = invoke.DelegateStatus
	}
	if (command == "GC" || command == "STATUS") && !slices.Contains(i.versions, since11) {
		return nil
	}
	return i.failed(call(ctx, i.kind, i.conf, nil))
}

// failed names the plugin in an error, and keeps the error's code.
func (i *ipam) failed(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*types.Error); ok { //nolint:errorlint // it comes as it is
		return types.NewError(e.Code, "ipam "+i.kind+": "+e.Msg, e.Details)
	}
	return fail(types.ErrInternal, "ipam %s: %v", i.kind, err)
}
