package cni

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Node asks Kubernetes about the node that a pod is on.
type Node struct {
	// Server is the address of the API server, HOST:PORT.
	Server string
	// Account is the directory with the token of a service account and the
	// certificate of the authority that the server has its own from.
	Account string
}

// InCluster is the API server of the cluster that this process is a pod of.
func InCluster() (Node, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return Node{}, errors.New("this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
	}
	return Node{Server: net.JoinHostPort(host, port), Account: "/var/run/secrets/kubernetes.io/serviceaccount"}, nil
}

// PodCIDRs are the parts of the cluster's network that the node has for its
// pods. Nobody else hands them out, so that no pod of another node gets an
// address of them.
func (n Node) PodCIDRs(ctx context.Context, name string) ([]netip.Prefix, error) {
	cidrs, err := n.podCIDRs(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("node %s: ask Kubernetes at %s for its podCIDRs: %w", name, n.Server, err)
	}
	return cidrs, nil
}

func (n Node) podCIDRs(ctx context.Context, name string) ([]netip.Prefix, error) {
	token, err := os.ReadFile(filepath.Join(n.Account, "token"))
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(filepath.Join(n.Account, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s has no certificate", filepath.Join(n.Account, "ca.crt"))
	}
	u := url.URL{Scheme: "https", Host: n.Server, Path: "/api/v1/nodes/" + name}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	client := http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	const most = 4 << 20 // a node's status lists its images
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return nil, err
	}
	var node struct {
		Message string `json:"message"` // of a refusal
		Spec    struct {
			PodCIDRs []netip.Prefix `json:"podCIDRs"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(body, &node); err != nil && resp.StatusCode == http.StatusOK {
		return nil, err
	}
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %s", resp.Status, node.Message)
	case len(node.Spec.PodCIDRs) == 0:
		return nil, errors.New("it has none (yet): the controller manager gives them with --allocate-node-cidrs and --cluster-cidr")
	}
	return node.Spec.PodCIDRs, nil
}
